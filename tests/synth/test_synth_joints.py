"""Sentences joined: no clicks, the pauses asked for, nothing lost, and a single one untouched."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from openvalle.audio import RATE, Audio
from openvalle.synth.joints import EdgeTrimmer, join_sentences
from openvalle.synth.speech import Quality, Speech, Timed, join_speech

GOOD = Quality("end", 8.0)


def tone(
    seconds: float = 0.5, lead: float = 0.0, tail: float = 0.0, hertz: float = 200.0, phase: float = 1.0
) -> Speech:
    """A tone between silences, with one word and its phone where it sounds."""
    times = np.arange(round(seconds * RATE)) / RATE
    sound = 0.3 * np.sin(2 * np.pi * hertz * times + phase)
    samples = np.concatenate([np.zeros(round(lead * RATE)), sound, np.zeros(round(tail * RATE))]).astype(np.float32)
    timed = (Timed("la", lead, lead + seconds),)
    codes = np.zeros((2, 8), np.uint16)
    return Speech(Audio(samples), "la", timed, timed, GOOD, codes, ("L",), (2,))


def silent_edges(audio: Audio) -> tuple[int, int]:
    """Return the samples of silence at the start and at the end."""
    trimmer = EdgeTrimmer(audio.rate, None)
    trimmer.push(audio.samples)
    trimmer.flush(is_last=True)
    first = len(audio.samples) if trimmer.first_loud is None else trimmer.first_loud
    return first, len(audio.samples) - trimmer.loud_end


def joined(pieces: list[Speech], pause: float = 0.3) -> Speech:
    return join_speech(list(join_sentences((piece, pause) for piece in pieces)))


def test_single_piece_is_untouched() -> None:
    piece = tone(lead=1.0, tail=2.0)
    assert joined([piece]) is piece


@pytest.mark.parametrize("silences", [(0.0, 0.0), (0.05, 0.02), (1.0, 0.7), (0.0, 1.0), (0.15, 0.15)])
@pytest.mark.parametrize("pause", [0.0, 0.1, 0.3])
def test_pause_is_as_asked_for(silences: tuple[float, float], pause: float) -> None:
    tail, lead = silences
    words = joined([tone(tail=tail), tone(lead=lead)], pause).words
    assert words[1].start - words[0].end == pytest.approx(pause, abs=0.021)


def test_outer_edges_stay() -> None:
    whole = joined([tone(lead=0.5), tone(tail=0.7)], 0.2)
    assert silent_edges(whole.audio) == (round(0.5 * RATE), round(0.7 * RATE))
    assert whole.seconds == pytest.approx(0.5 + 0.5 + 0.2 + 0.5 + 0.7, abs=0.001)


@pytest.mark.parametrize("pause", [0.0, 0.2])
@pytest.mark.parametrize("phase", [0.0, 0.8, np.pi / 2])
def test_no_step_above_the_sound_s_own(pause: float, phase: float) -> None:
    piece = tone(phase=phase)
    own = np.abs(np.diff(piece.audio.samples)).max()
    steps = np.abs(np.diff(joined([piece] * 4, pause).audio.samples))
    assert steps.max() <= 2 * own + 1e-6


def test_words_sound_where_they_are_said_to() -> None:
    whole = joined([tone(lead=0.3, tail=0.4), tone(lead=0.9), tone(tail=0.2)], 0.25)
    for word in whole.words:
        inside = whole.audio.samples[round((word.start + 0.01) * RATE) : round((word.end - 0.01) * RATE)]
        assert np.abs(inside).reshape(-1)[: len(inside) // 240 * 240].reshape(-1, 240).max(axis=1).min() > 0.1


def test_pieces_come_out_while_others_are_still_to_come() -> None:
    made: list[int] = []

    def pieces() -> Iterator[tuple[Speech, float]]:
        for number in range(100):
            made.append(number)
            yield tone(), 0.1

    stream = join_sentences(pieces())
    next(stream)
    assert len(made) == 2, "no more than one piece ahead"


def test_joined_quality_is_the_worst() -> None:
    from dataclasses import replace

    bad = replace(tone(), quality=Quality("limit", 20.0, attempts=3, flags=("cut",)))
    quality = joined([tone(), bad, tone()]).quality
    assert (quality.stopped_by, quality.attempts, quality.flags) == ("limit", 3, ("cut",))
    assert 8.0 < quality.frames_per_phone < 20.0
