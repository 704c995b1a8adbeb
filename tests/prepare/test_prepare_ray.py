"""`--executor ray`: a real Ray cluster of three nodes on this machine; a worker, the run and a node are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed")

from test_prepare_killed import read_bytes

from openvalle.data.shards import TokenShards
from openvalle.parallel import CLUSTER, set_up_ray
from openvalle.prepare.executor import Executor
from openvalle.prepare.filter import FilterSettings
from openvalle.prepare.run import prepare
from openvalle.prepare.steps import PrepareOptions
from openvalle.prepare.transcribe import TranscribeSettings
from openvalle.text.symbols import TextUnit

pytestmark = pytest.mark.slow
OPTIONS = PrepareOptions(
    unit_seconds=4.0,
    text_unit=TextUnit.BPE,
    bpe_size=280,
    transcribe=TranscribeSettings(recognizer="pocketsphinx"),  # which hears no words in a tone
    filter=FilterSettings(min_bandwidth=100.0),
)
CLIPS, PATIENCE = 24, 300.0


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of a head, which does no units, and two nodes of one processor each."""
    set_up_ray()
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            found.add_node(num_cpus=1)
        found.wait_for_nodes()
        monkeypatch.setenv(CLUSTER, found.address)
        yield found
    finally:
        found.shutdown()


def find_workers() -> set[int]:
    """Return the workers that are at a unit now, of this machine's Ray."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_text().startswith("ray::_do"):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_for(out: Path, step: str, count: int) -> None:
    """Wait until so many units of a step are made."""
    until = time.monotonic() + PATIENCE
    while len(list((out / step).glob("??/*/rows.jsonl"))) < count:
        assert time.monotonic() < until
        time.sleep(0.02)


RUN = """
import sys
from pathlib import Path
from test_prepare_ray import OPTIONS
from openvalle.prepare.executor import Executor
from openvalle.prepare.run import prepare

prepare(Path(sys.argv[1]), Path(sys.argv[2]), options=OPTIONS, executor=Executor.RAY)
"""


def be_killed(source: Path, out: Path) -> None:
    """Start a run as a process of its own and kill it when some units are filtered; its tasks may outlive it."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", RUN, str(source), str(out)]
    run = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, start_new_session=True)
    wait_for(out, "filter", 2)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def test_a_worker_and_a_node_are_lost_and_nothing_else(tmp_path: Path, write_sound, cluster) -> None:
    for number in range(CLIPS):
        path = write_sound(tmp_path / "in" / f"s{number % 3}" / f"{number}.wav", 5.0 + number / 10)
        path.with_suffix(".txt").write_text("seven days of rain" if number % 8 else "s")
    write_sound(tmp_path / "in" / "s0" / "wordless.wav", 3.0)
    prepare(tmp_path / "in", tmp_path / "here", options=OPTIONS)
    out, lost = tmp_path / "there", []

    def kill() -> None:
        wait_for(out, "tokens", 2)
        while not (there := find_workers()):
            time.sleep(0.01)
        worker = min(there)
        os.kill(worker, signal.SIGKILL)
        lost.append(worker)
        wait_for(out, "tokens", 6)
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        lost.append("a node")

    be_killed(tmp_path / "in", out)
    assert not (out / "tokens" / "units.jsonl").exists(), "it was killed in the middle"
    killer = threading.Thread(target=kill)
    killer.start()
    report = prepare(tmp_path / "in", out, options=OPTIONS, executor=Executor.RAY)
    killer.join()
    assert len(lost) == 2, "nothing was lost in the middle"
    assert report.kept["audio"] >= CLIPS and report.kept["tokens"] == CLIPS * 7 / 8, "too few letters a second"
    assert read_bytes(out) == read_bytes(tmp_path / "here")
    shards = TokenShards.open(out)
    assert len({shards.index.id(row) for row in range(len(shards))}) == len(shards) == report.kept["tokens"]
