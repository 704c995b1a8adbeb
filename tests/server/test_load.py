"""The benchmark of the server, on a tiny model: a crowd hears what each of it hears alone, and is only ever put off."""

from __future__ import annotations

import argparse
import asyncio
import importlib
from pathlib import Path

import numpy as np
import pytest

from openvalle.server.voices import EVERYBODY

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read as Linux tells it")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("serve")


def test_a_crowd_hears_what_each_hears_alone(bench, start, hum, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    small = start(rows=4, waiting=4)
    small.server.voices.add(EVERYBODY, hum)
    options = bench.parsed(["--clients", "16", "--seconds", "4", "--asks", "8", "--out", str(tmp_path)])
    served, report = bench.Served(small.url, 0), bench.Report("serve", {})
    asks = bench.make_asks(small.url, options)
    assert len({ask.voice for ask in asks}) == 2 and len(set(asks)) == 8
    bench.measure_load(served, asks, options, report)
    found = report.values["load"]
    assert found["answers"] >= 8 and found["refused with 429"] > 0
    assert [met for *_, met in bench.make_targets(report)] == [True, True]


def test_a_difference_would_be_seen(bench) -> None:
    sound = np.arange(-5, 5, dtype=np.int16)
    assert bench.is_same(sound, sound + np.int16(bench.EQUAL))
    assert not bench.is_same(sound, sound + np.int16(bench.EQUAL + 1)) and not bench.is_same(sound, sound[1:])


def test_errors_and_broken_answers_are_counted(bench, start) -> None:
    locked = start(keys=("secret",))
    ask = bench.Ask("See.", "buzz", 0)
    answers = asyncio.run(bench.crowd(locked.url, [ask], 2, 0.5, 4))
    assert {answer.status for answer in answers} == {401}
    assert [answer.status for answer in asyncio.run(bench.crowd("http://127.0.0.1:9", [ask], 1, 5.0, 1))] == [0]


def test_memory_of_a_process_is_read(bench) -> None:
    import os

    assert 20 < bench.Served("", os.getpid()).resident_mb() < 100_000
    assert isinstance(bench.parsed([]), argparse.Namespace)
