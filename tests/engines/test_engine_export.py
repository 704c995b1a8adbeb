"""A model as ONNX files: it says what the engine says that wrote them, and any runtime of ONNX opens them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file
from test_engine_onnx import GREEDY, prompts_for, weights_of

from lm_samples import AR_KINDS, NAR_KINDS, ar_engine, decode, nar_engine, utterance
from openvalle.decode.ar import AROptions
from openvalle.decode.nar import fill
from openvalle.decode.prompt import NARPrompt
from openvalle.engines import onnx
from openvalle.engines.choose import choose_engine
from openvalle.engines.export import export_onnx
from openvalle.engines.layers import Precision
from openvalle.engines.onnx_ar import OnnxAR, ar_graph
from openvalle.engines.onnx_nar import OnnxNAR, nar_graph
from openvalle.engines.probe import RECORD
from openvalle.errors import ModelError, UserError
from openvalle.files import sha256
from openvalle.graphs import save_graph
from openvalle.model.bundle import read_description
from openvalle.model.checkpoint import load_bundle
from openvalle.synth.synthesizer import Synthesizer
from openvalle.types import to_alignment

TEXT = "Once there was a cat."


@pytest.fixture
def exported(tiny_model: Path, tmp_path: Path) -> Path:
    return export_onnx(tiny_model, tmp_path / "exported", Precision.INT8_NARROW)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_what_is_exported_says_what_the_engine_says(precision, tiny_model: Path, tiny_voice, tmp_path: Path) -> None:
    out = export_onnx(tiny_model, tmp_path / "exported", Precision(precision))
    own = Synthesizer.load(tiny_model, engine=f"onnx-{precision}") if precision != "int8" else None
    before = own or _load_int8(tiny_model)
    after = Synthesizer.load(out)
    said, expected = after.say(TEXT, tiny_voice, seed=1), before.say(TEXT, tiny_voice, seed=1)
    np.testing.assert_array_equal(said.codes, expected.codes)
    np.testing.assert_allclose(said.audio.samples, expected.audio.samples, atol=1e-6)
    clip = expected.audio
    np.testing.assert_array_equal(
        after.generator.codec.encode(clip.samples), before.generator.codec.encode(clip.samples)
    )


def _load_int8(model: Path) -> Synthesizer:
    """Return the model in plain 8 bits, whatever this processor would be given."""
    found, read = Synthesizer.load(model, engine="onnx-fp32"), read_description(model)
    parts = onnx.load_ar(read, Precision.INT8), onnx.load_nar(read, Precision.INT8)
    codec = onnx.load_codec(model / "codec", Precision.INT8)
    return replace(found, generator=replace(found.generator, ar=parts[0], nar=parts[1], codec=codec))


def test_any_runtime_opens_the_files(exported: Path) -> None:
    names = {str(path.relative_to(exported)) for path in exported.rglob("*.onnx")}
    assert names == {"ar.onnx", "nar.onnx", "codec/encoder.onnx", "codec/trunk.onnx"}
    for name in names:
        session = onnxruntime.InferenceSession(str(exported / name), providers=["CPUExecutionProvider"])
        assert session.get_inputs() and session.get_outputs()
    apart = load_file(exported / "ar.safetensors")
    assert "codes.weight" in apart and not [name for name in apart if name.startswith("transformer.")]


@pytest.mark.parametrize("kind", AR_KINDS)
def test_every_system_of_the_family_says_the_same_from_files(kind: str, tmp_path: Path) -> None:
    reference = ar_engine(kind)
    weights = weights_of(reference.network)
    save_graph(ar_graph(reference.config, weights, Precision.FP32), tmp_path / "ar.onnx")
    own = OnnxAR(reference.config, weights_of(reference.network), Precision.FP32, graph=tmp_path / "ar.onnx")
    options = AROptions.parse({"limit_frames": 30, **GREEDY})
    expected, found = (decode(each, prompts_for(each.config), options, [1, 2, 3, 4]) for each in (reference, own))
    for right, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(other.codes, right.codes)


@pytest.mark.parametrize("kind", NAR_KINDS)
def test_every_network_of_the_other_codebooks_too(kind: str, tmp_path: Path) -> None:
    reference = nar_engine(kind)
    save_graph(nar_graph(reference.config, weights_of(reference.network), Precision.FP32), tmp_path / "nar.onnx")
    own = OnnxNAR(reference.config, weights_of(reference.network), Precision.FP32, graph=tmp_path / "nar.onnx")
    row = utterance(4, 20, 14)
    given = [NARPrompt(row.text, row.codes[6:, 0], 0, row.codes[:6], to_alignment(row.durations), 1)]
    np.testing.assert_array_equal(fill(own, given)[0], fill(reference, given)[0])


def test_what_does_not_go_with_it_is_told_in_one_line(exported: Path, tmp_path: Path) -> None:
    model = read_description(exported)
    assert choose_engine(model).precision is choose_engine(model, "onnx").precision is Precision.INT8_NARROW
    assert choose_engine(model, "onnx-int8").precision is Precision.INT8_NARROW
    for name, device, message in (
        ("torch", "auto", "holds ONNX files in int8-7bit"),
        ("onnx-fp32", "auto", "holds ONNX files in int8-7bit"),
        ("auto", "cuda", "on the CPU, not on cuda"),
    ):
        with pytest.raises(UserError, match=message):
            choose_engine(model, name, device)
    with pytest.raises(ModelError, match="give the model that they were made from"):
        load_bundle(exported)
    with pytest.raises(ModelError, match="holds ONNX files already"):
        export_onnx(exported, tmp_path / "again", Precision.FP32)


def test_a_machine_that_computes_something_else_says_so(exported: Path, own_home: Path) -> None:
    record = load_file(exported / RECORD)
    wrong = {"scores": np.ascontiguousarray(record["scores"][:, ::-1])}
    save_file(wrong, exported / RECORD, {"weights": sha256(exported / "ar.safetensors")})
    shutil.rmtree(own_home, ignore_errors=True)
    with pytest.raises(ModelError, match=r"does not compute tiny right on this machine .*; export the model again"):
        Synthesizer.load(exported)


def test_a_damaged_file_is_named(exported: Path) -> None:
    choose_engine(read_description(exported))
    (exported / "nar.onnx").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"nar\.onnx cannot be opened"):
        Synthesizer.load(exported)
