"""Laws of the figures: known errors are found, intervals cover, tests find differences and no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openvalle.errors import UserError
from openvalle.evaluate.results import (
    Result,
    compare,
    compare_paired,
    measure_kept,
    measure_preservation,
    per_seed,
    ratio,
    read_results,
    split_finite,
    summarise,
    write_results,
)
from openvalle.evaluate.test_list import apply_condition, parse_condition
from openvalle.speech_models.acoustics import acoustics
from openvalle.speech_models.wer import WordErrors, character_errors, find_normalizer, word_errors

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "again"]


def row(item: str, seed: int = 0, system: str = "a", condition: str = "clean", **metrics: float) -> Result:
    return Result(system, item, seed, "text", condition, metrics=metrics)


@pytest.mark.parametrize("wrong", [0, 1, 3, 10])
def test_doctored_transcripts_give_the_error_rate_that_was_put_in(wrong):
    substituted = ["xyz"] * wrong + WORDS[wrong:]
    assert word_errors(" ".join(WORDS), " ".join(substituted)).rate == wrong / 10
    assert word_errors(" ".join(WORDS), " ".join(WORDS[wrong:])).deletions == wrong
    assert word_errors(" ".join(WORDS), " ".join(WORDS + ["and"] * wrong)).insertions == wrong


def test_characters_are_counted_without_spaces():
    assert character_errors("ab cd", "abcd").rate == 0
    assert character_errors("abcd", "abxd") == WordErrors(1, 0, 0, 4)
    assert character_errors("你好世界", "你好 世間", "plain-1").rate == 0.25


def test_normalisers_have_names():
    assert find_normalizer("plain-1")("Mr. O\u2019Neil: 3 dogs!") == "mr o'neil 3 dogs"
    assert find_normalizer("openvalle-en-1")("Mr. 3") == "mister three"
    with pytest.raises(UserError, match=r"no text normaliser 'x'; there are: openvalle-en-1, plain-1"):
        find_normalizer("x")


def test_intervals_hold_the_value_and_shrink_with_more_clips():
    values = np.random.default_rng(0).normal(3, 1, 400)
    few, many = ratio(values[:20], np.ones(20)), ratio(values, np.ones(len(values)))
    assert many.value == pytest.approx(values.mean())
    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low
    assert ratio(values, np.ones(len(values))) == many


def test_ninety_five_per_cent_intervals_cover_the_truth_that_often():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(120):
        found = ratio(rng.exponential(2.0, 60), np.ones(60), seed=trial)
        covered += found.low <= 2.0 <= found.high
    assert 0.87 <= covered / 120 <= 1.0


def test_intervals_resample_readers():
    """Where items of a reader are alike, more of them make nobody surer of other readers."""
    rng = np.random.default_rng(4)
    covered = {"items": 0, "readers": 0}
    for trial in range(100):
        level = rng.normal(0, 1, 8)  # eight readers, ten items each
        values = (level[:, None] + rng.normal(0, 0.3, (8, 10))).ravel()
        names = np.repeat(np.arange(8), 10).tolist()
        for how, readers in (("items", None), ("readers", names)):
            found = ratio(values, np.ones(80), trial, readers)
            assert found.value == pytest.approx(values.mean())
            covered[how] += found.low <= 0 <= found.high
    assert covered["readers"] >= 85
    assert covered["items"] <= 60


def test_reports_resample_the_readers_of_their_rows():
    rows = [
        Result("a", f"{reader}{n}", 0, "text", speaker=reader, metrics={"sim_o": value + 0.01 * n})
        for reader, value in (("anna", 0.2), ("ben", 0.8))
        for n in range(10)
    ]
    found = summarise(rows)["sim_o"]
    assert found.high - found.low > 0.5, "one of two readers may be drawn twice"
    one = [row for row in rows if row.speaker == "anna"]
    assert summarise(one)["sim_o"].high - summarise(one)["sim_o"].low < 0.05


def test_corpus_error_rate_weighs_by_words():
    figure = ratio([1, 0], [1, 3])
    assert figure.value == 0.25
    assert figure.text(percent=True) == "25.0 [0.0, 100.0]"


def test_the_paired_test_finds_a_difference_that_unpaired_noise_hides():
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 5, 80)  # some items are harder for everybody
    first = [(value, 1.0) for value in hard + rng.normal(0, 0.3, 80)]
    second = [(value + 0.3, 1.0) for value in hard + rng.normal(0, 0.3, 80)]
    found = compare_paired(first, second)
    assert found.is_clear
    assert found.low < 0.3 < found.high
    assert found.value == pytest.approx(0.3, abs=0.15)


def test_the_paired_test_is_rarely_wrong_where_nothing_differs():
    rng = np.random.default_rng(3)
    wrong = 0
    for trial in range(20):
        base = rng.normal(0, 1, 30)
        pairs = [[(value, 1.0) for value in base + rng.normal(0, 1, 30)] for _ in range(2)]
        wrong += compare_paired(*pairs, seed=trial).is_clear
    assert wrong <= 4
    assert compare_paired([(1.0, 1.0)] * 5, [(1.0, 1.0)] * 5).p == 1


def test_all_seeds_of_an_item_are_one_observation():
    rows = [row(f"i{item}", seed, dnsmos=float(item)) for item in range(10) for seed in range(3)]
    alone = summarise([one for one in rows if one.seed == 0])["dnsmos"]
    together = summarise(rows)["dnsmos"]
    assert together.value == alone.value
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))  # copies add no certainty
    assert set(per_seed(rows)) == {0, 1, 2}
    conditions = [
        row(f"i{item}{end}", 0, condition=name, dnsmos=float(item))
        for item in range(10)
        for name, end in (("clean", ""), ("noise-10", "-noise-10"))
    ]
    assert summarise(conditions)["dnsmos"].count == 10


def test_error_rates_and_real_time_factors_are_quotients_of_sums():
    rows = [row("a", words=1, word_errors=1, wall_seconds=4, spoken_seconds=1, rtf=4)]
    rows += [row("b", words=3, word_errors=0, wall_seconds=1, spoken_seconds=4, rtf=0.25)]
    found = summarise(rows)
    assert found["wer"].value == 0.25
    assert found["rtf"].value == 1.0


def test_what_is_not_a_number_is_left_out_and_said():
    kept, notes = split_finite({"a": 1.0, "b": float("nan"), "c": float("inf"), "d": None})
    assert kept == {"a": 1.0}
    assert notes == ("b is not a number", "c is not a number")


def test_rows_are_the_same_when_read_again(tmp_path):
    rows = [row("a", dnsmos=3.1), Result("b", "a", 1, "text", status="failed", error="no sound", notes=("x",))]
    path = write_results(tmp_path / "rows.jsonl", rows)
    assert read_results(path) == rows
    assert rows[1].failed
    path.write_text(path.read_text() + '{"system": \n')
    with pytest.raises(UserError, match="damaged at line 3"):
        read_results(path)


def test_comparison_uses_the_items_that_both_hold():
    first = [row(f"i{n}", dnsmos=2.0 + 0.1 * n, words=5, word_errors=n % 3) for n in range(12)]
    second = [row(f"i{n}", dnsmos=2.5 + 0.1 * n, words=5, word_errors=n % 3) for n in range(2, 14)]
    found = {item.metric: item for item in compare(first, second)}
    assert found["dnsmos"].difference.count == 10
    assert found["dnsmos"].difference.value == pytest.approx(0.5)
    assert found["dnsmos"].difference.is_clear
    assert not found["wer"].difference.is_clear
    assert compare(first, [row("other", dnsmos=1.0)]) == []


def test_conditions_are_named_and_change_what_they_say(spoken):
    assert parse_condition("clean") is None
    assert parse_condition("room-0.6") == ("reverberation", 0.6)
    with pytest.raises(UserError, match="no condition 'hall'; use clean, room-SECONDS"):
        parse_condition("hall")
    plain = acoustics(spoken)
    assert apply_condition(spoken, "clean") is spoken
    assert acoustics(apply_condition(spoken, "noise-10")).noise == pytest.approx(10, abs=2)
    assert acoustics(apply_condition(spoken, "band-3000")).bandwidth == pytest.approx(3000, rel=0.1)
    assert acoustics(apply_condition(spoken, "room-0.8")).noise < plain.noise  # the tail fills the pauses
    again = [apply_condition(spoken, "noise-10").samples for _ in range(2)]
    assert np.array_equal(*again)


def test_preservation_tells_what_is_kept_from_what_is_not():
    rows = []
    for number in range(6):
        for condition, prompt in (("clean", 40.0), ("noise-10", 10.0 + number / 10), ("noise-20", 20.0)):
            rows.append(row(f"{number}", 0, "faithful", condition, prompt_noise=prompt, noise=prompt - 1))
            rows.append(row(f"{number}", 0, "deaf", condition, prompt_noise=prompt, noise=35.0))
    found = [item for item in measure_preservation(rows) if item.system == "faithful" and item.condition == "noise-10"]
    assert [(item.measure, item.put_in) for item in found] == [("noise", 10.0)]
    assert found[0].answers == pytest.approx(found[0].prompts - 1)
    faithful, deaf = ([one for one in rows if one.system == name] for name in ("faithful", "deaf"))
    kept, ignored = (measure_kept(one, "noise") for one in (faithful, deaf))
    assert (kept.low, kept.value, kept.high) == pytest.approx((1, 1, 1))
    assert (ignored.low, ignored.value, ignored.high) == pytest.approx((0, 0, 0), abs=1e-6)
    moved = [
        replace(one, metrics=one.metrics | {"noise": one.metrics["noise"] + 5 * (int(one.item[0]) % 3)})
        for one in faithful
    ]
    unsure = measure_kept(moved, "noise")
    x, y = np.array([(one.metrics["prompt_noise"], one.metrics["noise"]) for one in moved]).T
    assert unsure.value == pytest.approx(np.polyfit(x, y, 1)[0])
    assert unsure.low < unsure.value < unsure.high
    assert measure_kept(faithful[:2], "noise") is None
