"""The training jobs from recipes: codec in two stages, AR and NAR, packed into a model that loads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from openvalle.codec.builtin import BuiltinCodec
from openvalle.codec.load import load_codec
from openvalle.codec.settings import BuiltinCodecConfig
from openvalle.config import write_json_lines
from openvalle.data.shards import TokenShards, to_int16, write_audio, write_tokens
from openvalle.decode.failures import find_silence_codes
from openvalle.engines.torch import TorchCodec
from openvalle.errors import ConfigError, ModelError, UserError
from openvalle.model.ar import AR
from openvalle.model.batch import Batch
from openvalle.model.checkpoint import NetworkFile, load_bundle, load_network
from openvalle.model.config import ARConfig
from openvalle.text.symbols import inventory
from openvalle.train.codec import start_decoder
from openvalle.train.recipe import run
from openvalle.train.start import take_weights
from openvalle.types import Utterance

LOOP = {"steps": 2, "precision": "float32", "optim": {"warmup": 1}}
SMALL_CODEC = {
    "encoder_width": 8,
    "encoder_depth": 1,
    "trunk_width": 8,
    "trunk_depth": 1,
    "decoder_width": 8,
    "decoder_depth": 1,
    "latent": 4,
    "mel_bins": 20,
    "entries": 32,
}
STACK = {"width": 16, "heads": 2, "depth": 1, "feedforward": 32}
SPLITS = ("train", "train", "dev-clean")
ON_CPU = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Cleaned audio of three rows, one of an unseen speaker."""
    rng = np.random.default_rng(0)
    clips = [to_int16(rng.uniform(-0.5, 0.5, 24_000)) for _ in SPLITS]
    starts = write_audio(tmp_path / "audio" / "audio-00000.npy", clips)
    write_json_lines(
        tmp_path / "audio" / "index.jsonl",
        [
            {
                "id": str(i),
                "speaker": split,
                "language": "en",
                "text": "a",
                "split": split,
                "seconds": 1.0,
                "shard": "audio-00000.npy",
                "start": start,
                "samples": 24_000,
                "sound": "",
            }
            for i, (split, start) in enumerate(zip(SPLITS, starts, strict=True))
        ],
    )
    return tmp_path


def write_recipe(path: Path, values: dict) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def codec_recipe(folder: Path, name: str = "codec-run", sound: dict | None = None) -> Path:
    return write_recipe(
        folder / f"{name}.yaml",
        {
            "data": str(folder),
            "codec": SMALL_CODEC,
            "tokens": {"loop": LOOP, "crops": {"seconds": 0.5, "batch": 2}},
            "sound": {"loop": LOOP, "crops": {"seconds": 0.4, "batch": 2}, "adversarial_from": 1, "channels": 4}
            | (sound or {}),
        },
    )


def train_codec(folder: Path, name: str = "codec-run", sound: dict | None = None) -> Path:
    return run("codec", codec_recipe(folder, name, sound), (), folder / name)


