"""A recording is understood, or refused with the reason, whatever its container, channels, offset and words."""

from __future__ import annotations

import io
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from openvalle.audio import RATE, Audio
from openvalle.errors import AudioError, MissingExtra
from openvalle.media import read, read_frames, read_header, read_tags, write
from openvalle.synth.voice import Voice

SAID = "saw, see, saw, see"
TIMES = np.arange(5 * RATE) / RATE


@pytest.fixture
def add(
    openvalle, tiny_model: Path, own_home: Path, caplog: pytest.LogCaptureFixture
) -> Callable[..., tuple[Voice | None, str]]:
    """Run `voice add` for a clip; return the voice (None: refused, in one line), and what was warned and said."""

    def run(clip: Path, *arguments: object, words: str = SAID) -> tuple[Voice | None, str]:
        caplog.clear()
        options = ("--transcript", words, "--consent", "nobody's", "-m", tiny_model, "--replace", *arguments)
        added = openvalle("voice", "add", "x", clip, *options)
        warned = "".join(f"{record.message}\n" for record in caplog.records)
        if added.code:
            assert added.code == 2, added.err
            assert added.err.startswith("error: ")
            assert added.err.count("\n") == 1
            return None, warned + added.err
        return Voice.load(own_home / "voices" / "x.safetensors"), warned

    return run


