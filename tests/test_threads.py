"""`say` stays quick beside other programs: how threads wait is settled before torch is loaded."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from openvalle import parallel

CHILD = Path(__file__).parents[1] / "benchmarks" / "threads.py"
TEXT = "Hello there."


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has one thread")
def test_busy_loops_cost_no_more_than_one_thread_would() -> None:
    """A loop on each core, in turn with OMP_NUM_THREADS=1; torch's own threads take 2 to 18 times as long."""
    chosen = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENVALLE_")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(chosen)}
    command = [sys.executable, str(CHILD), "--child", "--text", TEXT]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, env=plain | more, **pipes) for more in ({}, {"OMP_NUM_THREADS": "1"})]  # type: ignore[call-overload]
    loops: list[subprocess.Popen[bytes]] = []
    try:
        assert [child.stdout.readline() for child in children] == ["ready\n"] * 2
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
        ratios = []
        for _ in range(7):
            ours, one = (spoken_in(child) for child in children)
            ratios.append(ours / one)
    finally:
        for process in [*children, *loops]:
            process.kill()
            process.wait()
    assert statistics.median(ratios) <= 1.5, ratios


def spoken_in(child: subprocess.Popen[str]) -> float:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    return float(child.stdout.readline())


LOAD = "import os; from openvalle import Synthesizer; Synthesizer.load(device='cpu'); print(os.environ[{name!r}])"


@pytest.mark.parametrize(("said", "wanted"), [(None, parallel.PLANS), ("7", "7")])
def test_few_plans_are_kept_unless_the_user_says_how_many(said: str | None, wanted: str) -> None:
    name = parallel.PLANS_KEPT[0]
    environment = {key: value for key, value in os.environ.items() if key not in parallel.PLANS_KEPT}
    environment |= {} if said is None else {name: said}
    code = LOAD.format(name=name)
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == wanted


LENGTHS = """
from openvalle.synth.generate import release_memory
from pathlib import Path
import torch
def pages():
    release_memory()  # as after every sentence
    return int(Path("/proc/self/statm").read_text().split()[1])
layer = torch.nn.Conv1d(384, 384, 9, padding=4)
with torch.inference_mode():
    for length in range(100, 580):
        layer(torch.randn(1, 384, length))
        if length == 120: before = pages()
print((pages() - before) * 4096 / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read as Linux tells it")
def test_memory_does_not_grow_with_every_length_that_is_met() -> None:
    """14 MB are kept; 1,024 plans would be 54 MB for these lengths."""
    done = subprocess.run([sys.executable, "-c", LENGTHS], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 30


def test_one_thread_goes_back_to_what_a_model_was_loaded_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_noted", {})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        parallel.note_threads()
        with parallel.one_thread():
            assert torch.get_num_threads() == 1
            with parallel.one_thread():  # as another caller may be
                pass
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.long
def test_loading_the_library_settles_how_threads_wait() -> None:
    """`from openvalle import Synthesizer` does; `import openvalle` alone touches nothing; the user's choice stays."""
    code = (
        "import json, os, sys, openvalle\n"
        "assert 'GOMP_SPINCOUNT' not in os.environ and 'torch' not in sys.modules\n"
        "openvalle.Synthesizer\n"
        f"print(json.dumps([os.environ.get(name) for name in {parallel.WAITING!r}]))"
    )

    def waiting(**given: str) -> list[str | None]:
        chosen = ("OMP_", "GOMP_", "KMP_")
        plain = {name: value for name, value in os.environ.items() if not name.startswith(chosen)}
        done = subprocess.run([sys.executable, "-c", code], env=plain | given, capture_output=True, check=True)
        return json.loads(done.stdout)

    assert waiting() == [None, parallel.SPINS, "0", None]
    assert waiting(OMP_WAIT_POLICY="ACTIVE") == ["ACTIVE", None, None, None]
