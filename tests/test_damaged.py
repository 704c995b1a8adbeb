"""Files that are damaged, or made to do harm, end in one line and exit code 2, soon: at every door that reads them."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from openvalle.cli.main import app
from openvalle.codec.builtin import BuiltinCodec
from openvalle.codec.vocos import CLASSES, Vocos, VocosConfig
from openvalle.config import override, parse_data
from openvalle.errors import ConfigError, ModelError
from openvalle.hub import assets
from openvalle.model.checkpoint import load_bundle
from openvalle.synth.voice import Voice

DEFAULT = assets() / "voices" / "default.safetensors"
ALIASES = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 11))
BOMBS = {
    "aliases": f"a0: &a0 [x]\n{ALIASES}",
    "merged": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 11)),
    "circle": "a: &a [*a]\n",
    "nested": "a: " + "[" * 100_000 + "]" * 100_000,
    "mappings": "a: " + "{a: " * 5_000 + "1" + "}" * 5_000,
    "number": f"a: {'7' * 5_000}\n",
    "sexagesimal": f"a: 1{':1' * 200_000}\n",
    "large number": f"a: {'7' * 300}\n",
    "date": "a: 2026-01-01\n",
    "no date": "a: 2026-13-45\n",
    "binary": "a: !!binary aGVsbG8=\n",
    "set": "a: !!set {x, y}\n",
    "nan": "a: .nan\n",
    "python": "a: !!python/object/apply:os.system [true]\n",
    "key": "? [1, 2]\n: 3\n",
    "broken": "a=[\n: -",
}
JSON_BOMBS = {
    "nested": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "number": '{"a": ' + "7" * 5_000 + "}",
    "nan": '{"a": NaN}',
    "list": "[]",
}


def refused(*arguments: str) -> str:
    """Run a command that must end with exit code 2 and one line, within five seconds of processor time."""
    start = time.process_time()
    done = CliRunner().invoke(app, list(arguments))
    taken = time.process_time() - start
    message = done.stderr.strip()
    assert done.exit_code == 2, (done.exit_code, message[-500:], done.exception)
    assert message.count("\n") == 0 and message.startswith("error: "), message
    assert len(message) < 1500 and "fault in openvalle" not in message, message
    assert taken < 5, (arguments, taken)
    return message


@pytest.mark.parametrize("bomb", BOMBS)
def test_every_door_for_yaml_refuses_what_grows_or_cannot_be_kept(bomb, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(BOMBS[bomb])
    refused("train", "ar", str(file))
    refused("train", "pack", str(file), str(tmp_path / "ar"), str(tmp_path / "nar"), str(tmp_path / "out"))
    refused("train", "codec", str(file))
    refused("model", "describe", str(file))
    refused("dialogue", str(file), "-o", str(tmp_path / "x.wav"))
    refused("compare", str(file), "--data", str(tmp_path), "-o", str(tmp_path / "c"))


@pytest.mark.parametrize("bomb", ["nested", "number", "date"])
def test_dialogues_in_toml_are_read_as_carefully(bomb, tmp_path):
    text = {"nested": "a = " + "[" * 50_000, "number": f"a = {'7' * 5_000}", "date": "a = 2026-01-01"}[bomb]
    file = tmp_path / "x.toml"
    file.write_text(text)
    refused("dialogue", str(file), "-o", str(tmp_path / "x.wav"))


@pytest.mark.parametrize("value", ["[", "{a", "2026-01-01", "7" * 5_000, "&a [*a]", "[" * 9_000, ".inf", "!!set {x}"])
def test_overrides_are_values_or_one_line(value):
    with pytest.raises(ConfigError):
        override({}, (f"a={value}",))


@pytest.mark.parametrize("bomb", JSON_BOMBS)
@pytest.mark.parametrize("name", ["config.json", "symbols.json", "generation.json"])
def test_json_of_a_model_is_read_as_carefully(name, bomb, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / name).write_text(JSON_BOMBS[bomb])
    refused("say", "Hi.", "-m", str(folder), "-o", str(tmp_path / "x.wav"))


def test_aliases_of_a_sensible_file_are_read():
    text = "common: &common {x: 1, y: [2, 3]}\nfirst: *common\nsecond: {<<: *common, y: 4}\n"
    assert parse_data(text, "x")["second"] == {"x": 1, "y": 4}


def damaged(path: Path, what: str) -> Path:
    """Damage a voice file in one way."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    real = load_arrays(path)
    codes, durations = real["codes"], real["durations"]
    if what == "high codes":
        codes[3, 0] = 35455
    elif what == "negative":
        durations = durations.astype(np.int32)
        durations[2], durations[3] = durations[2] + durations[3] + 40, -40
    elif what.endswith("codebooks"):
        codes = np.resize(codes, (len(codes), int(what.split()[0])))
    elif what == "no frames":
        codes, durations = codes[:0], np.zeros_like(durations)
    elif what == "an hour":
        codes = np.tile(codes, (900, 1))
    elif what == "flat codes":
        codes = codes.reshape(-1)
    elif what == "float codes":
        codes = codes.astype(np.float32)
    elif what == "square durations":
        durations = durations[:, None]
    elif what == "too few durations":
        durations = durations[1:]
    elif what == "no symbols":
        metadata["symbols"] = ""
    else:
        durations = durations.astype(what)
    save_arrays({"codes": np.ascontiguousarray(codes), "durations": np.ascontiguousarray(durations)}, path, metadata)
    return path


