"""The autoregressive loop: `stream` yields step by step, `generate` collects.

It is the same loop for every configuration: the monotonic pointer (VALL-E R), groups of codes (VALL-E 2), languages
(VALL-E X) and plain <EOS> (VALL-E) are data in the model's config. Rows have their own random generator and end on
their own, so a row in a batch is the row alone.

What the autoregressive loop starts from: prompts as the model's inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from openvalle.config import Config
from openvalle.decode.alignment import Pointer, PresetPointer, check_path
from openvalle.decode.failures import Finding, Watch, WatchOptions
from openvalle.decode.sampling import DRAWS, SamplingOptions, checked_temperature, draw, steps_of, uniforms
from openvalle.errors import ModelError
from openvalle.model.ar import ARInputs, ARLogits, ARState
from openvalle.model.config import Alignment, ARConfig
from openvalle.threads import one_thread


class Accent(StrEnum):
    """Which language id generated frames carry (VALL-E X 3.3)."""

    NATIVE = "native"  # the target's
    FOREIGN = "foreign"  # the prompt's: the accent of the voice's own language
    NONE = "none"  # the null id, learnt by `language_dropout`


class ARModel(Protocol):
    """The step interface: what the loop needs of a model."""

    config: ARConfig

    def input_path(self, path: Tensor, lens: Tensor, following: Tensor) -> Tensor:
        """Return symbol indices (B, N + 1) that enter with <BOS> and N groups."""

    def prefill(self, inputs: ARInputs, room: int) -> tuple[ARLogits, ARState]:
        """Return the scores after the prompt and a state with `room` steps left."""

    def step(
        self, groups: Tensor, aligned: Tensor | None, languages: Tensor, state: ARState
    ) -> tuple[ARLogits, ARState]:
        """Take one group per row and return the next scores."""


@dataclass(frozen=True)
class ARPrompt:
    """The text of prompt and target, and the prompt's audio (none: the model makes up a voice)."""

    text: Tensor  # (S,) symbols of the prompt, then of the target
    prompt_symbols: int = 0  # how many of them are the prompt's
    codes: Tensor | None = None  # (Tp,) merged codebook 1
    path: Tensor | None = None  # (Tp,) index of each code's symbol; needed with alignment
    language: int = 0  # of the target; 0 = null
    prompt_language: int | None = None  # None: the same
    following_symbols: int = 0  # how many of the last ones are read, but not spoken; needs alignment
    is_beginning: bool = False  # `codes` are how `text` begins, whose border nobody knows: `prompt_symbols` is 0

    def spoken(self, accent: Accent) -> int:
        """Return the language id of generated frames."""
        if accent is Accent.NONE:
            return 0
        if accent is Accent.FOREIGN and self.prompt_language is not None:
            return self.prompt_language
        return self.language