@pytest.mark.slow
def test_torchrun_trains_by_the_command_and_the_first_process_tells_how_many(prepared: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    job = ["-m", "openvalle", "train", "codec", str(codec_recipe(prepared)), "--out", str(prepared / "two")]
    done = subprocess.run([*launch, *job], capture_output=True, text=True, timeout=900, env=ON_CPU)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("training with 2 processes on cpu") == 2  # once for each of the two stages
    rows = (prepared / "two" / "sound" / "metrics.jsonl").read_text().splitlines()
    assert len([row for row in rows if json.loads(row)["group"] == "train"]) == 1  # written by one process
    BuiltinCodec.load(prepared / "two" / "codec")


def test_a_start_that_only_looks_like_many_processes_is_told(prepared, monkeypatch, caplog, capfd) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    train_codec(prepared)
    assert "this process trains alone, though SLURM_NTASKS=4" in caplog.text
    assert "torchrun" in caplog.text
    assert "training with 1 process on" in capfd.readouterr().err


def tokenize(folder: Path, codec: BuiltinCodec) -> None:
    """Write made-up codes and symbols as that codec's tokens."""
    rng = np.random.default_rng(1)
    durations = [[6, 4, 8, 6, 12] for _ in SPLITS]
    codes = [rng.integers(0, codec.config.entries, (36, 8)) for _ in SPLITS]
    for each in codes:
        each[1::2, 0] = each[::2, 0]  # merged
    symbols = [[1, 45, 49, 46, 1] for _ in SPLITS]
    frames, places = write_tokens(folder / "tokens" / "shard-00000.safetensors", codes, symbols, durations)
    write_json_lines(
        folder / "tokens" / "index.jsonl",
        [
            {
                "id": str(i),
                "speaker": split,
                "language": "en",
                "split": split,
                "text": "a",
                "seconds": 36 / 75,
                "shard": "shard-00000.safetensors",
                "frames": 36,
                "symbols": 5,
                "frame_start": frames[i],
                "symbol_start": places[i],
            }
            for i, split in enumerate(SPLITS)
        ],
    )
    inventory().vocabulary.save(folder / "tokens" / "symbols.json")
    spec = codec.spec
    identity = {
        "name": spec.name,
        "digest": spec.digest,
        "rate": 24_000,
        "hop": 320,
        "codebooks": 8,
        "entries": spec.entries,
        "merge": 2,
    }
    (folder / "tokens" / "codec.json").write_text(json.dumps(identity))


def train_part(folder: Path, part: str, loop: dict | None = None, **model: object) -> Path:
    shared = {"transformer": STACK, "codebook_size": SMALL_CODEC["entries"], "merge": 2, "alignment": "phoneme"}
    recipe = write_recipe(
        folder / f"{part}.yaml",
        {
            "data": str(folder),
            "codec": str(folder / "codec-run" / "codec"),
            "loop": {**LOOP, "log_every": 1, **(loop or {})},
            "model": {**shared, **model},
            "batches": {"frames": 80},
        },
    )
    return run(part, recipe, (), folder / part)


def test_from_cleaned_audio_to_a_model_that_loads(prepared: Path) -> None:
    codec = load_codec(train_codec(prepared))
    assert isinstance(codec, BuiltinCodec)
    # The second stage leaves the tokens' meaning alone, and a finished run is not trained again.
    assert codec.digest() == BuiltinCodec.load(prepared / "codec-run" / "tokens" / "codec").digest()
    before = codec.decode(torch.zeros(1, 3, 8, dtype=torch.long))
    again = load_codec(train_codec(prepared))
    assert torch.equal(before, again.decode(torch.zeros(1, 3, 8, dtype=torch.long)))
    tokenize(prepared, codec)
    ar, nar = train_part(prepared, "ar"), train_part(prepared, "nar", prompt_min=2, prompt_max=4)
    recipe = write_recipe(
        prepared / "pack.yaml",
        {"ar": str(ar), "nar": str(nar), "name": "tiny", "licence": "CC0-1.0", "codec": str(train_codec(prepared))},
    )
    bundle = load_bundle(run("pack", recipe, (), prepared / "model"))
    assert bundle.config.codec.digest == codec.digest()
    assert bundle.config.symbols_digest == inventory().digest
    assert bundle.config.languages == ("en",)
    assert bundle.generation["watch"]["silent"] == list(find_silence_codes(TorchCodec(codec)))
    rows = [json.loads(line) for line in (prepared / "ar" / "metrics.jsonl").read_text().splitlines()]
    assert {"train", "valid"} == {row["group"] for row in rows}
    for part, sound in ((ar, "spoken"), (nar, "filled")):
        board = EventAccumulator(str(part / "tensorboard"), {"images": 0, "audio": 0, "scalars": 0}).Reload()
        measured = {tag.removeprefix("train/") for tag in board.Tags()["scalars"] if tag.startswith("train/")}
        assert measured > {"loss", "learning_rate", "frames_per_second", "steps_per_second", "memory_gb"}
        assert f"{part.name}/gradient" in measured
        assert board.Scalars("train/frames_per_second")[-1].value > 0 < board.Scalars("train/memory_gb")[-1].value
        assert board.Tags()["images"] == ["valid/attention"]
        assert board.Images("valid/attention")[-1].height == 4 * 5  # five symbols
        assert set(board.Tags()["audio"]) == {"valid/recorded", f"valid/{sound}"}
        assert board.Audio(f"valid/{sound}")[-1].sample_rate == 24_000


def test_a_training_that_only_breaks_ends_with_one_line(prepared: Path, capsys) -> None:
    codec = load_codec(train_codec(prepared))
    assert isinstance(codec, BuiltinCodec)
    tokenize(prepared, codec)
    with pytest.raises(UserError, match="the gradient of ar has not been finite for 3 updates in a row"):
        train_part(prepared, "ar", loop={"steps": 50, "optim": {"learning_rate": 1e30, "warmup": 0}, "most_skipped": 3})


def test_the_decoder_trains_on_what_the_nar_model_predicts(prepared: Path) -> None:
    codec = load_codec(train_codec(prepared))
    assert isinstance(codec, BuiltinCodec)
    tokenize(prepared, codec)
    train_part(prepared, "nar", prompt_min=2, prompt_max=4)
    recipe = write_recipe(
        prepared / "predict.yaml", {"data": str(prepared), "nar": str(prepared / "nar"), "prompt_seconds": 0.3}
    )
    real = TokenShards.open(prepared, "train")
    predicted = TokenShards.open(run("predict", recipe, (), prepared / "predicted"))
    assert {row["id"] for row in predicted.index} == {row["id"] for row in real.index}
    ids = [row["id"] for row in real.index]
    for index, row in enumerate(predicted.index):
        made, recorded = predicted[index], real[ids.index(row["id"])]
        assert np.array_equal(made.codes[:, 0], recorded.codes[:, 0])
        assert not np.array_equal(made.codes[:, 1:], recorded.codes[:, 1:])
        assert np.array_equal(made.durations, recorded.durations)
    decoders = []
    for share in (0.0, 1.0):  # the finished run goes on, on recorded or on predicted codes
        name = f"codec-{share}"
        shutil.copytree(prepared / "codec-run", prepared / name)
        sound = {
            "predicted": str(prepared / "predicted"),
            "predicted_share": share,
            "loop": {**LOOP, "steps": 4, "snapshots": [0.75]},
        }
        decoders.append(BuiltinCodec.load(train_codec(prepared, name, sound)).decoder)
        assert load_codec(prepared / name / "sound" / "at-0.75").spec.digest == codec.digest()
    first, second = (torch.cat([p.flatten() for p in decoder.parameters()]) for decoder in decoders)
    assert not torch.equal(first, second)


def test_a_nar_model_is_sharpened_after_a_share_of_the_training(prepared: Path) -> None:
    codec = load_codec(train_codec(prepared))
    assert isinstance(codec, BuiltinCodec)
    tokenize(prepared, codec)
    residuals = {"latent": 4, "residual": {"passes": 1, "code_weight": 0.0, "gain": 1.5}}
    values = {
        "data": [{"folder": str(prepared), "share": 0.5}, {"folder": str(prepared), "share": 0.5}],
        "codec": str(prepared / "codec-run" / "codec"),
        "model": {"transformer": STACK, "codebook_size": 32, "merge": 2, "alignment": "phoneme", **residuals}
        | {"prompt_min": 2, "prompt_max": 4},
        "batches": {"frames": 160, "pairs": 0.5, "prompt_seconds": [0.1, 0.2]},
        "loop": {**LOOP, "steps": 4, "log_every": 1, "snapshots": [0.5]},
        "adversarial": {"begin": 0.5, "ramp": 0.1, "frames": 8, "stretches": 4, "channels": 8},
    }
    nar = run("nar", write_recipe(prepared / "sharp.yaml", values), (), prepared / "sharp")
    rows = [json.loads(line) for line in (nar / "metrics.jsonl").read_text().splitlines()]
    judged = ["told_apart" in row for row in rows if row["group"] == "train"]
    assert judged == [False, False, True, True]
    before, after = (load_network(NetworkFile.load(f / "nar.json"), f) for f in (nar / "at-0.50", nar))
    assert (before.config.residual.gain, after.config.residual.gain) == (1.5, 1.3)
    assert not torch.equal(before.residual_head.linear.weight, after.residual_head.linear.weight)
    blunt = run("nar", write_recipe(prepared / "x.yaml", values | {"adversarial": None}), (), prepared / "blunt")
    dull = load_network(NetworkFile.load(blunt / "nar.json"), blunt)
    assert not torch.equal(dull.residual_head.linear.weight, after.residual_head.linear.weight)
    with pytest.raises(ConfigError, match="predicts residuals"):
        plain = {"transformer": STACK, "codebook_size": 32, "merge": 2, "alignment": "phoneme"}
        run("ar", write_recipe(prepared / "y.yaml", values | {"model": plain}), (), prepared / "ar")


def test_a_decoder_trained_on_keeps_the_tokens(prepared: Path) -> None:
    codec = BuiltinCodec.load(train_codec(prepared))
    values = {"data": str(prepared), "start": str(prepared / "codec-run" / "codec")}
    sound = {"sound": {"loop": LOOP, "crops": {"seconds": 0.4, "batch": 2}, "adversarial_from": 1, "channels": 4}}
    again = BuiltinCodec.load(run("codec", write_recipe(prepared / "on.yaml", values | sound), (), prepared / "on"))
    assert again.digest() == codec.digest()
    codes = torch.zeros(1, 3, 8, dtype=torch.long)
    assert not torch.equal(again.decode(codes), codec.decode(codes))
    fine = values | sound | {"codec": {"fine_depth": 1, "fine_width": 8}}
    fine["sound"] |= {"pitch_from": 1, "quantize": {"dropout": 0.3, "smoothed": 0.5}}
    harmonic = BuiltinCodec.load(run("codec", write_recipe(prepared / "fine.yaml", fine), (), prepared / "fine"))
    assert harmonic.digest() == codec.digest() and harmonic.decoder.fine is not None
    assert torch.equal(harmonic.encoder.leave.weight, codec.encoder.leave.weight)
    rows = [json.loads(row) for row in (prepared / "fine" / "sound" / "metrics.jsonl").read_text().splitlines()]
    assert {"pitch", "linear", "adversarial"} < set(rows[0]) and "harmonicity_decoded" in rows[-1]
    with pytest.raises(ConfigError, match="leave out latent"):
        other = write_recipe(prepared / "other.yaml", values | sound | {"codec": {"latent": 8}})
        run("codec", other, (), prepared / "other")
    for wrong in (values | sound | {"tokens": {"loop": LOOP}}, {"data": str(prepared)} | sound):
        with pytest.raises(ConfigError, match="either `tokens`"):
            run("codec", write_recipe(prepared / "wrong.yaml", wrong), (), prepared / "wrong")


def test_training_goes_on_from_a_model_or_a_run(prepared: Path) -> None:
    codec = load_codec(train_codec(prepared))
    assert isinstance(codec, BuiltinCodec)
    tokenize(prepared, codec)
    rests = {"latent": 4, "residual": {"passes": 1, "code_weight": 0.0}}
    ar, nar = train_part(prepared, "ar"), train_part(prepared, "nar", prompt_min=2, prompt_max=4, **rests)
    packed = write_recipe(
        prepared / "pack.yaml",
        {"ar": str(ar), "nar": str(nar), "name": "tiny", "licence": "CC0-1.0", "storage": "float32"},
    )
    model = run("pack", packed, (), prepared / "model")
    bundle = load_bundle(model)
    torch.testing.assert_close(bundle.nar.codes, codec.codebooks)
    still = {**LOOP, "optim": {"learning_rate": 1e-9}}
    for place in (nar, model):
        values = {"data": str(prepared), "start": str(place), "loop": still, "batches": {"frames": 80}}
        again = load_file(
            run("nar", write_recipe(prepared / "on.yaml", values), (), prepared / place.name / "on") / "nar.safetensors"
        )
        for name, value in bundle.nar.state_dict().items():
            torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-6)
    other = values | {"model": {"transformer": {**STACK, "depth": 2}}}
    with pytest.raises(ConfigError, match="has another transformer"):
        run("nar", write_recipe(prepared / "other.yaml", other), (), prepared / "other")


