"""Where a run's curves go: TensorBoard, a JSON-lines file, and a progress bar on stderr."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch

from openvalle.errors import import_extra
from openvalle.parallel import progress_bars


@dataclass(frozen=True)
class Validation:
    """Numbers, sounds ((samples,), rate) and pictures (H, W, 3) uint8 for the log; `loss`: the less the better."""

    metrics: dict[str, float]
    sounds: dict[str, tuple[np.ndarray, int]] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    loss: float | None = None


class TrainingLog:
    """Writes `metrics.jsonl` and TensorBoard events under the run's folder and shows progress."""

    def __init__(self, out: Path, steps: int | None, step: int, processes: str, quiet: bool = False) -> None:
        """`processes`: who trains, said at the start; `quiet`: another process shows and writes everything."""
        self.quiet = quiet
        self.progress = progress_bars(quiet)
        self.steps = steps
        self.bar = self.progress.add_task(
            "training", total=1.0 if steps is None else steps, completed=step if steps else 0
        )
        self.processes = processes
        self.started, self.first = time.monotonic(), step
        self.before = (self.started, 0)  # when the last point was, and the frames until then
        if not quiet:
            writer = import_extra("torch.utils.tensorboard", "tensorboard", "train").SummaryWriter
            out.mkdir(parents=True, exist_ok=True)
            self.board = writer(str(out / "tensorboard"), purge_step=step or None)
            self.rows = (out / "metrics.jsonl").open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        if not self.quiet:
            self.progress.console.print(f"training with {self.processes}")
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()
        if not self.quiet:
            self.board.close()
            self.rows.close()

    def advance(self, step: int, done: float) -> None:
        """Move the bar to a part `done` of the training, from [0, 1]."""
        self.progress.update(self.bar, completed=done if self.steps is None else step)

    def point(self, step: int, metrics: dict[str, float], frames: int = 0) -> None:
        """Add a point to the training curves; `frames` were learnt from since the start, by all processes."""
        self.progress.update(self.bar, description=f"training, loss {next(iter(metrics.values()), 0.0):.3f}")
        if self.quiet:
            return
        now = time.monotonic()
        cost = {"steps_per_second": (step - self.first) / max(1e-9, now - self.started), "memory_gb": memory()}
        if frames:
            cost["frames_per_second"] = (frames - self.before[1]) / max(1e-9, now - self.before[0])
        self.before = (now, frames)
        self._write(step, "train", metrics | cost)

    def validation(self, step: int, result: Validation) -> None:
        """Add validation numbers, sounds and pictures."""
        self._write(step, "valid", result.metrics | ({} if result.loss is None else {"loss": result.loss}))
        for name, (samples, rate) in result.sounds.items():
            self.board.add_audio(f"valid/{name}", samples, step, sample_rate=rate)
        for name, picture in result.pictures.items():
            self.board.add_image(f"valid/{name}", picture, step, dataformats="HWC")

    def _write(self, step: int, group: str, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self.board.add_scalar(f"{group}/{name}", value, step)
        row = {"step": step, "group": group, **{name: round(value, 6) for name, value in metrics.items()}}
        self.rows.write(json.dumps(row) + "\n")
        self.rows.flush()


def memory() -> float:
    """Return the most memory that this process needed so far, in GB: of its CUDA device, or else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e9 if sys.platform == "darwin" else 1e6)  # bytes there, kilobytes elsewhere
