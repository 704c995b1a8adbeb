"""`--executor ray`: a real Ray cluster of three nodes on this machine; a worker and a node are killed in the middle."""

from __future__ import annotations

import os
import signal
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
from openvalle.prepare.run import prepare
from openvalle.prepare.steps import PrepareOptions
from openvalle.text.symbols import TextUnit

pytestmark = pytest.mark.slow
OPTIONS = PrepareOptions(unit_seconds=4.0, text_unit=TextUnit.BPE, bpe_size=280)
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


def wait_for(out: Path, count: int) -> None:
    """Wait until so many units of tokens are made."""
    until = time.monotonic() + PATIENCE
    while len(list((out / "tokens").glob("??/*/rows.jsonl"))) < count:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_worker_and_a_node_are_lost_and_nothing_else(tmp_path: Path, write_sound, cluster) -> None:
    for number in range(CLIPS):
        path = write_sound(tmp_path / "in" / f"s{number % 3}" / f"{number}.wav", 5.0 + number / 10)
        path.with_suffix(".txt").write_text("seven days of rain")
    prepare(tmp_path / "in", tmp_path / "here", options=OPTIONS)
    out, lost = tmp_path / "there", []

    def kill() -> None:
        wait_for(out, 2)
        worker = next(iter(find_workers()))
        os.kill(worker, signal.SIGKILL)
        lost.append(worker)
        wait_for(out, 6)
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        lost.append("a node")

    killer = threading.Thread(target=kill)
    killer.start()
    report = prepare(tmp_path / "in", out, options=OPTIONS, executor=Executor.RAY)
    killer.join()
    assert len(lost) == 2, "nothing was lost in the middle"
    assert report.kept["tokens"] == CLIPS
    assert read_bytes(out) == read_bytes(tmp_path / "here")
    shards = TokenShards.open(out)
    assert len({shards.index.id(row) for row in range(len(shards))}) == len(shards) == CLIPS
