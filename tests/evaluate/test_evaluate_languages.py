"""Evaluation by language: signs of Chinese and Japanese, the language that is heard, BLEU, accents of one model."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from openvalle.audio import Audio
from openvalle.cli.main import app
from openvalle.errors import UserError
from openvalle.evaluate.build_list import ListSource, build_list
from openvalle.evaluate.by_language import choose_tokenizer, measure_bleu, measure_languages
from openvalle.evaluate.protocols import protocol
from openvalle.evaluate.results import Result
from openvalle.media import write
from openvalle.speech_models import asr
from openvalle.speech_models.wer import character_errors, word_errors
from openvalle.synth.normalizers import choose_normalizer, find_normalizer

JUDGES = ("jiwer", "sacrebleu", "resemblyzer", "webrtcvad", "speechmos")
needs_judges = pytest.mark.skipif(
    any(find_spec(name) is None for name in JUDGES), reason="needs openvalle[eval-offline]"
)
CHINESE = "今天天气很好。"
LIKE_THE_BUZZ = "搜西搜西"  # as near to "saw see saw see" as Chinese comes


def need(*packages: str) -> None:
    for package in packages:
        pytest.importorskip(package)


def test_figures_width_and_punctuation_do_not_count_in_chinese():
    need("wetext", "pypinyin")
    count = find_normalizer("openvalle-zh-1")
    assert count("我有３个苹果，OK！") == count("我有三个苹果 ok") == "我 有 三 个 苹 果 ok"
    assert word_errors("今天天气很好", "今天天汽很好。", count).rate == pytest.approx(1 / 6)
    assert character_errors("2024年", "二零二四年", count).rate == 0


def test_japanese_counts_what_is_said_or_how_it_is_written():
    need("pyopenjtalk")
    said, written = find_normalizer("openvalle-ja-kana-1"), find_normalizer("openvalle-ja-1")
    assert said("橋を渡る。").split()[:2] == ["ハ", "シ"]
    assert word_errors("橋を渡る。", "はしをわたる", said).rate == 0
    assert word_errors("橋を渡る。", "はしをわたる", written).rate > 0.5
    assert word_errors("3時に", "三時に", said).rate == 0


def test_each_language_has_its_normaliser():
    assert choose_normalizer("openvalle-en-1", "en") == "openvalle-en-1"
    assert choose_normalizer("openvalle-en-1", "zh-cn") == "openvalle-zh-1"
    assert choose_normalizer("openvalle-en-1", "ja") == "openvalle-ja-kana-1"
    assert choose_normalizer("openvalle-ja-1", "ja") == "openvalle-ja-1"
    assert choose_normalizer("openvalle-ja-1", "en") == "openvalle-en-1"
    assert choose_normalizer("openvalle-en-1", "de") == choose_normalizer("plain-1", "de") == "plain-1"
    with pytest.raises(UserError, match="there are: openvalle-en-1, plain-1, openvalle-zh-1"):
        find_normalizer("openvalle-fr-1")


def heard(language: str, text: str, said: str, system: str = "a") -> Result:
    metrics = {"word_errors": 0.0, "words": 4.0, "language_heard": 0.5}
    return Result(system, text, 0, text, language=language, heard=said, metrics=metrics)


def test_bleu_is_of_the_set_and_each_language_has_its_own():
    need("sacrebleu", "wetext")
    english = [heard("en", "THE OLD BRIDGE IS CLOSED", "The old bridge is closed.")]
    chinese = [heard("zh", CHINESE, CHINESE), heard("zh", "我们去公园走一走", "我们去花园坐一坐吧")]
    assert measure_bleu(english, "en") == pytest.approx(100)
    assert measure_bleu(chinese[:1], "zh") == pytest.approx(100)
    assert 5 < measure_bleu(chinese, "zh") < 90
    found = measure_languages([*english, *chinese])
    assert [(one.language, one.rows, one.tokenizer) for one in found] == [("en", 1, "13a"), ("zh", 2, "zh")]
    assert measure_languages(english) == [], "English alone is the main table"
    assert choose_tokenizer("ja") in ("char", "ja-mecab")


class Whisper(asr.WhisperRecognizer):
    """Stands in for the weights: it hears the right words of Chinese only, and some language."""

    knows_languages = True  # type: ignore[assignment]

    def __init__(self) -> None:
        self.name, self.decoding = "whisper of a test", "none"

    def transcribe(self, audio: Audio, language: str = "en") -> asr.Transcript:
        return asr.Transcript({"zh": "搜西搜东", "en": "saw see"}[language])

    def detect_language(self, audio: Audio) -> dict[str, float]:
        return {"zh": 0.75, "en": 0.25}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory, spoken: Audio) -> Path:
    """A speaker of English and one of Chinese, by what the manifest says."""
    folder, rows = tmp_path_factory.mktemp("speech"), []
    for name, language in (("anna", "en"), ("chen", "zh")):
        write(folder / f"{name}.wav", spoken)
        text = LIKE_THE_BUZZ if language == "zh" else "saw see saw see"
        rows.append({"id": name, "audio": f"{name}.wav", "text": text, "speaker": name, "language": language})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def bilingual(tiny_codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with ids of English and Chinese, of random weights."""
    from openvalle.model.ar import AR
    from openvalle.model.bundle import BundleConfig
    from openvalle.model.checkpoint import Bundle, save_bundle
    from openvalle.model.config import ARConfig, NARConfig, TransformerConfig
    from openvalle.model.nar import NAR
    from openvalle.text.symbols import inventory

    torch.manual_seed(1)
    table, stack = inventory(), TransformerConfig(width=32, heads=2, depth=1, feedforward=64)
    shared = {"transformer": stack, "symbols": len(table), "alignment": "phoneme", "merge": 2}
    about = {"name": "two", "licence": "Apache-2.0", "codec": tiny_codec.spec, "symbols_digest": table.digest}
    ar = ARConfig(**shared, languages=2, language_dropout=0.1, marks=table.marks)
    config = BundleConfig(**about, ar=ar, nar=NARConfig(**shared), languages=("en", "zh"))
    folder = tmp_path_factory.mktemp("model") / "two"
    quick = {"symbol_frames": 8, "pause_frames": 8}
    save_bundle(Bundle(config, AR(ar), NAR(config.nar), table.vocabulary, quick), folder)
    tiny_codec.save(folder / "codec")
    return folder


