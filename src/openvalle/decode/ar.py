"""The autoregressive loop: `Decoder.step`. `stream` yields the steps of one row, `generate` collects those of several.

It is the same loop for every configuration: the monotonic pointer (VALL-E R), groups of codes (VALL-E 2), languages
(VALL-E X) and plain <EOS> (VALL-E) are data in the model's config. Rows have options and a random generator of their
own, and join and leave the others between steps (continuous batching), so a row in a batch is the row alone.
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
from openvalle.decode.prompt import Accent, ARPrompt, keep_whole, prepare_inputs
from openvalle.decode.sampling import DRAWS, SamplingOptions, Temperature, draw, draw_uniforms, make_rng, to_steps
from openvalle.engines.base import AREngine, ARScores, EngineState
from openvalle.errors import ModelError
from openvalle.model.config import ARConfig
from openvalle.model.kinds import Alignment

ROWS = 8  # decoded together, where there are several
ROOM = 256  # steps that a row's state has room for at first; it grows


class AROptions(Config):
    """How codebook 1 is decoded. Frames are the codec's (75 a second)."""

    sampling: SamplingOptions = SamplingOptions()
    path_temperature: Temperature = Field(
        1.0, description="of the pointer's choice to stay at a sound or to move on; 0: greedy, pauses too"
    )
    pace_weight: float = Field(
        0.0,
        ge=0,
        le=20,
        description="how strongly the pace follows the prompt's: times the logarithm of its frames per sound over "
        "`pace_frames`, added to the score of staying at a sound",
    )
    pace_frames: float = Field(5.5, gt=0, description="frames per sound of a prompt that changes nothing")
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
class Draw:
    """One row to decode. `options.speed` is not looked at: who wants another pace draws an alignment first and gives it
    back stretched (`openvalle.synth.generate`)."""

    prompt: ARPrompt
    options: AROptions
    seed: int
    alignment: np.ndarray | None = None  # preset: the symbol index of each step in the target's text


@dataclass(frozen=True, eq=False)
class ARStep:
    """One step of one row. The last one may hold no codes: it says why the row ended."""

    codes: np.ndarray  # (n,) n <= G: what came before <EOS>
    symbol: int | None  # index of the step's symbol in the target's text, with alignment
    stopped_by: StoppedBy | None  # None while the row goes on
    noticed: Failure | None  # what went wrong so far


@dataclass(frozen=True, eq=False)
class ARResult:
    """What one row said."""

    codes: np.ndarray  # (T,) merged codebook 1
    alignment: np.ndarray | None  # (T,) index of each code's symbol in the target's text
    stopped_by: StoppedBy
    noticed: Failure | None = None  # what went wrong, whether or not it ended the row


def generate(engine: AREngine, draws: Sequence[Draw]) -> list[ARResult]:
    """Return what each row says, `ROWS` of them decoded together: as rows end, the next ones join.

    `ModelError` if the model cannot go on from one of the prompts.
    """
    decoder, waiting = Decoder(engine), list(enumerate(draws))
    numbers: dict[Row, int] = {}
    steps: list[list[ARStep]] = [[] for _ in draws]
    while waiting or decoder.rows:
        free = ROWS - len(decoder.rows)
        joining, waiting = waiting[:free], waiting[free:]
        rows = decoder.add([draw for _, draw in joining])
        numbers |= zip(rows, [number for number, _ in joining], strict=True)
        for row, step in decoder.step():
            steps[numbers[row]].append(step)
    return [collect(own) for own in steps]


def stream(engine: AREngine, draw: Draw) -> Iterator[ARStep]:
    """Yield the steps of one row; `ModelError` if the model cannot go on from its prompt."""
    decoder = Decoder(engine)
    decoder.add([draw])
    while decoder.rows:
        for _, step in decoder.step():
            yield step


def collect(steps: Sequence[ARStep]) -> ARResult:
    """Return what a row said in all its steps."""
    last = steps[-1]
    assert last.stopped_by is not None
    alignment = None
    if last.symbol is not None:
        alignment = np.repeat([step.symbol for step in steps], [len(step.codes) for step in steps])
    return ARResult(np.concatenate([step.codes for step in steps]), alignment, last.stopped_by, last.noticed)


