"""`openvalle convert` and `export`: from a file in the layout of another project to sound, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import checkpoint_layouts as layouts
from encodec_samples import small_encodec, write_vocos
from openvalle.audio import resample
from openvalle.codec.load import load_codec
from openvalle.convert.convert import SOURCES, detect
from openvalle.convert.export import MEANINGS, explain, read_export
from openvalle.decode.failures import find_silence_codes
from openvalle.engines.torch import TorchCodec
from openvalle.errors import ModelError
from openvalle.hub import Kind, find
from openvalle.media import read
from openvalle.model.ar import AR
from openvalle.model.checkpoint import load_bundle
from openvalle.model.nar import NAR
from openvalle.synth.enrol import read_clip, trim_clip
from openvalle.synth.voice import Voice
from speechtokenizer_samples import save_speechtokenizer

SYMBOLS = "".join(f"{symbol} {number}\n" for number, symbol in enumerate(layouts.SYMBOLS))


@pytest.fixture
def files(tmp_path):
    """A checkpoint of each source in its true layout, small, and what belongs to it: source -> arguments."""
    icefall = layouts.valle_checkpoint(layouts.valle_weights(text_rows=5000))
    torch.save(layouts.valle_checkpoint(layouts.valle_weights(text_rows=512)), tmp_path / "lifeiteng.pt")
    torch.save(icefall, tmp_path / "epoch-99-avg-1.pt")
    torch.save({"model": layouts.valle_weights(text_rows=2048, bos=True, languages=3)}, tmp_path / "vallex.pt")
    for part in ("ar", "nar"):
        torch.save(layouts.llama_weights(part), tmp_path / f"valle_{part}.bin")
        torch.save(layouts.enhuiz_weights(part), tmp_path / f"{part}.pt")
    symmap = "".join(f"{phone} {number}\n" for number, phone in enumerate(["_", "AH0", "IY1", "S", "T", "OW1"], 1))
    (tmp_path / "symmap").write_text(symmap, encoding="utf-8")
    (tmp_path / "symbols").write_text(SYMBOLS, encoding="utf-8")
    experiment = tmp_path / "experiment"
    for step in (100, 2000):
        folder = experiment / "checkpoint" / f"epoch-0001_step-{step:07}_loss-3.000000"
        folder.mkdir(parents=True)
        torch.save(layouts.valle_weights(text_rows=512, alpha=step / 1000), folder / "pytorch_model.bin")
        torch.save({"state": {}, "param_groups": []}, folder / "optimizer.bin")
    (experiment / "args.json").write_text('{"model": {"nhead": 2, "prefix_mode": 1}}', encoding="utf-8")
    (experiment / "symbols.dict").write_text(SYMBOLS, encoding="utf-8")
    return {
        "lifeiteng": [tmp_path / "lifeiteng.pt", "--symbols", tmp_path / "symbols"],
        "icefall": [tmp_path / "epoch-99-avg-1.pt", "--symbols", tmp_path / "symbols"],
        "amphion": [experiment],
        "amphion-v2": [tmp_path / "valle_ar.bin", tmp_path / "valle_nar.bin", "--set", "heads=2"],
        "plachtaa": [tmp_path / "vallex.pt", "--set", "nhead=2"],
        "enhuiz": [tmp_path / "ar.pt", tmp_path / "nar.pt", "--symbols", tmp_path / "symmap", "--set", "n_heads=2"],
    }


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """An EnCodec of random weights with 8 codebooks of 32 entries, as many as the layouts have."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("encodec")
    small_encodec().save_pretrained(folder)
    return f"encodec:{folder}?bandwidth=3"


def voice_file(path, frames=60, language=2, **changes):
    """An `.npz` voice as VALL-E X writes it."""
    rng = np.random.RandomState(5)
    arrays = {
        "audio_tokens": np.asfortranarray(rng.randint(0, layouts.ENTRIES, (1, frames, 8))),  # as the published ones lie
        "text_tokens": rng.randint(5, 70, (1, 12)),
        "lang_code": np.int32(language),
    }
    np.savez(path, **arrays | changes)
    return arrays


