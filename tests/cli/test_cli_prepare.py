"""`openvalle prepare`: the choice of text unit and codec."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from openvalle.data.shards import TokenShards


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two short recordings with their words."""
    for number, text in enumerate(("the thing", "the other thing")):
        path = tmp_path / "in" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * np.random.default_rng(number).standard_normal(24_000), 24_000)
        path.with_suffix(".txt").write_text(text)
    return tmp_path / "in"


def test_byte_pairs_with_a_codec_from_a_folder(openvalle, corpus: Path, tiny_codec, tmp_path: Path) -> None:
    tiny_codec.save(tmp_path / "codec")
    options = ("--text-unit", "bpe", "--bpe-size", 262, "--codec", tmp_path / "codec", "--json")
    done = openvalle("prepare", corpus, tmp_path / "out", *options)
    assert done.code == 0, done.err
    assert json.loads(done.out)["kept"] == {"scan": 2, "audio": 2, "tokens": 2}
    shards = TokenShards.open(tmp_path / "out")
    assert len(shards.vocabulary) == 262 and shards.codec.merge == 1
    table = tmp_path / "out" / "tokens" / "symbols.json"
    options = ("--text-unit", "bpe", "--symbols", table, "--codec", tmp_path / "codec", "-q")
    assert openvalle("prepare", corpus, tmp_path / "again", *options).code == 0
    assert TokenShards.open(tmp_path / "again").vocabulary == shards.vocabulary


def test_an_estimate_is_of_the_steps_that_are_asked_for(openvalle, corpus: Path, tiny_codec, tmp_path: Path) -> None:
    tiny_codec.save(tmp_path / "codec")
    options = ("--text-unit", "bpe", "--bpe-size", 262, "--codec", tmp_path / "codec", "--json", "--estimate", 1000)
    whole = openvalle("prepare", corpus, tmp_path / "out", *options)
    assert "tokens" in {cost["step"] for cost in json.loads(whole.out)["estimate"]}, whole.err
    again = openvalle("prepare", corpus, tmp_path / "out", *options, "--last", "audio")
    assert {cost["step"] for cost in json.loads(again.out)["estimate"]} == {"scan", "audio"}, again.err


def test_a_setting_of_a_step_counts(openvalle, corpus: Path, tmp_path: Path) -> None:
    options = ("--text-unit", "bpe", "--last", "audio", "--json")
    assert json.loads(openvalle("prepare", corpus, tmp_path / "out", *options).out)["kept"]["audio"] == 2
    done = openvalle("prepare", corpus, tmp_path / "out", *options, "--set", "clean.min_seconds=2")
    assert done.code == 2 and "passed the step audio" in done.err, done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "align.min_rat=3"), "the settings of align: min_rat"),
        (("--set", "tokens.merge=3"), "there is no setting 'tokens'"),
        (("--set", "transcribe.min_words=2"), "nothing is transcribed"),
        (("--text-unit", "bpe", "--bpe-size", 10), "cannot have 10 byte pairs"),
        (("--bpe-size", 300), "bpe_size means nothing with phonemes"),
        (("--text-unit", "bpe", "--last", "align"), "no step align"),
        (("--text-unit", "bpe", "--symbols", "nothing.json"), "cannot read nothing.json"),
        (("--text-unit", "bpe", "--codec", "nothing"), "no codec called 'nothing'"),
    ],
)
def test_bad_choices_are_one_line(openvalle, corpus: Path, tmp_path: Path, options, message: str) -> None:
    done = openvalle("prepare", corpus, tmp_path / "out", *options)
    assert done.code == 2 and message in done.err and len(done.err.splitlines()) == 1
