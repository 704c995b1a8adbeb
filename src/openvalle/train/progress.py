"""Where a run's curves go: TensorBoard, a JSON-lines file, and a progress bar on stderr."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from openvalle.errors import MissingExtra

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from openvalle.train.loop import Validation


def need_tensorboard() -> type[SummaryWriter]:
    """Return TensorBoard's writer; `MissingExtra` if it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra("tensorboard", "train") from None
    return SummaryWriter


class TrainingLog:
    """Writes `metrics.jsonl` and TensorBoard events under the run's folder and shows progress."""

    def __init__(self, out: Path, steps: int, step: int, processes: str, quiet: bool = False) -> None:
        """`processes`: who trains, said at the start; `quiet`: another process shows and writes everything."""
        self.quiet = quiet
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=quiet,
        )
        self.bar = self.progress.add_task("training", total=steps, completed=step)
        self.processes = processes
        self.started, self.first = time.monotonic(), step
        if not quiet:
            writer = need_tensorboard()
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

    def advance(self, step: int, metrics: dict[str, float]) -> None:
        """Move the bar."""
        loss = next(iter(metrics.values()), 0.0)
        self.progress.update(self.bar, completed=step, description=f"training, loss {loss:.3f}")

    def point(self, step: int, metrics: dict[str, float]) -> None:
        """Add a point to the training curves."""
        if not self.quiet:
            speed = (step - self.first) / max(1e-9, time.monotonic() - self.started)
            self._write(step, "train", {**metrics, "steps_per_second": speed})

    def validation(self, step: int, result: Validation) -> None:
        """Add validation numbers, sounds and pictures."""
        self._write(step, "valid", result.metrics)
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
