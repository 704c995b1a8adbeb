"""Detectors: loops, silences and runaways are found, ordinary codes are not, and bad draws end early."""

from __future__ import annotations

import numpy as np
import pytest

from lm_samples import ar_engine, decode
from openvalle.decode.ar import AROptions, StoppedBy
from openvalle.decode.failures import Failure, FailureDetector, FailureOptions
from openvalle.decode.prompt import ARPrompt

TEXT = np.array([1, 2, 3, 4, 5, 6, 7, 8])


def found(codes, options: FailureOptions | None = None, block: int = 2, budget: float | None = None):
    """Return the first failure and the step it came at."""
    detector = FailureDetector(options or FailureOptions(), block, budget)
    for step, code in enumerate(codes, 1):
        if failure := detector.push([int(code)]):
            return failure, step
    return None


def test_random_codes_are_ordinary() -> None:
    codes = np.random.default_rng(0).integers(1024, size=600)
    assert found(codes) is None


@pytest.mark.parametrize("period", [1, 5, 30])
def test_a_pattern_again_and_again_is_a_loop(period: int) -> None:
    pattern = np.random.default_rng(1).permutation(1024)[:period].tolist()
    failure, step = found(pattern * 400)
    assert failure is Failure.LOOP
    assert step == max(45, 3 * period) + period  # 90 frames of 2, at least three times
    codes = [entry if place % 17 else 1000 + place % 20 for place, entry in enumerate(pattern * 400)]
    assert found(codes)[0] is Failure.LOOP, "sampled loops are not exact"


def test_a_held_vowel_and_a_word_said_twice_are_no_loop() -> None:
    word = list(range(40))
    assert found([*word, *word, *[7] * 20, *range(100, 200)]) is None


def test_silence_and_runaway() -> None:
    options = FailureOptions(silent=(3, 4), loop_frames=0)
    assert found([5, *[3, 4] * 100], options) == (Failure.SILENCE, 62)  # more than 120 frames of 2
    assert found(range(100), budget=50.0) == (Failure.RUNAWAY, 26)
    assert found([3] * 500, FailureOptions(loop_frames=0, silence_frames=0, silent=(3,))) is None


def test_a_runaway_draw_ends_early_and_says_why() -> None:
    model = ar_engine("builtin")
    slow = AROptions(symbol_frames=60, pauses=(), watch=FailureOptions(runaway_frames=2.2))
    result = decode(model, [ARPrompt(TEXT)], slow, [3])[0]
    assert (result.stopped_by, result.noticed) == (StoppedBy.FAILURE, Failure.RUNAWAY)
    enduring = slow.model_copy(update={"watch": slow.watch.model_copy(update={"ends": False})})
    whole = decode(model, [ARPrompt(TEXT)], enduring, [3])[0]
    assert whole.noticed is Failure.RUNAWAY
    assert whole.stopped_by is not StoppedBy.FAILURE
    assert whole.codes[: len(result.codes)].tolist() == result.codes.tolist()
    assert len(whole.codes) > len(result.codes)


@pytest.mark.parametrize("kind", ["builtin", "valler"])
def test_what_follows_is_read_but_not_spoken(kind: str) -> None:
    model = ar_engine(kind)
    options = AROptions(symbol_frames=8, pause_frames=8)
    result = decode(model, [ARPrompt(TEXT, following_symbols=3)], options, [3])[0]
    assert result.stopped_by is StoppedBy.ALIGNMENT_END
    assert result.alignment.max() == 4, "the last of the five symbols to speak"
    whole = decode(model, [ARPrompt(TEXT)], options, [3])[0]
    assert whole.codes[: len(result.codes)].tolist() == result.codes.tolist()
    alone = decode(model, [ARPrompt(TEXT[:5])], options, [3])[0]
    assert alone.codes.tolist() != result.codes.tolist(), "the model knows what comes"
