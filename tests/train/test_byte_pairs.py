"""VALL-E 2's text on EnCodec's codes, the whole way: prepare, train, pack, speak."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from encodec_samples import small_encodec, write_vocos
from openvalle.codec.load import find_kept_codec, load_codec
from openvalle.data.batches import TokenBatches
from openvalle.data.shards import TokenShards
from openvalle.errors import ConfigError, ModelError
from openvalle.model.checkpoint import load_bundle
from openvalle.prepare.run import PrepareOptions, Step, prepare
from openvalle.synth.synthesizer import Synthesizer
from openvalle.text.symbols import SymbolTable, TextUnit
from openvalle.train.pack import _kept
from openvalle.train.recipe import run
from openvalle.types import CodecSpec, Vocabulary

TEXTS = ["the thing that they think", "then the other thing"]
STACK = {"width": 16, "heads": 2, "depth": 1, "feedforward": 32}
LEARNT = {"positions": "learnt", "max_positions": 2000}
LOOP = {"steps": 2, "precision": "float32", "optim": {"warmup": 1}}
PARTS = {"ar": {"text_attention": "causal", "group": 2}, "nar": {"conditioning": "token"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of two speakers, and a small EnCodec."""
    import numpy as np
    import soundfile

    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for speaker in ("anna", "ben"):
        for number, text in enumerate(TEXTS):
            path = folder / "in" / speaker / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * rng.standard_normal(24_000 + 8000 * number), 24_000)
            path.with_suffix(".txt").write_text(text)
    small_encodec().save_pretrained(folder / "encodec")
    return folder


@pytest.fixture(scope="module")
def codec(folder: Path) -> str:
    return f"encodec:{folder / 'encodec'}?bandwidth=3"


@pytest.fixture(scope="module")
def prepared(folder: Path, codec: str) -> Path:
    out = folder / "out"
    report = prepare(folder / "in", out, codec, options=PrepareOptions(text_unit=TextUnit.BPE, bpe_size=280))
    assert report.kept == {"scan": 4, "audio": 4, "tokens": 4}
    return out


@pytest.fixture(scope="module")
def model(folder: Path, prepared: Path) -> Path:
    """A model folder, trained for two steps."""
    for part, values in PARTS.items():
        shared = {"transformer": STACK, "codebook_size": 32, **LEARNT}
        recipe = {"data": str(prepared), "valid_split": "dev", "model": values | shared, "loop": LOOP}
        run(part, written(folder / f"{part}.yaml", recipe), (), folder / part)
    recipe = {"ar": str(folder / "ar"), "nar": str(folder / "nar"), "name": "pairs", "licence": "none"}
    recipe["generation"] = {"limit_frames": 40}
    return run("pack", written(folder / "pack.yaml", recipe), (), folder / "model")


def written(path: Path, values: dict) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def test_tokens_are_byte_pairs_and_unmerged_codes(prepared: Path, codec: str) -> None:
    shards, table = TokenShards.open(prepared), SymbolTable(Vocabulary.load(prepared / "tokens" / "symbols.json"))
    assert table.unit is TextUnit.BPE and shards.vocabulary.digest == table.digest and not shards.is_aligned
    assert shards.codec.merge == 1 and shards.codec.digest == load_codec(codec).spec.digest
    for row, text in zip(range(4), TEXTS * 2, strict=True):
        item = shards[row]
        assert item.text.tolist() == table.encode(table.pieces(text))
        assert item.durations is None and item.codes.shape[1] == 8
    shards.require(symbols=table.digest)
    with pytest.raises(ModelError, match="another symbol table"):
        shards.require(symbols="0" * 16)


def test_long_rows_are_left_out_as_they_cannot_be_cropped(prepared: Path) -> None:
    shards = TokenShards.open(prepared)
    batches = TokenBatches(shards, 400, max_seconds=1.1)
    drawn = {row for step in range(20) for row in batches.rows(step)}
    assert drawn == {row for row in range(4) if shards.frames[row] <= 1.1 * 75}
    with pytest.raises(ConfigError, match="longer than"):
        TokenBatches(shards, 400, max_seconds=0.2)


def test_an_altered_table_is_refused(prepared: Path, model: Path, codec: str, tmp_path: Path) -> None:
    for source, load in ((prepared / "tokens", TokenShards.open), (model, Synthesizer.load)):
        copy = tmp_path / source.name
        shutil.copytree(source, copy)
        values = json.loads((copy / "symbols.json").read_text())
        (copy / "symbols.json").write_text(json.dumps(values | {"merges": values["merges"][::-1]}))
        with pytest.raises(ModelError, match=r"symbols\.json"):
            load(copy) if source != model else load(copy, codec=codec)


