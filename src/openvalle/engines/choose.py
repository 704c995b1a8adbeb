"""Which engine speaks a model on this machine, and how precisely its weights are kept.

`auto` is torch where it is installed, else onnxruntime. `onnx` is the fastest
precision on this CPU whose scores stay close to those of float32: that is measured when a model is first loaded, takes
about a second and is remembered. A name with a precision (`onnx-fp32`) is taken as it is.
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from openvalle.engines.base import AREngine, ARRows
from openvalle.engines.layers import Precision, adds_exactly
from openvalle.errors import UserError, find_choice
from openvalle.files import atomic_path
from openvalle.graphs import import_runtime
from openvalle.hub import cache_folder
from openvalle.model.bundle import Description
from openvalle.model.config import ARConfig

AUTO = "auto"
STEPS = 24  # of the probe
GAIN = 0.8  # share of the time of float32 that fewer bits may take: else float32 stays, whose codes are the reference's
# How far scores may be from those of float32, as means over the probe's steps.
LARGEST_KL, LEAST_AGREEMENT = 0.02, 0.9
FILE = "engines.json"  # in the cache folder: what was measured


class EngineName(StrEnum):
    """What can be asked for."""

    AUTO = "auto"  # torch where it is installed, else onnxruntime
    TORCH = "torch"  # the reference, on any device
    ONNX = "onnx"  # onnxruntime on the CPU, the fastest precision that is close to float32 here
    ONNX_FP32 = "onnx-fp32"
    ONNX_INT8 = "onnx-int8"
    ONNX_INT4 = "onnx-int4"


@dataclass(frozen=True)
class Probe:
    """What was measured of one precision."""

    step_ms: float  # of the fastest step
    kl: float  # mean divergence of the scores from those of float32, nats
    agreement: float  # share of steps with the same likeliest code

    @property
    def is_close(self) -> bool:
        """Whether the scores are close to those of float32."""
        return self.kl <= LARGEST_KL and self.agreement >= LEAST_AGREEMENT


@dataclass(frozen=True)
class Choice:
    """An engine: torch, or onnxruntime with a precision."""

    precision: Precision | None  # None: torch
    probes: dict[str, Probe] | None = None  # what was measured, by precision

    def __str__(self) -> str:
        return "torch" if self.precision is None else f"onnx {self.precision}"


def choose_engine(model: Description, name: str = AUTO, device: str = AUTO) -> Choice:
    """Return the engine called `name` for a model; `ModelError` names those there are."""
    wanted = find_choice(EngineName, name, "engine")
    if wanted is EngineName.TORCH or (wanted is EngineName.AUTO and _suits_torch(device)):
        return Choice(None)
    if device.partition(":")[0] not in (AUTO, "cpu"):
        raise UserError(f"the engine {wanted} computes on the CPU, not on {device}", "use --engine torch")
    if wanted is EngineName.ONNX_FP32:
        return Choice(Precision.FP32)
    if wanted is EngineName.ONNX_INT4:
        return Choice(Precision.INT4)
    narrow = Precision.INT8 if adds_exactly() else Precision.INT8_NARROW
    return Choice(narrow) if wanted is EngineName.ONNX_INT8 else _choose_precision(model, narrow)


def _suits_torch(device: str) -> bool:
    return device.partition(":")[0] not in (AUTO, "cpu") or find_spec("torch") is not None


def _choose_precision(model: Description, int8: Precision) -> Choice:
    """Return what was measured before on this machine, or measure it."""
    key, known = _key(model, int8), _read()
    if key in known:
        probes = {name: Probe(**values) for name, values in known[key].items()}
    else:
        probes = measure(model, (Precision.FP32, int8))
        if not _write(known | {key: {name: asdict(probe) for name, probe in probes.items()}}):
            return Choice(int8, probes)  # nothing can be remembered: the same at every start, whatever the clock says
    whole, rounded = probes[Precision.FP32], probes[int8]
    is_worth_it = rounded.is_close and rounded.step_ms < GAIN * whole.step_ms
    return Choice(int8 if is_worth_it else Precision.FP32, probes)


def measure(model: Description, precisions: tuple[Precision, ...]) -> dict[str, Probe]:
    """Return what steps of the AR model take in each precision, and how close their scores are to the first's."""
    from openvalle.engines.onnx import load_ar

    probes: dict[str, Probe] = {}
    expected: list[np.ndarray] = []
    for precision in precisions:
        scores, seconds = _take_steps(load_ar(model, precision), expected)
        expected = expected or scores
        pairs = list(zip(expected, scores, strict=True))
        agreement = float(np.mean([right.argmax() == own.argmax() for right, own in pairs]))
        probes[precision.value] = Probe(
            1000 * seconds, float(np.mean([_divergence(*pair) for pair in pairs])), agreement
        )
    return probes


