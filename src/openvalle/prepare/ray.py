"""Units by a Ray cluster: every unit is a task that reads and writes files by their names.

Ray starts tasks where there is room, and again where a worker or a node is lost; a unit that was made before its worker
died is found made. All machines have to see the folder and the sounds under the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from openvalle.errors import ConfigError, UserError, import_extra
from openvalle.parallel import set_up_ray
from openvalle.prepare.executor import Build
from openvalle.prepare.steps import STEPS, StepJob
from openvalle.prepare.units import UnitTask, Work, do_task

RETRIES = 10  # of a unit whose worker or node is lost
AHEAD = 4  # tasks that wait, for each that can run: so that a large corpus is not all in Ray's tables


class RayCluster:
    """A connection to a cluster, which is started on this machine if $RAY_ADDRESS names none; called, it does tasks."""

    def __init__(self, jobs: int) -> None:
        """`jobs`: processes of a cluster that is started here; of another one, all there is room for are used."""
        self._is_own = set_up_ray()
        self._ray = import_extra("ray", "ray", "ray")
        self._jobs = jobs

    def __enter__(self) -> Self:
        own: dict[str, Any] = {"num_cpus": self._jobs, "include_dashboard": False} if self._is_own else {}
        if not self._ray.is_initialized():
            try:
                self._ray.init(
                    address="local" if self._is_own else None, logging_level="warning", log_to_driver=False, **own
                )
            except Exception as error:  # noqa: BLE001 - it has no class of its own
                raise UserError(f"Ray does not start ({str(error).splitlines()[0][:200]})", "see docs.ray.io") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()

    def __call__(self, build: Build, step: Path, tasks: Sequence[UnitTask]) -> Iterator[int]:
        """Yield the number of each task as it is done; `UserError` as the work raises it."""
        assert isinstance(build, StepJob), build
        gpus = 1 if STEPS[build.step].gpu and build.device.startswith("cuda") else 0
        if gpus and not self._ray.cluster_resources().get("GPU"):
            raise ConfigError("no machine of the Ray cluster has a GPU", "use --device cpu")
        remote = self._ray.remote(_do).options(
            num_cpus=1, num_gpus=gpus, max_retries=RETRIES, scheduling_strategy="SPREAD"
        )
        job, where = build.model_dump_json(), str(step)
        ahead = AHEAD * max(1, int(self._ray.cluster_resources().get("GPU" if gpus else "CPU", 1)))
        waiting: dict[Any, int] = {}
        for number, task in enumerate(tasks):
            if len(waiting) >= ahead:
                yield from self._finish(waiting)
            waiting[remote.remote(job, where, task.model_dump_json())] = number
        while waiting:
            yield from self._finish(waiting)

    def _finish(self, waiting: dict[Any, int]) -> Iterator[int]:
        """Wait for a task; yield those that are done."""
        done, _ = self._ray.wait(list(waiting), num_returns=1)
        for each in done:
            try:
                failed = self._ray.get(each)
            except self._ray.exceptions.RayError as error:
                what = str(error).strip().splitlines()[-1][:300]
                raise UserError(f"a task of Ray failed ({what})", "run the same command again to go on") from None
            if failed:
                raise UserError(*failed)
            yield waiting.pop(each)


@cache
def _make_work(job: str) -> Work:
    """Return the work of a step; a worker of Ray does many units with one."""
    return StepJob.model_validate_json(job)()


def _do(job: str, step: str, task: str) -> tuple[str, str] | None:
    """Do a unit in a worker; return what is wrong and what helps, if it is for people."""
    try:
        do_task(_make_work(job), Path(step), UnitTask.model_validate_json(task))
    except UserError as error:
        return error.what, error.hint
    return None
