"""The listener of the streaming benchmark, and its texts."""

from __future__ import annotations

import pytest


@pytest.fixture
def bench(load):
    """The benchmark as a module."""
    return load("stream")


def test_gap_is_how_late_a_block_comes(bench) -> None:
    heard = bench.listened([(0.5, 0.0), (1.0, 0.5), (1.2, 0.2), (2.0, 1.0), (2.1, 0.1)])
    assert heard.first == 1.0
    assert heard.gap == pytest.approx(0.3), "sound until 1.7, the next at 2.0"
    assert heard.seconds == pytest.approx(1.8)
    assert (heard.took, heard.blocks) == (2.1, 4)
    assert bench.listened([(1.0, 5.0), (3.0, 1.0)]).gap == 0


def test_texts_have_as_many_sentences(bench) -> None:
    for count in (1, 5, 20):
        assert bench.text_of(count).count(".") == count
    assert bench.text_of(20) == bench.text_of(20)
    assert bench.text_of(20, 1) != bench.text_of(20, 2)


def test_memory_is_measured(bench) -> None:
    assert 20 < bench.resident_mb() < 100_000


def test_one_hour_is_an_option(bench) -> None:
    assert bench.parsed(["--minutes", "60"]).minutes == 60
    assert bench.parsed([]).minutes < 10
