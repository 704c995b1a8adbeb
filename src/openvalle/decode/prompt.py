"""Prompts (VALL-E 4.3): a recording and a text as both networks read them. The one place where they are put together.

`zero_shot`: symbols of the prompt's transcript, then of another text; the prompt's codes come before the target's.
`continuation`: the text goes on where the recording ends, without a pause between them. The inputs differ, the
decoding does not.

Law: text, prompt and positions that a frame of the NAR model gets here are those it had in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum

import numpy as np

from openvalle.engines.base import ARRows, pad
from openvalle.errors import ModelError
from openvalle.model.alignment import cut_whole
from openvalle.model.config import ARConfig
from openvalle.model.kinds import Alignment, LanguageOn
from openvalle.types import Utterance


class Accent(StrEnum):
    """Which language id generated frames carry (VALL-E X 3.3)."""

    NATIVE = "native"  # the target's
    FOREIGN = "foreign"  # the prompt's: the accent of the voice's own language
    NONE = "none"  # the null id, learnt by `language_dropout`


@dataclass(frozen=True, eq=False)
class ARPrompt:
    """The text of prompt and target, and the prompt's audio (none: the model makes up a voice)."""

    text: np.ndarray  # (S,) symbols of the prompt, then of the target
    prompt_symbols: int = 0  # how many of them are the prompt's
    codes: np.ndarray | None = None  # (Tp,) merged codebook 1
    alignment: np.ndarray | None = None  # (Tp,) index of each code's symbol; needed with alignment
    language: int = 0  # of the target; 0 = null
    prompt_language: int | None = None  # None: the same
    following_symbols: int = 0  # how many of the last ones are read, but not spoken; needs alignment
    prompt: np.ndarray | None = None  # (Tp, Q) in place of `codes`, if the prompt is a part of its own

    @property
    def content(self) -> tuple[object, ...]:
        """What it holds, to be compared: equal prompts are read once."""
        held = (getattr(self, each.name) for each in fields(self))
        return tuple((each.tobytes(), each.shape) if isinstance(each, np.ndarray) else each for each in held)

    @property
    def target(self) -> np.ndarray:
        """The symbols (L,) after the prompt's."""
        return self.text[self.prompt_symbols :]

    @property
    def language_before(self) -> int:
        """The language id of the prompt."""
        return self.language if self.prompt_language is None else self.prompt_language

    def language_spoken(self, accent: Accent) -> int:
        """Return the language id of generated frames."""
        return {Accent.NONE: 0, Accent.FOREIGN: self.language_before, Accent.NATIVE: self.language}[accent]

    def check(self, config: ARConfig) -> None:
        """Raise `ModelError` if the model cannot go on from this."""
        if not len(self.target):
            raise ModelError("there is no text to speak after the prompt's", "give a text with speakable words")
        if config.needs_prompt and (self.codes is None or not len(self.codes)):
            raise ModelError("this model cannot begin without a recording", "give a voice")
        is_aligned = config.alignment == Alignment.PHONEME
        assert is_aligned or not self.following_symbols, "only a pointer knows where what follows begins"
        if self.codes is not None and is_aligned and (self.alignment is None or len(self.alignment) != len(self.codes)):
            raise ModelError("this model needs the symbol of each prompt frame", "align the prompt with its transcript")


@dataclass(frozen=True, eq=False)
class NARPrompt:
    """One row to fill. Everything is at the codec's frame rate."""

    text: np.ndarray  # (S,) symbols of the prompt, then of the target
    codebook1: np.ndarray  # (T,) codebook 1 of the target
    prompt_symbols: int = 0
    prompt: np.ndarray | None = None  # (Tp, Q) all codebooks of the prompt; None: no prompt
    alignment: np.ndarray | None = None  # (Tp + T,) index of each frame's symbol in `text`; needed with alignment
    language: int = 0
    prompt_language: int | None = None
    own: int = 0  # last frames of `prompt` that are the target's