def test_the_model_speaks(model: Path, clip_path: Path) -> None:
    """Its codec, a folder of this machine, came along: nobody has to say where it is."""
    synthesizer = Synthesizer.load(model)
    voice = synthesizer.voice(clip_path, "saw, see, saw, see")
    assert voice.symbols == tuple(synthesizer.generator.table.pieces("saw, see, saw, see")) and not voice.durations
    speech = synthesizer.say("The thing.", voice, seed=1)
    assert speech.codes.shape[1] == 8 and speech.seconds > 0 and not speech.words
    again = synthesizer.say("The thing.", type(voice).load(voice.save(clip_path.with_suffix(".safetensors"))), seed=1)
    assert (again.codes == speech.codes).all()
    assert synthesizer.options.most_frames == 64


def test_voices_of_phones_are_refused(model: Path, codec: str, tiny_voice) -> None:
    synthesizer = Synthesizer.load(model, codec=codec)
    with pytest.raises(ModelError, match="was made with another"):
        synthesizer.voice(tiny_voice)


def packed(folder: Path, out: Path, codec: str | None) -> Path:
    recipe = {"ar": str(folder / "ar"), "nar": str(folder / "nar"), "name": "pairs", "licence": "none"}
    return run("pack", written(out.with_suffix(".yaml"), recipe | ({"codec": codec} if codec else {})), (), out)


def test_a_model_decodes_through_the_head_that_its_recipe_names(model: Path, folder: Path, tmp_path: Path) -> None:
    vocos_folder = write_vocos(tmp_path / "vocos")
    plain = load_bundle(model).config.codec
    assert plain.name == "encodec?bandwidth=3"
    headed = packed(folder, tmp_path / "headed", f"encodec?bandwidth=3&vocos={vocos_folder}")
    assert load_bundle(headed).config.codec == plain.model_copy(update={"name": "encodec?bandwidth=3&vocos="})
    shutil.rmtree(vocos_folder)
    codes = np.zeros((5, 8), np.int64)
    through = [Synthesizer.load(each).generator.codec for each in (model, headed)]
    assert [engine.codec.head is not None for engine in through] == [False, True]
    assert not np.array_equal(through[0].decode(codes), through[1].decode(codes))
    assert through[0].spec.digest == through[1].spec.digest


def test_a_codec_that_does_not_fit_is_refused_when_packing(
    model: Path, folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="were trained on tokens of"):
        packed(folder, tmp_path / "other", str(tiny_model / "codec"))
    with pytest.raises(ConfigError, match="the networks speak the tokens of"):
        _kept("encodec?vocos=", tmp_path / "codec", CodecSpec(name="builtin", digest="1"))


@pytest.mark.slow
def test_a_codec_that_is_not_there_is_asked_for(
    model: Path, folder: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    shutil.rmtree(copy / "codec")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"is not there: .*--codec encodec:FOLDER; or put that into .*codec"):
        Synthesizer.load(copy)
    (folder / "encodec").rename(tmp_path / "moved")
    try:
        gone = packed(folder, tmp_path / "gone", None)
        assert not (gone / "codec").exists()
        assert load_bundle(gone).config.codec.name == "encodec?bandwidth=3"
        found = packed(folder, tmp_path / "found", f"encodec:{tmp_path / 'moved'}?bandwidth=3")
        assert Synthesizer.load(found).generator.spec.name == "encodec?bandwidth=3"
    finally:
        (tmp_path / "moved").rename(folder / "encodec")


def test_the_codec_is_found_beside_the_model(model: Path, folder: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "codec"
    assert find_kept_codec("encodec?bandwidth=3", nowhere) == "encodec?bandwidth=3"
    assert find_kept_codec("builtin", nowhere) == "builtin"
    own = model / "codec"
    assert find_kept_codec("encodec?bandwidth=3", own) == f"encodec:{own}?bandwidth=3"
    assert find_kept_codec("mine", own) == own


def test_alignment_needs_phonemes(folder: Path, prepared: Path) -> None:
    values = {"transformer": STACK, "codebook_size": 32, "alignment": "phoneme"}
    recipe = {"data": str(prepared), "valid_split": "dev", "model": values, "loop": LOOP}
    with pytest.raises(ConfigError, match="byte pairs"):
        run("ar", written(folder / "bad.yaml", recipe), (), folder / "bad")


def test_another_corpus_can_use_the_table(folder: Path, prepared: Path, codec: str, tmp_path: Path) -> None:
    table = prepared / "tokens" / "symbols.json"
    prepare(folder / "in", tmp_path / "out", codec, options=PrepareOptions(text_unit=TextUnit.BPE, symbols=table))
    assert TokenShards.open(tmp_path / "out").vocabulary == Vocabulary.load(table)


def test_choices_that_mean_nothing_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bpe_size means nothing"):
        PrepareOptions(bpe_size=300)
    with pytest.raises(ConfigError, match="give bpe_size or symbols"):
        PrepareOptions(text_unit=TextUnit.BPE, bpe_size=300, symbols=tmp_path)
    with pytest.raises(ConfigError, match="no step align"):
        prepare(folder / "in", tmp_path / "out", last=Step.ALIGN, options=PrepareOptions(text_unit=TextUnit.BPE))