def test_fixed_code_vectors_need_their_codec(prepared: Path) -> None:
    codec = load_codec(train_codec(prepared))
    assert isinstance(codec, BuiltinCodec)
    tokenize(prepared, codec)
    with pytest.raises(ConfigError, match="latent is 5 and the codec's code vectors have 4"):
        train_part(prepared, "nar", prompt_min=2, prompt_max=4, latent=5)
    recipe = {"data": str(prepared), "loop": LOOP, "model": {"latent": 4}}
    with pytest.raises(ConfigError, match="say with `codec` whose"):
        run("nar", write_recipe(prepared / "none.yaml", recipe), (), prepared / "none")


def test_a_decoder_started_from_its_own_codec_is_that_decoder(prepared: Path) -> None:
    codec = BuiltinCodec.load(train_codec(prepared))
    again = BuiltinCodec.load(prepared / "codec-run" / "codec")
    torch.nn.init.normal_(again.decoder.widen.weight)
    torch.nn.init.normal_(again.decoder.head.project.weight)
    samples = 0.3 * torch.randn(4, 24_000, generator=torch.Generator().manual_seed(0))
    start_decoder(again, codec, samples)
    codes = codec.encode(samples)
    torch.testing.assert_close(again.decode(codes), codec.decode(codes), rtol=1e-3, atol=1e-3)
    other = BuiltinCodec(BuiltinCodecConfig(**{**SMALL_CODEC, "decoder_width": 16}))
    with pytest.raises(ConfigError, match="other sizes"):
        start_decoder(other, codec, samples)