@pytest.mark.parametrize("source", ["lifeiteng", "icefall", "amphion", "amphion-v2", "plachtaa", "enhuiz"])
def test_every_source_speaks(source, files, address, openvalle, tmp_path, spoken, clip_path):
    if source in ("lifeiteng", "icefall", "amphion"):
        pytest.importorskip("phonemizer")
    model = tmp_path / "model"
    run = openvalle("convert", source, *files[source], "-o", model, "--codec", address)
    assert run.code == 0, run.err
    assert run.out.splitlines()[-1] == str(model)
    sound = tmp_path / "said.wav"
    few = ["--set", "most_frames=3", "--set", "attempts=1"]
    run = openvalle("say", "A sea.", "-m", model, "-v", clip_path, "-t", "Toe, see.", *few, "-o", sound)
    if source in ("lifeiteng", "icefall", "amphion"):  # whose small symbol table does not hold these phones
        assert run.code == 2
        assert "the model has no symbol" in run.err
        run = openvalle("say", "Hot tone.", "-m", model, "-v", clip_path, "-t", "Hot, toe.", *few, "-o", sound)
    assert run.code == 0, run.err
    assert read(sound).seconds > 0.05
    silent = json.loads((model / "generation.json").read_text(encoding="utf-8"))["watch"]["silent"]
    assert tuple(silent) == find_silence_codes(TorchCodec(load_codec(address))), "nobody looks for them on loading"
    card = (model / "README.md").read_text(encoding="utf-8")
    assert "https://github.com/" in card
    assert "SHA-256" in card


def test_a_voice_of_vallex_speaks_and_is_kept_exactly(files, address, openvalle, tmp_path):
    arrays = voice_file(tmp_path / "anna.npz")
    foreign = voice_file(tmp_path / "li.npz", language=0)
    model = tmp_path / "model"
    run = openvalle("convert", "plachtaa", *files["plachtaa"], tmp_path / "anna.npz", "-o", model, "--codec", address)
    assert run.code == 0, run.err
    assert openvalle("convert", "plachtaa", tmp_path / "li.npz", "-o", model).code == 0, "another voice, later"
    bundle = load_bundle(model)
    for name, given, language in (("anna", arrays, "en"), ("li", foreign, "zh")):
        voice = Voice.load(model / "voices" / f"{name}.safetensors")
        assert np.array_equal(voice.codes, given["audio_tokens"][0])
        assert [bundle.vocabulary.symbols.index(symbol) for symbol in voice.symbols] == given["text_tokens"][0].tolist()
        assert voice.language == language
    few = ["--set", "most_frames=3", "--set", "attempts=1"]
    voice = model / "voices" / "anna.safetensors"
    assert openvalle("say", "A sea.", "-m", model, "-v", voice, *few, "-o", "a.wav").code == 0
    voice = model / "voices" / "li.safetensors"  # the model has learnt her language, too
    assert openvalle("say", "A sea.", "-m", model, "-v", voice, *few, "-o", "b.wav").code == 0


def test_a_voice_goes_back_to_vallex_byte_for_byte(files, address, openvalle, tmp_path, clip_path, own_home):
    model = tmp_path / "model"
    for name, language in (("li", 0), ("yuki", 1), ("anna", 2)):
        voice_file(tmp_path / f"{name}.npz", language=language)
    voices = [tmp_path / f"{name}.npz" for name in ("li", "yuki", "anna")]
    run = openvalle("convert", "plachtaa", *files["plachtaa"], *voices, "-o", model, "--codec", address)
    assert run.code == 0, run.err
    for voice in voices:
        out = tmp_path / "back" / voice.name
        run = openvalle("voice", "export", model / "voices" / f"{voice.stem}.safetensors", "-o", out)
        assert (run.code, run.out) == (0, f"{out}\n"), run.err
        assert out.read_bytes() == voice.read_bytes()
    assert openvalle("voice", "export", model / "voices" / "li.safetensors", "-o", out).code == 2, "it is there"
    # a voice that was made here, of a clip: out, and in again
    run = openvalle("voice", "add", "saw", clip_path, "-t", "Saw, see, saw, see.", "-m", model)
    assert run.code == 0, run.err
    assert openvalle("voice", "export", "saw", "-o", tmp_path / "saw.npz").code == 0
    arrays = np.load(tmp_path / "saw.npz")
    assert {name: (value.dtype.name, value.ndim) for name, value in arrays.items()} == {
        "audio_tokens": ("int64", 3),
        "text_tokens": ("int64", 2),
        "lang_code": ("int32", 0),
    }
    assert openvalle("convert", "plachtaa", tmp_path / "saw.npz", "-o", model).code == 0
    kept, back = Voice.load(own_home / "voices" / "saw.safetensors"), Voice.load(model / "voices" / "saw.safetensors")
    assert np.array_equal(back.codes, kept.codes)
    assert (back.symbols, back.language, back.codec_digest) == (kept.symbols, kept.language, kept.codec_digest)
    few = ["--set", "most_frames=3", "--set", "attempts=1"]
    voice = model / "voices" / "saw.safetensors"
    assert openvalle("say", "A sea.", "-m", model, "-v", voice, *few, "-o", "a.wav").code == 0