@dataclass(frozen=True, eq=False)
class SpeechPrompt:
    """What both networks speak from. The prompt is cut to whole groups of the AR model's codes, for the NAR model
    too, so that both see the same speech (VALL-E 2 3.1)."""

    text: np.ndarray  # (S,) symbols of the prompt, then of the target, then of what follows it
    prompt_symbols: int  # how many of them are the prompt's
    codes: np.ndarray | None  # (T, Q) of the prompt; None: the model makes up a voice
    alignment: np.ndarray | None  # (T,) symbol of each of its frames
    language: int
    prompt_language: int
    following_symbols: int = 0  # how many of the last ones are read, but not spoken; needs alignment

    def ar(self, config: ARConfig) -> ARPrompt:
        """Return what the AR model starts from."""
        merge = config.merge
        if config.prompt_codebooks:
            return ARPrompt(
                text=self.text[self.prompt_symbols :],
                prompt=self.codes,
                language=self.language,
                prompt_language=self.prompt_language,
            )
        return ARPrompt(
            text=self.text,
            prompt_symbols=self.prompt_symbols,
            codes=None if self.codes is None else self.codes[::merge, 0],
            alignment=None if self.alignment is None else self.alignment[::merge],
            language=self.language,
            prompt_language=self.prompt_language,
            following_symbols=self.following_symbols,
        )

    def nar(
        self,
        config: ARConfig,
        accent: Accent = Accent.NATIVE,
        codebook1: np.ndarray | None = None,
        alignment: np.ndarray | None = None,
    ) -> NARPrompt:
        """Return what the NAR model fills in: of the target merged `codebook1` (T,) so far and, with alignment, the
        index of each code's symbol in the target's text.

        What follows the target is left out: in training every symbol of the text is spoken in the frames.
        """
        nothing = np.zeros(0, np.int64)
        of_frames = None
        if config.alignment == Alignment.PHONEME:
            before = nothing if self.alignment is None else self.alignment
            target = nothing if alignment is None else alignment + self.prompt_symbols
            of_frames = np.concatenate([before, np.repeat(target, config.merge)])
        return NARPrompt(
            text=self.text[: len(self.text) - self.following_symbols],
            codebook1=np.repeat(nothing if codebook1 is None else codebook1, config.merge),
            prompt_symbols=self.prompt_symbols,
            prompt=self.codes,
            alignment=of_frames,
            language=self.ar(config).language_spoken(accent),
            prompt_language=self.prompt_language,
        )


def zero_shot(
    config: ARConfig, recording: Utterance | None, text: np.ndarray, language: int = 0, *, following: int = 0
) -> SpeechPrompt:
    """Return the prompt for speaking `text` (S,) in the voice of `recording`, in its own language or another.

    A recording that ends with the symbol that the text begins with (a pause) is cut before it, because no two
    neighbours are equal in training. Without durations an aligned model refuses the recording when it speaks.
    `following`: how many of the last symbols are read, but not spoken.
    """
    if recording is None:
        return SpeechPrompt(text, 0, None, None, language, language, following_symbols=following)
    durations = recording.durations
    if durations is not None and len(text) and len(recording.text) > 1 and recording.text[-1] == text[0]:
        codes = recording.codes[: len(recording.codes) - int(durations[-1])]
        recording = replace(recording, text=recording.text[:-1], codes=codes, durations=durations[:-1])
    return _joined(config, recording, text, language, following)


def continuation(
    config: ARConfig, recording: Utterance, text: np.ndarray, language: int = 0, *, following: int = 0
) -> SpeechPrompt:
    """Return the prompt for `text` (S,) as what comes next in `recording`, without a pause (VALL-E 4.3, "continual").

    A sound that ends the one and begins the other is one symbol, as everywhere; the target goes on with it.
    """
    prompt = _joined(config, recording, text, language, following)
    # the text's first sound: its marks and itself
    size = int(np.argmax(~np.isin(text, config.marks))) + 1 if len(text) else 1
    end, begun = len(recording.text), len(recording.text) - size
    if recording.durations is None or not len(text) or not np.array_equal(prompt.text[begun:end], text[:size]):
        return prompt
    return replace(prompt, text=np.concatenate([prompt.text[:end], text[size:]]), prompt_symbols=begun)


