"""Who hears what: balanced, repeatable, and blind."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from listening_clips import study_in

from openvalle.listening_test.schedule import rotation, schedule
from openvalle.listening_test.server import public_study, public_trials
from openvalle.listening_test.study import Role, Study, TestKind, Trial


@given(st.integers(1, 9), st.integers(1, 20))
def test_the_rotation_holds_every_pair_once_and_runs_of_it_every_system_equally(systems: int, items: int) -> None:
    pairs = rotation(systems, items)
    assert len(set(pairs)) == len(pairs) == systems * items
    for start in range(len(pairs) - items + 1):
        run = pairs[start : start + items]
        counts = Counter(system for system, _ in run)
        assert max(counts.values()) - min(counts[system] for system in range(systems)) <= 1


def counted(study: Study, number: int) -> list[Trial]:
    return [t for t in schedule(study, number) if study.clips[t.clips[0]].role is Role.SYSTEM]


def test_comparisons_and_orders_are_shared_evenly(tmp_path: Path) -> None:
    study = study_in(tmp_path, TestKind.CMOS, items=5, systems=("ours", "base", "third"), per_rater=4)
    pairs: Counter[tuple[str, str]] = Counter()
    order: Counter[tuple[str, str]] = Counter()
    for number in range(10):  # 40 trials of 10 comparisons
        for trial in counted(study, number):
            second = study.clips[trial.clips[1]].system
            pair = (second if second != "base" else study.clips[trial.clips[0]].system, trial.item)
            pairs[pair] += 1
            order[pair] += 1 if second != "base" else -1
    assert set(pairs.values()) == {4}
    assert set(order.values()) <= {-1, 0, 1}


def test_a_rater_hears_either_order_equally_often(tmp_path: Path) -> None:
    study = study_in(tmp_path, TestKind.CMOS, items=6)
    for number in range(4):
        firsts = Counter(study.clips[trial.clips[0]].system for trial in counted(study, number))
        assert firsts == {"ours": 3, "base": 3}


def test_a_schedule_depends_on_the_seed_and_the_number_alone(tmp_path: Path) -> None:
    study = study_in(tmp_path, TestKind.SMOS)
    assert schedule(study, 3) == schedule(study, 3)
    assert [t.item for t in counted(study, 0)] != [t.item for t in counted(study, 1)]
    other = study.model_copy(update={"design": study.design.model_copy(update={"seed": 1})})
    assert [t.clips for t in counted(study, 0)] != [t.clips for t in counted(other, 0)]


@pytest.mark.parametrize("kind", list(TestKind))
def test_pages_do_not_tell_what_a_clip_is(tmp_path: Path, kind: TestKind) -> None:
    study = study_in(tmp_path, kind, catches=2, headphones=True)
    told = json.dumps([public_study(study), *(public_trials(study, number) for number in range(3))])
    for word in ("ours", '"base"', "catch", "hidden", "anchor", "recorded", '"utt', '"poor":', "seed", 'system"'):
        assert word not in told, word
    trials = public_trials(study, 0)
    assert [t["stage"] for t in trials[:8]] == ["headphones"] * 6 + ["training"] * 2
    assert len({tuple(sorted(t)) for t in trials if t["stage"] == "test"}) == 1, "a catch looks like any other trial"
    assert all(len(set(t["clips"]) | {t["reference"]}) == len(t["clips"]) + 1 for t in trials), "no file in two roles"


def test_catches_lie_among_the_others_and_never_first(tmp_path: Path) -> None:
    study = study_in(tmp_path, TestKind.CMOS, items=6, catches=3)
    places = []
    for number in range(8):
        test = [t for t in schedule(study, number) if t.stage == "test"]
        own = [place for place, t in enumerate(test) if study.clips[t.clips[0]].role is Role.CATCH]
        assert len(own) == 3
        assert own[0] > 0
        places.append(tuple(own))
    assert len(set(places)) > 3


@pytest.mark.parametrize(("kind", "clips"), [("cmos", 2), ("mos", 1), ("smos", 1), ("mushra", 4)])
def test_every_kind_shows_its_clips(tmp_path: Path, kind: str, clips: int) -> None:
    study = study_in(tmp_path, TestKind(kind))
    trials = counted(study, 0) if kind != "mushra" else [t for t in schedule(study, 0) if t.stage == "test"]
    assert {len(trial.clips) for trial in trials} == {clips}
    assert {bool(trial.reference) for trial in trials} == {kind in ("smos", "mushra")}
    assert len(trials) == (12 if kind in ("mos", "smos") else 6)