def test_a_voice_that_vallex_cannot_read_gets_one_line(files, address, openvalle, tmp_path, tiny_voice):
    tiny_voice.save(tmp_path / "ours.safetensors")
    run = openvalle("voice", "export", tmp_path / "ours.safetensors", "-o", tmp_path / "ours.npz")
    assert run.code == 2
    assert "is not of a model of VALL-E X" in run.err
    voice_file(tmp_path / "anna.npz")
    model = tmp_path / "model"
    run = openvalle("convert", "plachtaa", *files["plachtaa"], tmp_path / "anna.npz", "-o", model, "--codec", address)
    voice = dataclasses.replace(Voice.load(model / "voices" / "anna.safetensors"), language="de")
    voice.save(tmp_path / "german.safetensors")
    run = openvalle("voice", "export", tmp_path / "german.safetensors", "-o", tmp_path / "german.npz")
    assert run.code == 2
    assert "VALL-E X knows zh, ja, en" in run.err
    assert run.err.count("\n") == 1
    assert not (tmp_path / "german.npz").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio_tokens": np.zeros((1, 9, 7), int)}, "has codes of shape"),
        ({"audio_tokens": np.zeros((1, 0, 8), int)}, "holds no sound"),
        ({"audio_tokens": np.full((1, 9, 8), 32)}, "does not know"),
        ({"text_tokens": np.full((1, 9), 70)}, "does not know"),
        ({"lang_code": np.int32(3)}, "does not know"),
        ({"audio_tokens": np.zeros((1, 9, 8))}, "no whole numbers"),
        ({"audio_tokens": np.array([{"a": 1}])}, "cannot be read"),
    ],
)
def test_bad_voices_get_one_line(changes, message, files, address, openvalle, tmp_path):
    model = tmp_path / "model"
    assert openvalle("convert", "plachtaa", *files["plachtaa"], "-o", model, "--codec", address).code == 0
    voice_file(tmp_path / "bad.npz", **changes)
    run = openvalle("convert", "plachtaa", tmp_path / "bad.npz", "-o", model)
    assert run.code == 2
    assert message in run.err
    assert run.err.count("\n") == 1


def test_files_are_recognised(files, tmp_path, openvalle):
    for source in ("lifeiteng", "icefall", "plachtaa", "amphion-v2", "enhuiz"):
        assert openvalle("convert", "--detect", files[source][0]).out.endswith(f"\t{source}\n")
    assert set(detect([str(files["amphion"][0])]).values()) == {"lifeiteng"}, "the networks are its"
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    (tmp_path / "notes.pt").write_text("hello", encoding="utf-8")
    torch.save({"weight": torch.ones(2)}, tmp_path / "mine.pt")
    run = openvalle(
        "convert", "--detect", tmp_path / "notes.txt", tmp_path / "notes.pt", tmp_path / "mine.pt", "--json"
    )
    said = {row["file"].rpartition("/")[2]: row["source"] for row in json.loads(run.out)}
    assert said["notes.txt"] == "no file of weights"
    assert "cut short or damaged" in said["notes.pt"]
    assert said["mine.pt"] == "weights, of no source that is known"


