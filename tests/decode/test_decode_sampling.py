"""Algorithm 1 of VALL-E 2 and the truncations before it."""

from __future__ import annotations

import pytest
import torch

from openvalle.decode.sampling import SamplingOptions, advances, draw, row_generators, steps_of, uniforms

GREEDY = SamplingOptions(top_p=0.0)
LOGITS = torch.tensor([[0.0, 3.0, 1.0, 2.0, -1.0]])  # class 1 is the best
ELSEWHERE = torch.tensor([[0.5, 0.999]])  # the replacing draw falls far from the best


def history(*codes: int) -> torch.Tensor:
    return torch.tensor([codes], dtype=torch.long)


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
        assert draw(LOGITS, history(-1, -1), torch.full((1, 2), uniform), GREEDY).item() == 1


def test_the_replacing_draw_may_give_the_same_code_again():
    assert draw(LOGITS, history(1), torch.tensor([[0.5, 0.1]]), GREEDY).item() == 1


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


def frequencies(options: SamplingOptions, draws: int = 4000) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    logits = LOGITS.expand(draws, -1)
    codes = draw(logits, torch.full((draws, 1), -1), torch.rand(draws, 2, generator=rng), options)
    return torch.bincount(codes, minlength=5) / draws


def test_draws_follow_the_distribution():
    expected = torch.softmax(LOGITS[0], -1)
    torch.testing.assert_close(frequencies(SamplingOptions()), expected, atol=0.02, rtol=0)
    warm = torch.softmax(LOGITS[0] / 2, -1)
    torch.testing.assert_close(frequencies(SamplingOptions(temperature=2.0)), warm, atol=0.02, rtol=0)


def test_the_nucleus_is_the_smallest_set_that_reaches_the_mass():
    masses = torch.softmax(LOGITS[0], -1).sort(descending=True).values
    for top_p, kept in ((0.0, 1), (float(masses[0]) - 0.01, 1), (float(masses[0]) + 0.01, 2), (0.999999, 5)):
        assert int((frequencies(SamplingOptions(top_p=top_p)) > 0).sum()) == kept


def test_top_k_keeps_k():
    assert frequencies(SamplingOptions(top_k=2)).nonzero().flatten().tolist() == [1, 3]


def test_temperature_zero_is_greedy_and_then_repetition_aware_from_the_full_distribution():
    """VALL-E 2's v = 0 (4.1.3); only where repetition-aware sampling is off, greedy is all there is."""
    greedy = SamplingOptions(temperature=0.0)
    assert draw(LOGITS, history(0, 2), ELSEWHERE, greedy).item() == 1
    assert draw(LOGITS, history(*[1] * 10), ELSEWHERE, greedy).item() == 4
    same = SamplingOptions(temperature=1.0, top_p=0.0)
    for point in torch.rand(50, 1, 2, generator=torch.Generator().manual_seed(0)):
        for past in (history(1, 2), history(0, 2)):
            assert torch.equal(draw(LOGITS, past, point, greedy), draw(LOGITS, past, point, same))
    off = SamplingOptions(temperature=0.0, repetition_aware=False)
    assert draw(LOGITS, history(*[1] * 10), ELSEWHERE, off).item() == 1


def test_impossible_classes_are_never_drawn():
    logits = torch.tensor([[0.0, -torch.inf, 0.0, -torch.inf]]).expand(2000, -1)
    values = torch.cat([torch.zeros(1, 2), torch.full((1, 2), 1 - 2**-24), torch.rand(1998, 2)])
    for options in (SamplingOptions(), GREEDY):
        codes = draw(logits, torch.full((2000, 1), 0), values, options)
        assert set(codes.tolist()) <= {0, 2}


def test_rows_do_not_influence_each_other():
    together = uniforms(row_generators([3, 4]), 5, torch.device("cpu"))
    assert torch.equal(together[1:], uniforms(row_generators([4]), 5, torch.device("cpu")))


def test_the_pointer_advances_by_the_two_way_softmax():
    uniform = torch.linspace(0, 0.9999, 1000)
    difference = torch.full((1000,), 1.0)
    share = advances(difference, uniform, 1.0).float().mean()
    assert abs(float(share) - 0.731) < 0.01
    assert not advances(-difference, uniform, 0.0).any()


def test_steps_cover_the_frames():
    assert [steps_of(frames, 2) for frames in (0, 1, 2, 3, 30)] == [1, 1, 1, 2, 15]