def test_a_model_learns_further_languages_from_where_it_is() -> None:
    one = ARConfig.parse({"symbols": 9, "codebook_size": 8, "transformer": {"width": 16, "heads": 2, "depth": 1}})
    for known in (0, 1):
        before = AR(one.model_copy(update={"languages": known}))
        for weights in before.parameters():
            torch.nn.init.normal_(weights, std=0.1)
        after = AR(one.model_copy(update={"languages": 3}))
        take_weights(after, before)
        row = Utterance(np.array([1, 2, 3]), np.zeros((4, 8), np.int64), language=known)
        said, again = (network.eval().loss(Batch.of([row]), None).total for network in (before, after))
        assert torch.equal(said, again)
        assert not after.language.table.weight[known + 1 :].any()


def test_embeddings_start_with_the_codebooks_geometry(prepared: Path) -> None:
    from openvalle.model.ar import AR
    from openvalle.model.config import ARConfig, NARConfig
    from openvalle.model.nar import NAR
    from openvalle.train.lm import start_from_codebooks

    books = torch.randn(8, 32, 4, generator=torch.Generator().manual_seed(0))
    shared = {"transformer": STACK, "symbols": 9, "codebook_size": 32}
    ar, nar = AR(ARConfig.parse(shared)), NAR(NARConfig.parse(shared))
    for network, table, wanted in ((ar, lambda: ar.codes.weight[:32], books[0]), (nar, lambda: nar.codes[3], books[3])):
        start_from_codebooks(network, books, 0)
        apart, apart_before = torch.cdist(table(), table()), torch.cdist(wanted, wanted)
        ratio = apart[0, 1] / apart_before[0, 1]
        torch.testing.assert_close(apart, apart_before * ratio, rtol=1e-3, atol=5e-3)


def test_tokens_of_another_codec_are_refused(prepared: Path) -> None:
    codec = load_codec(train_codec(prepared))
    assert isinstance(codec, BuiltinCodec)
    tokenize(prepared, codec)
    codec.quantizer.codebooks.add_(1.0)
    codec.save(prepared / "codec-run" / "codec")
    with pytest.raises(ModelError, match="another codec"):
        train_part(prepared, "ar")


def test_unknown_job_and_unknown_key_are_refused(prepared: Path) -> None:
    recipe = write_recipe(prepared / "x.yaml", {"data": str(prepared), "loop": LOOP, "modle": {}})
    with pytest.raises(ConfigError, match="modle"):
        run("ar", recipe)
    with pytest.raises(ConfigError, match="cannot train"):
        run("vocoder", recipe)
