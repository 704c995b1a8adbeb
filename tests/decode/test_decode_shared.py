"""One decoder for many callers: each hears what it hears alone, whatever becomes of the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest

from lm_samples import ENTRIES, ar_engine
from openvalle.decode.ar import AROptions, ARResult, Draw, collect, generate
from openvalle.decode.prompt import ARPrompt
from openvalle.decode.shared import Caller, Cancelled, SharedDecoder
from openvalle.engines.torch import TorchAR
from openvalle.errors import ModelError

OPTIONS = AROptions(symbol_frames=8, pause_frames=8)
LONG = AROptions(symbol_frames=400, pause_frames=400, path_temperature=0.001, limit_frames=4000)  # it seldom moves on


def draw(seed: int, options: AROptions = OPTIONS, symbols: int = 4) -> Draw:
    rng = np.random.default_rng(seed)
    codes = rng.integers(ENTRIES, size=6 + seed % 5)
    text = 1 + np.arange(3 + symbols) % 9
    return Draw(ARPrompt(text, 3, codes, np.arange(len(codes)) * 3 // len(codes)), options, seed)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is to come at once; 20 s are for a machine that is busy with other things."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.001)


@pytest.fixture
def engine() -> TorchAR:
    return ar_engine("builtin")


@pytest.fixture
def shared(engine: TorchAR):
    decoder = SharedDecoder(engine, rows=4)
    yield decoder
    decoder.close()


def same(one: ARResult, other: ARResult) -> bool:
    return (
        one.codes.tolist() == other.codes.tolist()
        and one.alignment.tolist() == other.alignment.tolist()
        and (one.stopped_by, one.noticed) == (other.stopped_by, other.noticed)
    )


def test_callers_hear_what_they_hear_alone(engine: TorchAR, shared: SharedDecoder) -> None:
    """More rows than there is room for, whole and step by step, some of which nobody hears to their end."""
    alone = {seed: generate(engine, [draw(seed)])[0] for seed in range(30)}

    def call(seed: int) -> bool:
        if seed % 3 == 0:
            return same(collect(list(shared.stream(draw(seed)))), alone[seed])
        if seed % 3 == 1:
            several = [draw(each) for each in (seed, seed - 1, seed)]
            return all(map(same, shared.generate(several), [alone[each.seed] for each in several]))
        steps = list(islice(shared.stream(draw(seed)), 3))  # closed when it is forgotten
        return all(step.codes.tolist() == [code] for step, code in zip(steps, alone[seed].codes, strict=False))

    with ThreadPoolExecutor(10) as pool:
        assert all(pool.map(call, range(30)))
    until(lambda: shared.busy == 0)


def test_no_more_rows_at_once_than_said_and_each_caller_gets_its_share(engine: TorchAR, monkeypatch) -> None:
    counts: list[int] = []
    step = TorchAR.step
    monkeypatch.setattr(
        TorchAR, "step", lambda self, groups, *rest: counts.append(len(groups)) or step(self, groups, *rest)
    )
    shared = SharedDecoder(engine, rows=3)
    with ThreadPoolExecutor(2) as pool:
        many = pool.submit(shared.generate, [draw(seed, symbols=9) for seed in range(12)])
        until(lambda: len(counts) > 2)
        one = pool.submit(shared.generate, [draw(99, symbols=2)])
        assert one.result()
        assert not many.done(), "who asks for much does not keep the others waiting"
        assert len(many.result()) == 12
    assert max(counts) == 3
    shared.close()


def test_a_cancelled_row_leaves_before_the_next_step(engine: TorchAR, shared: SharedDecoder, monkeypatch) -> None:
    steps: list[int] = []
    at_step = threading.Event()
    go_on = threading.Event()
    step = TorchAR.step

    def slowly(self, groups, *rest):
        steps.append(len(groups))
        if len(steps) == 5:
            at_step.set()
            assert go_on.wait(20)
        return step(self, groups, *rest)

    monkeypatch.setattr(TorchAR, "step", slowly)
    callers = Caller(), Caller()
    with ThreadPoolExecutor(2) as pool:
        leads = pool.submit(shared.generate, [draw(0, LONG)], callers[0])
        until(lambda: bool(steps))
        waits = pool.submit(shared.generate, [draw(1, LONG)], callers[1])
        assert at_step.wait(20)
        until(lambda: len(shared._listening) == 2)
        shared.cancel(callers[1])
        with pytest.raises(Cancelled):
            waits.result(timeout=20)  # at once, though the decoder stands still
        go_on.set()
        count = len(steps)
        until(lambda: len(steps) > count + 3)
        assert set(steps[count + 1 :]) == {1}
        shared.cancel(callers[0])
        with pytest.raises(Cancelled):
            leads.result(timeout=20)
    until(lambda: shared.busy == 0)
    quiet = len(steps)
    time.sleep(0.05)
    assert len(steps) == quiet, "nothing is computed for nobody"


def test_who_leads_and_leaves_hands_over(engine: TorchAR, shared: SharedDecoder, monkeypatch) -> None:
    """Whoever waits takes the steps for all. When that caller is gone, another one that waits goes on."""
    alone, leader, steps = generate(engine, [draw(7, symbols=9)])[0], Caller(), list[int]()
    step = TorchAR.step
    monkeypatch.setattr(
        TorchAR, "step", lambda self, groups, *rest: steps.append(len(groups)) or step(self, groups, *rest)
    )
    with ThreadPoolExecutor(2) as pool:
        leads = pool.submit(shared.generate, [draw(0, LONG)], leader)
        until(lambda: bool(steps))
        waits = pool.submit(shared.generate, [draw(7, symbols=9)])
        until(lambda: len(shared._listening) == 2 or waits.done())
        shared.cancel(leader)
        with pytest.raises(Cancelled):
            leads.result(timeout=20)
        assert same(waits.result(timeout=20)[0], alone)


def test_rows_are_not_drawn_ahead_of_a_caller_that_is_alone(shared: SharedDecoder, monkeypatch) -> None:
    """Its processor makes the sound of the first steps meanwhile: the first sound comes as soon as without sharing."""
    steps: list[int] = []
    step = TorchAR.step
    monkeypatch.setattr(
        TorchAR, "step", lambda self, groups, *rest: steps.append(len(groups)) or step(self, groups, *rest)
    )
    stream = shared.stream(draw(2, LONG))
    taken = [next(stream) for _ in range(5)]
    time.sleep(0.05)  # it makes sound
    assert len(steps) == 4, "the first step needs none: its scores come with the prompt's"
    with ThreadPoolExecutor(1) as pool:  # somebody else is not kept waiting by that
        pool.submit(shared.generate, [draw(9)]).result(timeout=20)
    assert same(collect([*taken, *stream]), shared.generate([draw(2, LONG)])[0])


def test_closing_a_stream_frees_its_row(shared: SharedDecoder) -> None:
    stream = shared.stream(draw(1, LONG))
    next(stream)
    assert shared.busy == 1
    stream.close()
    until(lambda: shared.busy == 0)


def test_a_draw_that_cannot_be_fails_alone(engine: TorchAR, shared: SharedDecoder) -> None:
    bad = Draw(draw(1).prompt, OPTIONS, 1, np.array([99]))
    with ThreadPoolExecutor(2) as pool:
        good, wrong = pool.submit(shared.generate, [draw(2)]), pool.submit(shared.generate, [bad])
        with pytest.raises(ModelError, match="does not fit"):
            wrong.result()
        assert same(good.result()[0], generate(engine, [draw(2)])[0])


def test_a_step_that_fails_costs_one_row_and_the_others_go_on(
    engine: TorchAR, shared: SharedDecoder, monkeypatch
) -> None:
    """Memory is short, say: the row that came last is given up."""
    alone = [generate(engine, [draw(seed, symbols=9)])[0] for seed in range(3)]
    step, failed = TorchAR.step, []

    def faulty(self, groups, *rest):
        until(lambda: failed or len(shared._running) + len(shared._waiting) == 3)
        if len(groups) == 3 and not failed:
            failed.append(True)
            raise MemoryError("no memory is left")
        return step(self, groups, *rest)

    monkeypatch.setattr(TorchAR, "step", faulty)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(shared.generate, [draw(seed, symbols=9)]) for seed in range(3)]
        errors = [call.exception() for call in calls]
    assert [type(error) for error in errors if error] == [MemoryError]
    assert all(same(call.result()[0], one) for call, one, error in zip(calls, alone, errors, strict=True) if not error)


def test_an_engine_that_is_gone_fails_everybody_and_hangs_nobody(
    engine: TorchAR, shared: SharedDecoder, monkeypatch
) -> None:
    def broken(self, *_):
        raise RuntimeError("the device was lost")

    with monkeypatch.context() as patched:
        patched.setattr(TorchAR, "step", broken)
        with ThreadPoolExecutor(3) as pool:
            calls = [pool.submit(shared.generate, [draw(seed)]) for seed in range(3)]
            assert all(isinstance(call.exception(timeout=20), RuntimeError) for call in calls)
    assert shared.generate([draw(1)]), "it recovers when the engine does"


def test_after_the_end_nothing_is_taken(shared: SharedDecoder) -> None:
    stream = shared.stream(draw(1, LONG))
    next(stream)
    shared.close()
    with pytest.raises(Cancelled):
        list(stream)
    with pytest.raises(Cancelled):
        shared.generate([draw(2)])


def test_its_memory_does_not_grow_with_what_was_said(engine: TorchAR, shared: SharedDecoder) -> None:
    for seed in range(40):
        shared.generate([draw(seed)])
    until(lambda: shared.busy == 0)
    assert shared._decoder._state is None and not shared._waiting and not shared._running
