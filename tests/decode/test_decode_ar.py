"""The loop's laws, for every configuration: batched = alone, streamed = whole, monotonic and complete, rows end."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lm_samples import AR_KINDS, ENTRIES, SMALL, SYMBOLS, ar_engine, decode, shaken
from openvalle.decode.alignment import MonotonicPointer, stretch
from openvalle.decode.ar import AROptions, Decoder, Draw, StoppedBy, collect, generate, make_pointer, stream
from openvalle.decode.prompt import ARPrompt, prepare_inputs
from openvalle.decode.sampling import SamplingOptions
from openvalle.engines.torch import TorchAR
from openvalle.errors import ModelError
from openvalle.model.ar import AR, ARInputs
from openvalle.model.config import ARConfig
from openvalle.model.kinds import Alignment
from openvalle.types import to_durations

EVERY = pytest.mark.parametrize("kind", AR_KINDS)
ALIGNED = pytest.mark.parametrize("kind", [k for k, v in AR_KINDS.items() if v.get("alignment") == "phoneme"])
OPTIONS = AROptions(symbol_frames=8, pause_frames=16, most_frames=6.0)


def prompt(model, seed: int, target: int = 4, frames: int = 9, symbols: int = 3) -> ARPrompt:
    """Return a random prompt without equal neighbours."""
    rng = np.random.default_rng(seed)
    text = 1 + (1 + rng.integers(SYMBOLS - 2, size=symbols + target)).cumsum(0) % (SYMBOLS - 1)
    codes = rng.integers(ENTRIES, size=frames)
    alignment = np.arange(frames) * symbols // frames
    is_aligned = model.config.alignment == Alignment.PHONEME
    return ARPrompt(text, symbols, codes, alignment if is_aligned else None, language=1, prompt_language=2)


def without_voice(one: ARPrompt) -> ARPrompt:
    return ARPrompt(one.text[one.prompt_symbols :], language=one.language)


def assert_same(one, other):
    assert np.array_equal(one.codes, other.codes)
    assert one.stopped_by == other.stopped_by
    assert (one.alignment is None and other.alignment is None) or np.array_equal(one.alignment, other.alignment)


@EVERY
def test_the_same_seed_gives_the_same_codes_batched_or_alone(kind):
    model = ar_engine(kind)
    prompts = [
        prompt(model, 1),
        without_voice(prompt(model, 2, target=6)),
        prompt(model, 3, target=2, frames=14),
    ]
    together = decode(model, prompts, OPTIONS, [5, 6, 7])
    for seed, one, result in zip((5, 6, 7), prompts, together, strict=True):
        assert_same(decode(model, [one], OPTIONS, [seed])[0], result)
    other = decode(model, prompts, OPTIONS, [8, 9, 10])
    assert any(a.codes.tolist() != b.codes.tolist() for a, b in zip(together, other, strict=True))


@EVERY
def test_one_prompt_fanned_out_equals_one_by_one(kind):
    model = ar_engine(kind)
    prompts = [prompt(model, 1), prompt(model, 2, frames=11)]
    fanned = decode(model, prompts, OPTIONS, [1, 2, 3, 4])
    for index, seed in enumerate((1, 2, 3, 4)):
        alone = decode(model, [prompts[index // 2]], OPTIONS, [seed])[0]
        assert_same(alone, fanned[index])


@EVERY
def test_rows_that_come_and_go_change_nothing(kind):
    """Prompts of all lengths, seeds, options and paths; rows join and leave at any step."""
    model = ar_engine(kind)
    sampled = [SamplingOptions(), SamplingOptions(temperature=0.7, top_p=0.8, window=3), SamplingOptions(top_k=4)]
    rng = np.random.default_rng(7)
    draws = []
    for number in range(12):
        one = prompt(model, number, int(rng.integers(2, 8)), int(rng.integers(6, 40)), int(rng.integers(2, 6)))
        one = without_voice(one) if number % 4 == 3 else one
        options = OPTIONS.model_copy(update={"sampling": sampled[number % 3], "limit_frames": 20 + number})
        preset = None
        if number % 5 == 2 and model.config.alignment == Alignment.PHONEME:
            preset = np.repeat(np.arange(len(one.target)), 2)
        draws.append(Draw(one, options, number, preset))
    alone = [generate(model, [each])[0] for each in draws]
    decoder, numbers, steps, left = Decoder(model), {}, {}, set()
    for moment in range(200):
        if moment % 3 == 0 and len(numbers) < len(draws):
            joining = range(len(numbers), min(len(draws), len(numbers) + 1 + moment % 2))
            for row, number in zip(decoder.add([draws[number] for number in joining]), joining, strict=True):
                numbers[row], steps[number] = number, []
        if moment == 11:
            gone = decoder.rows[:2]
            left |= {numbers[row] for row in gone}
            decoder.remove(gone)
            decoder.remove(gone)  # nothing more
        for row, step in decoder.step():
            steps[numbers[row]].append(step)
    assert not decoder.rows and len(numbers) == len(draws)
    assert decoder.step() == []
    for number, one in enumerate(alone):
        codes = np.concatenate([step.codes for step in steps[number]])
        assert codes.tolist() == one.codes[: len(codes)].tolist()
        if number not in left:
            assert_same(collect(steps[number]), one)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="promised where oneDNN sums")
@EVERY
def test_what_a_row_is_to_say_next_is_the_same_alone_to_the_bit(kind):
    """So no draw can fall otherwise, however close to the border of two codes it is."""
    model = ar_engine(kind)
    draws = [Draw(prompt(model, n, 3 + n, 6 + 5 * n, 2 + n % 3), OPTIONS, n) for n in range(6)]

    def watch(joining: dict[int, list[int]]) -> dict[int, list[bytes]]:
        """Return the scores of each draw's steps; `joining`: which of them join at which moment."""
        decoder, numbers, scores = Decoder(model), {}, {number: [] for number in range(len(draws))}
        for moment in range(30):
            coming = joining.get(moment, [])
            numbers |= zip(decoder.add([draws[number] for number in coming]), coming, strict=True)
            if decoder.rows:
                found = decoder.score()
                for index, row in enumerate(decoder.rows):
                    own = found.codes[index], [] if found.phonemes is None else found.phonemes[index]
                    scores[numbers[row]].append(b"".join(np.array(each).tobytes() for each in own))
                decoder.step()
        return scores

    together = watch({0: [0, 1], 2: [2], 3: [3, 4], 5: [5]})
    for number in range(len(draws)):
        alone = watch({0: [number]})[number]
        count = min(len(alone), len(together[number]))
        assert count > 3 and alone[:count] == together[number][:count]


