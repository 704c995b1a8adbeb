"""Making a listening test: sounds of its own, clips prepared, bad input named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from listening_clips import RATE, folders, study_in, tone

from openvalle.audio import Audio, levels, silence
from openvalle.errors import AudioError, ConfigError, UserError
from openvalle.listening_test.build import ORDERS, TONE_RATE, Sound, Sources, anchor, build_study, headphone_tones, poor
from openvalle.listening_test.study import Design, Role, TestKind, load_study
from openvalle.media import read, write

CMOS = Design(kind=TestKind.CMOS, baseline="base", headphones=False)


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples)) + 1e-12))


def test_headphone_tones_cancel_over_loudspeakers_and_only_there() -> None:
    assert len({order.index("quiet") for order in ORDERS}) == 3
    size, gap = TONE_RATE, TONE_RATE // 2
    for order in ORDERS:
        tones = headphone_tones(order)
        parts = {name: tones[k * (size + gap) : k * (size + gap) + size] for k, name in enumerate(order)}
        left = {name: level_db(part[:, 0]) for name, part in parts.items()}
        mixed = {name: level_db(part.mean(axis=1)) for name, part in parts.items()}
        assert left["loud"] == pytest.approx(left["antiphase"])
        assert left["quiet"] - left["loud"] == pytest.approx(-6, abs=0.01)
        assert min(mixed, key=mixed.__getitem__) == "antiphase"
        assert min(left, key=left.__getitem__) == "quiet"


def test_the_anchor_keeps_what_is_below_its_band() -> None:
    noise = Audio(np.random.default_rng(0).uniform(-0.3, 0.3, 24_000).astype(np.float32), 24_000)
    spectrum = np.abs(np.fft.rfft(anchor(noise).samples))
    before = np.abs(np.fft.rfft(noise.samples))
    np.testing.assert_allclose(spectrum[:3400], before[:3400], rtol=1e-2, atol=1e-2)
    assert spectrum[3900:].max() < 1e-2


def test_a_spoilt_clip_is_as_loud_and_no_longer_the_same() -> None:
    clear = tone(400, 0.5)
    spoilt = poor(clear, np.random.default_rng(0))
    assert level_db(spoilt.samples) == pytest.approx(level_db(clear.samples), abs=0.5)
    assert np.corrcoef(clear.samples, spoilt.samples)[0, 1] < 0.9


def test_clips_are_levelled_converted_and_named_by_chance(tmp_path: Path) -> None:
    clips = folders(tmp_path, ("ours", "base"), 2)
    write(clips["ours"] / "utt0.wav", Audio(tone(300).samples * np.float32(0.1), RATE))
    for name, sound in (("a", Sound(".wav", 16_000)), ("b", Sound(".flac", 0, False))):
        build_study(tmp_path / name, CMOS, Sources(clips), sound)
    levelled, kept = load_study(tmp_path / "a"), load_study(tmp_path / "b")
    assert not set(levelled.clips) & set(kept.clips)
    heard = {}
    for folder, study in (("a", levelled), ("b", kept)):
        found = {c.system: n for n, c in study.clips.items() if c.role is Role.SYSTEM and c.item == "utt0"}
        audio = {system: read(tmp_path / folder / "audio" / name, None) for system, name in found.items()}
        heard[folder] = {system: (float(np.median(levels(a))), a.rate) for system, a in audio.items()}
    assert heard["a"]["ours"][0] == pytest.approx(heard["a"]["base"][0], abs=0.2)
    assert heard["b"]["base"][0] - heard["b"]["ours"][0] == pytest.approx(20, abs=0.5)
    assert (heard["a"]["ours"][1], heard["b"]["ours"][1]) == (16_000, RATE)


def test_what_a_system_lacks_is_named_or_left_out(tmp_path: Path) -> None:
    clips = folders(tmp_path, ("ours", "base"), 3)
    (clips["ours"] / "utt1.wav").unlink()
    with pytest.raises(UserError, match=r"ours lacks 1 \(utt1\).*--only-common"):
        build_study(tmp_path / "s", CMOS, Sources(clips))
    assert not (tmp_path / "s").exists()
    study = build_study(tmp_path / "s", CMOS, Sources(clips, only_common=True))
    assert [item.id for item in study.items] == ["utt0", "utt2"]


def test_bad_clips_are_named(tmp_path: Path) -> None:
    clips = folders(tmp_path, ("ours", "base"), 2)
    write(clips["ours"] / "utt1.wav", silence(0.2))
    with pytest.raises(AudioError, match=r"utt1\.wav is silent"):
        build_study(tmp_path / "s", CMOS, Sources(clips))
    (clips["ours"] / "utt1.wav").write_bytes(b"no sound at all")
    with pytest.raises(AudioError, match="cannot read"):
        build_study(tmp_path / "s", CMOS, Sources(clips))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "ours"], "nothing half-made stays"


def test_bad_choices_are_refused(tmp_path: Path) -> None:
    clips = folders(tmp_path, ("ours", "base"), 1)

    def built(design: Design, sources: Sources) -> None:
        build_study(tmp_path / "s", design, sources)

    with pytest.raises(UserError, match="no baseline"):
        built(Design(kind=TestKind.CMOS), Sources(clips))
    with pytest.raises(UserError, match="needs 2 systems"):
        built(CMOS, Sources({"base": clips["base"]}))
    with pytest.raises(UserError, match="--reference"):
        built(Design(kind=TestKind.MUSHRA), Sources(clips))
    with pytest.raises(UserError, match="too many for one page"):
        many = {f"s{k}": clips["base"] for k in range(11)}
        built(Design(kind=TestKind.MUSHRA), Sources(many, clips["ours"]))
    with pytest.raises(UserError, match="no folder"):
        built(CMOS, Sources({"base": tmp_path / "nowhere", "ours": clips["ours"]}))
    with pytest.raises(UserError, match="cannot be the name"):
        built(CMOS, Sources({"base": clips["base"], "(reference)": clips["ours"]}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no sound files"):
        built(CMOS, Sources({"base": tmp_path / "empty", "ours": clips["ours"]}))
    with pytest.raises(ConfigError, match="step"):
        Design.parse({"kind": "smos", "step": 0.3})
    with pytest.raises(UserError, match="browsers"):
        Sound(".aiff")


def test_nothing_is_overwritten_and_damage_is_noticed(tmp_path: Path) -> None:
    study = study_in(tmp_path, TestKind.MOS, items=2)
    with pytest.raises(UserError, match="there already"):
        build_study(tmp_path / "study", CMOS, Sources(folders(tmp_path / "c", ("ours", "base"), 1)))
    assert load_study(tmp_path / "study") == study
    name = next(iter(study.clips))
    (tmp_path / "study" / "audio" / name).unlink()
    with pytest.raises(UserError, match="1 clips of the test are missing"):
        load_study(tmp_path / "study")
    (tmp_path / "study" / "study.json").write_text('{"format": 1}')
    with pytest.raises(UserError, match="is damaged"):
        load_study(tmp_path / "study")
    with pytest.raises(UserError, match="no listening test"):
        load_study(tmp_path)
