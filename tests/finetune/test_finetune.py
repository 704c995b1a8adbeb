"""From clips to an adapter that `say` speaks with: on the path that people use, with a tiny model and crude speech."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from openvalle.cli.main import app
from openvalle.data.shards import TokenShards
from openvalle.errors import ModelError, UserError
from openvalle.finetune.material import HELD_OUT, TRAIN, hold_out
from openvalle.finetune.report import compare_sums
from openvalle.media import read, write
from openvalle.model.adapter import Adapter
from openvalle.synth.synthesizer import Synthesizer

pytest.importorskip("tensorboard")

NEEDED = ("pocketsphinx", "resemblyzer", "webrtcvad")
QUICK = ("--steps", "4", "--judged", "0", "--quiet", "--consent", "made up", "--rank", "4")


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        app([str(each) for each in arguments], prog_name="openvalle")
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def clips(speak, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of one voice, with their words."""
    folder = tmp_path_factory.mktemp("anna")
    for number in range(10):
        write(folder / f"{number}.wav", speak(105 + number))
        (folder / f"{number}.txt").write_text("Saw, see, saw, see.")
    return folder


@pytest.fixture(scope="module")
def adapted(clips: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "anna"
    assert command("finetune", tiny_model, clips, "-o", out, *QUICK) == 0
    return out


@pytest.fixture(autouse=True, scope="module")
def patient_alignment() -> Iterator[None]:
    """Crude speech is aligned as any other; whether it is likely speech is not asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openvalle.prepare.align.check", lambda *_: None)
        yield


def test_clips_become_an_adapter_with_its_voice(adapted: Path, tiny_model: Path) -> None:
    adapter = Adapter.load(adapted)
    assert set(adapter.tensors) == {"ar", "nar"} and adapter.about["consent"] == "made up"
    tuned = Synthesizer.load(tiny_model, adapter=adapted)
    assert tuned.voice().consent == "made up"
    assert tuned.voice().codes.shape[1] == 8
    assert tuned.config.name != Synthesizer.load(tiny_model).config.name  # kept sentences are not mixed up
    tokens = adapted / "data" / "chosen" / "tokens"
    assert len(TokenShards.open(tokens, HELD_OUT)) == 1
    assert len(TokenShards.open(tokens, TRAIN)) == 9


def test_say_speaks_with_the_adapter(adapted: Path, tiny_model: Path, tmp_path: Path) -> None:
    said = [
        command("say", "Saw.", "--model", tiny_model, *more, "--attempts", 1, "-q", "-o", tmp_path / f"{number}.wav")
        for number, more in enumerate(((), ("--adapter", adapted), ("--adapter", adapted / "adapter.safetensors")))
    ]
    assert said[1:] == [0, 0]
    sounds = [(tmp_path / f"{number}.wav").read_bytes() for number in (1, 2)]
    assert sounds[0] == sounds[1]


def test_the_same_command_goes_on_and_changes_nothing(adapted: Path, clips: Path, tiny_model: Path) -> None:
    before = (adapted / "adapter.safetensors").stat().st_mtime_ns, Adapter.load(adapted).digest
    runs = (adapted / "ar" / "metrics.jsonl").read_text()
    assert command("finetune", tiny_model, clips, "-o", adapted, *QUICK) == 0
    assert Adapter.load(adapted).digest == before[1]
    assert (adapted / "ar" / "metrics.jsonl").read_text() == runs  # nothing was trained again


@pytest.mark.long
@pytest.mark.skipif(any(find_spec(name) is None for name in NEEDED), reason="needs openvalle[eval-offline]")
def test_the_report_compares_before_and_after(clips: Path, tiny_model: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    quick = [*QUICK, "--judged", "3", "--held-out", "0.3", "--asr", "pocketsphinx", "--json"]
    assert command("finetune", tiny_model, clips, "-o", out, *quick) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in said["rows"]] == ["recorded", "before", "after"]
    report = json.loads((out / "report.json").read_text())
    rates = {row["name"]: row["word_error_rate"] for row in report["rows"]}
    assert all(rate["low"] <= rate["value"] <= rate["high"] and rate["count"] == 3 for rate in rates.values())
    change = report["changes"]["word error rate"]
    assert change["value"] == pytest.approx(rates["after"]["value"] - rates["before"]["value"])
    assert [row["wer"] for row in said["rows"]] == [rate["value"] for rate in rates.values()]
    page = (out / "report.md").read_text()
    assert "3 of 3 held-out sentences" in page and "| after less before |" in page and "words: heard by" in page
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")
    assert all(len(read(out / f"{name}.wav").samples) > 1000 for name in rates)


@pytest.mark.long
@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("wetext", "pypinyin", "jieba")), reason="needs openvalle[zh]"
)
def test_a_language_is_learnt_with_all_weights(clips: Path, tiny_model: Path, tmp_path: Path, capsys) -> None:
    """An adapter cannot add one, and says so before it trains; a model that learnt it speaks it."""
    rows = [{"audio": f"{number}.wav", "text": "扫西扫西", "language": "zh"} for number in range(10)]
    shutil.copytree(clips, tmp_path / "in", ignore=shutil.ignore_patterns("*.txt"))
    (tmp_path / "in" / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    capsys.readouterr()
    assert command("finetune", tiny_model, tmp_path / "in", "-o", out, *QUICK) == 2
    said = capsys.readouterr().err
    assert "the model tiny does not know zh, which an adapter cannot add; use --method full" in said
    assert not (out / "ar").exists()
    quick = ["--method", "full", *QUICK, "--judged", "1", "--asr", "pocketsphinx"]
    assert command("finetune", tiny_model, tmp_path / "in", "-o", out, *quick) == 0
    assert Synthesizer.load(out / "model").config.languages == ("en", "zh")
    voice = ("--voice", out / "voice.safetensors", "--attempts", 1, "-q")
    assert command("say", "你好", "--model", out / "model", *voice, "-o", tmp_path / "said.wav") == 0
    page = (out / "report.md").read_text()
    assert "it does not speak this language" in page and "| before |" not in page and (out / "after.wav").is_file()


def test_changes_are_judged_sentence_by_sentence() -> None:
    """A small change of all sentences is seen, although they differ much more among each other."""
    errors = np.arange(10.0) * 10
    sums = {
        name: np.stack([errors + more, np.full(10, 100.0)], axis=1)
        for name, more in (("recorded", 0), ("before", 2), ("after", 1))
    }
    found = compare_sums(sums, seed=0)
    assert found["before"].low < found["after"].value < found["before"].high
    change = found["change"]
    assert change.low == pytest.approx(-0.01) and change.high == pytest.approx(-0.01)
    few = compare_sums({name: each[:2] for name, each in sums.items()}, seed=0)
    assert few["change"].value == pytest.approx(-0.01) and np.isnan(few["change"].low)


@pytest.mark.slow
def test_all_weights_become_a_model(clips: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert command("finetune", tiny_model, clips, "-o", tmp_path / "out", "--method", "full", *QUICK) == 0
    made = Synthesizer.load(tmp_path / "out" / "model")
    assert made.voice(tmp_path / "out" / "voice.safetensors").seconds > 1
    generation = json.loads((tmp_path / "out" / "model" / "generation.json").read_text())
    assert generation == json.loads((tiny_model / "generation.json").read_text())


def test_an_adapter_of_another_model_is_refused(adapted: Path) -> None:
    with pytest.raises(ModelError, match="made for another model"):
        Synthesizer.load("builtin", adapter=adapted)


def test_too_little_speech_is_one_clear_line(clips: Path, tiny_model: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "few").mkdir()
    for name in ("0.wav", "0.txt"):
        (tmp_path / "few" / name).write_bytes((clips / name).read_bytes())
    capsys.readouterr()
    assert command("finetune", tiny_model, tmp_path / "few", "-o", tmp_path / "out", *QUICK) == 2
    assert "s of speech in 1 utterances can be used" in capsys.readouterr().err


def test_consent_is_asked_for_before_anything_is_done(
    clips: Path, tiny_model: Path, tmp_path: Path, monkeypatch
) -> None:
    from openvalle.finetune.run import finetune

    monkeypatch.setenv("OPENVALLE_CONSENT", "require")
    with pytest.raises(UserError, match="consent"):
        finetune(str(tiny_model), clips, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_held_out_depends_on_ids_alone() -> None:
    rows = [{"id": f"clip-{number}", "split": "train"} for number in range(100)]
    chosen = {row["id"] for row in hold_out(rows, 0.1) if row["split"] == HELD_OUT}
    assert len(chosen) == 10
    assert {row["id"] for row in hold_out(rows[::-1], 0.1) if row["split"] == HELD_OUT} == chosen