@EVERY
def test_the_stream_is_the_whole(kind):
    model = ar_engine(kind)
    prompts = [prompt(model, 1), prompt(model, 2)]
    for seed, one, result in zip((1, 2), prompts, decode(model, prompts, OPTIONS, [1, 2]), strict=True):
        steps = list(stream(model, Draw(one, OPTIONS, seed)))
        assert np.array_equal(np.concatenate([step.codes for step in steps]), result.codes)
        assert [step.stopped_by for step in steps] == [None] * (len(steps) - 1) + [result.stopped_by]


@EVERY
def test_greedy_decoding_equals_the_argmax_of_the_full_forward(kind):
    """What the loop feeds back is what training feeds: the alignment of symbols, the groups, the languages."""
    model = ar_engine(kind)
    one = dataclasses.replace(prompt(model, 4, frames=10), prompt_language=None)
    options = OPTIONS.model_copy(update={"sampling": SamplingOptions(temperature=0.0, repetition_aware=False)})
    result = decode(model, [one], options, [0])[0]
    group = model.config.group
    spoken = result.codes[: len(result.codes) // group * group]
    kept = one.codes[len(one.codes) % group :]
    codes = np.concatenate([kept, spoken])
    whole = dataclasses.replace(one, codes=codes)
    if result.alignment is not None:
        alignment = np.concatenate(
            [one.alignment[len(one.codes) % group :], result.alignment[: len(spoken)] + one.prompt_symbols]
        )
        whole = dataclasses.replace(whole, alignment=alignment)
    inputs = prepare_inputs(model.config, [whole])
    if inputs.aligned is not None and model.config.phoneme_lead:
        # `prepare_inputs` ends with the target's first symbol; here the audio goes on at its last.
        inputs.aligned[0, -1] = result.alignment[-1] + one.prompt_symbols
    start = len(kept) // group
    with torch.no_grad():
        every = model.network(
            ARInputs(*(None if each is None else torch.from_numpy(each) for each in vars(inputs).values()))
        )
    logits = every.codes[0, start : start + len(spoken) // group].numpy()
    # The loop hides <EOS> until it may come, and ends the row when it does.
    assert np.array_equal(logits[..., : model.network.eos].argmax(-1).flatten(), spoken)


@ALIGNED
def test_the_path_is_monotonic_and_complete(kind):
    model = ar_engine(kind)
    for seed in range(5):
        one = prompt(model, seed, target=5)
        result = decode(model, [one], OPTIONS, [seed])[0]
        steps = result.alignment[:: model.config.group]
        assert steps[0] == 0
        assert bool(((steps[1:] - steps[:-1] == 0) | (steps[1:] - steps[:-1] == 1)).all())
        assert int(steps[-1]) == 4
        assert len(result.alignment) == len(result.codes)


@ALIGNED
def test_no_symbol_lasts_longer_than_its_cap(kind):
    model = ar_engine(kind)
    one = dataclasses.replace(prompt(model, 0), text=np.arange(1, 8))
    with torch.no_grad():  # equal scores: a greedy pointer never moves by itself
        model.network.phoneme_head.weight.zero_()
        model.network.phoneme_head.bias.zero_()
        model.network.transformer.norm.weight.zero_()
        model.network.transformer.norm.bias.zero_()
    changes = {
        "pauses": (4,),
        "path_temperature": 0.0,
        "sampling": SamplingOptions(temperature=0.0, repetition_aware=False),
    }
    result = decode(model, [one], OPTIONS.model_copy(update=changes), [0])[0]
    step = model.config.step_frames
    counts = np.bincount(result.alignment[:: model.config.group], minlength=4).tolist()
    assert counts == [16 // step, 8 // step, 8 // step, 8 // step]
    assert result.stopped_by == StoppedBy.ALIGNMENT_END


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_equal_neighbours_are_passed_one_step_each(temperature):
    """Their scores are one number, so the pointer cannot tell: the last of them takes the time of all."""
    text, caps = np.array([3, 5, 5, 5, 2]), np.full(5, 20)
    pointer = MonotonicPointer(text, caps)
    scores = np.zeros(SYMBOLS, np.float32)
    scores[5] = 60.0  # the model hears symbol 5 and nothing else
    places = []
    for step in range(8):
        if step:
            pointer.move(scores, 0.5, temperature)
        places.append(pointer.current)
        pointer.count()
    assert places == [0, 1, 2, 3, 3, 3, 3, 3]


def mean_stay(symbol: int, temperature: float, stay_bias: float = 0.0) -> float:
    """Return how many steps a pointer stays at `symbol` where the model gives moving on one chance in five."""
    rng, steps = np.random.default_rng(0), []
    scores = np.zeros(SYMBOLS, np.float32)
    scores[symbol] = np.log(4)
    for _ in range(2000):
        pointer = MonotonicPointer(np.array([symbol, 5]), np.full(2, 1000), pauses=(1,), stay_bias=stay_bias)
        steps.append(1)
        pointer.move(scores, rng.random(), temperature)
        while pointer.current == 0:
            steps[-1] += 1
            pointer.move(scores, rng.random(), temperature)
    return float(np.mean(steps))


def test_a_pause_lasts_as_long_as_the_model_says_at_any_temperature():
    for temperature in (1.0, 0.5, 0.2):
        assert mean_stay(1, temperature, stay_bias=1.0) == pytest.approx(5, rel=0.1)


def test_a_sound_lasts_longer_at_a_low_temperature_and_with_a_bias_to_stay():
    assert mean_stay(3, 1.0) == pytest.approx(5, rel=0.1)
    assert mean_stay(3, 0.5) == pytest.approx(17, rel=0.1)  # odds of 1 to 4, squared
    assert mean_stay(3, 1.0, stay_bias=np.log(2)) == pytest.approx(9, rel=0.1)  # 1 to 8


@pytest.mark.parametrize(("steps", "bias"), [(1, -1.5), (5, 0.0), (7, 3 * np.log(1.4)), (20, 1.5)])
def test_the_pace_follows_the_prompt_within_bounds(steps, bias):
    alignment = np.repeat([0, 1, 2], [7, steps, steps])  # a pause, and two sounds
    one = ARPrompt(np.array([1, 3, 4, 5, 6]), 3, np.zeros(len(alignment), np.int64), alignment)
    options = OPTIONS.model_copy(update={"pace_weight": 3.0, "pace_frames": 10.0})
    assert make_pointer(ar_engine("builtin").config, one, options, None).stay_bias == pytest.approx(bias)


@ALIGNED
def test_a_path_that_does_not_fit_the_text_is_refused(kind):
    model = ar_engine(kind)
    for alignment in ([], [0, 4], [-1, 0], [[0, 1]]):
        with pytest.raises(ModelError, match="preset alignment does not fit the text of 4 symbols"):
            decode(model, [prompt(model, 1)], OPTIONS, [1], alignments=[np.array(alignment)])


@ALIGNED
def test_a_preset_path_is_followed_to_its_end(kind):
    model = ar_engine(kind)
    alignment = np.array([0, 0, 1, 2, 2, 2, 3])
    result = decode(model, [prompt(model, 1)], OPTIONS, [1], alignments=[alignment])[0]
    assert np.array_equal(result.alignment[:: model.config.group], alignment)
    assert result.stopped_by == StoppedBy.ALIGNMENT_END
    assert len(result.codes) == len(alignment) * model.config.group


@pytest.mark.parametrize("kind", [k for k, v in AR_KINDS.items() if "alignment" not in v])
def test_without_alignment_length_is_bounded_by_the_text(kind):
    model = ar_engine(kind)
    for seed in range(4):
        options = OPTIONS.model_copy(update={"least_frames": 2.0, "most_frames": 5.0})
        result = decode(model, [prompt(model, seed, target=4)], options, [seed])[0]
        assert 8 <= len(result.codes) <= 20
        assert result.alignment is None
        assert result.stopped_by in (StoppedBy.EOS, StoppedBy.LIMIT)


@EVERY
def test_eos_ends_a_row(kind):
    """A model that always prefers <EOS> says the least that is allowed."""
    model = ar_engine(kind)
    with torch.no_grad():
        head = model.network.codes.weight if model.network.head is None else model.network.head.weight
        model.network.transformer.register_forward_hook(lambda stack, given, out: torch.ones_like(out))
        if model.network.group_out is not None:
            model.network.group_out.weight.fill_(1.0)
        head.copy_(-torch.rand(head.shape, generator=torch.Generator().manual_seed(0)))
        head[model.network.eos] = 1.0
    options = OPTIONS.model_copy(
        update={"sampling": SamplingOptions(temperature=0.0, repetition_aware=False), "least_frames": 3.0}
    )
    result = decode(model, [prompt(model, 1, target=4)], options, [1])[0]
    assert result.stopped_by == StoppedBy.EOS
    if model.config.alignment == Alignment.NONE:
        assert len(result.codes) == 12
    else:
        assert int((result.alignment[:: model.config.group] == 3).sum()) == 1


def test_a_draw_that_cannot_be_leaves_the_others_as_they_are():
    model = ar_engine("builtin")
    decoder = Decoder(model)
    (row,) = decoder.add([Draw(prompt(model, 1), OPTIONS, 1)])
    steps = [step for _, step in decoder.step()]
    with pytest.raises(ModelError, match="does not fit"):
        decoder.add([Draw(prompt(model, 2), OPTIONS, 2), Draw(prompt(model, 3), OPTIONS, 3, np.array([99]))])
    assert decoder.rows == [row]
    while decoder.rows:
        steps += [step for _, step in decoder.step()]
    assert_same(collect(steps), decode(model, [prompt(model, 1)], OPTIONS, [1])[0])


def test_rows_that_ended_are_not_computed_on(monkeypatch):
    """One long text and short ones: the engine gets as many rows as are still spoken."""
    model = ar_engine("builtin")
    prompts, taken = [prompt(model, seed, target=9 if seed == 1 else 2) for seed in (1, 2, 3, 4)], []
    step = TorchAR.step
    monkeypatch.setattr(
        TorchAR, "step", lambda self, groups, *rest: taken.append(len(groups)) or step(self, groups, *rest)
    )
    results = decode(model, prompts, OPTIONS, [1, 2, 3, 4])
    group = model.config.group
    assert sum(taken) <= sum(len(result.codes) // group + 1 for result in results)
    assert (taken[0], taken[-1]) == (4, 1)


def test_the_limit_ends_every_row():
    for kind in AR_KINDS:
        model = ar_engine(kind)
        options = OPTIONS.model_copy(update={"limit_frames": 4, "least_frames": 6.0})
        result = decode(model, [prompt(model, 1)], options, [1])[0]
        assert result.stopped_by == StoppedBy.LIMIT
        assert len(result.codes) == max(1, 4 // model.config.step_frames) * model.config.group


def test_rows_end_where_learnt_positions_do():
    model = AR(ARConfig.parse({**SMALL, "positions": "learnt", "max_positions": 20}))
    model = TorchAR(shaken(model))
    options = OPTIONS.model_copy(update={"least_frames": 16.0, "most_frames": 16.0})
    prompts = [prompt(model, 1, frames=15), prompt(model, 2, frames=3)]
    together = decode(model, prompts, options, [1, 2])
    assert [len(result.codes) for result in together] == [4, 16]  # <BOS> has a position too
    assert all(result.stopped_by == StoppedBy.LIMIT for result in together)
    assert_same(decode(model, prompts[:1], options, [1])[0], together[0])


def test_the_prompt_counts_as_history():
    model = ar_engine("valle")
    with torch.no_grad():
        model.network.transformer.norm.weight.zero_()
        model.network.transformer.norm.bias.zero_()  # all codes equally likely: the best is the first
    one = dataclasses.replace(prompt(model, 1), codes=np.full(9, 3))
    greedy = OPTIONS.model_copy(update={"sampling": SamplingOptions(top_p=0.0), "least_frames": 5.0})
    first = next(stream(model, Draw(one, greedy, 1))).codes.item()
    assert first == 0
    zero = dataclasses.replace(one, codes=np.zeros(9, np.int64))
    seen = {next(stream(model, Draw(zero, greedy, s))).codes.item() for s in range(9)}
    assert len(seen) > 3


def test_the_language_of_the_target_changes_what_is_said():
    model = ar_engine("vallex")
    one = prompt(model, 1)
    greedy = OPTIONS.model_copy(
        update={"sampling": SamplingOptions(temperature=0.0, repetition_aware=False), "least_frames": 6.0}
    )
    said = [
        decode(model, [dataclasses.replace(one, language=language)], greedy, [0])[0].codes.tolist()
        for language in (0, 1, 2)
    ]
    assert len({tuple(codes) for codes in said}) > 1


def test_prompts_that_cannot_be_used_are_refused():
    model = ar_engine("builtin")
    one = prompt(model, 1)
    with pytest.raises(ModelError, match="no text to speak"):
        decode(model, [dataclasses.replace(one, prompt_symbols=len(one.text))], OPTIONS, [0])
    with pytest.raises(ModelError, match="symbol of each prompt frame"):
        decode(model, [dataclasses.replace(one, alignment=None)], OPTIONS, [0])


@ALIGNED
@pytest.mark.parametrize("factor", [0.5, 1.6])
def test_a_stretch_path_has_its_length_and_every_symbol(kind, factor):
    model = ar_engine(kind)
    group = model.config.group
    for seed in range(4):
        one = prompt(model, seed, target=9)
        alignment = decode(model, [one], OPTIONS, [seed])[0].alignment[::group]
        steps = max(9, round(len(alignment) * factor))
        longer = stretch(alignment, steps)
        said = decode(model, [one], OPTIONS, [seed], [longer])[0]
        assert len(said.codes) == steps * group
        assert np.array_equal(said.alignment[::group], longer)
        assert np.unique(longer).tolist() == np.unique(alignment).tolist()
        assert np.array_equal(stretch(alignment, len(alignment)), alignment)
        kept, wanted = to_durations(longer, 9), to_durations(alignment, 9) * steps / len(alignment)
        assert float(np.abs(kept - wanted).max()) <= 9 * 1.0


@ALIGNED
def test_a_line_begins_with_a_short_pause_at_most(kind):
    model = ar_engine(kind)
    step = model.config.step_frames
    one = dataclasses.replace(
        prompt(model, 1), text=np.array([1, 5, 1, 6]), prompt_symbols=0, codes=None, alignment=None
    )
    longest = {}
    for lead in (step, 2 * step, 60):
        options = OPTIONS.model_copy(update={"pauses": (1,), "pause_frames": 24, "lead_frames": lead})
        results = [decode(model, [one], options, [seed])[0] for seed in range(8)]
        stays = [
            [int((result.alignment == place).sum()) * model.config.merge for place in (0, 2)] for result in results
        ]
        longest[lead] = [max(stay) for stay in zip(*stays, strict=True)]
        assert longest[lead][0] <= min(lead, 24)
    assert longest[60][0] > longest[step][0], "the cap is what makes it short"
    assert max(stay[1] for stay in longest.values()) > step, "other pauses are not cut"


def test_a_path_needs_alignment():
    model = ar_engine("valle")
    with pytest.raises(ModelError, match="no alignment"):
        decode(model, [prompt(model, 1)], OPTIONS, [1], [np.array([0, 1])])


@ALIGNED
def test_marks_last_no_time_and_every_sound_is_spoken(kind):
    marks = (9, 10, 11)
    values = {**SMALL, **AR_KINDS[kind], "marks": marks}
    model = TorchAR(shaken(AR(ARConfig.parse(values))))
    text = np.array([1, 3, 9, 4, 10, 11, 5, 1, 9, 6, 11, 1])
    one = ARPrompt(
        text, 4, np.random.default_rng(3).integers(ENTRIES, size=8), np.array([0, 0, 1, 1, 3, 3, 3, 3]), 1, 1
    )
    target = text[4:]
    enduring = OPTIONS.model_copy(update={"watch": OPTIONS.watch.model_copy(update={"ends": False})})
    for result in decode(model, [one], enduring, range(6)):
        spoken = target[result.alignment].tolist()
        assert not set(spoken) & set(marks)
        assert [symbol for symbol, before in zip(spoken, [None, *spoken], strict=False) if symbol != before] == [
            symbol for symbol in target.tolist() if symbol not in marks
        ]
