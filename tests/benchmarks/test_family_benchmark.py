"""The family benchmark: one length of speech for all, codes counted at their place, the page's pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lm_samples import AR_KINDS, NAR_KINDS, ar_engine, nar_engine, utterance
from openvalle.train.recipe import read_pair

SYSTEMS = ("valle", "vallex", "valler", "valle2")


@pytest.fixture
def family(load):
    return load("family")


@pytest.fixture
def pace(load):
    return load("pace")


@pytest.fixture
def recall(load):
    return load("recall")


def test_all_systems_speak_ten_seconds_and_two_take_half_the_steps(pace, monkeypatch):
    def tiny(path: Path):
        ar, nar = read_pair(path)
        stack = ar.transformer.model_copy(update={"width": 8, "heads": 2, "depth": 1, "feedforward": 8})
        return ar.model_copy(update={"transformer": stack}), nar.model_copy(update={"transformer": stack})

    monkeypatch.setattr(pace, "read_pair", tiny)
    steps = {system: pace.measure_pace(system, "small", 1).steps for system in SYSTEMS}
    assert steps == {"valle": 750, "vallex": 750, "valler": 375, "valle2": 375}


@pytest.mark.parametrize("kind", AR_KINDS)
def test_codes_are_compared_with_the_ones_after_the_prompt(recall, kind):
    model = ar_engine(kind)
    row = utterance(6, 45, 0)
    right, places = recall.recall_first(model, row)
    rest = 45 // model.config.merge
    rest -= rest % model.config.group
    assert 0 <= right <= places
    assert places >= rest // 2


@pytest.mark.parametrize("kind", [kind for kind in NAR_KINDS if kind in SYSTEMS])
def test_frames_that_the_prompt_shows_are_not_counted(recall, kind):
    class Shards:
        def neighbour(self, row):
            return None

    row = utterance(6, 40, 0)
    right, frames = recall.recall_others(ar_engine(kind), nar_engine(kind), row, Shards(), 0)
    assert frames == (40 if kind in ("valle", "vallex") else 20)  # their prompts come from other recordings
    assert right.shape == (7,)
    assert bool((right <= frames).all())


def test_prompts_are_three_seconds_at_most_half_and_whole_blocks(recall):
    assert recall.prompt_frames(1000, 2) == 224
    assert recall.prompt_frames(100, 4) == 48


def test_curves_are_running_means_of_the_named_values_in_training(family, tmp_path):
    rows = [{"step": 10 * n, "group": "train", "accuracy_2" if n % 2 else "accuracy_3": n / 100} for n in range(1, 41)]
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in [*rows, {"step": 400, "group": "valid", "accuracy_2": 9}])
    )
    steps, shares = family.running_mean(path, ["accuracy_2"])
    assert steps.tolist() == list(range(190, 400, 20))
    assert shares[0] == pytest.approx(sum(range(1, 20, 2)) / 1000)
    assert [len(each) for each in family.running_mean(path, ["accuracy_8"])] == [0, 0]