def inputs_of(model: ARModel, prompts: Sequence[ARPrompt], accent: Accent = Accent.NATIVE) -> tuple[ARInputs, Tensor]:
    """Return the model's inputs and the codes so far (B, Tp; -1 = none), right-aligned."""
    config, device = model.config, _device(model)
    if accent is not Accent.NATIVE and not config.languages:
        raise ModelError(f"this model knows no languages and cannot speak with the accent {accent}", "use native")
    for prompt in prompts:
        _check(prompt, config)
    codes = [_whole_groups(prompt.codes, config.group) for prompt in prompts]
    lens = torch.tensor([len(row) // config.group for row in codes])
    texts = [prompt.text.long().cpu() for prompt in prompts]
    aligned = None
    if config.alignment == Alignment.PHONEME:
        paths = [_whole_groups(prompt.path, config.group)[:: config.group] for prompt in prompts]
        following = torch.tensor([prompt.prompt_symbols for prompt in prompts])
        aligned = model.input_path(pad_sequence(paths, batch_first=True), lens, following).to(device)
    languages, text_languages = _languages(prompts, lens, accent)
    groups = pad_sequence(codes, batch_first=True).unflatten(1, (-1, config.group))
    history = pad_sequence(codes, batch_first=True, padding_value=-1, padding_side="left")
    inputs = ARInputs(
        pad_sequence(texts, batch_first=True).to(device),
        torch.tensor([len(text) for text in texts], device=device),
        groups.to(device),
        lens.to(device),
        aligned,
        languages.to(device),
        text_languages.to(device),
    )
    return inputs, history.to(device)


def _languages(prompts: Sequence[ARPrompt], lens: Tensor, accent: Accent) -> tuple[Tensor, Tensor]:
    """Return the languages of audio inputs (B, N + 1) and of text (B, S): each frame carries its own audio's, <BOS>
    the first frame's. The accent is the audio's; words keep their language."""
    of_prompt = [
        p.spoken(accent) if p.codes is None else p.language if p.prompt_language is None else p.prompt_language
        for p in prompts
    ]
    audio = torch.tensor(of_prompt)[:, None].expand(-1, int(lens.max()) + 1)
    rows = []
    for prompt in prompts:
        before = prompt.language if prompt.prompt_language is None else prompt.prompt_language
        row = torch.full((len(prompt.text),), prompt.language)
        row[: prompt.prompt_symbols] = before
        rows.append(row)
    return audio, pad_sequence(rows, batch_first=True)


def _whole_groups(values: Tensor | None, group: int) -> Tensor:
    """Return (Tp,) without the first values that fill no group."""
    if values is None:
        return torch.zeros(0, dtype=torch.long)
    return values[len(values) % group :].long().cpu()


def _check(prompt: ARPrompt, config: ARConfig) -> None:
    if len(prompt.text) <= prompt.prompt_symbols:
        raise ModelError("there is no text to speak after the prompt's", "give a text with speakable words")
    is_aligned = config.alignment == Alignment.PHONEME
    assert is_aligned or not prompt.following_symbols, "only a pointer knows where what follows begins"
    if prompt.codes is not None and is_aligned and (prompt.path is None or len(prompt.path) != len(prompt.codes)):
        raise ModelError("this model needs the symbol of each prompt frame", "align the prompt with its transcript")


def _device(model: ARModel) -> torch.device:
    parameters = getattr(model, "parameters", None)
    return next(parameters()).device if parameters is not None else torch.device("cpu")


SMALL = 512  # width up to which a step is sooner done than handed out to other threads (benchmarks/threads.py)


class AROptions(Config):
    """How codebook 1 is decoded. Frames are the codec's (75 a second)."""

    sampling: SamplingOptions = SamplingOptions()
    path_temperature: float = Field(
        1.0, ge=0, le=100, description="of the pointer's choice to stay or to move on; 0: greedy"
    )
    symbol_frames: int = Field(30, ge=1, description="longest stay at a symbol with alignment (30 = 0.4 s)")
    pause_frames: int = Field(75, ge=1, description="longest stay at one of `pauses`")
    pauses: tuple[int, ...] = Field((1,), description="symbols that may last as long as `pause_frames`")
    lead_frames: int = Field(18, ge=1, description="longest pause before the first sound (18 = 0.24 s); with alignment")
    least_frames: float = Field(2.0, ge=0, description="frames per symbol before <EOS>, without alignment")
    most_frames: float = Field(16.0, gt=0, description="frames per symbol at most, without alignment")
    limit_frames: int = Field(4500, ge=1, le=1_000_000, description="frames in all (4500 = one minute)")
    speed: float = Field(
        1.0, ge=0.5, le=2, description="how fast to speak: 1 as the model would; else along its own path, stretched"
    )
    attempts: int = Field(3, ge=1, le=10, description="times a line is spoken at most, if it goes wrong")
    accent: Accent = Field(Accent.NATIVE, description="language id of what is spoken; for models with languages")
    watch: WatchOptions = WatchOptions()

    @field_validator("path_temperature")
    @classmethod
    def _divides(cls, value: float) -> float:
        return checked_temperature(value)


class StoppedBy(StrEnum):
    """Why a row ended."""

    EOS = "eos"  # the model said so
    PATH_END = "path-end"  # the last symbol lasted as long as it may, the preset path ended or what follows began
    LIMIT = "limit"  # too many frames: `most_frames` or `limit_frames`
    WATCH = "watch"  # it went wrong: see `noticed`


@dataclass(frozen=True)
class ARStep:
    """One step of all rows."""

    codes: Tensor  # (B, G)
    is_emitted: Tensor  # (B, G); False after a row has ended
    path: Tensor | None  # (B,) index of the step's symbol in the target's text
    stopped_by: tuple[StoppedBy | None, ...]  # per row; None while it goes on
    noticed: tuple[Finding | None, ...]  # per row: the first thing that went wrong


@dataclass(frozen=True)
class ARResult:
    """What one row said."""

    codes: Tensor  # (T,) merged codebook 1
    path: Tensor | None  # (T,) index of each code's symbol in the target's text
    stopped_by: StoppedBy
    noticed: Finding | None = None  # what went wrong, whether or not it ended the row


@torch.inference_mode()
def stream(
    model: ARModel,
    prompts: Sequence[ARPrompt],
    options: AROptions,
    generators: Sequence[torch.Generator],
    paths: Sequence[Tensor] | None = None,
) -> Iterator[ARStep]:
    """Yield steps until every row has ended. The last step may emit nothing: it says why rows ended.

    With n times as many generators as prompts, each prompt is read once and spoken n times (rows of a prompt are
    neighbours). `paths`: per prompt, the preset symbol index of each step. `options.speed` is not looked at: who wants
    another pace draws a path first and gives it back `stretched` (`openvalle.synth.generate`).
    """
    loop = _Loop(model, prompts, options, generators, paths)
    while not all(loop.stopped):
        yield loop.step()


def generate(
    model: ARModel,
    prompts: Sequence[ARPrompt],
    options: AROptions,
    generators: Sequence[torch.Generator],
    paths: Sequence[Tensor] | None = None,
) -> list[ARResult]:
    """Return what each row says: `stream`, collected."""
    return collect(list(stream(model, prompts, options, generators, paths)))


def collect(steps: Sequence[ARStep]) -> list[ARResult]:
    """Return what each row said in all steps of a decoding."""
    codes = torch.cat([step.codes for step in steps], dim=1)  # (B, T)
    emitted = torch.cat([step.is_emitted for step in steps], dim=1)
    path = None
    if steps[0].path is not None:
        indices = torch.stack([step.path for step in steps if step.path is not None], dim=1)
        path = indices.repeat_interleave(codes.shape[1] // len(steps), dim=1)
    results = []
    for row, reason in enumerate(steps[-1].stopped_by):
        assert reason is not None
        kept = emitted[row]
        spoken = None if path is None else path[row][kept]
        results.append(ARResult(codes[row][kept], spoken, reason, steps[-1].noticed[row]))
    return results


class _Loop:
    """State of one decoding: everything a step reads and writes."""

    def __init__(
        self,
        model: ARModel,
        prompts: Sequence[ARPrompt],
        options: AROptions,
        generators: Sequence[torch.Generator],
        paths: Sequence[Tensor] | None,
    ) -> None:
        self.model, self.options, self.generators = model, options, generators
        self.config = model.config
        fan, rest = divmod(len(generators), len(prompts))
        assert fan and not rest, f"{len(generators)} generators for {len(prompts)} prompts"
        inputs, history = inputs_of(model, prompts, options.accent)
        rows = torch.arange(len(prompts)).repeat_interleave(fan)
        spread = [prompts[int(row)] for row in rows]
        self.device = inputs.text.device
        self.targets = [prompt.text[prompt.prompt_symbols :].to(self.device) for prompt in spread]
        self.ends = [len(row) - prompt.following_symbols for row, prompt in zip(self.targets, spread, strict=True)]
        self.offsets = torch.tensor([prompt.prompt_symbols for prompt in spread], device=self.device)
        self.languages = torch.tensor([prompt.spoken(options.accent) for prompt in spread], device=self.device)
        self.begun = torch.tensor([_begun(prompt, self.config) for prompt in spread])
        self.history = history[rows.to(self.device)]
        self.pointer = self._pointer(None if paths is None else [paths[int(row)] for row in rows])
        self.least, self.most = self._limits(paths is not None)
        if self.config.max_positions is not None:  # learnt positions have an end: a row stops there
            left = self.config.max_positions - int(self.config.begin) - inputs.group_lens.cpu()[rows]
            self.most = torch.minimum(self.most, left.clamp(min=1))
            self.least = torch.minimum(self.least, self.most)
        self.logits, self.state = model.prefill(inputs, int(self.most.max()) + 1)
        if fan > 1:
            index = rows.to(self.device)
            self.state = self.state.fork(index)
            phonemes = self.logits.phonemes
            self.logits = ARLogits(self.logits.codes[index], None if phonemes is None else phonemes[index])
        self.is_small = self.device.type == "cpu" and self.config.stack.width <= SMALL
        self.count = 0
        self.stopped: list[StoppedBy | None] = [None] * len(generators)
        self.noticed: list[Finding | None] = [None] * len(generators)
        self.watches = [Watch(options.watch, self.config.block, self._budget(row)) for row in range(len(generators))]
        if self.pointer is not None and self.config.phoneme_lead:
            self.pointer.move(None, self.offsets, 0.0)  # the prompt's end already holds the first symbol

    def _pointer(self, paths: Sequence[Tensor] | None) -> Pointer | PresetPointer | None:
        if self.config.alignment == Alignment.NONE:
            if paths is not None:
                raise ModelError(
                    "this model has no alignment: its prosody cannot be given", "leave speed and prosody as they are"
                )
            return None
        if paths is not None:
            for path, target in zip(paths, self.targets, strict=True):
                check_path(path, len(target))
            return PresetPointer([path.to(self.device) for path in paths])
        options, block = self.options, self.config.block
        pauses = torch.tensor(options.pauses, dtype=torch.long, device=self.device)
        long, short = steps_of(options.pause_frames, block), steps_of(options.symbol_frames, block)
        caps = [torch.where(torch.isin(row, pauses), long, short) for row in self.targets]
        for row, longest in zip(self.targets, caps, strict=True):
            if int(row[0]) in options.pauses:
                longest[0] = min(long, steps_of(options.lead_frames, block))
        return Pointer(self.targets, caps, self.config.marks)

    def _limits(self, is_preset: bool) -> tuple[Tensor, Tensor]:
        """Return the fewest and the most steps of each row."""
        options, block = self.options, self.config.block
        counts = torch.tensor([self._lasting(row) for row in self.targets])
        limit = steps_of(options.limit_frames, block)
        if self.pointer is not None:
            longest = self.pointer.lens.cpu() if isinstance(self.pointer, PresetPointer) else None
            most = self.pointer.caps.sum(1).cpu() if isinstance(self.pointer, Pointer) else longest
            assert most is not None
            return torch.zeros_like(counts), most if is_preset else most.clamp(max=limit)
        # Where the prompt is how the text begins, its steps are some of the text's.
        least = torch.tensor([steps_of(options.least_frames * int(count), block) for count in counts]) - self.begun
        most = torch.tensor([steps_of(options.most_frames * int(count), block) for count in counts]) - self.begun
        least, most = least.clamp(min=1), most.clamp(min=1)
        return torch.minimum(least, most), most.clamp(max=limit)

    def step(self) -> ARStep:
        """Draw one group per row and feed it back."""
        group = self.config.group
        drawn = uniforms(self.generators, DRAWS * group + 1, self.device)
        if self.pointer is not None and not self.config.phoneme_lead:
            self._move(drawn[:, -1])
        self._stop_at_limits()
        codes, is_emitted = self._draw_group(drawn)
        path = None
        if self.pointer is not None:
            path = self.pointer.current
            self.pointer.emit()
            if self.config.phoneme_lead:
                self._move(drawn[:, -1])
        self.count += 1
        self._look(codes, is_emitted)
        if not all(self.stopped):
            aligned = None if self.pointer is None else self.pointer.current + self.offsets
            fed = codes.masked_fill(~is_emitted, 0)
            with one_thread() if self.is_small else nullcontext():
                self.logits, self.state = self.model.step(fed, aligned, self.languages, self.state)
        return ARStep(codes, is_emitted, path, tuple(self.stopped), tuple(self.noticed))

    def _budget(self, row: int) -> float | None:
        """Return the most frames that ordinary speech takes for a row; None if nobody asks, if the path is given, and
        without alignment, where `most_frames` says it."""
        options = self.options
        if not isinstance(self.pointer, Pointer) or not options.watch.runaway_frames:
            return None
        symbols = self.targets[row][: self.ends[row]].tolist()
        pauses = sum(symbol in options.pauses for symbol in symbols)
        sounds = self._lasting(self.targets[row][: self.ends[row]]) - pauses
        return options.watch.runaway_frames * sounds + options.pause_frames * pauses

    def _lasting(self, symbols: Tensor) -> int:
        """Return how many of the symbols (S,) last."""
        return len(symbols) - int(torch.isin(symbols, symbols.new_tensor(self.config.marks)).sum())

    def _look(self, codes: Tensor, is_emitted: Tensor) -> None:
        """Note what goes wrong in rows that go on, and end them if that is wanted."""
        places = None if self.pointer is None else self.pointer.current.tolist()
        drawn = codes.tolist()
        for row, is_whole in enumerate(is_emitted.all(1).tolist()):
            if self.stopped[row] is not None or self.noticed[row] is not None or not is_whole:
                continue
            waiting = 0 if places is None else max(0, self.ends[row] - places[row] - 1)
            self.noticed[row] = self.watches[row].push(drawn[row], waiting)
            if self.noticed[row] is not None and self.options.watch.ends:
                self.stopped[row] = StoppedBy.WATCH

    def _move(self, uniform: Tensor) -> None:
        assert self.pointer is not None
        phonemes = self.logits.phonemes
        assert phonemes is not None
        is_first = self.count == 0 and not self.config.phoneme_lead
        self.pointer.move(None if is_first else phonemes[:, -1], uniform, self.options.path_temperature)

    def _stop_at_limits(self) -> None:
        ends = None if self.pointer is None else self.pointer.must_end.tolist()
        places = None if self.pointer is None else self.pointer.current.tolist()
        for row, reason in enumerate(self.stopped):
            is_over = ends is not None and places is not None and (ends[row] or places[row] >= self.ends[row])
            if reason is None and is_over:
                self.stopped[row] = StoppedBy.PATH_END
            elif reason is None and self.count >= int(self.most[row]):
                self.stopped[row] = StoppedBy.LIMIT

    def _draw_group(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes (B, G) and which of them count; a row that draws <EOS> keeps the slots before it."""
        options, eos = self.options.sampling, self.config.entries
        may_end = (self.count >= self.least).to(self.device) if self.pointer is None else self.pointer.may_end
        going = torch.tensor([reason is None for reason in self.stopped], device=self.device)
        codes, emitted = [], []
        for slot in range(self.config.group):
            logits = self.logits.codes[:, -1, slot].float().clone()
            logits[:, eos].masked_fill_(~may_end, -torch.inf)
            code = draw(logits, self.history, drawn[:, DRAWS * slot : DRAWS * slot + DRAWS], options)
            going = going & (code != eos)
            codes.append(code)
            emitted.append(going)
            self.history = torch.cat([self.history, code[:, None]], dim=1)[:, -options.window :]
        for row, goes_on in enumerate(going.tolist()):
            if not goes_on and self.stopped[row] is None:
                self.stopped[row] = StoppedBy.EOS
        return torch.stack(codes, dim=1), torch.stack(emitted, dim=1)


def _begun(prompt: ARPrompt, config: ARConfig) -> int:
    """Return how many steps of the text were spoken before the first one, 0 if the text says so."""
    return len(prompt.codes) // config.group if prompt.is_beginning and prompt.codes is not None else 0