class Decoder:
    """Rows that take their steps together. They join and leave between steps; none depends on the others."""

    def __init__(self, engine: AREngine) -> None:
        self.engine = engine
        self.rows: list[Row] = []  # in the order of the state's
        self._state: EngineState | None = None
        self._scores: ARScores | None = None  # of the next step; None: not computed yet

    def add(self, draws: Sequence[Draw]) -> list[Row]:
        """Let rows join, and return them; those of equal prompts read theirs once. `ModelError` if one cannot be
        decoded: then none joins."""
        if not draws:
            return []
        rows = [Row(self.engine.config, draw) for draw in draws]
        keys = [(draw.prompt.content, draw.options.accent) for draw in draws]
        places = {key: keys.index(key) for key in keys}
        firsts = [draws[place] for place in places.values()]
        room = min(ROOM, max(row.longest for row in rows))
        scores, state = self._read(firsts[0], room)
        for other in firsts[1:]:  # by itself: beside a longer one it would be padded, and rounded otherwise than alone
            more, others = self._read(other, room)
            scores, state = scores.join(more), state.join(others)
        if len(firsts) < len(rows):
            origin = np.array([list(places).index(key) for key in keys])
            scores, state = scores.take(origin), state.fork(origin)
        if self._state is not None:
            scores, state = self.score().join(scores), self._state.join(state)
        self.rows, self._scores, self._state = [*self.rows, *rows], scores, state
        return rows

    def _read(self, draw: Draw, room: int) -> tuple[ARScores, EngineState]:
        """Return the scores of a row's first step, and its state, with room for so many more."""
        return self.engine.prefill(prepare_inputs(self.engine.config, [draw.prompt], [draw.options.accent]), room)

    def score(self) -> ARScores:
        """Return the scores of each row's next step: the engine takes what the rows said in the last one. Should it
        fail, nothing has changed."""
        if self._scores is None:
            assert self._state is not None
            groups, languages = np.stack([row.group for row in self.rows]), [row.language for row in self.rows]
            symbols = [row.symbol for row in self.rows]
            aligned = None if None in symbols else np.array(symbols)
            self._scores, self._state = self.engine.step(groups, aligned, np.array(languages), self._state)
        return self._scores

    def step(self) -> list[tuple[Row, ARStep]]:
        """Take a step with every row, and return it; rows that end with it have left."""
        if not self.rows:
            return []
        scores, rows = self.score(), self.rows
        uniforms = draw_uniforms([row.rng for row in rows], DRAWS * self.engine.config.group + 1)
        phonemes = [None] * len(rows) if scores.phonemes is None else list(scores.phonemes)
        for row, own, uniform in zip(rows, phonemes, uniforms[:, -1], strict=True):
            row.begin(own, uniform)
        codes = self._sample(scores.codes, uniforms)
        steps = [row.take(*taken) for row, *taken in zip(rows, codes, phonemes, uniforms[:, -1], strict=True)]
        self._scores = None
        self.remove([row for row, step in zip(rows, steps, strict=True) if step.stopped_by is not None])
        return list(zip(rows, steps, strict=True))

    def remove(self, rows: Sequence[Row]) -> None:
        """Let rows leave that have not left yet."""
        staying = [index for index, row in enumerate(self.rows) if row not in rows]
        if len(staying) == len(self.rows):
            return
        assert self._state is not None
        # The last rows move to the places of those that leave, so that the state moves as few as it can.
        count, moving = len(staying), [index for index in staying if index >= len(staying)]
        order = np.array([index if index in staying else moving.pop() for index in range(count)], np.int64)
        self.rows = [self.rows[index] for index in order]
        self._state = self._state.keep(order) if count else None
        self._scores = self._scores.take(order) if self._scores is not None and count else None

    def _sample(self, scores: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Return the codes of the step (B, G); rows with the same options are drawn together."""
        alike: dict[str, list[int]] = {}
        for index, row in enumerate(self.rows):
            alike.setdefault(row.sampling, []).append(index)
        codes = np.zeros(scores.shape[:2], np.int64)
        for own in alike.values():
            history = np.stack([self.rows[index].history for index in own])
            may_end = np.array([self.rows[index].pointer.may_end for index in own])
            options = self.rows[own[0]].options.sampling
            codes[own] = sample(scores[own], history, uniforms[own], options, may_end)
        return codes


def sample(
    scores: np.ndarray, history: np.ndarray, uniforms: np.ndarray, options: SamplingOptions, may_end: np.ndarray
) -> np.ndarray:
    """Return a group of codes (B, G) for scores (B, G, V + 1), codes so far (B, H), uniforms (B, 2 G or more) and
    rows that may end (B,); the last class is <EOS>."""
    codes = []
    for slot in range(scores.shape[1]):
        allowed = scores[:, slot].copy()
        allowed[~may_end, -1] = -np.inf
        drawn = draw(allowed, history, uniforms[:, DRAWS * slot :][:, :DRAWS], options)
        if options.likeliest_eos_ends:
            eos = allowed.shape[-1] - 1
            drawn = np.where(allowed.argmax(-1) == eos, eos, drawn)
        codes.append(drawn)
        history = np.concatenate([history, codes[-1][:, None]], axis=1)
    return np.stack(codes, axis=1)


class Row:
    """What is known of a row while it is spoken: its symbol, how long it may be, why it ended, what went wrong."""

    def __init__(self, config: ARConfig, draw: Draw) -> None:
        prompt, options = draw.prompt, draw.options
        prompt.check(config)
        self.eos, self.lead, self.offset = config.codebook_size, config.phoneme_lead, prompt.prompt_symbols
        self.options, self.sampling = options, options.sampling.model_dump_json()
        self.rng = make_rng(draw.seed)
        self.pointer = make_pointer(config, prompt, options, draw.alignment)
        self.steps, self.longest = 0, self.pointer.longest
        codes = keep_whole(prompt.codes, config.group)
        if config.max_positions is not None:  # learnt positions have an end: a row stops there
            left = config.max_positions - int(config.use_bos) - len(codes) // config.group
            self.longest = min(self.longest, max(1, left))
        window = options.sampling.window
        self.history = np.concatenate([np.full(window, -1), codes])[-window:]  # the last codes; -1: none
        self.group = codes[:0]  # (G,) of the last step
        self.language = prompt.language_spoken(options.accent)
        self.stopped_by: StoppedBy | None = None
        self.noticed: Failure | None = None
        is_free = isinstance(self.pointer, MonotonicPointer)
        budget = _budget(config, prompt, options) if is_free else None
        self.detector = FailureDetector(options.watch, config.step_frames, budget)

    @property
    def symbol(self) -> int | None:
        """Index in the whole text of the symbol that goes with the last step's codes into the next."""
        return None if self.pointer.current is None else self.pointer.current + self.offset

    def begin(self, phonemes: np.ndarray | None, uniform: float) -> None:
        """Find the symbol of the next step; end if the text is over, or if no more steps are allowed."""
        if self.steps and not self.lead:
            self.pointer.move(phonemes, uniform, self.options.path_temperature)
        if self.pointer.must_end:
            self.stopped_by = StoppedBy.ALIGNMENT_END
        elif self.steps >= self.longest:
            self.stopped_by = StoppedBy.LIMIT

    def take(self, codes: np.ndarray, phonemes: np.ndarray | None, uniform: float) -> ARStep:
        """Return the step that says the codes (G,), as far as they count: before <EOS>, and before the row's end."""
        symbol, is_going = self.pointer.current, self.stopped_by is None
        kept = codes[np.logical_and.accumulate(codes != self.eos)] if is_going else codes[:0]
        self.steps, self.group = self.steps + 1, codes
        self.history = np.concatenate([self.history, codes])[len(codes) :]
        self.pointer.count()
        if self.lead:  # the next step is drawn knowing its symbol
            self.pointer.move(phonemes, uniform, self.options.path_temperature)
        if is_going and len(kept) < len(codes):
            self.stopped_by = StoppedBy.EOS
        elif is_going and self.noticed is None:
            self.noticed = self.detector.push(codes.tolist(), self.pointer.waiting)
            if self.noticed is not None and self.options.watch.ends:
                self.stopped_by = StoppedBy.FAILURE
        return ARStep(kept, symbol, self.stopped_by, self.noticed)


def make_pointer(config: ARConfig, prompt: ARPrompt, options: AROptions, alignment: np.ndarray | None) -> Pointer:
    """Return what tells where a row is in its text and how long it may be."""
    target, step_frames = prompt.target, config.step_frames
    limit = to_steps(options.limit_frames, step_frames)
    if config.alignment == Alignment.NONE:
        if alignment is not None:
            raise ModelError(
                "this model has no alignment: its prosody cannot be given", "leave speed and prosody as they are"
            )
        count = _count_lasting(target, config)
        least, most = (to_steps(frames * count, step_frames) for frames in (options.least_frames, options.most_frames))
        return NoAlignment(min(least, most), min(most, limit))
    end = len(target) - prompt.following_symbols
    if alignment is not None:
        check_alignment(alignment, len(target))
        return PresetAlignment(alignment, end)
    long, short = to_steps(options.pause_frames, step_frames), to_steps(options.symbol_frames, step_frames)
    caps = np.where(np.isin(target, options.pauses), long, short)
    if target[0] in options.pauses:
        caps[0] = min(long, to_steps(options.lead_frames, step_frames))
    bias = _follow_pace(config, prompt, options)
    return MonotonicPointer(target, caps, end, config.marks, limit, options.pauses, bias)


def _follow_pace(config: ARConfig, prompt: ARPrompt, options: AROptions) -> float:
    """Return what staying at a sound is to score more, below 0 less, so that the pace is nearer to the prompt's."""
    is_sound = ~np.isin(prompt.text, (*options.pauses, *config.marks))
    sounds = is_sound[: prompt.prompt_symbols].sum()
    if prompt.alignment is None or not sounds:
        return 0.0
    frames = is_sound[prompt.alignment].sum() * config.merge / sounds
    # Half as fast or twice as fast as usual is a wrong transcript more often than a pace.
    return options.pace_weight * float(np.clip(np.log(max(frames, 1) / options.pace_frames), -0.5, 0.5))


def _count_lasting(symbols: np.ndarray, config: ARConfig) -> int:
    """Return how many of the symbols (S,) last."""
    return int((~np.isin(symbols, config.marks)).sum())


def _budget(config: ARConfig, prompt: ARPrompt, options: AROptions) -> float | None:
    """Return the most frames that ordinary speech takes for a row; None if nobody asks, if the alignment is given,
    and without alignment, where `most_frames` says it."""
    if not options.watch.runaway_frames:
        return None
    symbols = prompt.target[: len(prompt.target) - prompt.following_symbols]
    pauses = int(np.isin(symbols, options.pauses).sum())
    sounds = _count_lasting(symbols, config) - pauses
    return options.watch.runaway_frames * sounds + options.pause_frames * pauses
