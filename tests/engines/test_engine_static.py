"""Steps and blocks in memory of fixed shapes: the codes and the sound of the eager engine. On a CPU nothing is
captured, but the memory, the slots and the work are those of CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lm_samples import AR_KINDS, ENTRIES, ar_engine, decode, utterance
from openvalle.codec.builtin import BuiltinCodec
from openvalle.codec.settings import BuiltinCodecConfig
from openvalle.decode.ar import AROptions, Decoder, Draw, collect, generate
from openvalle.decode.prompt import ARPrompt, prepare_inputs, zero_shot
from openvalle.engines.captured import SPARE_BYTES, Lease, Stock, Way, choose_way
from openvalle.engines.torch import TorchAR, TorchCodec
from openvalle.engines.torch_blocks import SIZES, StaticCodec
from openvalle.engines.torch_static import LEAST_ROOM, Slots, StaticAR
from openvalle.errors import ModelError, UserError

TARGET = np.array([7, 8, 9, 10, 9, 8])
SHAPES = ((5, 24), (9, 48), (3, 12), (6, 36), (4, 18))  # symbols and frames of the prompts
GREEDY = {"sampling": {"temperature": 0.0}, "path_temperature": 0.0}
NEAR = {"atol": 2e-5, "rtol": 1e-5}  # of scores that are summed in another order
EVERY = pytest.mark.parametrize("kind", AR_KINDS)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


def both(kind: str, device: str = "cpu") -> tuple[TorchAR, StaticAR]:
    """Return a tiny model, eager and static."""
    eager = ar_engine(kind)
    eager.network.to(device)
    return eager, StaticAR(eager.network)


def prompts_for(config) -> list[ARPrompt]:
    return [zero_shot(config, utterance(*shape, shape[1]), TARGET, 1).ar(config) for shape in SHAPES]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("how", ["greedy", "seeded"])
@EVERY
def test_codes_are_those_of_the_eager_engine(kind: str, how: str, device: str) -> None:
    """Five rows at once and then fewer, as they end: slots of eight, four, two and one."""
    options = AROptions.parse({"limit_frames": 60, **(GREEDY if how == "greedy" else {})})
    eager, static = both(kind, device)
    expected, own = (decode(each, prompts_for(each.config), options, [1, 2, 3, 4, 5]) for each in (eager, static))
    for right, found in zip(expected, own, strict=True):
        np.testing.assert_array_equal(found.codes, right.codes)
        assert found.stopped_by == right.stopped_by and (found.alignment is None) == (right.alignment is None)
        assert found.alignment is None or np.array_equal(found.alignment, right.alignment)


def follow(engine) -> list[np.ndarray]:
    """Return all scores of rows that join, leave, change places, go on as several, and are asked again."""
    rng, prompts = np.random.default_rng(0), prompts_for(engine.config)
    scores, state = engine.prefill(prepare_inputs(engine.config, prompts[:2]), room=1)
    heard = [scores.codes]

    def step(state, rows: int):
        groups = rng.integers(ENTRIES, size=(rows, engine.config.group))
        scores, state = engine.step(groups, np.full(rows, 3), np.ones(rows, np.int64), state)
        heard.extend([scores.codes] if scores.phonemes is None else [scores.codes, scores.phonemes])
        return state

    state = step(state, 2)
    other_scores, other = engine.prefill(prepare_inputs(engine.config, prompts[2:]), room=1)
    heard.append(other_scores.codes)
    state = step(state.join(other), 5)
    state = step(state.keep(np.array([4, 0, 2])), 3)
    _, other = engine.prefill(prepare_inputs(engine.config, prompts[1:2]), room=1)
    state = step(state.join(other), 4)  # takes a slot that was left
    state = step(state.keep(np.array([3, 1])), 2)
    apart = state.fork(np.array([1, 1, 0]))
    state = step(state, 2)  # and the fork stays as it was
    apart = step(apart, 3)
    state = step(step(apart, 3).join(step(state, 2)), 5)  # all were in slots
    state = state.keep(np.array([3]))
    for _ in range(3):
        state = step(state, 1)
    return heard


@pytest.mark.parametrize("device", DEVICES)
@EVERY
def test_rows_that_come_and_go_and_fork_have_the_scores_of_the_eager_engine(kind: str, device: str) -> None:
    for expected, own in zip(*map(follow, both(kind, device)), strict=True):
        assert own.dtype == np.float32
        np.testing.assert_allclose(own, expected, **NEAR)


@pytest.mark.parametrize("kind", ["valle", "vallex", "valler", "groups of 4", "builtin", "rotary", "prompt apart"])
def test_rows_grow_over_the_room_of_their_slots(kind: str) -> None:
    engines, groups = both(kind), np.random.default_rng(0).integers(ENTRIES, size=(LEAST_ROOM, 2, 1))
    inputs = prepare_inputs(engines[0].config, prompts_for(engines[0].config)[:2])
    states = [engine.prefill(inputs, room=1)[1] for engine in engines]
    for given in groups.repeat(engines[0].config.group, axis=2):
        found = [
            engine.step(given, np.full(2, 2), np.ones(2, np.int64), state)
            for engine, state in zip(engines, states, strict=True)
        ]
        states = [state for _, state in found]
        np.testing.assert_allclose(found[1][0].codes, found[0][0].codes, **NEAR)
    slots = states[1].rows[0].slots.lent
    assert (slots.count, slots.room) == (2, 2 * LEAST_ROOM) and states[1].rows[0].length > LEAST_ROOM


@EVERY
def test_a_row_among_others_says_what_it_says_alone(kind: str) -> None:
    _, engine = both(kind)
    options = AROptions(limit_frames=80, symbol_frames=8, pause_frames=16, most_frames=6.0)
    draws = [Draw(prompt, options, seed) for seed, prompt in enumerate(prompts_for(engine.config) * 2)]
    decoder, said = Decoder(engine), {}
    for moment in range(200):
        joining = [2 * moment, 2 * moment + 1] if moment < 5 else []
        rows = decoder.add([draws[number] for number in joining])
        said |= {row: (number, []) for row, number in zip(rows, joining, strict=True)}
        for row, step in decoder.step():
            said[row][1].append(step)
    for number, steps in said.values():
        np.testing.assert_array_equal(collect(steps).codes, generate(engine, [draws[number]])[0].codes)


def test_a_step_that_fails_leaves_all_as_it_was(monkeypatch) -> None:
    eager, engine = both("builtin")
    draws = [Draw(prompt, AROptions(limit_frames=60), seed) for seed, prompt in enumerate(prompts_for(engine.config))]
    decoder, steps, step = Decoder(engine), [], Slots.step
    rows = decoder.add(draws[:3])
    for moment in range(200):
        if moment == 3:
            decoder.add(draws[3:])
        if moment == 4:  # in which all move to eight slots
            monkeypatch.setattr(Slots, "step", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                decoder.step()
            monkeypatch.setattr(Slots, "step", step)
        steps += [taken for row, taken in decoder.step() if row is rows[0]]
    np.testing.assert_array_equal(collect(steps).codes, generate(eager, draws[:1])[0].codes)


def test_slots_are_lent_again_when_their_rows_are_gone() -> None:
    _, engine = both("builtin")
    made: list[Slots] = []
    make = engine._stock._make
    engine._stock._make = lambda *shape: made.append(make(*shape)) or made[-1]
    draws = [Draw(prompt, AROptions(limit_frames=40), 1) for prompt in prompts_for(engine.config)[:2]]
    for _ in range(3):
        generate(engine, draws)
    assert {(slots.count, slots.room) for slots in made} == {(1, LEAST_ROOM), (2, LEAST_ROOM)} and len(made) == 2
    leases = [Lease(engine._stock, 2, LEAST_ROOM) for _ in range(2)]  # two states at the same time
    assert leases[0].lent is not leases[1].lent


def test_what_lies_unused_is_dropped_where_it_is_too_much() -> None:
    made: list[int] = []
    stock: Stock[int] = Stock(lambda size: made.append(size) or size, lambda size: size)
    for size in (SPARE_BYTES, 3, 3, 4, SPARE_BYTES):
        Lease(stock, size)  # gone at once
    assert made == [SPARE_BYTES, 3, 4, SPARE_BYTES]  # before 4 is made, 3 lies there beside the first


def test_learnt_positions_end() -> None:
    eager, static = both("valle2")
    inputs = prepare_inputs(eager.config, prompts_for(eager.config)[:1])

    def go_on(engine) -> int:
        _, state = engine.prefill(inputs, room=1)
        for count in range(300):
            try:
                _, state = engine.step(np.zeros((1, engine.config.group), np.int64), None, np.ones(1, np.int64), state)
            except ModelError:
                return count
        return 300

    assert go_on(static) == go_on(eager) < 300


@pytest.fixture(scope="module")
def fine_codec() -> BuiltinCodec:
    """A codec of random weights whose decoder has a source of pitch."""
    torch.manual_seed(0)
    sizes = {"encoder_width": 16, "encoder_depth": 1, "trunk_width": 16, "trunk_depth": 1, "decoder_width": 16}
    config = BuiltinCodecConfig(latent=8, decoder_depth=1, fine_depth=1, fine_width=16, **sizes)
    codec = BuiltinCodec(config).eval().requires_grad_(False)
    codec.quantizer.codebooks.normal_()
    codec.decoder.fine.pitch.leave.weight.normal_()
    return codec


@pytest.fixture(params=["plain", "fine"])
def codec(request, tiny_codec, fine_codec) -> BuiltinCodec:
    return tiny_codec if request.param == "plain" else fine_codec


def push_all(engine: TorchCodec, codes: np.ndarray, sizes: Callable[[int], int]) -> np.ndarray:
    """Return the sound of a stream whose blocks have these sizes."""
    stream, samples, start, number = engine.stream(), [], 0, 0
    while start < len(codes):
        samples.append(stream.push(codes[start : start + sizes(number)]))
        start, number = start + sizes(number), number + 1
    return np.concatenate([*samples, stream.flush()])


@pytest.mark.parametrize("device", DEVICES)
def test_blocks_of_the_codec_give_the_sound_of_the_eager_engine(codec: BuiltinCodec, device: str) -> None:
    codec = codec.to(device)
    eager, static = TorchCodec(codec), StaticCodec(codec)
    codes = np.random.default_rng(0).integers(static.spec.entries, size=(SIZES[-1] + 60, static.spec.codebooks))
    expected = eager.decode(codes)
    assert np.abs(expected).max() > 0.01
    near = 1e-4 * np.abs(expected).max()
    for _ in range(2):  # in new memory, and in what a stream has left
        np.testing.assert_allclose(static.decode(codes), expected, atol=near)
        for sizes in (lambda _: 96, lambda number: 1 + 13 * number % 50, lambda number: SIZES[number % 2]):
            np.testing.assert_allclose(push_all(static, codes, sizes), expected, atol=near)
    for count in (1, 2, 33):
        np.testing.assert_allclose(static.decode(codes[:count]), eager.decode(codes[:count]), atol=near)
    codec.to("cpu")


def test_streams_of_the_codec_do_not_meet(codec: BuiltinCodec) -> None:
    static = StaticCodec(codec)
    codes = np.random.default_rng(0).integers(static.spec.entries, size=(2, 70, static.spec.codebooks))
    streams = [static.stream(), static.stream()]
    heard: list[list[np.ndarray]] = [[], []]
    for start in range(0, 70, 7):
        for own, stream, found in zip(codes, streams, heard, strict=True):
            found.append(stream.push(own[start : start + 7]))
    for own, stream, found in zip(codes, streams, heard, strict=True):
        np.testing.assert_allclose(np.concatenate([*found, stream.flush()]), static.decode(own), atol=1e-5)
    assert len(static.stream().flush()) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_captures() -> None:
    _, engine = both("builtin", "cuda")
    decode(engine, prompts_for(engine.config)[:2], AROptions(limit_frames=40), [1, 2])
    assert engine.capturer.captures


def test_the_environment_chooses(monkeypatch) -> None:
    monkeypatch.delenv("OPENVALLE_TORCH", raising=False)
    assert choose_way() is Way.EAGER
    monkeypatch.setenv("OPENVALLE_TORCH", "static")
    assert choose_way() is Way.STATIC
    monkeypatch.setenv("OPENVALLE_TORCH", "quick")
    with pytest.raises(UserError, match=r"OPENVALLE_TORCH.*'quick'"):
        choose_way()