def _take_steps(engine: AREngine, guide: list[np.ndarray]) -> tuple[list[np.ndarray], float]:
    """Return the scores (V,) of steps through a made-up text, and the seconds of the fastest. Each step takes the
    likeliest code of the one before, by the scores of `guide` where they are given."""
    config, rng = engine.config, np.random.RandomState(0)
    symbols = min(40, config.symbols)
    rows = _make_rows(config, rng.randint(0, config.symbols, (1, symbols)), rng)
    given, state = engine.prefill(rows, STEPS)
    scores, fastest = [given.codes[0, 0]], np.inf
    for number in range(STEPS):
        best = (guide or scores)[number][:-1].argsort()[-config.group :]
        aligned = np.array([min(number * symbols // STEPS, symbols - 1)])
        start = time.perf_counter()
        given, state = engine.step(best[None], aligned, np.zeros(1, np.int64), state)
        fastest = min(fastest, time.perf_counter() - start)
        scores.append(given.codes[0, 0])
    return scores, float(fastest)


def _make_rows(config: ARConfig, text: np.ndarray, rng: np.random.RandomState) -> ARRows:
    groups = rng.randint(0, config.codebook_size, (1, 4, config.group))
    prompts = rng.randint(0, config.codebook_size, (1, 4, config.prompt_codebooks))
    return ARRows(
        text=text,
        text_lens=np.array([text.shape[1]]),
        groups=groups,
        group_lens=np.array([4]),
        aligned=np.arange(5)[None] % text.shape[1],
        languages=np.zeros((1, 1), np.int64),
        text_languages=np.zeros((1, 1), np.int64),
        prompt=prompts if config.prompt_codebooks else None,
        prompt_lens=np.array([4]) if config.prompt_codebooks else None,
    )


def _divergence(right: np.ndarray, own: np.ndarray) -> float:
    """Return the Kullback-Leibler divergence of scores (V,) from the right ones."""
    right, own = (each - each.max() - np.log(np.exp(each - each.max()).sum()) for each in (right, own))
    return float((np.exp(right) * (right - own)).sum())


def _key(model: Description, int8: Precision) -> str:
    """Return what a measurement is of: this CPU, this onnxruntime, these weights."""
    weights = model.weights("ar").stat()
    facts = [_processor(), import_runtime().__version__, int8.value, model.config.model_dump_json(), weights.st_size]
    return sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _processor() -> str:
    """Return what this processor is called."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _read() -> dict[str, dict[str, dict[str, float]]]:
    try:
        found = json.loads((cache_folder() / FILE).read_text(encoding="utf-8"))
        {key: {name: Probe(**values) for name, values in each.items()} for key, each in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, UserError):
        return {}  # none, or it is damaged: measured again
    return found


def _write(known: dict[str, dict[str, dict[str, float]]]) -> bool:
    """Keep what is known; return whether that was possible."""
    try:
        path = cache_folder() / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as part:
            part.write_text(json.dumps(known, indent=1), encoding="utf-8")
    except (OSError, UserError):
        return False
    return True
