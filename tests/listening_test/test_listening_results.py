"""From answers to results: preferences come back, intervals cover, careless raters are out, nothing counts twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from listening_clips import QUALITY, study_in, submission

from openvalle.errors import UserError
from openvalle.listening_test.answers import Submission, merge, read_submission
from openvalle.listening_test.results import (
    clustered_mean,
    krippendorff_alpha,
    markdown,
    reasons,
    results,
    scores,
    trial_role,
    write_test_results,
)
from openvalle.listening_test.study import ANCHOR, REFERENCE, Exclusion, Role, Study, TestKind

EVERYBODY = Exclusion(max_failed_catches=1, min_headphones=0, constant=False, hidden_share=1)


def changed(given: Submission, study: Study, role: Role, value: float) -> Submission:
    """The same rater with another answer to every trial of this role."""
    answers = [
        a.model_copy(update={"values": (value,) * len(a.values)}) if trial_role(study, a) is role else a
        for a in given.answers
    ]
    return given.model_copy(update={"answers": tuple(answers)})


def test_cmos_of_many_raters_recovers_what_they_prefer(tmp_path: Path) -> None:
    study = study_in(tmp_path, TestKind.CMOS, items=8, systems=("ours", "base", "third"), per_rater=8)
    found = results(study, [submission(study, number, errors=1.0) for number in range(24)], Exclusion())
    rows = {row["system"]: row for row in found["systems"]}
    for name in ("ours", "third"):
        row = rows[name]
        assert row["low"] < QUALITY[name] - QUALITY["base"] < row["high"]
        assert row["high"] - row["low"] < 1.0
        assert row["answers"] == 24 * 8 / 2
        assert row["better"] + row["same"] + row["worse"] == pytest.approx(1)
    assert rows["ours"]["low"] > 0 > rows["third"]["high"]
    effect = found["order_effect"]
    assert effect["low"] < 0 < effect["high"], "which clip came first means nothing to these raters"
    assert 0 < found["agreement"]["krippendorff_alpha"] < 1


@pytest.mark.parametrize("kind", [TestKind.MOS, TestKind.SMOS, TestKind.MUSHRA])
def test_other_kinds_order_the_systems(tmp_path: Path, kind: TestKind) -> None:
    study = study_in(tmp_path, kind, items=4, systems=("ours", "base", "third"))
    found = results(study, [submission(study, number, errors=0.3) for number in range(6)], Exclusion())
    means = {row["system"]: row["mean"] for row in found["systems"]}
    assert means["ours"] > means["base"] > means["third"]
    assert found["raters"]["left_out"] == {}
    if kind is TestKind.MUSHRA:
        assert means[REFERENCE] == 100
        assert means[ANCHOR] < means["third"]


def test_each_rule_leaves_out_whom_it_is_for(tmp_path: Path) -> None:
    study = study_in(tmp_path, TestKind.CMOS, items=8, headphones=True, catches=2)
    honest = submission(study, 0)
    assert reasons(study, honest, Exclusion()) == []
    always = changed(honest, study, Role.SYSTEM, 1.0)
    assert reasons(study, always, Exclusion()) == ["the same answer to 8 trials"]
    assert reasons(study, always, Exclusion(constant=False)) == []
    caught = changed(honest, study, Role.CATCH, 0.0)
    assert reasons(study, caught, Exclusion()) == ["2 of 2 catch trials wrong"]
    assert reasons(study, caught, Exclusion(max_failed_catches=1)) == []
    speakers = changed(honest, study, Role.TONES, 1.0)
    assert reasons(study, speakers, Exclusion()) == ["2 of 6 right in the headphone check"]
    assert reasons(study, speakers, Exclusion(min_headphones=2)) == []
    assert reasons(study, honest, Exclusion(min_seconds=5.5)) == ["5.0 s for a trial"]
    half = honest.model_copy(update={"answers": honest.answers[:9], "finished": False})
    assert reasons(study, half, Exclusion(min_answers=0.9)) == ["answered 50% of the trials"]
    found = results(study, [honest, half.model_copy(update={"rater": "left"})], Exclusion())
    assert found["raters"]["unfinished"] == ["left"]
    assert found["systems"][0]["answers"] == 8 + len(scores(study, half)), "answers of who left are kept"


def test_a_mushra_rater_who_misses_the_hidden_reference_is_left_out(tmp_path: Path) -> None:
    study = study_in(tmp_path, TestKind.MUSHRA, items=4)
    flat = changed(submission(study, 0), study, Role.SYSTEM, 60.0)
    rules = Exclusion(constant=False)
    assert reasons(study, flat, rules) == ["the hidden reference under 90 in 4 of 4 trials"]
    assert reasons(study, flat, Exclusion(constant=False, hidden_below=50)) == []
    assert reasons(study, flat, Exclusion(constant=False, hidden_share=1)) == []


@pytest.mark.parametrize("kind", [TestKind.MOS, TestKind.SMOS])
def test_rating_catches_know_their_answer(tmp_path: Path, kind: TestKind) -> None:
    study = study_in(tmp_path, kind, items=3)
    wrong = changed(submission(study, 0), study, Role.CATCH, 5.0 if kind is TestKind.MOS else 1.0)
    assert reasons(study, wrong, Exclusion()) == ["2 of 2 catch trials wrong"]


def test_alpha_of_the_published_example() -> None:
    """Krippendorff, "Computing Krippendorff's alpha-reliability" (2011): four observers, 12 units, interval 0.849."""
    table = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    assert len({len(row) for row in table}) == 1
    values, units, raters = [], [], []
    for rater, row in enumerate(table):
        for unit, sign in enumerate(row):
            if sign != ".":
                values.append(float(sign))
                units.append(str(unit))
                raters.append(str(rater))
    assert krippendorff_alpha(values, units, raters) == pytest.approx(0.849, abs=5e-4)


def test_alpha_is_one_for_agreement_and_near_zero_for_chance() -> None:
    rng = np.random.default_rng(0)
    units = [str(u) for u in range(200) for _ in range(3)]
    raters = [str(r) for _ in range(200) for r in range(3)]
    assert krippendorff_alpha([float(u) for u in units], units, raters) == 1
    assert abs(krippendorff_alpha(list(rng.standard_normal(600)), units, raters)) < 0.1
    assert np.isnan(krippendorff_alpha([1.0, 1.0], ["a", "a"], ["x", "y"])), "no spread, no alpha"
    assert np.isnan(krippendorff_alpha([1.0, 2.0], ["a", "b"], ["x", "x"])), "nobody to agree with"


def test_intervals_cover_where_raters_and_items_differ() -> None:
    """Independent resampling would cover far less than 95 % here; ours may cover more."""
    rng = np.random.default_rng(1)
    who, what = (grid.ravel() for grid in np.meshgrid(np.arange(15), np.arange(12), indexing="ij"))
    hits = 0
    for trial in range(100):
        values = 0.7 + 0.4 * rng.standard_normal(15)[who] + 0.4 * rng.standard_normal(12)[what]
        values = values + 0.8 * rng.standard_normal(len(who))
        found = clustered_mean(list(values), [str(w) for w in who], [str(w) for w in what], seed=trial)
        hits += found.low <= 0.7 <= found.high
    assert hits >= 88


def test_one_rater_has_no_interval() -> None:
    found = clustered_mean([1.0, 2.0], ["a", "a"], ["x", "y"])
    assert found.value == 1.5
    assert np.isnan(found.low)
    assert np.isnan(clustered_mean([], [], []).value)


def test_files_given_twice_count_once(tmp_path: Path) -> None:
    study = study_in(tmp_path, TestKind.CMOS, items=4)
    whole = submission(study, 0)
    early = whole.model_copy(update={"answers": whole.answers[:3], "finished": False})
    assert merge([early, whole, whole]) == [whole]
    other = whole.answers[3].model_copy(update={"values": (-2.0,), "time": 99.0})
    again = whole.model_copy(update={"answers": (other,)})
    (joined,) = merge([whole, again])
    assert (joined.answers, joined.repeats) == (whole.answers, 1), "the first answer stands"


def test_bad_answer_files_are_refused(tmp_path: Path) -> None:
    study = study_in(tmp_path, TestKind.CMOS, items=2)
    good = submission(study, 0)
    path = tmp_path / "answers.json"

    def reading(text: str) -> Submission:
        path.write_text(text)
        return read_submission(study, path)

    assert reading(good.model_dump_json()) == good
    values = json.loads(good.model_dump_json())
    with pytest.raises(UserError, match="does not hold answers"):
        reading("not JSON")
    with pytest.raises(UserError, match="another listening test"):
        reading(json.dumps(values | {"study": "other"}))
    with pytest.raises(UserError, match="does not hold answers"):
        reading(json.dumps(values | {"rater": "=HYPERLINK(1)"}))
    with pytest.raises(UserError, match="there is no trial 50"):
        reading(json.dumps(values | {"answers": [values["answers"][0] | {"trial": 50}]}))
    with pytest.raises(UserError, match=r"trial 0: 7 is not an answer"):
        reading(json.dumps(values | {"answers": [values["answers"][0] | {"values": [7]}]}))
    with pytest.raises(UserError, match="another trial"):
        reading(json.dumps(values | {"number": 1}))
    with pytest.raises(UserError, match="does not hold answers"):
        reading(json.dumps(values).replace('"seconds": 5.0', '"seconds": NaN', 1))
    with pytest.raises(UserError, match="too large"):
        reading(" " * 4_000_001)
    with pytest.raises(UserError, match="cannot read"):
        read_submission(study, tmp_path / "nothing.json")
    with pytest.raises(UserError, match="no answers yet"):
        results(study, [], Exclusion())


def test_everything_is_written_and_says_what_it_means(tmp_path: Path) -> None:
    study = study_in(tmp_path, TestKind.CMOS, items=4)
    submissions = [submission(study, number) for number in range(3)]
    submissions[2] = changed(submissions[2], study, Role.CATCH, 0.0)
    found = results(study, submissions, Exclusion())
    text = markdown(found)
    assert "Compared with **base**: above 0, the system is better" in text
    assert "Left out: r2 (2 of 2 catch trials wrong)" in text
    assert "| ours | +1.00 |" in text
    paths = write_test_results(tmp_path / "out", study, submissions, found)
    assert json.loads(paths[0].read_text())["systems"] == found["systems"]
    rows = paths[2].read_text().splitlines()
    assert rows[0] == "rater,system,item,score,answer_as_shown,seconds,counted"
    assert len(rows) == 1 + 3 * 4
    assert sum(row.endswith(",0") for row in rows) == 4, "who was left out is still in the table"
    assert results(study, submissions, EVERYBODY)["raters"]["left_out"] == {}