def _joined(config: ARConfig, recording: Utterance, text: np.ndarray, language: int, following: int) -> SpeechPrompt:
    codes, alignment = _whole(config, recording)
    together = np.concatenate([recording.text, text])
    count = len(recording.text)
    return SpeechPrompt(together, count, codes, alignment, language, recording.language, following_symbols=following)


def _whole(config: ARConfig, recording: Utterance) -> tuple[np.ndarray, np.ndarray | None]:
    """Return codes (T, Q) and alignment (T,) cut to whole groups."""
    if len(recording.codes) < config.step_frames:
        raise ModelError("the prompt is shorter than one step of the model", "give a longer recording")
    codes, alignment = cut_whole(recording, config.merge, config.group)
    return codes, alignment if config.alignment == Alignment.PHONEME else None


def prepare_inputs(config: ARConfig, prompts: Sequence[ARPrompt], accents: Sequence[Accent] | None = None) -> ARRows:
    """Return what the model reads before it speaks with `accents` (all native, if nothing is said)."""
    accents = accents or [Accent.NATIVE] * len(prompts)
    foreign = [accent for accent in accents if accent is not Accent.NATIVE]
    if foreign and not config.languages:
        raise ModelError(f"this model knows no languages and cannot speak with the accent {foreign[0]}", "use native")
    codes = [keep_whole(prompt.codes, config.group) for prompt in prompts]
    lens = np.array([len(row) // config.group for row in codes])
    aligned = None
    if config.alignment == Alignment.PHONEME:
        alignments = [keep_whole(prompt.alignment, config.group)[:: config.group] for prompt in prompts]
        if config.phoneme_lead:  # <BOS> and each group hold the symbol of what comes after them
            aligned = pad([np.append(row, p.prompt_symbols) for row, p in zip(alignments, prompts, strict=True)])
        else:
            aligned = pad([np.append(-1, row) for row in alignments])
    # Each frame carries its own audio's language, <BOS> the first frame's. The accent is the audio's; words keep their
    # language, but in a model that tells languages by them.
    is_told_by_words = config.language_on == LanguageOn.TEXT
    languages = [
        prompt.language_spoken(accent) if prompt.codes is None else prompt.language_before
        for prompt, accent in zip(prompts, accents, strict=True)
    ]
    apart = None
    if config.prompt_codebooks:
        none = np.zeros((0, config.prompt_codebooks), np.int64)
        apart = [none if each.prompt is None else each.prompt for each in prompts]
    return ARRows(
        prompt=None if apart is None else pad(apart),
        prompt_lens=None if apart is None else np.array([len(each) for each in apart]),
        text=pad([prompt.text for prompt in prompts]),
        text_lens=np.array([len(prompt.text) for prompt in prompts]),
        groups=pad([row.reshape(-1, config.group) for row in codes]),
        group_lens=lens,
        aligned=aligned,
        languages=np.repeat(np.array(languages)[:, None], lens.max() + 1, axis=1),
        text_languages=pad(
            [
                np.where(
                    np.arange(len(prompt.text)) < prompt.prompt_symbols,
                    prompt.language_before,
                    prompt.language_spoken(accent) if is_told_by_words else prompt.language,
                )
                for prompt, accent in zip(prompts, accents, strict=True)
            ]
        ),
    )


def keep_whole(values: np.ndarray | None, group: int) -> np.ndarray:
    """Return (Tp,) without the first values that fill no group."""
    return np.zeros(0, np.int64) if values is None else values[len(values) % group :]