def test_what_cannot_be_converted_gets_one_line(files, address, openvalle, tmp_path):
    whole = torch.load(files["plachtaa"][0], weights_only=True)["model"]
    cases = {
        "missing": (
            {k: v for k, v in whole.items() if "linear2" not in k},
            "lacks ar_decoder.layers.0.linear2.weight, ",
        ),
        "extra": (whole | {"ar_decoder.extra": torch.ones(2)}, "has ar_decoder.extra too"),
        "shapes": (whole | {"ar_predict_layer.weight": torch.ones(33, 8)}, "of shape (33, 8), where (33, 16) belongs"),
        "ar-only": ({k: v for k, v in whole.items() if k.startswith("ar_")}, "has no NAR model"),
        "vall-f": (whole | {"ar_decoder.layers.0.multihead_attn.in_proj_weight": torch.ones(2)}, "is a VALL-F"),
        "post-norm": ({k: v for k, v in whole.items() if "decoder.norm" not in k}, "norms after the layers"),
        "stranger": ({"conv.weight": torch.ones(2)}, "of no source that is known (it begins with conv.weight)"),
        "nan": (whole | {"ar_predict_layer.weight": torch.full((33, 16), torch.nan)}, "no finite numbers"),
    }
    for name, (weights, message) in cases.items():
        path = tmp_path / f"{name}.pt"
        torch.save({"model": weights}, path)
        run = openvalle("convert", "plachtaa", path, "--set", "nhead=2", "-o", tmp_path / "m", "--codec", address)
        assert run.code == 2, name
        assert message in run.err, name
        assert run.err.count("\n") == 1, name
        assert not (tmp_path / "m").exists(), name
    first = files["plachtaa"][0]
    for arguments, message in (
        (["lifeiteng", first], "is of the source plachtaa, not lifeiteng"),
        (["whisper", first], "there is no source 'whisper'; use one of: amphion, "),
        (["plachtaa", first, "--set", "nhead=3"], "3 heads cannot share a width of 16"),
        (["plachtaa", first, "--set", "colour=red"], "colour"),
        (["plachtaa", tmp_path / "nowhere"], "there is nothing at"),
        (["plachtaa", tmp_path / "symbols"], "there are no weights among the files"),
        (["plachtaa", first, "--set", "nhead=2", "--codec", "builtin"], "8 codebooks of 1024, and the model 8 of 32"),
        (["lifeiteng", files["lifeiteng"][0]], "does not hold the symbols of its texts; give the table"),
        (["lifeiteng", *files["lifeiteng"], "--set", "prefix_mode=3"], "prefix_mode should be one of 0, 1, 2, 4"),
        (["amphion-v2", files["amphion-v2"][0]], "there are 1 AR and 0 NAR networks"),
        (["enhuiz", files["enhuiz"][0]], "there are 1 AR and 0 NAR networks"),
        (["enhuiz", *files["enhuiz"][:2]], "give its phone_symmap: --symbols FILE"),
    ):
        run = openvalle("convert", *arguments, "-o", tmp_path / "m")
        assert run.code == 2, arguments
        assert message in run.err, arguments
        assert run.err.count("\n") == 1, arguments
    assert "give files and a folder" in openvalle("convert", "plachtaa", first).err
    (tmp_path / "m").mkdir()
    assert "there is something at" in openvalle("convert", "plachtaa", first, "-o", tmp_path / "m").err


def test_without_its_codec_the_error_names_what_to_fetch(files, openvalle, tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # read from the environment when the hub was first used
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    run = openvalle("convert", "plachtaa", tmp_path / "vallex.pt", "--set", "nhead=2", "-o", tmp_path / "m")
    assert run.code == 2
    assert "facebook/encodec_24khz" in run.err
    assert "give a folder that holds config.json and model.safetensors" in run.err
    run = openvalle("convert", "amphion-v2", *files["amphion-v2"], "-o", tmp_path / "m")
    assert run.code == 2
    assert "fnlp/SpeechTokenizer" in run.err
    assert "speechtokenizer_hubert_avg/SpeechTokenizer.pt" in run.err


@pytest.mark.slow
def test_a_repository_and_a_folder_of_the_hubs_cache_are_read(files, address, openvalle, tmp_path):
    """As the hub lays them out: blobs, and links to them in a snapshot; an older one beside it. No network."""
    cache = tmp_path / "hub" / "models--someone--vallex"
    for number, revision in enumerate(("a" * 40, "b" * 40)):
        snapshot = cache / "snapshots" / revision
        snapshot.mkdir(parents=True)
        blob = cache / "blobs" / str(number)
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes((tmp_path / "vallex.pt").read_bytes())
        (snapshot / "vallex-checkpoint.pt").symlink_to(blob)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40, encoding="utf-8")
    settings = ["--set", "nhead=2", "--codec", address]
    run = openvalle("convert", "plachtaa", cache, "-o", tmp_path / "one", *settings)
    assert run.code == 0, run.err
    assert load_bundle(tmp_path / "one").config.name == "one"
    pytest.importorskip("huggingface_hub")
    command = [sys.executable, "-m", "openvalle", "convert", "plachtaa", "hf://someone/vallex", "-o", tmp_path / "two"]
    here = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*command, *settings], capture_output=True, text=True, env=here)
    assert done.returncode == 0, done.stderr
    assert load_bundle(tmp_path / "two").ar.head.weight.equal(load_bundle(tmp_path / "one").ar.head.weight)
    command[5] = "hf://someone/else"
    done = subprocess.run([*command, *settings, "--replace"], capture_output=True, text=True, env=here)
    assert done.returncode == 2
    assert "cannot download someone/else" in done.stderr
    assert done.stderr.count("\n") == 1


