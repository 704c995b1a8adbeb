"""Which engine speaks a model on this machine, and how precisely its weights are kept.

`auto` is torch where it is installed and finds a GPU, else what is fastest on this CPU: onnxruntime in the precision
whose steps take least among those whose scores are close to the right ones. That is measured when a model is first
loaded, takes about a second and is remembered. Should none be close, torch computes, where it is installed. A name with
a precision (`onnx-fp32`) is taken as it is.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from openvalle.engines.layers import Precision, adds_exactly
from openvalle.engines.probe import RECORD, Probe, measure
from openvalle.errors import ModelError, UserError, find_choice
from openvalle.files import atomic_path
from openvalle.graphs import import_runtime
from openvalle.hub import cache_folder
from openvalle.model.bundle import Description

AUTO = "auto"
GAIN = 0.8  # share of the time of float32 that fewer bits may take: else float32 stays, whose codes are the reference's
FILE = "engines.json"  # in the cache folder: what was measured
SAMPLES, SAMPLE = 16, 4096  # of a file of weights that tell it from others: places, and bytes of each
# What drivers of GPUs put there (NVIDIA, AMD, Linux in Windows, Windows): without one torch is not asked.
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "C:/Windows/System32/nvcuda.dll")


class EngineName(StrEnum):
    """What can be asked for."""

    AUTO = "auto"  # the fastest here: torch on a GPU, else onnxruntime
    TORCH = "torch"  # the reference, on any device
    ONNX = "onnx"  # onnxruntime on the CPU, the fastest precision that is close to the right scores here
    ONNX_FP32 = "onnx-fp32"
    ONNX_INT8 = "onnx-int8"
    ONNX_INT4 = "onnx-int4"


@dataclass(frozen=True)
class Choice:
    """An engine: torch, or onnxruntime with a precision."""

    precision: Precision | None  # None: torch
    probes: dict[str, Probe] | None = None  # what was measured, by precision

    def __str__(self) -> str:
        return "torch" if self.precision is None else f"onnx {self.precision}"


def choose_engine(model: Description, name: str = AUTO, device: str = AUTO) -> Choice:
    """Return the engine called `name` for a model; `ModelError` names those there are."""
    from openvalle.engines.onnx import read_exported

    wanted = find_choice(EngineName, name, "engine")
    if (kept := read_exported(model.folder)) is not None:
        return _choose_exported(model, kept, wanted, device)
    is_free = wanted is EngineName.AUTO
    if wanted is EngineName.TORCH or (is_free and _suits_torch(device)):
        return Choice(None)
    _refuse_device(wanted, device, "use --engine torch")
    if wanted is EngineName.ONNX_FP32:
        return Choice(Precision.FP32)
    if wanted is EngineName.ONNX_INT4:
        return Choice(Precision.INT4)
    int8 = Precision.INT8 if adds_exactly() else Precision.INT8_NARROW
    if wanted is EngineName.ONNX_INT8:
        return Choice(int8)
    probes = _recall(model, (Precision.FP32, int8))
    precision = find_fastest(probes, int8)
    if precision is None and not (is_free and _has_torch()):
        raise _nothing_right(model, probes, "use --engine torch (pip install 'openvalle[torch]')")
    return Choice(precision, probes)


def _choose_exported(model: Description, kept: Precision, wanted: EngineName, device: str) -> Choice:
    """Return the choice for ONNX files: as they are, if this machine computes what the one did that wrote them."""
    asked = wanted.value.removeprefix("onnx-")
    if asked not in (EngineName.AUTO, EngineName.ONNX, kept, kept.partition("-")[0]):
        raise UserError(f"{model.folder} holds ONNX files in {kept}", "leave --engine out, or give another model")
    _refuse_device(EngineName.ONNX, device, "give the model that the ONNX files were made from")
    probes = _recall(model, (kept,))
    if not any(probe.is_close for probe in probes.values()):
        raise _nothing_right(model, probes, "export the model again on this machine")
    return Choice(kept, probes)


def _refuse_device(engine: EngineName, device: str, hint: str) -> None:
    if device.partition(":")[0] not in (AUTO, "cpu"):
        raise UserError(f"the engine {engine} computes on the CPU, not on {device}", hint)


def _nothing_right(model: Description, probes: Mapping[str, Probe], hint: str) -> ModelError:
    found = ", ".join(f"{name} KL {probe.kl:.3f}" for name, probe in probes.items()) or "it computes none of it"
    return ModelError(
        f"onnxruntime does not compute {model.config.name} right on this machine ({found})",
        f"{hint}, or another version of onnxruntime",
    )


def find_fastest(probes: Mapping[str, Probe], int8: Precision) -> Precision | None:
    """Return the fastest precision whose scores are close to the right ones; None: there is none."""
    close = {name: probe.step_ms for name, probe in probes.items() if probe.is_close}
    whole, rounded = close.get(Precision.FP32), close.get(int8)
    if rounded is not None and (whole is None or rounded < GAIN * whole):
        return int8
    return None if whole is None else Precision.FP32


def _suits_torch(device: str) -> bool:
    """Whether torch computes on what is faster than the CPU. It takes seconds to load: not without need."""
    if device != AUTO:
        return device.partition(":")[0] != "cpu"
    if not _has_torch() or not any(Path(place).exists() for place in GPUS):
        return False
    from openvalle.engines.torch import choose_device

    return choose_device(AUTO).type == "cuda"


def _has_torch() -> bool:
    return find_spec("torch") is not None


def _recall(model: Description, precisions: tuple[Precision, ...]) -> dict[str, Probe]:
    """Return what was measured before on this machine, or measure it."""
    key, known = _key(model, precisions), _read()
    if key in known:
        return {name: Probe(**values) for name, values in known[key].items()}
    probes = measure(model, precisions)
    is_kept = _write(known | {key: {name: asdict(probe) for name, probe in probes.items()}})
    fewest = probes.get(precisions[-1])
    if not is_kept and fewest is not None and fewest.is_close:
        return {precisions[-1]: fewest}  # what cannot be remembered is the same at every start, whatever the clock says
    return probes


def _key(model: Description, precisions: tuple[Precision, ...]) -> str:
    """Return what a measurement is of: this CPU, this onnxruntime, these weights, these recorded steps."""
    facts = [name_processor(), import_runtime().__version__, *precisions, model.config.ar.model_dump_json()]
    record = model.folder / RECORD
    facts += [_sample(path) for path in (model.weights("ar"), record) if path.is_file()]
    return sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _sample(path: Path) -> str:
    """Return the digest of places all over a file: other weights differ everywhere, and a start waits for this."""
    digest, size = sha256(), path.stat().st_size
    with path.open("rb") as file:
        for number in range(SAMPLES):
            file.seek(max(0, size - SAMPLE) * number // (SAMPLES - 1))
            digest.update(file.read(SAMPLE))
    return f"{size} {digest.hexdigest()}"


def name_processor() -> str:
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