DAMAGES = ("high codes", "negative", "0 codebooks", "1 codebooks", "9 codebooks", "no frames", "an hour", "flat codes")
DAMAGES += ("float codes", "square durations", "too few durations", "no symbols", "float16", "float32", "float64")


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_voices_are_refused_at_every_door(what, tiny_voice, tiny_model, tmp_path, own_home):
    path = damaged(tiny_voice.save(tmp_path / "v.safetensors"), what)
    model = ("-m", str(tiny_model))
    refused("say", "Hi.", "--voice", str(path), *model, "-o", str(tmp_path / "x.wav"))
    (own_home / "voices").mkdir(parents=True)
    shutil.copy(path, own_home / "voices" / "mine.safetensors")
    refused("say", "Hi.", "--voice", "mine", *model, "-o", str(tmp_path / "x.wav"))
    script = tmp_path / "talk.yaml"
    script.write_text(f"voices: {{a: {path}}}\nturns:\n- {{speaker: a, text: Hi.}}\n")
    refused("dialogue", str(script), *model, "-o", str(tmp_path / "x.wav"))
    if what not in ("high codes", "1 codebooks", "9 codebooks"):  # what only a model can tell
        refused("voice", "import", str(path), "--name", "other")


def test_a_voice_is_checked_without_assertions(tmp_path):
    path = damaged(shutil.copy(DEFAULT, tmp_path / "v.safetensors"), "too few durations")
    code = "import sys; from openvalle.synth.voice import Voice; Voice.load(sys.argv[1])"
    done = subprocess.run([sys.executable, "-O", "-c", code, str(path)], capture_output=True, text=True)
    assert "ModelError" in done.stderr.splitlines()[-1]


def test_any_flipped_bit_of_a_voice_is_read_or_one_line(tmp_path):
    data = DEFAULT.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*range(0, 64, 3), *rng.integers(64, len(data), 200).tolist()]:
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "v.safetensors").write_bytes(flipped)
        try:
            Voice.load(tmp_path / "v.safetensors")
        except ModelError as error:
            assert "\n" not in str(error)


def test_a_pipe_is_no_voice(tiny_model, tmp_path):
    os.mkfifo(tmp_path / "v.safetensors")
    voice = ("--voice", str(tmp_path / "v.safetensors"))
    assert "is a pipe or a device" in refused(
        "say", "Hi.", *voice, "-m", str(tiny_model), "-o", str(tmp_path / "x.wav")
    )