def test_codecs_among_the_files_are_what_the_model_is_decoded_with(files, openvalle, tmp_path, clip_path):
    """VALL-E X with EnCodec and Vocos in its folder; VALLE_V2 with SpeechTokenizer's two files; no hub is asked."""
    pytest.importorskip("transformers")
    folder = tmp_path / "downloads"
    small_encodec().save_pretrained(folder / "encodec_24khz")
    write_vocos(folder / "vocos")
    (tmp_path / "vallex.pt").rename(folder / "vallex-checkpoint.pt")
    (folder / "encodec_24khz-d7cc33bc.th").write_bytes(b"EnCodec as another library has it")
    said = detect([str(folder)])
    assert {name.rpartition("/")[2]: kind for name, kind in said.items()} == {
        "model.safetensors": "EnCodec",
        "pytorch_model.bin": "a Vocos head",
        "vallex-checkpoint.pt": "plachtaa",
    }
    few = ["--set", "most_frames=3", "--set", "attempts=1"]
    run = openvalle("convert", "plachtaa", folder, "-o", tmp_path / "x", "--set", "nhead=2")
    assert run.code == 2
    assert "has no bandwidth of 6 kbps" in run.err, "the small one has others"
    two = folder / "codec"
    save_speechtokenizer(two)
    for part in ("ar", "nar"):
        (tmp_path / f"valle_{part}.bin").rename(two / f"valle_{part}_mls.bin")
    run = openvalle("convert", "amphion-v2", two, "--set", "heads=2", "-o", tmp_path / "two")
    assert run.code == 0, run.err
    shutil.rmtree(folder)  # the model has its codec now
    run = openvalle("say", "A sea.", "-m", tmp_path / "two", "-v", clip_path, "-t", "Toe, see.", *few, "-o", "s.wav")
    assert run.code == 0, run.err
    assert soundfile.info("s.wav").samplerate == 16_000
    run = openvalle("voice", "add", "me", clip_path, "-t", "Toe, see.", "-m", tmp_path / "two")
    assert run.code == 0, run.err
    voice, clip = Voice.load(find(Kind.VOICE, "me")), trim_clip(read_clip(clip_path, "clip"), "clip")
    codec = load_codec(tmp_path / "two" / "codec")
    heard = torch.from_numpy(resample(clip, 16_000).samples)[None]  # the codec hears sound at its own rate
    assert np.array_equal(voice.codes, codec.encode(heard)[0].numpy())
    assert "speechtokenizer" in (tmp_path / "two" / "README.md").read_text(encoding="utf-8")


def test_several_checkpoints_in_a_folder_are_named(files, address, openvalle, tmp_path):
    folder = tmp_path / "exp"
    folder.mkdir()
    for name in ("epoch-39.pt", "epoch-40.pt", "best-valid-loss.pt"):
        shutil.copy(tmp_path / "lifeiteng.pt", folder / name)
    (folder / "unique_text_tokens.k2symbols").write_text(SYMBOLS, encoding="utf-8")
    run = openvalle("convert", "lifeiteng", folder, "-o", tmp_path / "m", "--codec", address)
    assert run.code == 2
    assert "3 files of weights (best-valid-loss.pt, epoch-39.pt, epoch-40.pt)" in run.err
    (folder / "epoch-39.pt").unlink()
    (folder / "epoch-40.pt").unlink()
    run = openvalle("convert", "lifeiteng", folder, "-o", tmp_path / "m", "--codec", address)
    assert run.code == 0, "the symbols lie in the folder: " + run.err
    assert load_bundle(tmp_path / "m").vocabulary.symbols[3:] == tuple(sorted(layouts.SYMBOLS))


