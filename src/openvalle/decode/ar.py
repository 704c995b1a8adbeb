"""The autoregressive loop: `stream` yields step by step, `generate` collects.

It is the same loop for every configuration: the monotonic pointer (VALL-E R), groups of codes (VALL-E 2), languages
(VALL-E X) and plain <EOS> (VALL-E) are data in the model's config. Rows have their own random generator and end on
their own, so a row in a batch is the row alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from pydantic import Field

from openvalle.config import Config
from openvalle.decode.alignment import MonotonicPointer, NoAlignment, Pointer, PresetAlignment, check_alignment
from openvalle.decode.failures import Failure, FailureDetector, FailureOptions
from openvalle.decode.prompt import Accent, ARPrompt
from openvalle.decode.sampling import DRAWS, SamplingOptions, Temperature, draw, draw_uniforms, to_steps
from openvalle.engines.base import AREngine, ARRows, pad
from openvalle.errors import ModelError
from openvalle.model.config import Alignment, ARConfig


class AROptions(Config):
    """How codebook 1 is decoded. Frames are the codec's (75 a second)."""

    sampling: SamplingOptions = SamplingOptions()
    path_temperature: Temperature = Field(1.0, description="of the pointer's choice to stay or to move on; 0: greedy")
    symbol_frames: int = Field(30, ge=1, description="longest stay at a symbol with alignment (30 = 0.4 s)")
    pause_frames: int = Field(75, ge=1, description="longest stay at one of `pauses`")
    pauses: tuple[int, ...] = Field((1,), description="symbols that may last as long as `pause_frames`")
    lead_frames: int = Field(18, ge=1, description="longest pause before the first sound (18 = 0.24 s); with alignment")
    least_frames: float = Field(2.0, ge=0, description="frames per symbol before <EOS>, without alignment")
    most_frames: float = Field(16.0, gt=0, description="frames per symbol at most, without alignment")
    limit_frames: int = Field(4500, ge=1, le=1_000_000, description="frames in all (4500 = one minute)")
    speed: float = Field(
        1.0, ge=0.5, le=2, description="how fast to speak: 1 as the model would; else its own alignment, stretched"
    )
    attempts: int = Field(3, ge=1, le=10, description="times a line is spoken at most, if it goes wrong")
    accent: Accent = Field(Accent.NATIVE, description="language id of what is spoken; for models with languages")
    watch: FailureOptions = FailureOptions()


class StoppedBy(StrEnum):
    """Why a row ended."""

    EOS = "eos"  # the model said so
    ALIGNMENT_END = "alignment-end"  # the last symbol lasted its longest, a preset alignment ended, what follows began
    LIMIT = "limit"  # too many frames: `most_frames` or `limit_frames`
    FAILURE = "failure"  # it went wrong: see `noticed`


@dataclass(frozen=True, eq=False)
class ARStep:
    """One step of all rows."""

    codes: np.ndarray  # (B, G)
    is_emitted: np.ndarray  # (B, G); False after a row has ended
    alignment: np.ndarray | None  # (B,) index of the step's symbol in the target's text
    stopped_by: tuple[StoppedBy | None, ...]  # per row; None while it goes on
    noticed: tuple[Failure | None, ...]  # per row; what went wrong so far


@dataclass(frozen=True, eq=False)
class ARResult:
    """What one row said."""

    codes: np.ndarray  # (T,) merged codebook 1
    alignment: np.ndarray | None  # (T,) index of each code's symbol in the target's text
    stopped_by: StoppedBy
    noticed: Failure | None = None  # what went wrong, whether or not it ended the row


def stream(
    engine: AREngine,
    prompts: Sequence[ARPrompt],
    options: AROptions,
    rngs: Sequence[np.random.RandomState],
    alignments: Sequence[np.ndarray] | None = None,
) -> Iterator[ARStep]:
    """Yield steps until every row has ended. The last step may emit nothing: it says why rows ended.

    With n times as many generators as prompts, each prompt is read once and spoken n times (rows of a prompt are
    neighbours). `alignments`: per prompt, the preset symbol index of each step. `options.speed` is not looked at: who
    wants another pace draws an alignment first and gives it back stretched (`openvalle.synth.generate`).
    """
    config, lead = engine.config, engine.config.phoneme_lead
    inputs, history = prepare_inputs(config, prompts, options.accent)
    fan, rest = divmod(len(rngs), len(prompts))
    assert fan and not rest, f"{len(rngs)} generators for {len(prompts)} prompts"
    origin = np.repeat(np.arange(len(prompts)), fan)  # (B,) the prompt of each row
    spread = [prompts[index] for index in origin.tolist()]
    pointer = make_pointer(
        config, spread, options, None if alignments is None else [alignments[index] for index in origin.tolist()]
    )
    rows = Rows(config, spread, options, pointer)
    languages = np.array([prompt.language_spoken(options.accent) for prompt in spread])
    offsets = np.array([prompt.prompt_symbols for prompt in spread])
    history = history[origin]

    scores, state = engine.prefill(inputs, int(rows.longest.max()) + 1)
    if fan > 1:
        scores, state = scores.take(origin), state.fork(origin)
    while True:
        uniforms = draw_uniforms(rngs, DRAWS * config.group + 1)
        if not lead and rows.steps:
            pointer.move(scores.phonemes, uniforms[:, -1], options.path_temperature)
        rows.end_at_limits(pointer)
        place = pointer.current
        codes = sample(scores.codes, history, uniforms, options.sampling, pointer.may_end)
        history = np.concatenate([history, codes], axis=1)[:, -options.sampling.window :]
        is_emitted = rows.take(codes)
        pointer.count()
        if lead:  # the next step is drawn knowing its symbol
            pointer.move(scores.phonemes, uniforms[:, -1], options.path_temperature)
        rows.watch(codes, is_emitted, pointer)
        yield ARStep(codes, is_emitted, place, tuple(rows.stopped_by), tuple(rows.noticed))
        if all(rows.stopped_by):
            return
        aligned = None if pointer.current is None else pointer.current + offsets
        scores, state = engine.step(np.where(is_emitted, codes, 0), aligned, languages, state)