@pytest.mark.parametrize("network", ["ar", "nar"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(network, value, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    weights = load_file(folder / f"{network}.safetensors")
    next(iter(weights.values())).view(-1)[0] = value
    save_file(weights, folder / f"{network}.safetensors", metadata={"format": "pt"})
    assert "finite" in refused("say", "Hi.", "-m", str(folder), "-o", str(tmp_path / "x.wav"))


def test_weights_that_the_digests_do_not_name_are_refused(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  nar.safetensors\n")
    with pytest.raises(ModelError, match="SHA256SUMS"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "claim", [{"group": 10_000_000}, {"symbols": 2**40}, {"codebook_size": 60_000}, {"max_positions": 7}]
)
def test_sizes_that_a_model_claims_are_checked_before_room_is_made(claim, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    values = json.loads((folder / "config.json").read_text())
    values["ar"] |= claim
    values["nar"] |= {key: value for key, value in claim.items() if key in ("symbols", "codebook_size")}
    (folder / "config.json").write_text(json.dumps(values))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError):
        load_bundle(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize(
    "claim",
    [
        *({"latent": 16_384}, {"entries": 65_536}, {"decoder_width": 16_000}, {"trunk_depth": 200}, {"mel_bins": 1000}),
        *({"encoder_depth": 10**9}, {"n_fft": 2**40}, {"hop": 0}, {"kernel": 4}, {"codebooks": 9}),
    ],
)
def test_sizes_that_a_codec_claims_are_checked_before_room_is_made(claim, tiny_codec, tmp_path):
    tiny_codec.save(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | claim))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((ModelError, ConfigError)):
        BuiltinCodec.load(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("claim", [{"intermediate_dim": 60_000, "num_layers": 200}, {"dim": 2**40}, {"n_fft": 65_536}])
def test_sizes_that_a_vocos_head_claims_are_checked_before_room_is_made(claim, tmp_path):
    sizes = {"dim": 8, "intermediate_dim": 16, "num_layers": 1, "n_fft": 1280, "hop_length": 320}
    sizes |= {"input_channels": 4, "bandwidths": (6.0,), "adanorm_num_embeddings": 1}
    network = Vocos(VocosConfig(**sizes), torch.randn(8, 1024, 4))
    weights = {
        name.replace("head.", "head.istft.") if name == "head.window" else name: value.clone()
        for name, value in network.state_dict().items()
    }
    weights["feature_extractor.codebook_weights"] = weights.pop("codebooks").flatten(0, 1).clone()
    save_file(weights, tmp_path / "model.safetensors")
    for wrong in ({}, claim):
        values = sizes | wrong
        sections = {
            "feature_extractor": {"bandwidths": [6.0]},
            "backbone": {k: values[k] for k in ("input_channels", "dim", "intermediate_dim", "num_layers")}
            | {"adanorm_num_embeddings": 1},
            "head": {"dim": values["dim"], "n_fft": values["n_fft"], "hop_length": 320, "padding": "same"},
        }
        config = {name: {"class_path": CLASSES[name], "init_args": own} for name, own in sections.items()}
        (tmp_path / "config.yaml").write_text(json.dumps(config))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if wrong:
            with pytest.raises(ModelError):
                Vocos.load(tmp_path)
        else:
            Vocos.load(tmp_path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("language", ["", "english, of course", "en\n", "e" * 100_000, "EN", "\x1b[31m"])
def test_a_voice_of_no_language_is_refused(language, tiny_voice):
    with pytest.raises(ModelError) as caught:
        replace(tiny_voice, language=language)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
    assert replace(tiny_voice, language="zh-Hant-TW").language == "zh-Hant-TW"


@pytest.mark.parametrize("value", ["Infinity", "1e308", "1e-320", "-1", '"x"', "NaN"])
@pytest.mark.parametrize("name", ["temperature", "path_temperature"])
def test_temperatures_by_which_nothing_can_be_divided_are_refused(name, value, tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    inner = f'{{"temperature": {value}}}' if name == "temperature" else value
    key = "sampling" if name == "temperature" else name
    (folder / "generation.json").write_text(f'{{"{key}": {inner}}}')
    refused("say", "Hi.", "-m", str(folder), "-o", str(tmp_path / "x.wav"))


def test_want_of_memory_is_one_line(monkeypatch, tmp_path):
    torch_says = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried")
    for error in (MemoryError(), torch_says, torch.OutOfMemoryError("CUDA out of memory.")):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("openvalle.synth.synthesizer.Synthesizer.load", fail)
        assert "not enough memory" in refused("say", "Hi.", "-o", str(tmp_path / "x.wav"))
