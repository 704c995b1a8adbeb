"""Prompts (VALL-E 4.3): a recording and a text as both networks read them. The one place where they are put together.

`zero_shot`: symbols of the prompt's transcript, then of another text; the prompt's codes come before the target's.
`continued`: the text goes on where the recording ends, in the same breath. Nothing but the inputs differs.

Law: text, prompt and positions that a frame of the NAR model gets here are those it had in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from openvalle.decode.ar import Accent, AROptions, ARPrompt, ARResult, generate
from openvalle.decode.nar import NARPrompt, fill
from openvalle.engines.base import AREngine, NAREngine
from openvalle.errors import ModelError
from openvalle.model.alignment import cut_durations, cut_whole
from openvalle.model.config import Alignment, ARConfig
from openvalle.types import Utterance

CONTINUED_FRAMES = 225  # of the recording that `continual` goes on from: 3 s (VALL-E 4.3)


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
    is_beginning: bool = False  # the prompt's words are in `text`, nobody knows how many
    following_symbols: int = 0  # how many of the last ones are read, but not spoken; needs alignment

    def ar(self, config: ARConfig) -> ARPrompt:
        """Return what the AR model starts from."""
        merge = config.merge
        return ARPrompt(
            text=self.text,
            prompt_symbols=self.prompt_symbols,
            codes=None if self.codes is None else self.codes[::merge, 0],
            alignment=None if self.alignment is None else self.alignment[::merge],
            language=self.language,
            prompt_language=self.prompt_language,
            following_symbols=self.following_symbols,
            is_beginning=self.is_beginning,
        )

    def nar(self, result: ARResult | None, config: ARConfig, accent: Accent = Accent.NATIVE) -> NARPrompt:
        """Return what the NAR model fills in, given what the AR model said; None: nothing yet.

        What follows the target is left out: in training every symbol of the text is spoken in the frames.
        """
        codebook1 = np.zeros(0, np.int64) if result is None else result.codes
        alignment = None
        if config.alignment == Alignment.PHONEME:
            spoken = codebook1 if result is None or result.alignment is None else result.alignment + self.prompt_symbols
            spoken = np.repeat(spoken, config.merge)
            alignment = spoken if self.alignment is None else np.concatenate([self.alignment, spoken])
        return NARPrompt(
            text=self.text[: len(self.text) - self.following_symbols],
            codebook1=np.repeat(codebook1, config.merge),
            prompt_symbols=self.prompt_symbols,
            prompt=self.codes,
            alignment=alignment,
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
    return _joined(
        config, _without_last(recording, int(text[0])) if len(text) else recording, text, language, following
    )


def continuation(
    config: ARConfig, recording: Utterance, text: np.ndarray, language: int = 0, *, following: int = 0
) -> SpeechPrompt:
    """Return the prompt for `text` (S,) as what comes next in `recording`, without a pause (VALL-E 4.3, "continual").

    A sound that ends the one and begins the other is one symbol, as everywhere; the target goes on with it.
    """
    prompt = _joined(config, recording, text, language, following)
    size = _first_sound(config, text)
    end, begun = len(recording.text), len(recording.text) - size
    if recording.durations is None or not len(text) or not np.array_equal(prompt.text[begun:end], text[:size]):
        return prompt
    return replace(prompt, text=np.concatenate([prompt.text[:end], text[size:]]), prompt_symbols=begun)


def continual(config: ARConfig, recording: Utterance, frames: int = CONTINUED_FRAMES) -> SpeechPrompt:
    """Return the prompt for saying again what `recording` says after its first `frames`.

    Its text is the whole transcript. With durations the target begins with the symbol that was being spoken; without,
    the border is unknown, and the bounds on the length hold for prompt and target together.
    """
    frames, text, language = min(frames, len(recording.codes)), recording.text, recording.language
    codes = recording.codes[:frames]
    if recording.durations is None:
        codes, _ = _whole(config, Utterance(text, codes))
        return SpeechPrompt(text, 0, codes, None, language, language, is_beginning=True)
    ends = recording.durations.cumsum()
    begun = int((ends < frames).sum()) + 1  # symbols of which something is heard
    durations = cut_durations(recording.durations, 0, frames)[:begun]
    beginning = Utterance(text[:begun], codes, durations, language)
    rest = text[begun:] if int(ends[begun - 1]) == frames else text[begun - 1 :]
    return continuation(config, beginning, rest, language)


def _joined(config: ARConfig, recording: Utterance, text: np.ndarray, language: int, following: int) -> SpeechPrompt:
    codes, alignment = _whole(config, recording)
    together = np.concatenate([recording.text, text])
    count = len(recording.text)
    return SpeechPrompt(together, count, codes, alignment, language, recording.language, following_symbols=following)


def _first_sound(config: ARConfig, text: np.ndarray) -> int:
    """Return how many symbols the first sound of a text (S,) is: its marks and itself."""
    return int(np.argmax(~np.isin(text, config.marks))) + 1 if len(text) else 1


def _without_last(recording: Utterance, symbol: int) -> Utterance:
    """Return the recording without the last symbol, and its frames, if it is `symbol`."""
    if recording.durations is None or len(recording.text) < 2 or int(recording.text[-1]) != symbol:
        return recording
    frames = len(recording.codes) - int(recording.durations[-1])
    return replace(
        recording, text=recording.text[:-1], codes=recording.codes[:frames], durations=recording.durations[:-1]
    )


def _whole(config: ARConfig, recording: Utterance) -> tuple[np.ndarray, np.ndarray | None]:
    """Return codes (T, Q) and path (T,) cut to whole groups."""
    if len(recording.codes) < config.block:
        raise ModelError("the prompt is shorter than one step of the model", "give a longer recording")
    codes, alignment = cut_whole(recording, config.merge, config.group)
    return codes, alignment if config.alignment == Alignment.PHONEME else None


def speak(
    ar: AREngine,
    nar: NAREngine,
    prompts: Sequence[SpeechPrompt],
    options: AROptions,
    rngs: Sequence[np.random.RandomState],
) -> list[np.ndarray]:
    """Return the codes (T, Q) of each prompt's target: the AR model's loop, then the NAR model's passes."""
    config = ar.config
    results = generate(ar, [prompt.ar(config) for prompt in prompts], options, rngs)
    fan = len(rngs) // len(prompts)
    rows = [prompts[index // fan].nar(result, config, options.accent) for index, result in enumerate(results)]
    return fill(nar, rows)