def generate(
    engine: AREngine,
    prompts: Sequence[ARPrompt],
    options: AROptions,
    rngs: Sequence[np.random.RandomState],
    alignments: Sequence[np.ndarray] | None = None,
) -> list[ARResult]:
    """Return what each row says: `stream`, collected."""
    return collect(list(stream(engine, prompts, options, rngs, alignments)))


def collect(steps: Sequence[ARStep]) -> list[ARResult]:
    """Return what each row said in all steps of a decoding."""
    codes = np.concatenate([step.codes for step in steps], axis=1)  # (B, T)
    is_emitted = np.concatenate([step.is_emitted for step in steps], axis=1)
    places = [step.alignment for step in steps if step.alignment is not None]
    alignment = np.repeat(np.stack(places, axis=1), codes.shape[1] // len(steps), axis=1) if places else None
    results = []
    for row, reason in enumerate(steps[-1].stopped_by):
        assert reason is not None
        kept = is_emitted[row]
        spoken = None if alignment is None else alignment[row][kept]
        results.append(ARResult(codes[row][kept], spoken, reason, steps[-1].noticed[row]))
    return results


def sample(
    scores: np.ndarray, history: np.ndarray, uniforms: np.ndarray, options: SamplingOptions, may_end: np.ndarray
) -> np.ndarray:
    """Return a group of codes (B, G) for scores (B, G, V + 1), codes so far (B, H), uniforms (B, 2 G or more) and
    rows that may end (B,); the last class is <EOS>."""
    codes = []
    for slot in range(scores.shape[1]):
        allowed = scores[:, slot].copy()
        allowed[~may_end, -1] = -np.inf
        codes.append(draw(allowed, history, uniforms[:, DRAWS * slot :][:, :DRAWS], options))
        history = np.concatenate([history, codes[-1][:, None]], axis=1)
    return np.stack(codes, axis=1)


def prepare_inputs(
    config: ARConfig, prompts: Sequence[ARPrompt], accent: Accent = Accent.NATIVE
) -> tuple[ARRows, np.ndarray]:
    """Return the model's inputs and the codes so far (B, Tp; -1 = none), right-aligned."""
    if accent is not Accent.NATIVE and not config.languages:
        raise ModelError(f"this model knows no languages and cannot speak with the accent {accent}", "use native")
    for prompt in prompts:
        prompt.check(config)
    codes = [_keep_whole(prompt.codes, config.group) for prompt in prompts]
    lens = np.array([len(row) // config.group for row in codes])
    aligned = None
    if config.alignment == Alignment.PHONEME:
        alignments = [_keep_whole(prompt.alignment, config.group)[:: config.group] for prompt in prompts]
        if config.phoneme_lead:  # <BOS> and each group hold the symbol of what comes after them
            aligned = pad([np.append(row, p.prompt_symbols) for row, p in zip(alignments, prompts, strict=True)])
        else:
            aligned = pad([np.append(-1, row) for row in alignments])
    # Each frame carries its own audio's language, <BOS> the first frame's. The accent is the audio's; words keep their
    # language.
    languages = [
        prompt.language_spoken(accent) if prompt.codes is None else prompt.language_before for prompt in prompts
    ]
    inputs = ARRows(
        text=pad([prompt.text for prompt in prompts]),
        text_lens=np.array([len(prompt.text) for prompt in prompts]),
        groups=pad([row.reshape(-1, config.group) for row in codes]),
        group_lens=lens,
        aligned=aligned,
        languages=np.repeat(np.array(languages)[:, None], lens.max() + 1, axis=1),
        text_languages=pad(
            [
                np.where(np.arange(len(prompt.text)) < prompt.prompt_symbols, prompt.language_before, prompt.language)
                for prompt in prompts
            ]
        ),
    )
    return inputs, pad(codes, -1, left=True)


def _keep_whole(values: np.ndarray | None, group: int) -> np.ndarray:
    """Return (Tp,) without the first values that fill no group."""
    return np.zeros(0, np.int64) if values is None else values[len(values) % group :]


def make_pointer(
    config: ARConfig, prompts: Sequence[ARPrompt], options: AROptions, alignments: Sequence[np.ndarray] | None
) -> Pointer:
    """Return what tells where the rows are in their texts and how long they may be; a prompt for each row."""
    targets, block = [prompt.target for prompt in prompts], config.block
    limit = to_steps(options.limit_frames, block)
    if config.alignment == Alignment.NONE:
        if alignments is not None:
            raise ModelError(
                "this model has no alignment: its prosody cannot be given", "leave speed and prosody as they are"
            )
        counts = [_count_lasting(target, config) for target in targets]
        least, most = (
            np.array([to_steps(frames * count, block) for count in counts])
            for frames in (options.least_frames, options.most_frames)
        )
        return NoAlignment(np.minimum(least, most), most.clip(max=limit))
    ends = [len(target) - prompt.following_symbols for target, prompt in zip(targets, prompts, strict=True)]
    if alignments is not None:
        for alignment, target in zip(alignments, targets, strict=True):
            check_alignment(alignment, len(target))
        return PresetAlignment(alignments, ends)
    long, short = to_steps(options.pause_frames, block), to_steps(options.symbol_frames, block)
    caps = [np.where(np.isin(target, options.pauses), long, short) for target in targets]
    for target, longest in zip(targets, caps, strict=True):
        if target[0] in options.pauses:
            longest[0] = min(long, to_steps(options.lead_frames, block))
    return MonotonicPointer(targets, caps, ends, config.marks, limit)


def _count_lasting(symbols: np.ndarray, config: ARConfig) -> int:
    """Return how many of the symbols (S,) last."""
    return int((~np.isin(symbols, config.marks)).sum())


class Rows:
    """What is known of each row while it is spoken: how long it may be, whether and why it ended, what went wrong."""

    def __init__(self, config: ARConfig, prompts: Sequence[ARPrompt], options: AROptions, pointer: Pointer) -> None:
        self.eos, self.steps, self.ends_bad = config.codebook_size, 0, options.watch.ends
        self.longest = pointer.longest  # (B,) steps
        if config.max_positions is not None:  # learnt positions have an end: a row stops there
            used = [0 if prompt.codes is None else len(prompt.codes) // config.group for prompt in prompts]
            left = config.max_positions - int(config.use_bos) - np.array(used)
            self.longest = np.minimum(self.longest, left.clip(min=1))
        self.stopped_by: list[StoppedBy | None] = [None] * len(prompts)
        self.noticed: list[Failure | None] = [None] * len(prompts)
        is_free = isinstance(pointer, MonotonicPointer)
        budgets = [_budget(config, prompt, options) if is_free else None for prompt in prompts]
        self.watches = [FailureDetector(options.watch, config.block, budget) for budget in budgets]

    def end_at_limits(self, pointer: Pointer) -> None:
        """End rows whose text is over or that may take no more steps."""
        is_over, is_long = pointer.must_end, self.steps >= self.longest
        for row, reason in enumerate(self.stopped_by):
            if reason is None and is_over[row]:
                self.stopped_by[row] = StoppedBy.ALIGNMENT_END
            elif reason is None and is_long[row]:
                self.stopped_by[row] = StoppedBy.LIMIT

    def take(self, codes: np.ndarray) -> np.ndarray:
        """Count a step of codes (B, G); return which of them count: those before a row's <EOS>."""
        self.steps += 1
        is_going = np.array([reason is None for reason in self.stopped_by])
        is_emitted = is_going[:, None] & np.logical_and.accumulate(codes != self.eos, axis=1)
        for row in np.flatnonzero(is_going & ~is_emitted[:, -1]):
            self.stopped_by[row] = StoppedBy.EOS
        return is_emitted

    def watch(self, codes: np.ndarray, is_emitted: np.ndarray, pointer: Pointer) -> None:
        """Note what goes wrong in rows that go on, and end them if that is wanted."""
        waiting = pointer.waiting
        for row in np.flatnonzero(is_emitted.all(axis=1)):
            if self.stopped_by[row] is not None or self.noticed[row] is not None:
                continue
            self.noticed[row] = self.watches[row].push(codes[row].tolist(), int(waiting[row]))
            if self.noticed[row] is not None and self.ends_bad:
                self.stopped_by[row] = StoppedBy.FAILURE


def _budget(config: ARConfig, prompt: ARPrompt, options: AROptions) -> float | None:
    """Return the most frames that ordinary speech takes for a row; None if nobody asks, if the alignment is given,
    and without alignment, where `most_frames` says it."""
    if not options.watch.runaway_frames:
        return None
    symbols = prompt.target[: len(prompt.target) - prompt.following_symbols]
    pauses = int(np.isin(symbols, options.pauses).sum())
    sounds = _count_lasting(symbols, config) - pauses
    return options.watch.runaway_frames * sounds + options.pause_frames * pauses