def test_prompts_are_in_another_language_than_the_text(speech):
    items = build_list(protocol("cross-lingual"), ListSource(speech, limit=2)).items
    assert len(items) == 2
    assert all(item.prompt.language != item.language for item in items)
    assert {item.language for item in items} == {"en", "zh"}


@needs_judges
@pytest.mark.long
def test_accents_of_a_model_are_compared_by_language(speech, bilingual, tmp_path, monkeypatch):
    need("wetext", "pypinyin", "jieba")
    monkeypatch.setattr(asr, "load_recognizer", lambda name, device="cpu": Whisper())
    command = ["compare", "--system", f"ours=model:{bilingual}", "--accent", "native", "--accent", "foreign"]
    command += ["--protocol", "cross-lingual", "--data", str(speech), "--limit", "2", "--speaker", "resemblyzer"]
    done = CliRunner().invoke(app, [*command, "--codec", "none", "--quiet", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "| ours native, zh |" in done.output and "| ours foreign, en |" in done.output
    assert "|  | ours native | ours foreign | difference | p | items |" in done.output
    shown = json.loads((tmp_path / "out" / "report.json").read_text())
    assert shown["systems"]["ours native"]["failed"] == 0
    assert shown["record"]["systems"]["ours foreign"]["options"]["accent"] == "foreign"
    assert shown["record"]["judges"]["normalizer"] == "openvalle-en-1, openvalle-zh-1"
    by = {(one["system"], one["language"]): one for one in shown["languages"]}
    chinese, english = by["ours native", "zh"], by["ours native", "en"]
    assert chinese["figures"]["cer"]["value"] == 0.25
    assert chinese["figures"]["language_heard"]["value"] == 0.75
    assert english["figures"]["language_heard"]["value"] == 0.25
    assert english["figures"]["wer"]["value"] == 0.5
    assert chinese["bleu"] > 0 and chinese["tokenizer"] == "zh"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "By language" in page and LIKE_THE_BUZZ in page
