"""Laws of the benchmarks: fair and repeatable choices, intervals that hold the value, judgements kept."""

from __future__ import annotations

import importlib
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from openvalle.audio import Audio, concatenate, silence, write
from openvalle.errors import UserError
from openvalle.listen.scoring import WordErrors

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """A function that imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def corpus(tmp_path: Path, spoken: Audio) -> Path:
    """A folder of speech: three speakers, three recordings each, 7.6 s and 4.8 s."""
    lines = []
    for speaker, gender in (("anna", "F"), ("ben", "M"), ("carl", "M")):
        for number in range(3):
            name = f"{speaker}{number}"
            tail = spoken if number else silence(1.0)
            write(tmp_path / f"{name}.wav", concatenate([spoken, tail]))
            text = "SAW SEE SAW SEE" + " SAW SEE SAW SEE" * bool(number)
            seconds = spoken.seconds + tail.seconds
            row = {"id": name, "audio": f"{name}.wav", "text": text, "speaker": speaker, "gender": gender}
            lines.append(json.dumps(row | {"seconds": seconds, "split": "dev-clean"}))
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_without_data_the_user_is_told_what_to_give(load, monkeypatch, tmp_path):
    module = load("corpus")
    monkeypatch.delenv(module.VARIABLE, raising=False)
    with pytest.raises(UserError, match="--data FOLDER or set OPENVALLE_SPEECH"):
        module.read_corpus(None)
    with pytest.raises(UserError, match=r"cannot read .*manifest\.jsonl"):
        module.read_corpus(str(tmp_path))
    (tmp_path / "manifest.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(UserError, match="not a manifest"):
        module.read_corpus(str(tmp_path))


def test_every_speaker_has_a_turn_and_the_seed_decides(load, corpus, monkeypatch):
    module = load("corpus")
    monkeypatch.setenv(module.VARIABLE, str(corpus))
    utterances = module.read_corpus(None)
    assert len(utterances) == 9
    chosen = module.choose(utterances, 6, seed=1)
    assert [item.speaker for item in chosen] == ["anna", "ben", "carl"] * 2
    assert module.choose(utterances[::-1], 6, seed=1) == chosen
    assert module.choose(utterances, 6, seed=2) != chosen
    assert len(module.choose(utterances, 99, seed=1)) == 9


def test_pairs_are_of_one_speaker_with_another_text_and_a_wrong_speaker(load, corpus):
    utterances = load("corpus").read_corpus(str(corpus))
    pairs = load("pairs").make_pairs(utterances, 6, seed=0)
    assert len(pairs) == 6
    for pair in pairs:
        assert pair.prompt.source.speaker == pair.target.speaker != pair.wrong.source.speaker
        assert pair.prompt.source.id != pair.target.id
        assert 2.4 <= pair.prompt.audio.seconds <= 3.6
        assert 2 <= len(pair.prompt.text.split()) <= 4
    assert len({(pair.prompt.source.id, pair.target.id) for pair in pairs}) == 6


def test_intervals_hold_the_value_and_shrink_with_more_clips(load):
    report = load("report")
    values = np.random.default_rng(0).normal(3, 1, 400)
    few, many = report.mean(values[:20]), report.mean(values)
    assert many.value == pytest.approx(values.mean())
    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low
    assert report.mean(values) == many


def test_corpus_error_rate_weighs_by_words(load):
    figure = load("report").error_rate([WordErrors(substitutions=1, words=1), WordErrors(words=3)])
    assert figure.value == 0.25
    assert figure.text(percent=True) == "25.0 [0.0, 100.0]"


def test_report_is_written_as_json_and_markdown(load, tmp_path, capsys):
    report = load("report").Report("codec", {"seed": 0})
    report.table("dev-clean", ["", "WER %"], [["original", "27.0"]])
    report.targets([("WER points added", 9.0, "<= 8", False)])
    values, text = report.write(tmp_path)
    assert json.loads(values.read_text())["targets"][0]["met"] is False
    assert "| original | 27.0 |" in text.read_text()
    assert "MISSED" in capsys.readouterr().out


@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("jiwer", "resemblyzer", "webrtcvad", "speechmos", "onnxruntime")),
    reason="needs openvalle[eval-offline]",
)
def test_a_judgement_is_kept_and_silence_scores_nothing(load, tmp_path, monkeypatch, spoken):
    judging = load("judging")
    panel, clips = judging.Panel(), [judging.Clip(spoken, "saw see"), judging.Clip(silence(1.0), "two words")]
    monkeypatch.setattr(judging, "_judge_missing", None)  # no worker is needed: all are on disk
    for clip in clips:
        (tmp_path / f"{clip.key()}.json").write_text(json.dumps(panel.judge(clip)))
    heard, nothing = judging.judge_all(clips, tmp_path)
    assert heard.likeness(heard) == pytest.approx(1, abs=1e-5)
    assert heard.likeness(nothing) == 0
    assert nothing.errors == WordErrors(deletions=2, words=2)
    assert len({clip.key() for clip in [*clips, judging.Clip(spoken, "saw")]}) == 3


def test_codebook_usage_counts_entries(load):
    import torch

    codes = torch.stack([torch.arange(8) % 2, torch.arange(8) % 8], dim=1)  # (T, 2)
    shares, perplexities = load("codec").usage([codes[:4], codes[4:]], entries=8)
    assert shares == [0.25, 1.0]
    assert perplexities == pytest.approx([2, 8])
