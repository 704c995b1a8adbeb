"""Voices as sound, and two voices as one prompt."""

from __future__ import annotations

import numpy as np

from openvalle.errors import ModelError, UserError
from openvalle.synth.generate import SpeechGenerator
from openvalle.synth.plan import Sentence, place_in_time
from openvalle.synth.quality import Quality
from openvalle.synth.speech import Speech
from openvalle.synth.voice import Voice, now
from openvalle.types import SIL

BLEND_SECONDS = 10.0  # of the prompt that comes out, at most


def decode_voice(voice: Voice, generator: SpeechGenerator) -> Speech:
    """Return a voice's prompt as it sounds through its codec, with its phones in time."""
    audio = generator.decode(voice.codes)
    sentence = Sentence(voice.text, (), voice.symbols, (-1,) * len(voice.symbols))
    _, phones = place_in_time(sentence, voice.durations, generator.spec.frame_rate, audio.seconds)
    pace = len(voice.codes) / max(1, sentence.phones)
    return Speech(audio, voice.text, (), phones, Quality("end", pace), voice.codes, voice.symbols, voice.durations)


def blend(first: Voice, second: Voice, share: float = 0.5, name: str = "blend") -> Voice:
    """Return a voice whose prompt is `share` of the second and the rest of the first, one after the other.

    It is no average of two voices: the model hears both and makes of it what it does, mostly something nearer to the
    one heard last. Raises `UserError` for a share outside 0 to 1, `ModelError` for voices of two codecs.
    """
    if not 0 < share < 1:
        raise UserError(f"a share of {share:g} is no blend", "give a number between 0 and 1")
    if first.codec_digest != second.codec_digest:
        raise ModelError(
            f"the voices {first.name!r} and {second.name!r} were made with two codecs", "blend voices of one codec"
        )
    if not (first.durations and second.durations):
        raise ModelError("a voice without alignment cannot be cut", "blend voices made with a model with alignment")
    if first.language != second.language:
        raise UserError(
            f"{first.name!r} speaks {first.language}, {second.name!r} {second.language}", "blend voices of one language"
        )
    whole = min(BLEND_SECONDS, first.seconds / (1 - share), second.seconds / share)
    parts = [_tail(first, whole * (1 - share)), _head(second, whole * share)]
    symbols, durations = [*parts[0][1]], [*parts[0][2]]
    skipped = int(symbols[-1] == parts[1][1][0])  # no two neighbours may be equal
    if skipped:
        durations[-1] += parts[1][2][0]
    symbols += parts[1][1][skipped:]
    durations += parts[1][2][skipped:]
    agreed = [f"{voice.name}: {voice.consent}" for voice in (first, second) if voice.consent.strip()]
    return Voice(
        codes=np.concatenate([parts[0][0], parts[1][0]]),
        symbols=tuple(symbols),
        durations=tuple(durations),
        text=f"{first.text} / {second.text}",
        codec_digest=first.codec_digest,
        symbols_digest=first.symbols_digest,
        name=name,
        language=first.language,
        source=f"{1 - share:.0%} of {first.name}, then {share:.0%} of {second.name}",
        created=now(),
        consent="; ".join(agreed) if len(agreed) == 2 else "",
        licence=first.licence if first.licence == second.licence else "",
    )


def _head(voice: Voice, seconds: float) -> tuple[np.ndarray, list[str], list[int]]:
    """Return codes, symbols and durations of about the first `seconds`, up to a pause if there is one near."""
    edges = np.cumsum([0, *voice.durations])
    wanted = seconds / voice.seconds * edges[-1]
    cost = np.abs(edges[1:] - wanted) - 0.25 * wanted * np.array([symbol == SIL for symbol in voice.symbols])
    count = int(np.argmin(cost)) + 1
    return voice.codes[: edges[count]], list(voice.symbols[:count]), list(voice.durations[:count])


def _tail(voice: Voice, seconds: float) -> tuple[np.ndarray, list[str], list[int]]:
    """Return the same of about the last `seconds`."""
    edges = np.cumsum([0, *voice.durations])
    wanted = edges[-1] - seconds / voice.seconds * edges[-1]
    is_pause = np.array([symbol == SIL for symbol in voice.symbols])
    cost = np.abs(edges[:-1] - wanted) - 0.25 * (edges[-1] - wanted) * is_pause
    start = int(np.argmin(cost))
    return voice.codes[edges[start] :], list(voice.symbols[start:]), list(voice.durations[start:])
