"""Alignments become rows; what does not fit is rejected; long utterances are cut at pauses."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from openvalle.audio import RATE, Audio
from openvalle.config import write_json_lines
from openvalle.data.shards import to_int16, write_audio
from openvalle.errors import AudioError
from openvalle.prepare.align import AlignSettings, AlignWork, check, cut, read_spans
from openvalle.prepare.units import Target
from openvalle.speech_models.aligner import PhoneAlignment, PhoneSpan, mark_edges


def _alignment(words, seconds: float, pause: float = 0.5) -> PhoneAlignment:
    """Share the time evenly among the phones, with a pause after every word."""
    phones = [(phone, index) for index, (_, own) in enumerate(words) for phone in own]
    each = (seconds - pause * len(words)) / len(phones)
    spans, now = [], 0.0
    for place, (phone, index) in enumerate(phones):
        spans.append(PhoneSpan(phone, now, now + each, index))
        now += each
        if place + 1 == len(phones) or phones[place + 1][1] != index:
            spans.append(PhoneSpan("SIL", now, now + pause))
            now += pause
    return PhoneAlignment(tuple(spans), -1.0, (-1.0,) * len(words))


@dataclass
class EvenAligner:
    """Stands in for the acoustic model; counts its calls."""

    calls: list[int] = field(default_factory=list)
    symbols: tuple[str, ...] = ()
    poor_score: float = -4.0
    digest: str = ""

    def align_scored(self, audio, words, hear=None):
        self.calls.append(len(words))
        if words[0][0] == "bad":
            raise AudioError("the words do not match the audio")
        return _alignment(words, audio.seconds)


def _prepared(folder, texts: dict[str, float]):
    clips = [to_int16(np.full(round(seconds * RATE), 0.1)) for seconds in texts.values()]
    starts = write_audio(folder / "audio" / "audio.npy", clips)
    return [
        {"id": f"u{number}", "speaker": "s", "language": "en", "split": "train", "text": text}
        | {"seconds": len(clip) / RATE, "shard": "audio.npy", "start": start, "samples": len(clip)}
        | {"sound": str(number), "recording": "", "heard": None}
        for number, (text, clip, start) in enumerate(zip(texts, clips, starts, strict=True))
    ]


def test_rows_carry_spans_that_tile_their_sound(tmp_path):
    rows = _prepared(tmp_path, {"Hello there.": 2.0, "...": 1.0, "bad day": 1.5})
    kept, rejected = AlignWork(tmp_path / "audio", AlignSettings(), {"en": EvenAligner()})(Target(tmp_path, "."), rows)
    assert [row["id"] for row in rejected] == ["u1", "u2"]
    (row,) = kept
    spans = read_spans(row)
    assert spans[0].start == 0 and spans[-1].end == pytest.approx(row["seconds"], abs=1e-3)
    assert all(a.end == b.start for a, b in pairwise(spans))
    assert row["text"] == "Hello there."
    assert [row["words"][span.word] for span in spans if span.symbol in ("L", "DH")] == ["Hello", "there"]


def test_long_utterances_are_cut_with_their_sound_and_text(tmp_path):
    text = " ".join(["seven", "hundred", "people"] * 6)
    rows = _prepared(tmp_path, {"hello": 1.0, text: 30.0})
    settings = AlignSettings(max_seconds=12.0, max_phone_seconds=5.0, min_rate=0.1)
    kept, rejected = AlignWork(tmp_path / "audio", settings, {"en": EvenAligner()})(Target(tmp_path, "."), rows)
    pieces = [row for row in kept if row["id"].startswith("u1-")]
    assert not rejected and len(pieces) >= 3
    assert all(row["seconds"] <= 12 for row in pieces)
    assert sum(row["samples"] for row in pieces) == rows[1]["samples"]
    assert pieces[0]["start"] == rows[1]["start"]
    assert all(a["start"] + a["samples"] == b["start"] for a, b in pairwise(pieces))
    assert " ".join(row["text"] for row in pieces) == text
    for row in pieces:
        spans = read_spans(row)
        assert spans[0].start == 0 and spans[-1].end == pytest.approx(row["seconds"], abs=1e-3)
        words = [span.word for span in spans if span.word >= 0]
        assert min(words) == 0 and max(words) == len(row["words"]) - 1


def test_only_utterances_that_changed_are_aligned_again(tmp_path):
    """Their phones, their words or their sound; not where their sound lies."""
    rows = _prepared(tmp_path, {"Hello there.": 2.0, "Good day": 1.5})
    aligner = EvenAligner()
    work = AlignWork(tmp_path / "audio", AlignSettings(), {"en": aligner})
    first, _ = work(Target(tmp_path, "."), rows)
    earlier = tmp_path / "earlier"
    write_json_lines(earlier / "rows.jsonl", [{"kept": 2}, *first])
    moved = [rows[0] | {"start": 7, "shard": "other.npy"}, rows[1] | {"text": "Good days"}]
    second, _ = work(Target(tmp_path, ".", earlier), moved)
    assert aligner.calls == [2, 2, 2]
    assert second[0] == first[0] | {"start": 7, "shard": "other.npy"}
    assert second[1]["words"] == ["Good", "days"]


WORDS = [("one", ("W", "AH1", "N")), ("two", ("T", "UW1"))]


@pytest.mark.parametrize(
    ("alignment", "reason"),
    [
        (PhoneAlignment(_alignment(WORDS, 2.0).spans, -8.0, ()), "does not fit the sound"),
        (_alignment(WORDS, 8.0), "lasts 1.40 s"),
        (_alignment(WORDS, 3.5), "phones a second"),
        (_alignment(WORDS, 1.05), "phones a second"),
    ],
)
def test_unlikely_alignments_are_rejected(alignment, reason):
    with pytest.raises(AudioError, match=reason):
        check(alignment, AlignSettings())
    check(_alignment(WORDS, 1.6), AlignSettings())


def test_cuts_lie_in_the_longest_pause():
    spans = [
        PhoneSpan("A", 0, 6),
        PhoneSpan("SIL", 6, 7),
        PhoneSpan("B", 7, 8),
        PhoneSpan("SIL", 8, 8.2),
        PhoneSpan("C", 8.2, 14),
    ]
    first, second = cut(spans, 0.5, 10)
    assert first[-1].end == second[0].start == 6.5
    assert [span.symbol for span in first] == ["A", "SIL"]
    assert [span.symbol for span in second] == ["SIL", "B", "SIL", "C"]
    assert len(cut(spans, 0.5, 14)) == 1


def test_without_a_pause_there_is_no_cut():
    with pytest.raises(AudioError, match="no pause to cut at"):
        cut([PhoneSpan("SIL", 0, 1), PhoneSpan("A", 1, 20), PhoneSpan("SIL", 20, 21)], 0.5, 10)


def test_noise_that_is_no_speech_is_rejected(tmp_path):
    from openvalle.speech_models.aligner import Aligner

    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
    words = [(word[0], tuple(word[1:])) for word in (("seven", "S", "EH1", "V", "AH0", "N"), ("days", "D", "EY1", "Z"))]
    with pytest.raises(AudioError):
        check(Aligner().align_scored(Audio(noise), words), AlignSettings())


def _quiet_edges(start: float, end: float) -> Audio:
    samples = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
    samples[: round(start * RATE)] *= 0.001
    samples[len(samples) - round(end * RATE) :] *= 0.001
    return Audio(samples)


def test_quiet_edges_become_pauses_of_their_own():
    spans = [PhoneSpan("S", 0, 0.5, 0), PhoneSpan("IY1", 0.5, 2, 0)]
    marked = mark_edges(spans, _quiet_edges(0.1, 0.2))
    assert [span.symbol for span in marked] == ["SIL", "S", "IY1", "SIL"]
    assert [span.start for span in marked] == pytest.approx([0, 0.1, 0.5, 1.8], abs=0.011)
    assert all(a.end == b.start for a, b in pairwise(marked)) and marked[-1].end == 2
    assert mark_edges(marked, _quiet_edges(0.1, 0.2)) == marked
    assert mark_edges(spans, _quiet_edges(0.03, 0.03)) == spans
    alone = mark_edges([PhoneSpan("AA1", 0, 2, 0)], _quiet_edges(0.5, 0.5))
    assert [span.symbol for span in alone] == ["SIL", "AA1", "SIL"]
    assert len(mark_edges([PhoneSpan("T", 0, 0.08, 0), *spans[1:]], _quiet_edges(0.3, 0))) == 2


def test_one_prepare_loads_its_aligner_once(tmp_path, write_sound, monkeypatch):
    """To check that there is one, for its digest, and to align; another one of that name is loaded anew."""
    from openvalle.prepare import align
    from openvalle.prepare.run import prepare
    from openvalle.prepare.steps import Step
    from openvalle.speech_models import aligners

    made = []

    class Counted(EvenAligner):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(aligners, "Aligner", Counted)
    aligners._load_pocketsphinx.cache_clear()
    monkeypatch.setattr(align, "check", lambda *_: None)
    path = write_sound(tmp_path / "in" / "a.wav", 2.0)
    path.with_suffix(".txt").write_text("seven days of rain")
    report = prepare(tmp_path / "in", tmp_path / "out", last=Step.ALIGN)
    aligners._load_pocketsphinx.cache_clear()
    assert len(made) == 1 and made[0].calls
    assert report.kept["align"] == 1