def test_pinyin_is_told_by_the_symbols(files, address, openvalle, tmp_path):
    for notation, symbols in (
        ("pinyin-parts", "- ， n h zh ch sh i3 ao3 ong1 uo2"),
        ("pinyin", "- ， ni3 hao3 zhong1 guo2"),
    ):
        table = tmp_path / f"{notation}.k2symbols"
        table.write_text("".join(f"{symbol} 0\n" for symbol in symbols.split()), encoding="utf-8")
        out = tmp_path / notation
        run = openvalle("convert", "icefall", tmp_path / "epoch-99-avg-1.pt", table, "-o", out, "--codec", address)
        assert run.code == 0, run.err
        bundle = load_bundle(out)
        assert bundle.vocabulary.notation == notation
        assert bundle.config.languages == ("zh",)


def test_half_precision_and_wrapped_weights_are_the_same_model(files, address, openvalle, tmp_path):
    weights = torch.load(files["plachtaa"][0], weights_only=True)["model"]
    torch.save({f"module.{name}": value.half() for name, value in weights.items()}, tmp_path / "half.pt")
    run = openvalle(
        "convert", "plachtaa", tmp_path / "half.pt", "--set", "nhead=2", "-o", tmp_path / "m", "--codec", address
    )
    assert run.code == 0, run.err
    found = load_bundle(tmp_path / "m").ar.head.weight
    order = [*range(0, 16, 2), *range(1, 16, 2)]
    assert found.equal(weights["ar_predict_layer.weight"][:, order].half().float())


@pytest.mark.parametrize("kind", ["converted", "own"])
def test_an_export_is_the_same_model(kind, files, address, openvalle, tmp_path, tiny_model):
    model = tiny_model
    if kind == "converted":
        model = tmp_path / "model"
        openvalle("convert", "plachtaa", *files["plachtaa"], "-o", model, "--codec", address)
    out = tmp_path / "out"
    run = openvalle("export", model, "--to", "safetensors", "-o", out)
    assert run.code == 0, run.err
    assert sorted(path.name for path in out.iterdir()) == ["keys.tsv", "model.json", "weights.safetensors"]
    before, after = load_bundle(model), read_export(out)
    assert after.config == before.config
    assert after.vocabulary == before.vocabulary
    for one, other in ((before.ar, after.ar), (before.nar, after.nar)):
        assert all(value.equal(other.state_dict()[name]) for name, value in one.state_dict().items())
    rows = [line.split("\t") for line in (out / "keys.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    assert len(rows) == sum(len(network.state_dict()) for network in (before.ar, before.nar))
    assert openvalle("export", model, "--to", "tflite", "-o", tmp_path / "o").code == 2
    assert openvalle("export", model, "-o", out).code == 2, "something is there"
    (out / "weights.safetensors").write_bytes(b"short")
    with pytest.raises(ModelError, match="export the model again"):
        read_export(out)


def test_every_weight_of_every_kind_is_explained():
    from lm_samples import AR_KINDS, NAR_KINDS, ar_of, nar_of

    networks: list[AR | NAR] = [*map(ar_of, AR_KINDS), *map(nar_of, NAR_KINDS)]
    found = {explain(name) for network in networks for name in network.state_dict()}
    assert found == {meaning for _, meaning in MEANINGS}, "no line stands for nothing"


def test_the_page_names_every_source_and_the_extras():
    page = (layouts.RECORDED.parents[2] / "docs" / "convert.md").read_text(encoding="utf-8")
    for source in SOURCES:
        assert f"openvalle convert {source.name} " in page
        assert source.repository in page
        assert source.licence in page
        assert source.revision[:7] in page
    assert all(f"| {meaning} |" in page for _, meaning in MEANINGS)


def test_onnx_files_are_spoken(openvalle, tiny_model: Path, voice_path: Path) -> None:
    done = openvalle("export", tiny_model, "--to", "onnx", "--precision", "int8-7bit", "-o", "files")
    assert (done.code, done.out.strip()) == (0, "files"), done.err
    assert openvalle("say", "Hi.", "--model", "files", "--voice", voice_path, "-o", "hi.wav", "--quiet").code == 0
    done = openvalle("say", "Hi.", "--model", "files", "--voice", voice_path, "--engine", "torch")
    assert done.code == 2 and "holds ONNX files in int8-7bit" in done.err
    for words, said in (
        (("--to", "tflite"), "use safetensors or onnx"),
        (("--to", "onnx", "--precision", "int3"), "there is no precision 'int3'"),
    ):
        done = openvalle("export", tiny_model, *words, "-o", "none")
        assert done.code == 2 and said in done.err and not Path("none").exists()
