"""Which engine speaks: the fastest that is right on this machine, found once; one that is wrong is not taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from openvalle.engines import choose, layers, probe
from openvalle.engines.choose import Choice, choose_engine, find_fastest
from openvalle.engines.layers import Precision, adds_exactly
from openvalle.engines.probe import RECORD, STEPS, Probe, compare, measure, read_steps, record_steps
from openvalle.engines.torch import TorchAR
from openvalle.errors import ModelError
from openvalle.hub import assets
from openvalle.model.bundle import read_description
from openvalle.model.checkpoint import load_bundle

INT8 = Precision.INT8 if adds_exactly() else Precision.INT8_NARROW
BOTH = (Precision.FP32, INT8)


@pytest.fixture
def recorded(tiny_model: Path, tmp_path: Path) -> Path:
    """A model with the steps that its reference takes."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "recorded"))
    record_steps(read_description(folder), TorchAR(load_bundle(folder).ar.eval()), folder)
    return folder


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are measured from now on, by name."""
    names: list[str] = []
    monkeypatch.setattr(
        choose, "measure", lambda model, *rest: names.append(model.folder.name) or measure(model, *rest)
    )
    return names


def break_graphs(monkeypatch: pytest.MonkeyPatch, *broken: Precision, cannot_open: bool = False) -> None:
    """Let linear layers of these precisions give something else, or be what onnxruntime does not know."""
    linear = layers.linear

    def wrong(graph, x, name, weight, bias, precision):
        y = linear(graph, x, name, weight, bias, precision)
        if precision not in broken or not name.endswith(".down"):
            return y
        return graph.add("Unheard", y) if cannot_open else graph.add("Neg", y)

    monkeypatch.setattr("openvalle.engines.onnx_ar.linear", wrong)


@pytest.mark.parametrize("folder", [assets() / "model", "recorded"])
def test_recorded_steps_are_those_that_onnxruntime_takes(folder, request: pytest.FixtureRequest) -> None:
    model = read_description(folder if isinstance(folder, Path) else request.getfixturevalue(folder))
    assert read_steps(model) is not None
    probes = measure(model, BOTH)
    assert probes[Precision.FP32].kl < 1e-4 and probes[Precision.FP32].agreement > 0.95
    assert all(each.is_close and each.step_ms > 0 for each in probes.values()), probes


def test_it_is_measured_once_for_each_model(tiny_model: Path, recorded: Path, measured: list[str], own_home) -> None:
    shutil.rmtree(own_home, ignore_errors=True)
    first = choose_engine(read_description(tiny_model))
    assert first.precision in BOTH and set(first.probes or {}) == set(BOTH)
    for _ in range(3):
        assert choose_engine(read_description(tiny_model)) == first
    assert measured == [tiny_model.name]
    (recorded / RECORD).unlink()
    same = choose_engine(read_description(recorded))  # the same weights elsewhere
    assert same == first and measured == [tiny_model.name]
    weights = load_file(recorded / "ar.safetensors")
    save_file(weights | {"bos": weights["bos"] + np.float16(1)}, recorded / "ar.safetensors")
    choose_engine(read_description(recorded))
    assert measured == [tiny_model.name, recorded.name], "other weights of the same size"
    (own_home / "cache" / choose.FILE).write_text("{damaged")
    choose_engine(read_description(tiny_model))
    assert len(measured) == 3


def test_what_was_measured_decides(tiny_model: Path, own_home: Path) -> None:
    choose_engine(read_description(tiny_model))
    path = own_home / "cache" / choose.FILE
    known = json.loads(path.read_text())
    right, wrong = {"kl": 0.0, "agreement": 1.0}, {"kl": 0.5, "agreement": 1.0}
    for fp32, int8, chosen in (
        ({"step_ms": 2.0} | right, {"step_ms": 1.0} | right, INT8),
        ({"step_ms": 2.0} | right, {"step_ms": 1.9} | right, Precision.FP32),  # not worth other codes
        ({"step_ms": 2.0} | right, {"step_ms": 1.0} | wrong, Precision.FP32),
        ({"step_ms": 2.0} | wrong, {"step_ms": 3.0} | right, INT8),
        ({"step_ms": 2.0} | wrong, {"step_ms": 1.0} | wrong, None),  # torch
    ):
        path.write_text(json.dumps({key: {Precision.FP32: fp32, INT8: int8} for key in known}))
        for name in ("auto", "onnx") if chosen else ("auto",):
            assert choose_engine(read_description(tiny_model), name).precision == chosen


@pytest.mark.parametrize("cannot_open", [False, True], ids=["wrong", "unknown"])
def test_a_broken_graph_is_refused_and_the_next_one_taken(
    recorded: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, cannot_open: bool
) -> None:
    model = read_description(recorded)

    def pick(*broken: Precision, name: str = "auto") -> Choice:
        shutil.rmtree(own_home, ignore_errors=True)
        with pytest.MonkeyPatch.context() as patch:
            break_graphs(patch, *broken, cannot_open=cannot_open)
            return choose_engine(model, name)

    assert pick(INT8).precision is Precision.FP32
    assert pick(Precision.FP32).precision is INT8
    assert pick(*BOTH).precision is None, "torch"
    with pytest.raises(ModelError, match="does not compute tiny right on this machine"):
        pick(*BOTH, name="onnx")
    monkeypatch.setattr(choose, "_has_torch", lambda: False)
    with pytest.raises(ModelError, match=r"pip install 'openvalle\[torch\]'"):
        pick(*BOTH)


def test_a_model_without_recorded_steps_is_compared_with_float32(
    tiny_model: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(own_home, ignore_errors=True)
    break_graphs(monkeypatch, INT8)
    assert choose_engine(read_description(tiny_model)).precision is Precision.FP32


def test_steps_of_other_weights_or_damaged_ones_are_not_looked_at(recorded: Path) -> None:
    model = read_description(recorded)
    scores = read_steps(model)
    assert scores is not None and scores.shape == (STEPS + 1, model.config.ar.codebook_size + 1)
    save_file({"scores": scores}, recorded / RECORD, {"weights": "of another"})
    assert read_steps(model) is None
    (recorded / RECORD).write_bytes(b"damaged")
    assert read_steps(model) is None


def test_scores_that_are_no_numbers_are_not_close() -> None:
    right = np.zeros((3, 5), np.float32)
    assert compare(right, right, 0.001).is_close
    assert not compare(right, np.full_like(right, np.nan), 0.001).is_close
    assert find_fastest({Precision.FP32: Probe(1.0, float("inf"), 1.0)}, INT8) is None
    assert probe.LARGEST_KL < 0.1


def test_torch_is_not_loaded_to_find_no_gpu(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    class Device:
        type = "cuda"

    monkeypatch.setattr("openvalle.engines.torch.choose_device", lambda name: asked.append(name) or Device)
    model = read_description(tiny_model)
    monkeypatch.setattr(choose, "GPUS", (str(tmp_path / "none"),))
    assert choose_engine(model).precision is not None and not asked
    monkeypatch.setattr(choose, "GPUS", (str(tmp_path),))
    assert choose_engine(model).precision is None and asked == ["auto"]
    assert choose_engine(model, device="cpu").precision is not None and asked == ["auto"]