def stored(path: Path, *channels: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    """Write channels side by side."""
    soundfile.write(path, np.stack(channels, axis=1), rate, subtype=subtype)
    return path


def same(one: Voice | None, other: Voice | None) -> bool:
    return one is not None and other is not None and (one.codes == other.codes).mean() > 0.9


# --- what a recorder does to a voice ---


def test_an_offset_is_not_heard(add, spoken: Audio, tmp_path: Path) -> None:
    plain, _ = add(stored(tmp_path / "a.wav", spoken.samples))
    offset, said = add(stored(tmp_path / "b.wav", spoken.samples + np.float32(0.3)))
    assert same(plain, offset)
    assert said == "", "no warning comes of it"


def test_an_offset_stays_in_an_edited_recording(openvalle, tiny_model: Path, spoken: Audio, tmp_path: Path) -> None:
    clip = stored(tmp_path / "b.wav", spoken.samples + np.float32(0.3))
    run = openvalle("edit", clip, "-t", SAID, "--replace", "see saw", "oh", "-m", tiny_model, "-o", "e.wav")
    assert run.code == 0, run.err
    edited = read("e.wav").samples
    blocks = edited[: len(edited) // 2400 * 2400].reshape(-1, 2400).mean(axis=1)
    assert np.abs(blocks - 0.3).max() < 0.1


def test_channels_that_cancel_are_heard(add, spoken: Audio, tmp_path: Path) -> None:
    plain, _ = add(stored(tmp_path / "a.wav", spoken.samples))
    voice, said = add(stored(tmp_path / "b.wav", spoken.samples, -spoken.samples))
    assert same(plain, voice)
    assert "cancel each other" in said
    assert said.count("\n") == 1


def test_two_people_on_two_channels_are_asked_about(add, spoken: Audio, speak, tmp_path: Path) -> None:
    turns = np.zeros_like(spoken.samples)
    other = speak(180).samples
    left, right = np.concatenate([spoken.samples, turns]), np.concatenate([turns, other])
    clip = stored(tmp_path / "both.wav", left, right)
    refused, said = add(clip)
    assert refused is None
    assert "--channel left, right or mix" in said
    for channel, samples in (("left", left), ("right", right)):
        assert same(add(clip, "--channel", channel)[0], add(stored(tmp_path / "one.wav", samples))[0])
    assert add(clip, "--channel", "mix", words=f"{SAID}, {SAID}")[0] is not None
    assert "there is no channel 'middle'" in add(clip, "--channel", "middle")[1]
    assert "has one channel" in add(tmp_path / "one.wav", "--channel", "left")[1]


def test_a_dead_channel_changes_nothing(add, spoken: Audio, tmp_path: Path) -> None:
    plain, _ = add(stored(tmp_path / "a.wav", spoken.samples))
    assert same(plain, add(stored(tmp_path / "b.wav", 0 * spoken.samples, spoken.samples))[0])


def test_of_two_channels_the_other_stays(openvalle, tiny_model: Path, spoken: Audio, speak, tmp_path: Path) -> None:
    other = np.roll(speak(180).samples, 9000)
    clip = stored(tmp_path / "both.wav", spoken.samples, other)
    run = openvalle(
        *("edit", clip, "-t", SAID, "--replace", "see saw", "oh", "--channel", "left", "-m", tiny_model, "-o", "e.wav")
    )
    assert run.code == 0, run.err
    before, after = read_frames(clip)[0], read_frames("e.wav")[0]
    changed = np.flatnonzero((before[: len(after)] != after[: len(before)]).any(axis=1))
    assert changed[0] > 9600, "what comes before the edit is the recording's own in both channels"
    np.testing.assert_array_equal(after[-9600:], before[-9600:])


# --- what is no speech ---


def harmonics(hertz: float, count: int = 12) -> np.ndarray:
    return sum(np.sin(2 * np.pi * k * hertz * TIMES) / k for k in range(1, count))  # type: ignore[return-value]


def no_speech() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    notes = [220, 277, 330, 440, 330, 277]
    beat = np.exp(-(TIMES % 0.5) / 0.05)
    return {
        "chords": sum(harmonics(220 * 2 ** (step / 12)) for step in (0, 4, 7)) * np.exp(-(TIMES % 1.25)),
        "arpeggio": sum(
            harmonics(notes[i % 6]) * np.exp(-np.abs(TIMES - i * 0.2) / 0.2) * (i * 0.2 <= TIMES) for i in range(25)
        ),
        "drums": beat * (np.sin(2 * np.pi * 60 * TIMES) + 0.5 * rng.standard_normal(len(TIMES)) * (TIMES % 1 > 0.5)),
        "sweep": np.sin(2 * np.pi * np.cumsum(100 * 40 ** (TIMES / 5)) / RATE),
        "siren": np.sin(2 * np.pi * np.cumsum(700 + 400 * np.sin(3 * TIMES)) / RATE),
        "hum": harmonics(50, 20),
        "noise": rng.standard_normal(len(TIMES)),
        "applause": rng.standard_normal(len(TIMES)) * (rng.random(len(TIMES)) > 0.99),
        "beeps": np.sin(2 * np.pi * 1000 * TIMES) * (TIMES % 1 < 0.3),
    }


@pytest.mark.parametrize("name", no_speech())
def test_music_tones_and_noise_are_no_speech(add, tmp_path: Path, name: str) -> None:
    samples = no_speech()[name]
    clip = stored(tmp_path / "a.wav", (0.5 * samples / np.abs(samples).max()).astype(np.float32))
    voice, said = add(clip)
    assert voice is None
    assert "no speech can be made out" in said
    assert "do not match" not in said


def test_music_is_not_edited_and_noise_is_named_first(openvalle, tiny_model: Path, tmp_path: Path, add, spoken) -> None:
    clip = stored(tmp_path / "hum.wav", (0.2 * harmonics(50)).astype(np.float32))
    for command in (("edit", clip, "--delete", "see"), ("continue", clip, "and so on")):
        run = openvalle(*command, "-t", SAID, "-m", tiny_model)
        assert (run.code, run.err.count("\n")) == (2, 1), run.err
        assert "no speech can be made out" in run.err
    noise = np.random.default_rng(0).standard_normal(len(spoken.samples)).astype(np.float32)
    words = "nobody was in a hurry at all because the river ran slowly past"
    voice, said = add(stored(tmp_path / "noisy.wav", spoken.samples + np.float32(0.02) * noise), words=words)
    assert voice is None
    warned, refused = said.index("record in a quiet room"), said.index("error:")
    assert warned < refused


# --- words that are not said ---


@pytest.fixture(scope="module")
def said_clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A recording of a sentence, and its words."""
    from openvalle.synth.synthesizer import Synthesizer

    words = "The river ran slowly past the old mill, and nobody was in a hurry."
    path = tmp_path_factory.mktemp("said") / "clip.wav"
    write(path, Synthesizer.load().say(words, seed=3).audio)
    return path, words


@pytest.mark.parametrize(
    "wrong",
    [
        "the old words",
        "What is said in the clip",
        "The river ran slowly",
        "Chapter nine, in which nothing happens that anybody would have wanted to see.",
        "word " * 200,
    ],
)
def test_words_that_cannot_be_what_is_said_are_refused(openvalle, tiny_model: Path, said_clip, wrong: str) -> None:
    clip, _ = said_clip
    first = wrong.split()[0]
    for command in (("edit", clip, "--insert-after", wrong, "new"), ("continue", clip, "and so on.")):
        if command[0] == "edit" and len(wrong) > 100:
            continue
        run = openvalle(*command, "-t", wrong, "-m", tiny_model, "-o", f"{first}.wav")
        assert run.code == 2, run.err
        assert "transcript" in run.err
        assert not list(Path().iterdir()), "nothing is written"


def test_the_right_words_are_taken(openvalle, tiny_model: Path, said_clip) -> None:
    clip, words = said_clip
    run = openvalle("edit", clip, "-t", words, "--delete", "slowly", "-m", tiny_model, "-o", "e.wav")
    assert (run.code, run.err) == (0, "")


def test_a_voice_with_few_of_its_words_is_refused(add, said_clip) -> None:
    clip, words = said_clip
    voice, said = add(clip, words="the river")
    assert voice is None
    assert "cannot be what is said" in said
    assert add(clip, words=words)[0] is not None


# --- files ---


def wav_bytes(samples: np.ndarray, subtype: str = "PCM_16") -> bytearray:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype=subtype)
    return bytearray(file.getvalue())


@pytest.mark.parametrize("sizes", [(0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0), (0x7FFFF024, 0x7FFFF000)])
@pytest.mark.parametrize("with_list", [False, True])
def test_a_wav_from_a_pipe_is_read_to_its_end(
    tmp_path: Path, spoken: Audio, caplog, sizes: tuple[int, int], with_list: bool
) -> None:
    data = wav_bytes(spoken.samples)
    place = data.index(b"data")
    struct.pack_into("<I", data, 4, sizes[0])
    struct.pack_into("<I", data, place + 4, sizes[1])
    if with_list:  # as ffmpeg writes it
        data[place:place] = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf60.16.100\0"
    path = tmp_path / "piped.wav"
    path.write_bytes(data)
    assert len(read(path).samples) == len(spoken.samples)
    np.testing.assert_allclose(read(path).samples, spoken.samples, atol=1e-4)
    assert read_header(path).frames == len(spoken.samples)
    assert caplog.text == ""


def test_a_voice_from_a_pipe(add, tmp_path: Path, spoken: Audio) -> None:
    data = wav_bytes(spoken.samples, "PCM_24")
    struct.pack_into("<I", data, 4, 0)
    struct.pack_into("<I", data, data.index(b"data") + 4, 0)
    (tmp_path / "piped.wav").write_bytes(data)
    plain, _ = add(stored(tmp_path / "a.wav", spoken.samples))
    assert same(plain, add(tmp_path / "piped.wav")[0])


def test_a_flac_from_a_pipe_is_read_to_its_end(tmp_path: Path, spoken: Audio) -> None:
    path = tmp_path / "piped.flac"
    soundfile.write(path, spoken.samples, RATE)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # STREAMINFO: 36 bits of total samples
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert len(read(path).samples) == len(spoken.samples)
    assert read_header(path).frames == len(spoken.samples)
    with pytest.raises(AudioError, match="more than 1 s"):
        read(path, max_seconds=1)


def test_a_wav_that_was_cut_off_is_read_with_a_warning(tmp_path: Path, spoken: Audio, caplog) -> None:
    path = tmp_path / "cut.wav"
    path.write_bytes(wav_bytes(spoken.samples)[: 44 + len(spoken.samples)])
    assert len(read(path).samples) == len(spoken.samples) // 2
    assert "50 % of its sound is there" in caplog.text


def test_a_wav_without_samples_but_with_tags_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    path.write_bytes(wav_bytes(np.zeros(0)) + b"LIST" + struct.pack("<I", 4) + b"INFO")
    with pytest.raises(AudioError, match="holds no samples"):
        read(path)


@pytest.mark.skipif(sys.platform == "win32", reason="no FIFOs")
def test_pipes_devices_and_odd_names_are_one_line(add, tmp_path: Path, spoken: Audio) -> None:
    os.mkfifo(tmp_path / "fifo.wav")
    assert "is a pipe or a device" in add(tmp_path / "fifo.wav")[1]
    assert "is a pipe or a device" in add(Path("/dev/zero"))[1]
    with pytest.raises(AudioError, match="cannot read"):
        read(tmp_path / ("x" * 300))
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    odd.write_bytes(wav_bytes(spoken.samples))
    assert len(read(odd).samples) == len(spoken.samples), "a name need not be UTF-8"


@pytest.mark.parametrize(
    ("subtype", "rate", "channels"), [("DOUBLE", 192_000, 1), ("PCM_U8", 8_000, 2), ("FLOAT", 24_000, 8)]
)
def test_odd_formats_are_the_same_voice(
    add, spoken: Audio, tmp_path: Path, subtype: str, rate: int, channels: int
) -> None:
    from openvalle.audio import resample

    samples = resample(spoken, rate).samples
    voice, _ = add(stored(tmp_path / "odd.wav", *[samples] * channels, rate=rate, subtype=subtype))
    assert voice is not None
    assert voice.seconds == pytest.approx(spoken.seconds, abs=0.5)


def test_an_hour_is_refused_before_it_is_read(add, openvalle, tiny_model: Path, tmp_path: Path) -> None:
    data = wav_bytes(np.zeros(8))
    size = 3600 * RATE * 2
    struct.pack_into("<I", data, 4, size + 36)
    struct.pack_into("<I", data, data.index(b"data") + 4, size)
    path = tmp_path / "hour.wav"
    with path.open("wb") as file:
        file.write(data[:44])
        file.truncate(size + 44)
    assert "3600 s" in add(path)[1]
    assert "3600 s" in openvalle("edit", path, "-t", SAID, "--delete", "saw", "-m", tiny_model).err


# --- containers of the extra `media` ---


def encoded(path: Path, audio: Audio, codec: str, rate: int, container: str) -> Path:
    """Write a sound with PyAV, as telephones and browsers do."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        samples = (np.clip(audio.samples, -1, 1) * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts = audio.rate, 0
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=stream.frame_size)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return path


CONTAINERS = [
    ("a.m4a", "aac", 44_100, "ipod"),
    ("a.mp4", "aac", 48_000, "mp4"),
    ("a.aac", "aac", 24_000, "adts"),
    ("a.webm", "libopus", 48_000, "webm"),
    ("a.mkv", "libopus", 48_000, "matroska"),
]


@pytest.mark.parametrize(("name", "codec", "rate", "container"), CONTAINERS)
def test_media_are_read(tmp_path: Path, spoken: Audio, name: str, codec: str, rate: int, container: str) -> None:
    path = encoded(tmp_path / name, spoken, codec, rate, container)
    audio = read(path)
    assert audio.seconds == pytest.approx(spoken.seconds, abs=0.1)
    count = min(len(audio.samples), len(spoken.samples))
    like = np.fft.irfft(np.fft.rfft(audio.samples[:count]) * np.conj(np.fft.rfft(spoken.samples[:count])))
    scale = np.linalg.norm(audio.samples[:count]) * np.linalg.norm(spoken.samples[:count])
    assert like.max() / scale > 0.8
    assert read_header(path).rate == rate
    assert "comment" not in read_tags(path)
    assert len(read_frames(path, start=1.0, seconds=0.5)[0]) == rate // 2
    with pytest.raises(AudioError, match="more than 2 s"):
        read(path, max_seconds=2)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(AudioError, match=r"cannot read|holds no samples"):
        read(path)


def test_a_voice_from_a_telephone(add, openvalle, tiny_model: Path, tmp_path: Path, spoken: Audio) -> None:
    path = encoded(tmp_path / "memo.m4a", spoken, "aac", 48_000, "ipod")
    assert add(path)[0] is not None
    run = openvalle("edit", path, "-t", SAID, "--delete", "see saw", "-m", tiny_model)
    assert run.out.strip() == str(tmp_path / "memo-edited.wav"), run.err


def test_without_pyav_it_says_what_to_install(add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "memo.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    said = add(path)[1]
    assert "pip install 'openvalle[media]'" in said
    assert said.count("\n") == 1
    with pytest.raises(MissingExtra):
        read(path)


@pytest.mark.parametrize(
    "content", [b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", b"ffconcat version 1.0\nfile b.wav\n"]
)
def test_no_playlist_opens_another_file(tmp_path: Path, content: bytes) -> None:
    for name in ("a.m3u8", "a.m4a", "a.webm"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AudioError, match="cannot read"):
            read(tmp_path / name)
