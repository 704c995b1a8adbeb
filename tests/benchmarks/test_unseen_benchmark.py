"""The family on unseen text: one choice of speech for all, budgets kept, what failed told."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from openvalle.audio import Audio
from openvalle.errors import UserError
from openvalle.evaluate.corpus import CorpusUtterance
from openvalle.evaluate.protocols import protocol
from openvalle.evaluate.report import Report as Evaluation
from openvalle.evaluate.results import Result
from openvalle.media import write
from token_samples import write_random_tokens

READERS = {"anna": "train", "ben": "train", "carl": "dev-clean", "ls3664": "dev-clean"}
TEXT = (
    "the boy had a red book and a small dog in his garden and when the rain came down they went home to read it there"
)


@pytest.fixture
def unseen(load):
    return load("unseen")


@pytest.fixture
def data(load):
    return load("unseen_data")


def options_of(out: Path, speech: Path) -> argparse.Namespace:
    values = {"out": out, "data": speech, "codec": "builtin", "readers": "ls3664", "hours": 15 / 3600, "speakers": 2}
    values |= {"seed": 0, "threads": 1, "budget": 1.5, "rate": 1e-3, "frames": 120}
    return argparse.Namespace(**values)


def write_corpus(folder: Path, sounds: list[Audio]) -> Path:
    """Write a manifest of two readers to learn from, one to watch training on and one to judge; two recordings each."""
    lines = []
    for index, (reader, split) in enumerate(READERS.items()):
        for number in (1, 2):
            name = f"{reader}-{number}"
            write(folder / f"{name}.wav", sounds[index % len(sounds)])
            row = {"id": name, "audio": f"{name}.wav", "speaker": reader, "split": split, "gender": "F"}
            lines.append(json.dumps(row | {"text": TEXT.upper()}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def write_codes(folder: Path, merge: int) -> Path:
    """Write tokens of six rows, the last one of a reader that training is watched on; codebook 1 is merged."""
    return write_random_tokens(folder, ["anna"] * 5 + ["carl"], merge, {"carl": "dev-clean"})


def utterance(reader: str, number: int, seconds: float) -> CorpusUtterance:
    return CorpusUtterance(f"{reader}-{number}", Path(), "a.wav", "a", reader, "F", seconds, "train")


def test_speech_is_taken_in_turn_from_those_of_whom_there_is_most(data):
    corpus = [utterance(reader, number, 5.0) for reader in ("a", "b") for number in range(9)]
    corpus += [utterance("c", number, 5.0) for number in range(3)] + [utterance("a", 10, 60.0)]
    found = data.pick(corpus, 40.0, 2, 0)
    assert sorted(item.speaker for item in found) == ["a"] * 4 + ["b"] * 4
    assert max(item.seconds for item in found) < 60, "what is too long is left out"
    with pytest.raises(UserError, match=r"1\.5 min of speech that can be used"):
        data.pick(corpus, 600.0, 2, 0)


def test_readers_that_are_judged_are_neither_learnt_nor_watched(data, spoken, tmp_path):
    path = data.write_manifest(options_of(tmp_path, write_corpus(tmp_path, [spoken])))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["speaker"] for row in rows if row["split"] == "train"} == {"anna", "ben"}
    assert {row["speaker"] for row in rows if row["split"] == "dev-clean"} == {"carl"}


@pytest.mark.long
def test_a_network_keeps_to_its_budget_and_is_trained_once(unseen, tmp_path):
    options, system = options_of(tmp_path, tmp_path), unseen.rows("valler")[0]
    options.speech = tmp_path / "speech.jsonl"
    options.speech.write_text("{}")
    tokens, kept = write_codes(tmp_path / "tokens", system.merge), tmp_path / "valler-ar" / unseen.DONE
    first = unseen.learn(system, "ar", tokens, options)
    assert first.cpu_seconds == pytest.approx(options.budget, rel=0.5)
    assert first.updates > 1
    assert first.last_loss > 0
    assert 0 <= first.accuracy <= 1
    written = kept.stat().st_mtime_ns
    assert unseen.learn(system, "ar", tokens, options) == first
    assert kept.stat().st_mtime_ns == written


def test_both_groupings_of_valle_2_share_the_nar_model(unseen):
    one, two = unseen.rows("valle2")
    assert [system.place("nar") for system in (one, two)] == ["valle2-nar"] * 2
    assert one.place("ar") != two.place("ar")
    assert [system.merge for recipe in ("valle", "vallex", "valler") for system in unseen.rows(recipe)] == [1, 1, 2]


def test_answers_that_failed_are_counted_by_how(unseen):
    notes = [(), ("cut",), ("loop", "slow"), ("silence", "runaway"), ("fast",)]
    answers = [Result("a", str(place), 0, "x", notes=found) for place, found in enumerate(notes)]
    answers.append(Result("a", "5", 0, "x", status="failed", error="no"))
    shares = unseen.failures(Evaluation(protocol("quick"), tuple(answers), {}), "a")
    assert shares == {"limit": 1 / 6, "failure": 2 / 6, "no sound": 1 / 6}


@pytest.mark.slow
@pytest.mark.skipif(find_spec("webrtcvad") is None, reason="needs openvalle[eval-offline]")
def test_one_command_trains_speaks_and_judges(load, say_builtin, tmp_path, monkeypatch):
    family, sentence = load("family"), say_builtin(TEXT, "en")
    speech = write_corpus(tmp_path, [sentence])
    given = ["--only", "unseen", "--data", str(speech), "--out", str(tmp_path / "out"), "--systems", "valle2"]
    given += ["--hours", "0.005", "--budget", "1", "--frames", "300", "--readers", "ls3664"]
    monkeypatch.setattr(sys, "argv", ["family.py", *given, "--limit", "4", "--other-limit", "0"])
    family.main()
    values = json.loads((tmp_path / "out" / "family.json").read_text())["unseen"]
    names = ["original", "codec-reconstructed", "VALL-E 2, G = 1", "VALL-E 2, G = 2"]
    assert list(values["figures"]) == names
    assert all(values["figures"][name]["wer"]["count"] == 2 for name in names)
    assert values["figures"]["original"]["wer"]["value"] < 0.5
    table = (tmp_path / "out" / "family.md").read_text()
    assert all(f"| {name} |" in table for name in names)
    assert "1 CPU s for each network" in table
