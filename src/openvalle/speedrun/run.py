"""`openvalle speedrun`: prepared tokens and a budget of seconds -> a model, and a table of what it reached.

Both networks train at the same time, in processes of their own, by the recipe that `plan` wrote; then they are packed,
and held-out sentences are spoken and judged as long as the time lasts. What is done is kept: the same command goes on.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openvalle.config import read_mapping
from openvalle.errors import ConfigError, UserError, import_extra
from openvalle.files import lock_folder
from openvalle.model.checkpoint import Part
from openvalle.speedrun.plan import Budget, Plan, choose, threads_each
from openvalle.speedrun.report import SpeedrunReport, judge, write_report
from openvalle.train.recipe import run as train

log = logging.getLogger(__name__)

LEAST_SECONDS = 60.0
PATIENCE = 30.0  # seconds in which a training that is asked to end has to


@dataclass(frozen=True)
class SpeedrunOptions:
    """What a speedrun may take."""

    seconds: float = 720.0
    sentences: int = 12  # that are judged at most
    overrides: tuple[str, ...] = ()  # of the recipe, as key=value
    asr: str = ""


def speedrun(
    data: tuple[Path, ...], out: Path, options: SpeedrunOptions, tell: Callable[[str], None] = log.info
) -> SpeedrunReport:
    """Train, pack and judge a model on the prepared folders `data` within the budget; return what it reached.

    `out/model` is the model, `out/report.md` the table. `ConfigError` for a budget in which nothing can be learned.
    """
    if options.seconds < LEAST_SECONDS:
        raise ConfigError(f"{options.seconds:g} s are too little", f"give {LEAST_SECONDS:g} s at least")
    import_extra("torch.utils.tensorboard", "tensorboard", "train")
    budget = Budget(options.seconds, time.monotonic())
    with lock_folder(out):
        plan = _plan(data, budget, out, options, tell)
        tell(f"training AR and NAR of {plan.width} x {plan.depth} for {plan.training:.0f} s")
        _train(out)
        model = train("pack", out / "recipe.yaml", (), out / "model")
        tell("speaking and judging held-out sentences")
        reached = judge(model, data, plan, budget, out, options.sentences, options.asr)
        write_report(reached, out)
    return reached


def _plan(
    data: tuple[Path, ...], budget: Budget, out: Path, options: SpeedrunOptions, tell: Callable[[str], None]
) -> Plan:
    path = out / "plan.json"
    if path.is_file():
        plan = Plan.parse(read_mapping(path), str(path))
        if plan.seconds != budget.seconds:
            raise ConfigError(
                f"{out} was begun with a budget of {plan.seconds:g} s", "give the same, or another folder with -o"
            )
        return plan
    tell("timing this machine")
    return choose(data, budget, out, options.overrides)


def _train(out: Path) -> None:
    """Train both networks at the same time; `UserError` with the last words of one that fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads_each())}
    with _processes() as running:
        for part in Part:
            command = [sys.executable, "-m", "openvalle", "train", part.value, str(out / "recipe.yaml")]
            with (out / f"{part.value}.log").open("ab") as file:
                running[part] = subprocess.Popen(
                    [*command, "--out", str(out / part.value)],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    env=environment,
                )
        waiting = dict(running)
        while waiting:
            for part, process in list(waiting.items()):
                if process.poll() is None:
                    continue
                del waiting[part]
                if process.returncode:
                    lines = (out / f"{part.value}.log").read_text(encoding="utf-8", errors="replace").splitlines()
                    last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
                    raise UserError(f"training {part.value} failed: {last.strip()}", f"see {out / part.value}.log")
            time.sleep(0.1)


@contextmanager
def _processes() -> Iterator[dict[Part, subprocess.Popen[bytes]]]:
    """Give a place for processes, none of which goes on after the block."""
    running: dict[Part, subprocess.Popen[bytes]] = {}
    try:
        yield running
    finally:
        for process in running.values():
            if process.poll() is None:
                process.terminate()
        for process in running.values():
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
