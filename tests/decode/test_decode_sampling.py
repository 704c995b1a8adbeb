"""Algorithm 1 of VALL-E 2 and the truncations before it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from openvalle.decode.ar import sample
from openvalle.decode.sampling import SamplingOptions, advances, draw, draw_uniforms, make_rng, to_steps

GREEDY = SamplingOptions(top_p=0.0)
LOGITS = np.array([[0.0, 3.0, 1.0, 2.0, -1.0]], np.float32)  # class 1 is the best
ELSEWHERE = np.array([[0.5, 0.999]])  # the replacing draw falls far from the best


def history(*codes: int) -> np.ndarray:
    return np.array([codes], dtype=np.int64)


def test_a_candidate_that_does_not_repeat_is_kept():
    assert draw(LOGITS, history(0, 2, 3, 4, 0, 2, 3, 4, 0, 2), ELSEWHERE, GREEDY).item() == 1


def test_one_occurrence_among_the_last_ten_makes_it_a_random_draw():
    for place in range(10):
        codes = [0] * 10
        codes[place] = 1
        assert draw(LOGITS, history(*codes), ELSEWHERE, GREEDY).item() == 4


def test_an_occurrence_eleven_back_does_not_count():
    assert draw(LOGITS, history(1, *[0] * 10), ELSEWHERE, GREEDY).item() == 1


def test_top_p_zero_without_repeats_is_the_argmax():
    for uniform in (0.0, 0.5, 0.9999):
        assert draw(LOGITS, history(-1, -1), np.full((1, 2), uniform), GREEDY).item() == 1


def test_the_replacing_draw_may_give_the_same_code_again():
    assert draw(LOGITS, history(1), np.array([[0.5, 0.1]]), GREEDY).item() == 1


def test_it_can_be_switched_off_and_is_no_penalty():
    off = SamplingOptions(top_p=0.0, repetition_aware=False)
    assert draw(LOGITS, history(*[1] * 10), ELSEWHERE, off).item() == 1


@pytest.mark.parametrize(("threshold", "occurrences"), [(0.0, 0), (0.1, 1), (0.2, 2), (0.5, 5)])
def test_the_threshold_says_how_many_occurrences_replace(threshold, occurrences):
    options = SamplingOptions(top_p=0.0, threshold=threshold)
    for count in range(10):
        code = draw(LOGITS, history(*[1] * count, *[0] * (10 - count)), ELSEWHERE, options).item()
        assert code == (4 if count >= occurrences else 1)


def test_the_window_is_as_long_as_said():
    codes = history(1, 0, 0, 0, 0)
    assert draw(LOGITS, codes, ELSEWHERE, SamplingOptions(top_p=0.0, window=5, threshold=0.2)).item() == 4
    assert draw(LOGITS, codes, ELSEWHERE, SamplingOptions(top_p=0.0, window=4, threshold=0.25)).item() == 1


def frequencies(options: SamplingOptions, draws: int = 4000) -> np.ndarray:
    uniforms = np.random.default_rng(0).random((draws, 2))
    codes = draw(LOGITS.repeat(draws, axis=0), np.full((draws, 1), -1), uniforms, options)
    return np.bincount(codes, minlength=5) / draws


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum()


def test_draws_follow_the_distribution():
    expected = softmax(LOGITS[0])
    np.testing.assert_allclose(frequencies(SamplingOptions()), expected, atol=0.02, rtol=0)
    warm = softmax(LOGITS[0] / 2)
    np.testing.assert_allclose(frequencies(SamplingOptions(temperature=2.0)), warm, atol=0.02, rtol=0)


def test_the_nucleus_is_the_smallest_set_that_reaches_the_mass():
    masses = np.sort(softmax(LOGITS[0]))[::-1]
    for top_p, kept in ((0.0, 1), (float(masses[0]) - 0.01, 1), (float(masses[0]) + 0.01, 2), (0.999999, 5)):
        assert int((frequencies(SamplingOptions(top_p=top_p)) > 0).sum()) == kept


def test_top_k_keeps_k():
    assert np.flatnonzero(frequencies(SamplingOptions(top_k=2))).tolist() == [1, 3]


def test_temperature_zero_is_greedy_and_then_repetition_aware_from_the_full_distribution():
    """VALL-E 2's v = 0 (4.1.3); only where repetition-aware sampling is off, greedy is all there is."""
    greedy = SamplingOptions(temperature=0.0)
    assert draw(LOGITS, history(0, 2), ELSEWHERE, greedy).item() == 1
    assert draw(LOGITS, history(*[1] * 10), ELSEWHERE, greedy).item() == 4
    same = SamplingOptions(temperature=1.0, top_p=0.0)
    for point in np.random.default_rng(0).random((50, 1, 2)):
        for past in (history(1, 2), history(0, 2)):
            assert np.array_equal(draw(LOGITS, past, point, greedy), draw(LOGITS, past, point, same))
    off = SamplingOptions(temperature=0.0, repetition_aware=False)
    assert draw(LOGITS, history(*[1] * 10), ELSEWHERE, off).item() == 1


def test_impossible_classes_are_never_drawn():
    logits = np.array([[0.0, -np.inf, 0.0, -np.inf]], np.float32).repeat(2000, axis=0)
    values = np.concatenate([np.zeros((1, 2)), np.full((1, 2), 1 - 2**-24), np.random.default_rng(0).random((1998, 2))])
    for options in (SamplingOptions(), GREEDY):
        codes = draw(logits, np.zeros((2000, 1), np.int64), values, options)
        assert set(codes.tolist()) <= {0, 2}


def test_rows_do_not_influence_each_other():
    together = draw_uniforms([make_rng(3), make_rng(4)], 5)
    assert np.array_equal(together[1:], draw_uniforms([make_rng(4)], 5))


def test_the_pointer_advances_by_the_two_way_softmax():
    uniforms = np.linspace(0, 0.9999, 1000)
    share = np.mean([advances(1.0, uniform, 1.0) for uniform in uniforms])
    assert abs(float(share) - 0.731) < 0.01
    assert advances(1.0, 0.9999, 0.0) and not advances(-1.0, 0.0, 0.0)


def test_steps_cover_the_frames():
    assert [to_steps(frames, 2) for frames in (0, 1, 2, 3, 30)] == [1, 1, 1, 2, 15]


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32 + 7, 2**63 - 1])
def test_a_seed_draws_what_torch_draws_from_it(seed):
    """Models spoke with torch's generator before: the same seed goes on giving the same speech."""
    rngs, generator = [make_rng(seed)], torch.Generator().manual_seed(seed)
    for count in (3, 129, 1, 17):
        assert np.array_equal(draw_uniforms(rngs, count)[0], torch.rand(count, generator=generator).numpy())


def test_a_likeliest_eos_ends_a_row_whatever_was_drawn():
    """Of two codes and <EOS> the last is the likeliest in the first row alone; 0.45 draws the first code in both."""
    scores, uniforms = np.log(np.array([[[0.3, 0.3, 0.4]], [[0.5, 0.1, 0.4]]])), np.full((2, 2), 0.45)
    history, plain = np.zeros((2, 0), int), SamplingOptions(repetition_aware=False)
    assert sample(scores, history, uniforms, plain, np.ones(2, bool)).tolist() == [[0], [0]]
    ending = plain.model_copy(update={"likeliest_eos_ends": True})
    assert sample(scores, history, uniforms, ending, np.ones(2, bool)).tolist() == [[2], [0]]
    assert sample(scores, history, uniforms, ending, np.zeros(2, bool))[0, 0] != 2
