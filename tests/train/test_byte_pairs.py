"""VALL-E 2's text on EnCodec's codes, the whole way: prepare, train, pack, speak."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from encodec_samples import small_encodec
from openvalle.codec.load import load_codec
from openvalle.data.batches import TokenBatches
from openvalle.data.shards import TokenShards
from openvalle.errors import ConfigError, ModelError
from openvalle.prepare.run import Options, Step, prepare
from openvalle.synth.loading import codec_of
from openvalle.synth.pipeline import Synthesizer
from openvalle.text.bpe import pieces
from openvalle.text.symbols import SymbolTable, TextUnit
from openvalle.train.run import run

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
    report = prepare(folder / "in", out, codec, options=Options(text_unit=TextUnit.BPE, bpe_size=280))
    assert report.kept == {"scan": 4, "audio": 4, "tokens": 4}
    return out


@pytest.fixture(scope="module")
def model(folder: Path, prepared: Path) -> Path:
    """A model folder, trained for two steps."""
    for part, values in PARTS.items():
        shared = {"stack": STACK, "entries": 32, **LEARNT}
        recipe = {"data": str(prepared), "valid_split": "dev", "model": values | shared, "loop": LOOP}
        run(part, written(folder / f"{part}.yaml", recipe), (), folder / part)
    recipe = {"ar": str(folder / "ar"), "nar": str(folder / "nar"), "name": "pairs", "licence": "none"}
    recipe["generation"] = {"limit_frames": 40}
    return run("pack", written(folder / "pack.yaml", recipe), (), folder / "model")


def written(path: Path, values: dict) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def test_tokens_are_byte_pairs_and_unmerged_codes(prepared: Path, codec: str) -> None:
    shards, table = TokenShards.open(prepared), SymbolTable.load(prepared / "tokens" / "symbols.json")
    assert table.unit is TextUnit.BPE and shards.symbols_digest == table.digest and not shards.is_aligned
    assert shards.codec["merge"] == 1 and shards.codec["digest"] == load_codec(codec).spec.digest
    for row, text in zip(range(4), TEXTS * 2, strict=True):
        item = shards[row]
        assert table.decode(item.text.tolist()) == pieces(text, table)
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
    import shutil

    for source, load in ((prepared / "tokens", TokenShards.open), (model, Synthesizer.load)):
        copy = tmp_path / source.name
        shutil.copytree(source, copy)
        values = json.loads((copy / "symbols.json").read_text())
        (copy / "symbols.json").write_text(json.dumps(values | {"merges": values["merges"][::-1]}))
        with pytest.raises(ModelError, match=r"symbols\.json"):
            load(copy) if source != model else load(copy, codec=codec)


def test_the_model_speaks(model: Path, codec: str, clip_path: Path) -> None:
    synthesizer = Synthesizer.load(model, codec=codec)
    voice = synthesizer.voice(clip_path, "saw, see, saw, see")
    assert voice.symbols == tuple(pieces("saw, see, saw, see", synthesizer.utterer.table)) and not voice.durations
    speech = synthesizer.say("The thing.", voice, seed=1)
    assert speech.codes.shape[1] == 8 and speech.seconds > 0 and not speech.words
    again = synthesizer.say("The thing.", type(voice).load(voice.save(clip_path.with_suffix(".safetensors"))), seed=1)
    assert (again.codes == speech.codes).all()
    assert synthesizer.options.most_frames == 64


def test_voices_of_phones_are_refused(model: Path, codec: str, tiny_voice) -> None:
    synthesizer = Synthesizer.load(model, codec=codec)
    with pytest.raises(ModelError, match="was made with another"):
        synthesizer.voice(tiny_voice)


def test_the_codec_is_found_beside_the_model(model: Path, folder: Path) -> None:
    assert codec_of(model, "encodec?bandwidth=3") == "encodec?bandwidth=3"
    assert codec_of(model, "builtin") == "builtin"
    (folder / "with" / "codec").mkdir(parents=True)
    assert codec_of(folder / "with", "encodec?bandwidth=3") == f"encodec:{folder / 'with' / 'codec'}?bandwidth=3"
    assert codec_of(folder / "with", "mine") == folder / "with" / "codec"


def test_alignment_needs_phonemes(folder: Path, prepared: Path) -> None:
    values = {"stack": STACK, "entries": 32, "alignment": "phoneme"}
    recipe = {"data": str(prepared), "valid_split": "dev", "model": values, "loop": LOOP}
    with pytest.raises(ConfigError, match="byte pairs"):
        run("ar", written(folder / "bad.yaml", recipe), (), folder / "bad")


def test_another_corpus_can_use_the_table(folder: Path, prepared: Path, codec: str, tmp_path: Path) -> None:
    table = prepared / "tokens" / "symbols.json"
    prepare(folder / "in", tmp_path / "out", codec, options=Options(text_unit=TextUnit.BPE, symbols=table))
    assert TokenShards.open(tmp_path / "out").symbols_digest == SymbolTable.load(table).digest


def test_choices_that_mean_nothing_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bpe_size means nothing"):
        Options(bpe_size=300)
    with pytest.raises(ConfigError, match="give bpe_size or symbols"):
        Options(text_unit=TextUnit.BPE, bpe_size=300, symbols=tmp_path)
    with pytest.raises(ConfigError, match="no step align"):
        prepare(folder / "in", tmp_path / "out", last=Step.ALIGN, options=Options(text_unit=TextUnit.BPE))
