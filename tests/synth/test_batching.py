"""The law of serving: whoever else is served, each hears what it hears alone. Nobody waits for what will not come."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from openvalle.audio import concatenate
from openvalle.decode.nar import Windows
from openvalle.engines.torch import TorchAR, TorchNAR
from openvalle.errors import ConfigError, TextError
from openvalle.synth.batching import Batcher, BatcherClosed, Cancelled, Job, QueueFull
from openvalle.synth.stream import StreamBlock
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice

SMALL = Windows(first=8, look_ahead=3)
TEXTS = ("Hello, my friend. I see.", "Yes.", "Once there was a cat, and it sat.", "No! And you? And they?")


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is to come at once; 20 s are for a machine that is busy with other things."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.001)


@pytest.fixture
def batcher(synthesizer: Synthesizer) -> Iterator[Batcher]:
    with Batcher(synthesizer, rows=4, jobs=6) as running:
        yield running


@pytest.fixture(scope="module")
def voices(tiny_voice: Voice) -> list[Voice | None]:
    codes = np.random.default_rng(1).integers(1024, size=tiny_voice.codes.shape).astype(np.uint16)
    return [tiny_voice, replace(tiny_voice, codes=codes, name="other")]


def join_blocks(blocks: list[StreamBlock]) -> tuple[list[int], np.ndarray]:
    """Return the codes of codebook 1 and the samples."""
    codes = np.concatenate([block.speech.codes[:, 0] for block in blocks if block.speech])
    return codes.tolist(), concatenate([block.audio for block in blocks]).samples


def request(speaker: Synthesizer, voices, text: int, voice: int, seed: int, how: int, speed: float, temperature: float):
    """Return the items of one request: blocks of a stream or one speech."""
    options = speaker.sampling(temperature, 0.9 if seed % 2 else None, speed=speed, attempts=1 + seed % 3)
    known = voices[voice], None, seed, options
    if how == 0:
        return [speaker.say(TEXTS[text], *known)]
    if how == 1:
        return speaker.stream(TEXTS[text], *known, windows=SMALL)
    if how == 2:
        return speaker.stream(iter(TEXTS[text].split(" ")), *known, live=False)
    return iter(speaker.say_batch([TEXTS[text], TEXTS[0]], *known))


REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 1), st.integers(0, 3), st.integers(0, 3), st.sampled_from([1.0, 1.0, 1.3]),
        st.sampled_from([1.0, 0.7]), st.sampled_from([0, 0, 0, 1, 2]),
    ),
    min_size=2,
    max_size=7,
)  # fmt: skip


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(REQUESTS)
@example([(0, 1, 0, 2, 1.0, 0.7, 0), *((text, 0, 1, 0, 1.0, 1.0, 0) for text in range(4))])  # a draw between two codes
def test_each_of_many_requests_is_what_it_is_alone(batcher: Batcher, synthesizer, voices, requests) -> None:
    """Mixed texts, voices, seeds, options, streamed and not; the last number is after how many items the client goes
    away, 0: never."""
    jobs = [batcher.submit(lambda s, known=known: request(s, voices, *known)) for *known, _ in requests]
    for job, (*known, patience) in zip(jobs, requests, strict=True):
        alone = list(request(synthesizer, voices, *known))
        heard = list(islice(job, patience or None))
        job.cancel()
        expected = alone[: len(heard)] if patience else alone
        assert len(heard) == len(expected)
        for one, other in zip(heard, expected, strict=True):
            np.testing.assert_allclose(one.audio.samples, other.audio.samples, atol=1e-4)
            if getattr(one, "speech", one) is not None:
                found, wanted = getattr(one, "speech", one), getattr(other, "speech", other)
                np.testing.assert_array_equal(found.codes, wanted.codes)
                assert (found.words, found.quality) == (wanted.words, wanted.quality)
    until(lambda: batcher.load.rows == 0)


def test_models_of_the_family_and_their_languages(synthesizer: Synthesizer, voices) -> None:
    """Without alignment, in groups of 2, with languages: what differs between rows is in the rows."""
    import torch

    from openvalle.model.ar import AR
    from openvalle.model.config import ARConfig

    shape = synthesizer.generator.ar.config.model_dump()
    for changes in (
        {"alignment": "none", "merge": 1, "marks": (), "group": 2},
        {"alignment": "none", "merge": 1, "marks": (), "languages": 2, "text_attention": "causal"},
    ):
        torch.manual_seed(3)
        ar = TorchAR(AR(ARConfig.parse(shape | changes)).eval())
        generator = replace(synthesizer.generator, ar=ar, nar=unaligned(synthesizer), languages=("en", "zh"))
        speaker = replace(synthesizer, generator=generator)
        foreign = replace(voices[1], language="zh")
        options = speaker.sampling(attempts=1, most_frames=4.0)

        def speak(s, number: int, options=options, foreign=foreign):
            mode = "cross-lingual" if number % 2 else "zero-shot"
            return [s.say(TEXTS[number], foreign if number % 2 else voices[0], None, number, options, mode=mode)]

        with Batcher(speaker, rows=3) as batcher:
            jobs = [batcher.submit(lambda s, number=number: speak(s, number)) for number in range(4)]
            for number, job in enumerate(jobs):
                alone = speak(speaker, number)[0]
                np.testing.assert_array_equal(job.result().codes, alone.codes)


def unaligned(synthesizer: Synthesizer) -> TorchNAR:
    import torch

    from openvalle.model.config import NARConfig
    from openvalle.model.nar import NAR

    torch.manual_seed(4)
    values = synthesizer.generator.nar.config.model_dump() | {"alignment": "none", "merge": 1}
    return TorchNAR(NAR(NARConfig.parse(values)).eval())


def test_rows_of_several_jobs_are_decoded_together(batcher: Batcher, voices, monkeypatch) -> None:
    counts: list[int] = []
    engine = type(batcher.synthesizer.generator.ar)
    step = engine.step
    monkeypatch.setattr(
        engine, "step", lambda self, groups, *rest: counts.append(len(groups)) or step(self, groups, *rest)
    )
    jobs = [batcher.submit(lambda s: [s.say(TEXTS[2] * 3, voices[0])]) for _ in range(6)]
    for job in jobs:
        job.result()
    assert max(counts) == 4, "no more than its rows"
    assert np.mean(counts) > 2


def test_a_client_that_goes_away_frees_its_row_within_a_step(batcher: Batcher, voices, monkeypatch) -> None:
    closed: list[bool] = []

    def work(speaker: Synthesizer):
        try:
            yield from speaker.stream(("Once there was a cat. " for _ in iter(int, 1)), voices[0])
        finally:
            closed.append(True)

    job = batcher.submit(work)
    assert next(iter(job)).audio.seconds > 0
    until(lambda: batcher.load.rows == 1)
    steps: list[int] = []
    engine = type(batcher.synthesizer.generator.ar)
    step = engine.step
    monkeypatch.setattr(engine, "step", lambda self, *rest: steps.append(1) or step(self, *rest))
    job.cancel()
    until(lambda: batcher.load.rows == 0)
    assert len(steps) <= 2  # one that had begun when it was called, and one that began while it was
    until(lambda: job.is_done)
    assert closed == [True]
    with pytest.raises(Cancelled):
        list(job)
    job.cancel()  # nothing more
    assert batcher.load.cancelled == 1


def test_a_job_that_is_busy_when_it_is_cancelled_decodes_no_more(batcher: Batcher, voices, monkeypatch) -> None:
    engine = type(batcher.synthesizer.generator.nar)
    inside, go_on, predict = threading.Event(), threading.Event(), engine.predict

    def slowly(self, *arguments):
        inside.set()
        assert go_on.wait(20)
        return predict(self, *arguments)

    monkeypatch.setattr(engine, "predict", slowly)
    job = batcher.submit(lambda s: [s.say(TEXTS[0] * 5, voices[0])])
    assert inside.wait(20)
    job.cancel()
    steps: list[int] = []
    engine = type(batcher.synthesizer.generator.ar)
    step = engine.step
    monkeypatch.setattr(engine, "step", lambda self, *rest: steps.append(1) or step(self, *rest))
    go_on.set()
    until(lambda: job.is_done)
    assert not steps


def test_a_job_that_fails_fails_alone(batcher: Batcher, synthesizer: Synthesizer, voices) -> None:
    def broken(speaker: Synthesizer):
        yield next(speaker.stream(TEXTS[0], voices[0]))
        raise ZeroDivisionError("a bug")

    wrong = [batcher.submit(work) for work in (broken, lambda s: [s.say("!?", voices[0])], lambda s: 1 / 0)]
    right = batcher.submit(lambda s: [s.say(TEXTS[1], voices[0])])
    items = iter(wrong[0])
    assert isinstance(next(items), StreamBlock), "what was made before comes first"
    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(items)
    with pytest.raises(TextError):
        wrong[1].result()
    with pytest.raises(ZeroDivisionError):
        wrong[2].result()
    np.testing.assert_array_equal(right.result().codes, synthesizer.say(TEXTS[1], voices[0]).codes)
    until(lambda: batcher.load.failed == 3)
    assert batcher.load.served == 1


def test_a_pass_or_a_block_that_fails_costs_one_answer(batcher: Batcher, voices, monkeypatch) -> None:
    engine = type(batcher.synthesizer.generator.nar)
    predict, failed = engine.predict, []

    def faulty(self, *arguments):
        if not failed:
            failed.append(True)
            raise MemoryError("no memory is left")
        return predict(self, *arguments)

    monkeypatch.setattr(engine, "predict", faulty)
    jobs = [batcher.submit(lambda s, seed=seed: [s.say(TEXTS[1], voices[0], seed=seed)]) for seed in range(4)]
    errors = []
    for job in jobs:
        try:
            job.result()
        except MemoryError as error:
            errors.append(error)
    assert len(errors) == 1


class Gate:
    """Work that waits until it is let through."""

    def __init__(self) -> None:
        self.open, self.begun = threading.Event(), []

    def work(self, name: str) -> Callable[[Synthesizer], Iterator[str]]:
        def run(_: Synthesizer) -> Iterator[str]:
            self.begun.append(name)
            assert self.open.wait(20)
            yield name

        return run


def test_the_queue_is_bounded_and_first_come_is_first_served(synthesizer: Synthesizer) -> None:
    gate = Gate()
    with Batcher(synthesizer, rows=2, jobs=2, waiting=3) as batcher:
        jobs = [batcher.submit(gate.work(name)) for name in "abcde"]
        with pytest.raises(QueueFull, match="3 others wait") as caught:
            batcher.submit(gate.work("f"))
        assert caught.value.retry_after >= 1
        assert (batcher.load.running, batcher.load.waiting) == (2, 3)
        jobs[2].cancel()
        assert jobs[2].is_done and batcher.load.waiting == 2
        later = batcher.submit(gate.work("g"))
        gate.open.set()
        assert [job.result() for job in (*jobs[:2], *jobs[3:], later)] == list("abdeg")
        assert sorted(gate.begun[:2]) == ["a", "b"] and gate.begun[2:] == list("deg")
        with pytest.raises(Cancelled):
            jobs[2].result()


def test_a_slow_reader_holds_no_row_and_no_more_than_its_buffer(batcher: Batcher, voices) -> None:
    made: list[int] = []

    def work(speaker: Synthesizer):
        for number, block in enumerate(speaker.stream(TEXTS[3], voices[0], windows=SMALL)):
            made.append(number)
            yield block

    job = batcher.submit(work, buffer=2)
    until(lambda: len(made) == 3)  # two in the buffer, one in hand
    until(lambda: batcher.load.rows == 0)
    assert len(made) == 3
    assert len(list(job)) > 3


def test_who_waits_for_text_or_for_a_reader_keeps_nobody_from_running(synthesizer: Synthesizer, voices) -> None:
    gate = Gate()
    with Batcher(synthesizer, rows=1, jobs=1, waiting=2) as batcher:

        def arriving() -> Iterator[str]:
            yield "Yes. No"
            with batcher.aside():
                assert gate.open.wait(20)
            yield "."

        writer = batcher.submit(lambda s: s.stream(arriving(), voices[0]))
        assert batcher.submit(lambda s: ["spoken"]).result() == "spoken"
        slow = batcher.submit(lambda s: iter("abc"), buffer=1)
        assert batcher.submit(lambda s: ["spoken, too"]).result() == "spoken, too"
        assert batcher.load.waiting == 0
        gate.open.set()
        alone = join_blocks(list(synthesizer.stream(iter(["Yes. No", "."]), voices[0])))
        assert join_blocks(list(writer))[0] == alone[0]
        assert list(slow) == ["a", "b", "c"]
        until(lambda: batcher.load.running == 0)


def test_it_drains_or_breaks_off_when_it_closes(synthesizer: Synthesizer, voices) -> None:
    batcher = Batcher(synthesizer, rows=2)
    jobs = [batcher.submit(lambda s: [s.say(TEXTS[0], voices[0])]) for _ in range(4)]
    assert batcher.close(timeout=60)
    assert len({job.result().audio.samples.tobytes() for job in jobs}) == 1
    with pytest.raises(BatcherClosed):
        batcher.submit(lambda s: [])
    gate, batcher = Gate(), Batcher(synthesizer, rows=1, jobs=1)
    jobs = [batcher.submit(gate.work(name)) for name in "ab"]
    assert not batcher.close(timeout=0.05)
    gate.open.set()
    for job in jobs:
        with pytest.raises(Cancelled):
            job.result()
    batcher = Batcher(synthesizer, rows=1)
    job = batcher.submit(lambda s: s.stream(("Once there was a cat. " for _ in iter(int, 1)), voices[0]))
    next(iter(job))
    assert not batcher.close(drain=False)
    with pytest.raises(Cancelled):
        list(job)


def test_readers_in_an_event_loop(batcher: Batcher, synthesizer: Synthesizer, voices) -> None:
    async def read(seed: int) -> list[StreamBlock]:
        job = batcher.submit(lambda s: s.stream(TEXTS[0], voices[0], seed=seed, windows=SMALL))
        return [block async for block in job]

    async def main() -> None:
        streams = await asyncio.gather(*(read(seed) for seed in range(5)))
        for seed, blocks in enumerate(streams):
            alone = join_blocks(list(synthesizer.stream(TEXTS[0], voices[0], seed=seed, windows=SMALL)))
            found = join_blocks(blocks)
            assert found[0] == alone[0]
            np.testing.assert_allclose(found[1], alone[1], atol=1e-4)
        speech = await batcher.submit(lambda s: [s.say(TEXTS[1], voices[0])]).wait()
        np.testing.assert_array_equal(speech.codes, synthesizer.say(TEXTS[1], voices[0]).codes)
        with pytest.raises(ConfigError):
            await batcher.submit(lambda s: [s.say("Hi.", voices[0], options=s.sampling(speed=99))]).wait()
        gate = Gate()
        stuck = batcher.submit(gate.work("never"))
        asyncio.get_running_loop().call_later(0.02, stuck.cancel)
        with pytest.raises(Cancelled):
            await stuck.wait()  # at once, though the work is not over
        assert not stuck.is_done
        gate.open.set()

    asyncio.run(main())


def test_an_event_loop_that_is_over_hinders_nobody(batcher: Batcher) -> None:
    gate = Gate()

    async def leave() -> Job[str]:
        job = batcher.submit(gate.work("late"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job.wait(), 0.01)
        return job

    job = asyncio.run(leave())
    gate.open.set()
    assert job.result() == "late"
    until(lambda: batcher.load.running == 0)


def test_other_doors_share_the_decoder(batcher: Batcher, synthesizer: Synthesizer, voices) -> None:
    """Dialogue, candidates and invented voices are calls of a synthesizer like any other."""
    from openvalle.apps.dialogue import speak_dialogue

    cast = {"S1": voices[0], "S2": voices[1]}
    job = batcher.submit(lambda s: speak_dialogue(s, "[S1] Hi. [S2] No!", cast, seed=3))
    for one, other in zip(job, speak_dialogue(synthesizer, "[S1] Hi. [S2] No!", cast, seed=3), strict=True):
        np.testing.assert_array_equal(one.codes, other.codes)
    invented = batcher.submit(lambda s: [s.invent_voice("Hello there.", 4)]).result()
    np.testing.assert_array_equal(invented.codes, synthesizer.invent_voice("Hello there.", 4).codes)
    fitted = batcher.submit(lambda s: [s.say(TEXTS[0], voices[0], duration=4.0)])
    try:
        alone = synthesizer.say(TEXTS[0], voices[0], duration=4.0)
    except ConfigError:
        with pytest.raises(ConfigError):
            fitted.result()
    else:
        np.testing.assert_array_equal(fitted.result().codes, alone.codes)


def test_nothing_is_kept_of_what_was_said(batcher: Batcher, voices) -> None:
    import weakref

    kept: list[weakref.ref] = []
    for seed in range(20):
        job: Job = batcher.submit(lambda s, seed=seed: s.stream(TEXTS[1], voices[0], seed=seed))
        if seed % 3:
            list(job)
        else:
            next(iter(job))
            job.cancel()
        kept.append(weakref.ref(job))
    del job
    until(lambda: batcher.load.running == 0)
    gc.collect()
    assert [reference() for reference in kept] == [None] * len(kept)
