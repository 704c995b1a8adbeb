"""The benchmark of speed: what it counts, on networks that are small enough for a test."""

from __future__ import annotations

import sys
import time

import pytest

from openvalle.engines.layers import Precision
from openvalle.model.config import TransformerConfig


@pytest.fixture
def paper(load, monkeypatch: pytest.MonkeyPatch):
    module = load("speed_paper")
    monkeypatch.setattr(module, "SHAPE", TransformerConfig(width=64, heads=2, depth=1, feedforward=128))
    return module


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_networks_of_random_weights_take_steps_and_passes(paper, precision, monkeypatch) -> None:
    monkeypatch.setattr(paper, "read_bandwidth", lambda: 1e10)
    steps = paper.measure_ar(precision, 3)
    count = 4 * 64 * 64 + 2 * 64 * 128 + 1025 * 64
    assert paper.weight_bytes(precision) == count * (4 if precision is Precision.FP32 else 1)
    assert steps["share"] == pytest.approx(paper.weight_bytes(precision) / 1e10 / steps["one"])
    assert steps["gain"] == pytest.approx(8 * steps["one"] / steps["eight"])
    monkeypatch.setattr(paper, "FRAMES", 20)
    whole = paper.measure_whole(precision, 3)
    assert whole["rtf"] == pytest.approx(whole["ar"] + whole["nar"] + whole["codec"]) and min(whole.values()) > 0


def test_seconds_of_methods_are_counted_and_the_methods_given_back(load) -> None:
    module = load("speed")

    class Part:
        def work(self) -> str:
            end = time.process_time() + 0.01
            while time.process_time() < end:
                pass
            return "done"

    own = Part.work
    restore = module.count_seconds(Part(), ("work",))
    assert Part().work() == "done"
    assert 0.01 <= restore() < 1 and Part.work is own


def test_a_command_is_timed_and_what_it_held_told(load) -> None:
    wall, processor, most = load("speed").timed([sys.executable, "-c", "bytes(50_000_000)"], {})
    assert wall > 0 and processor > 0 and most > 50
    with pytest.raises(SystemExit, match="this failed"):
        load("speed").timed([sys.executable, "-c", "raise SystemExit(3)"], {})


def test_what_other_projects_are_given_fits_their_code(load, tmp_path) -> None:
    import numpy as np

    module = load("speed")
    module.write_inputs("lifeiteng", tmp_path / "inputs.npz")
    with np.load(tmp_path / "inputs.npz") as given:
        assert given["prompt"].shape == (module.PROMPT, 8) and int(given["quantizers"]) == 1
        assert (given["ids"][0], given["ids"][-1]) == (1, 2)
    np.savez(tmp_path / "outputs.npz", codes=np.zeros((50, 1)), seconds=5.0)
    assert module.read_seconds(tmp_path / "outputs.npz") == pytest.approx(0.1)
