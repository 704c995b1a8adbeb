"""`openvalle compare`, for real: our model, espeak-ng, a folder of clips and a speech endpoint on one list."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from compare_samples import espeak, speech_server, tone
from typer.testing import CliRunner, Result

from openvalle.cli.main import app
from openvalle.errors import ConfigError, UserError
from openvalle.evaluate.build_list import ListSource, build_list
from openvalle.evaluate.protocols import protocol
from openvalle.evaluate.results import ORIGINAL, read_results
from openvalle.evaluate.systems.config import (
    CommandConfig,
    FolderConfig,
    HttpConfig,
    ModelConfig,
    OpenAIConfig,
    build_candidate,
    forget_failures,
    read_systems,
    short_system,
)
from openvalle.evaluate.test_list import read_list
from openvalle.media import write

NEEDED = ("jiwer", "resemblyzer", "webrtcvad", "speechmos", "onnxruntime")
needs_judges = pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED), reason="needs openvalle[eval-offline] and its judges"
)


PAGE = Path(__file__).parents[2] / "docs" / "compare.md"


def compare(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


@pytest.mark.slow
@needs_judges
@pytest.mark.skipif(espeak() is None, reason="no espeak-ng: install it, or the wheel espeakng-loader")
def test_four_kinds_of_systems_on_one_list(corpus: Path, tmp_path: Path) -> None:
    out, clips = tmp_path / "out", tmp_path / "clips"
    template = espeak()
    assert template
    drawn = build_list(protocol("quick"), ListSource(corpus, limit=2)).limit(1).write(tmp_path / "items.jsonl")
    with speech_server() as server:
        systems: dict[str, Any] = {
            "ours": {"kind": "model", "model": "builtin"},
            "espeak-ng": {"kind": "command", "command": list(template), "stdin": "{text}"},
            "clips": {"kind": "folder", "path": str(clips)},
        }
        (tmp_path / "systems.json").write_text(json.dumps({"systems": systems}))
        write(clips / "nothing-of-the-list.wav", tone())
        common = (tmp_path / "systems.json", "-s", f"api=openai:{server.url}/v1", "--data", corpus, "--items", drawn,
                  "-q", "--codec", "none", "-o", out)  # fmt: skip
        result = compare(*common)
        assert result.exit_code == 0, result.output
        assert "clips failed on 1 of 1: " in result.stderr, "a system that fails everywhere is in the report"
        (id_,) = [item.id for item in read_list(out / "items.jsonl").items]
        lost = next(row for row in read_results(out / "rows.jsonl") if row.system == "clips")
        assert (lost.status, lost.audio, lost.metrics["word_errors"]) == ("failed", "", lost.metrics["words"])
        assert f"holds no clip {id_}" in lost.error
        write(clips / f"{id_}.wav", tone(seconds=1.0))
        asked = len(server.asked)
        result = compare(*common, "--retry", "--json")
        assert len(server.asked) == asked == 1, "answers that are there are not asked for again"
    rows = {row.system: row for row in read_results(out / "rows.jsonl")}
    assert set(rows) == {ORIGINAL, "ours", "espeak-ng", "clips", "api"}
    assert not any(row.failed for row in rows.values()), "what failed was tried again"
    for name in ("ours", "espeak-ng", "api"):
        assert rows[name].metrics["spoken_seconds"] > 0.2
        assert rows[name].metrics["wall_seconds"] > 0
        assert ("processor_seconds" in rows[name].metrics) == (name == "ours"), "what is not known is absent, not zero"
        assert (out / rows[name].audio).is_file()
    assert "wall_seconds" not in rows["clips"].metrics, "nobody knows what a clip took to make"
    told = json.loads(result.stdout)
    assert told["record"]["systems"]["espeak-ng"]["kind"] == "command"
    assert "| ours |" in (out / "report.md").read_text()


def test_what_would_fail_everywhere_is_said_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(UserError, match="no program /no/such"):
        build_candidate("c", CommandConfig(command=("/no/such", "{output}")))
    with pytest.raises(ConfigError, match="no placeholder"):
        build_candidate("c", CommandConfig(command=("python3", "{voice}")))
    with pytest.raises(ConfigError, match="NO_KEY is not set"):
        build_candidate("o", OpenAIConfig(url="http://127.0.0.1:1/v1", key="$NO_KEY"))
    with pytest.raises(ConfigError, match="no placeholder"):
        build_candidate("h", HttpConfig(url="http://127.0.0.1:1", body={"a": [{"b": "{txt}"}]}))
    with pytest.raises(UserError, match="no folder"):
        build_candidate("f", FolderConfig(path=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match="name of a row"):
        build_candidate(ORIGINAL, FolderConfig(path=str(tmp_path)))
    good = HttpConfig(url="http://127.0.0.1:1", body={"wav": "{prompt_base64}", "n": 3, "t": "{text}"})
    assert build_candidate("h", good).build().config == good
    assert build_candidate("ours", ModelConfig()).name == "ours"


def test_failures_can_be_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "audio" / "api" / "0"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text('{"key": "1", "error": "no connection"}')
    (folder / "b.json").write_text('{"key": "2", "seconds": 1.0}')
    assert forget_failures(tmp_path, "api") == 1
    assert [path.name for path in folder.iterdir()] == ["b.json"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no systems to compare"),
        (("-s", "x"), "write NAME=KIND:VALUE"),
        (("-s", "a=model:builtin", "-s", "a=model:builtin"), "is there twice"),
        (("-s", "a=folder:/no/such"), "no folder /no/such"),
        (("/no/such.yaml",), "cannot read /no/such.yaml"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], said: str) -> None:
    result = compare(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr


def test_the_systems_on_the_page_are_systems(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "systems.yaml").write_text(block)
    kinds = [config.kind for config in read_systems(tmp_path / "systems.yaml").values()]
    assert sorted(kinds) == ["command", "coqui", "folder", "http", *["model"] * 4, "openai", "transformers"]
    for short in re.findall(r"# (\w+=\S+)", block):
        name, config = short_system(short)
        assert config.kind == read_systems(tmp_path / "systems.yaml")[name].kind
