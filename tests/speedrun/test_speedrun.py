"""A budget of seconds becomes a model and a table, on the path that people use."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from openvalle.cli.main import app
from openvalle.codec.load import load_codec
from openvalle.config import write_json_lines
from openvalle.data.shards import write_tokens
from openvalle.errors import ConfigError
from openvalle.speedrun.plan import find_held_out
from openvalle.synth.synthesizer import Synthesizer
from openvalle.text.symbols import inventory

pytest.importorskip("tensorboard")

SPEAKERS = {"anna": "train", "ben": "train", "cleo": "held-out"}


def tokens(folder: Path, splits: dict[str, str] = SPEAKERS) -> Path:
    """Write made-up tokens of the built-in codec: eight utterances of each speaker, of about two seconds."""
    rng, spec = np.random.default_rng(0), load_codec("builtin").spec
    vocabulary = inventory().vocabulary
    durations, symbols, rows = [], [], []
    for number in range(8 * len(splits)):
        count = int(rng.integers(14, 20))
        durations.append((2 * rng.integers(3, 8, count)).tolist())
        symbols.append((1 + rng.permutation(len(vocabulary) - 1)[:count]).tolist())
        speaker = list(splits)[number % len(splits)]
        rows.append({"id": f"{speaker}-{number}", "speaker": speaker, "split": splits[speaker], "text": "So it was."})
    codes = [rng.integers(0, spec.entries, (sum(each), spec.codebooks)) for each in durations]
    for each in codes:
        each[:, 0] = np.repeat(each[::2, 0], 2)
    frames, places = write_tokens(folder / "tokens" / "shard-00000.safetensors", codes, symbols, durations)
    for number, row in enumerate(rows):
        length = len(codes[number])
        row |= {"language": "en", "seconds": length / 75, "shard": "shard-00000.safetensors", "frames": length}
        row |= {"symbols": len(symbols[number]), "frame_start": frames[number], "symbol_start": places[number]}
    write_json_lines(folder / "tokens" / "index.jsonl", rows)
    vocabulary.save(folder / "tokens" / "symbols.json")
    (folder / "tokens" / "codec.json").write_text(json.dumps(spec.model_dump(mode="json") | {"merge": 2}))
    return folder


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        app([str(each) for each in arguments], prog_name="openvalle")
    return int(ended.value.code or 0)


def test_held_out_splits_are_found_or_asked_for(tmp_path: Path) -> None:
    assert find_held_out((tokens(tmp_path / "a"),)) == ("held-out",)
    with pytest.raises(ConfigError, match="of speakers that are held out"):
        find_held_out((tokens(tmp_path / "b", {"anna": "train"}),))


def test_a_budget_in_which_nothing_can_be_learned_is_one_line(tmp_path: Path, capsys) -> None:
    assert command("speedrun", tokens(tmp_path / "a"), "-o", tmp_path / "out", "--seconds", 5) == 2
    assert "give 60 s at least" in capsys.readouterr().err


@pytest.mark.slow
def test_two_minutes_become_a_model_within_their_budget(tmp_path: Path, capsys) -> None:
    out, began = tmp_path / "out", time.monotonic()
    assert command("speedrun", tokens(tmp_path / "a"), "-o", out, "--seconds", 120, "--json", "--quiet") == 0
    assert time.monotonic() - began < 1.1 * 120
    reached = json.loads((out / "report.json").read_text())
    assert reached["steps"]["ar"] > 10 < reached["steps"]["nar"]
    assert reached["sentences"] >= 1
    assert "| sentences judged |" in (out / "report.md").read_text()
    assert Synthesizer.load(out / "model").config.codec.digest == load_codec("builtin").spec.digest
    plan = (out / "plan.json").read_text()
    before = (out / "ar" / "metrics.jsonl").read_text()
    assert command("speedrun", tmp_path / "a", "-o", out, "--seconds", 120, "--sentences", 1, "--quiet") == 0
    assert (out / "plan.json").read_text() == plan
    assert (out / "ar" / "metrics.jsonl").read_text() == before  # nothing is trained again
    assert "what it reached" in capsys.readouterr().out
