"""Translators: found by their languages, refused in one line where they are none, and computed for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openvalle.errors import ModelError, TextError
from openvalle.text.translator import Place, Translators, convert_command, explain_missing, to_code


def test_what_was_learnt_is_said_alone_and_among_others(translators: Path) -> None:
    known = Translators.find([translators / "en-zh"])
    assert known.translate(["saw, see."], "en", "zh") == ["今天天气很好。"]
    assert known.translate(["撒西，撒西。", "  saw,  see.\n", ""], "en", "zh") == ["One two.", "今天天气很好。", ""]
    assert len(known.translate(["saw " * 2000], "en", "zh")[0]) < 2000, "a text without end does not take for ever"


def test_the_users_own_are_found_by_their_names(translators: Path, own_home: Path) -> None:
    shutil.copytree(translators / "en-zh", own_home / "translators" / "opus-mt-en-jap-ct2-int8")
    shutil.copytree(translators / "zh-en", own_home / "translators" / "zh-en")
    found = Translators.find()
    assert {(place.source, place.target) for place in found.places} == {("en", "ja"), ("zh", "en")}
    assert found.translate(["撒西，撒西。"], "zh", "en") == ["One two."]
    way = [(place.folder.name, target) for place, target in found.find_way("zh", "ja")]
    assert way == [("zh-en", "en"), ("opus-mt-en-jap-ct2-int8", "ja")], "by a third language"
    assert Place.find("zh-en").source == "zh"


def test_the_tokenizer_tells_the_languages_before_the_name_does(translators: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(translators / "en-zh", tmp_path / "mine")
    assert (Place.find(folder).source, Place.find(folder).target) == ("", "")
    assert Translators.find([folder]).translate(["saw, see."], "en", "zh") == ["今天天气很好。"], (
        "then it is taken at its word"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "eng", "target_lang": "zho"}))
    assert (Place.find(folder).source, Place.find(folder).target) == ("en", "zh")
    assert [to_code(name) for name in ("jap", "cmn_Hans", "ZH", "deu", "xx")] == ["ja", "zh", "zh", "de", "xx"]


def test_a_model_of_several_languages_is_told_which(translators: Path, tmp_path: Path) -> None:
    from openvalle.text.translator import _choose_target

    vocabulary = ["<unk>", ">>cmn<<", ">>cmn_Hans<<", ">>cmn_Hant<<", ">>jpn_Hira<<", "a"]
    (tmp_path / "shared_vocabulary.json").write_text(json.dumps(vocabulary))
    assert _choose_target(tmp_path, "zh") == [">>cmn_Hans<<"]
    assert _choose_target(tmp_path, "ja") == [">>jpn_Hira<<"]
    with pytest.raises(ModelError, match="does not write 'fr'"):
        _choose_target(tmp_path, "fr")
    assert _choose_target(translators / "en-zh", "zh") == []


def test_what_is_no_translator_is_refused_in_one_line(translators: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing at"):
        Place.find(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no model.bin, source.spm, target.spm; give a folder"):
        Place.find(tmp_path / "empty")
    (tmp_path / "empty" / "vocab.json").write_text("{}")  # as transformers has it
    with pytest.raises(ModelError, match="convert it: ct2-transformers-converter --model"):
        Place.find(tmp_path / "empty")
    for name in ("model.bin", "source.spm", "config.json"):
        broken = shutil.copytree(translators / "en-zh", tmp_path / f"en-zh-{name}")
        (broken / name).write_bytes(b"junk" * 50)
        with pytest.raises(ModelError, match=r"cannot be read .*; convert it again"):
            Translators.find([broken]).translate(["saw, see."], "en", "zh")


def test_what_is_missing_is_named_with_the_command_that_brings_it(own_home: Path) -> None:
    with pytest.raises(TextError) as raised:
        Translators.find().translate(["a"], "ja", "zh")
    line = str(raised.value)
    assert "\n" not in line and "no translator goes from 'ja' to 'zh'; run: pip install 'openvalle[translate]'" in line
    for model, name in (("opus-mt-ja-en", "ja-en"), ("opus-mt-en-zh", "en-zh")):
        assert convert_command(f"Helsinki-NLP/{model}", own_home / "translators" / name) in line
    assert "Helsinki-NLP/opus-mt-zh-en " in str(explain_missing("zh", "en"))


@pytest.mark.slow
def test_the_command_in_the_message_makes_a_translator_of_the_published_files(
    translators: Path, tmp_path: Path
) -> None:
    """A model of random weights in the files of opus-mt: the real converter reads it, and what it writes translates."""
    import sentencepiece

    transformers = pytest.importorskip("transformers")
    published = tmp_path / "opus-mt-en-zh"
    published.mkdir()
    pieces = {"</s>": 0, "<unk>": 1}
    for name in ("source.spm", "target.spm"):
        shutil.copy(translators / "en-zh" / name, published)
        cutter = sentencepiece.SentencePieceProcessor(model_file=str(published / name))
        for at in range(cutter.get_piece_size()):
            pieces.setdefault(cutter.id_to_piece(at), len(pieces))
    pieces["<pad>"] = len(pieces)
    (published / "vocab.json").write_text(json.dumps(pieces))
    about = {"source_lang": "eng", "target_lang": "zho", "tokenizer_class": "MarianTokenizer"}
    (published / "tokenizer_config.json").write_text(json.dumps(about))
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
    sizes |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    pad = pieces["<pad>"]
    signs = {"pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": 0, "forced_eos_token_id": 0}
    config = transformers.MarianConfig(vocab_size=len(pieces), **sizes, **signs, static_position_embeddings=True)
    transformers.MarianMTModel(config).save_pretrained(published)
    with pytest.raises(ModelError, match="convert it: ct2-transformers-converter --model"):
        Place.find(published)
    _, *options = convert_command(str(published), tmp_path / "en-zh").split()
    subprocess.run([sys.executable, "-m", "ctranslate2.converters.transformers", *options], check=True, timeout=120)
    assert len(Translators.find([tmp_path / "en-zh"]).translate(["saw, see.", ""], "en", "zh")) == 2


@pytest.mark.skipif("OPENVALLE_OPUS" not in os.environ, reason="$OPENVALLE_OPUS: a folder of opus-mt en-zh")
def test_a_published_model_translates() -> None:
    found = Translators.find([os.environ["OPENVALLE_OPUS"]]).translate(["Good morning, my friend."], "en", "zh")
    assert "早" in found[0]
