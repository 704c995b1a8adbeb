"""A clip of someone speaking -> a `Voice`: checked, trimmed, levelled, transcribed if need be, aligned, encoded.

Back, too: a voice as sound (`decode_voice`), two voices as the prompt of one, and a voice of nobody.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openvalle.audio import (
    RATE,
    Audio,
    Channel,
    check_length,
    check_samples,
    choose_channel,
    mono,
    normalize,
    remove_offset,
    resample,
    trim,
)
from openvalle.decode.ar import AROptions
from openvalle.engines.base import CodecEngine
from openvalle.errors import AudioError, ModelError, TextError, UserError
from openvalle.media import read_frames
from openvalle.speech_models.aligner import PhoneSpan, mark_edges, spans_to_durations
from openvalle.speech_models.aligners import load_aligner
from openvalle.synth.clip_quality import (
    MISSED,
    MOSTLY_MISSED,
    check_noise,
    check_speech,
    clip_warnings,
    explain_pace,
    unaligned_share,
)
from openvalle.synth.generate import SpeechGenerator
from openvalle.synth.plan import Segment, Sentence, place_in_time, split_sentences
from openvalle.synth.speech import Quality, Speech, Timed
from openvalle.synth.spread import spread_sounds
from openvalle.synth.voice import PromptExcerpt, Voice, now
from openvalle.text.language import Word, find_language, phonemize
from openvalle.text.nearest import find_ears, split_units, to_units
from openvalle.text.symbols import SymbolTable
from openvalle.types import ENGLISH, FRAME_RATE, MERGE, SIL

log = logging.getLogger(__name__)

MIN_SECONDS, MAX_SECONDS = 1.0, 30.0  # of speech after trimming; outside, it cannot be used
GOOD_SECONDS = (3.0, 15.0)  # outside, it can, but a voice is caught best in between
READ_SECONDS = 60.0  # a file longer than this is refused before it is read


def enrol(
    clip: str | Path | Audio,
    codec: CodecEngine,
    symbols_digest: str,
    transcript: str | None = None,
    *,
    name: str = "",
    language: str = "en",
    consent: str = "",
    source: str = "",
    licence: str = "",
    merge: int = MERGE,
    table: SymbolTable | None = None,
    channel: Channel | str = Channel.AUTO,
    asr: str = "",
) -> Voice:
    """Return the voice of `clip` (a file of any rate and channels, or an `Audio`).

    `transcript`: what is said in the clip; without it, speech recognition finds it. `merge`: frames that
    share an entry of codebook 1; `table`: one of byte pairs needs no alignment; `channel`: of a file of several, the
    one that is heard; `asr`: see `transcribe`. Raises `AudioError` for a clip that is missing, unreadable, silent, no
    speech, not made of numbers, shorter than 1 s or longer than 30 s, and where words and sound do not match;
    `TextError` if no words are given or heard.
    """
    language = find_language(language).code
    label = "the recording" if isinstance(clip, Audio) else str(clip)
    recording = read_clip(clip, label, channel)
    audio = trim_clip(recording, label)
    warnings = clip_warnings(recording)
    for warning in warnings:
        log.warning("%s: %s", label, warning)  # before the words are looked for: it may be why they are not found
    text = transcribe(audio, label, asr, language) if transcript is None else transcript
    codes = codec.encode(resample(audio, codec.spec.rate).samples, merge=merge).astype(np.uint16)
    durations: tuple[int, ...] = ()
    if table is not None and table.is_spelt:
        symbols = tuple(table.pieces(text, language))
    else:
        aligned = align_transcript(audio, text, label, len(codes), codec.spec.frame_rate, language=language)
        symbols, durations = aligned.symbols, aligned.durations
        warnings += [aligned.doubt] * bool(aligned.doubt)
    return Voice(
        codes=codes,
        symbols=symbols,
        durations=durations,
        text=" ".join(text.split()),
        codec_digest=codec.spec.digest,
        symbols_digest=symbols_digest,
        name=name or ("unnamed" if isinstance(clip, Audio) else Path(clip).stem),
        language=language,
        source=source or ("" if isinstance(clip, Audio) else Path(clip).name),
        clip_digest=hashlib.sha256(recording.samples.tobytes()).hexdigest()[:16],
        created=now(),
        consent=consent,
        licence=licence,
        checks="; ".join(warnings),
    )


@dataclass(frozen=True)
class Aligned:
    """A transcript in time: the symbols, their frames, the word of each (-1 for a pause), and what is doubtful."""

    words: tuple[Word, ...]
    symbols: tuple[str, ...]
    durations: tuple[int, ...]
    owners: tuple[int, ...]
    doubt: str


def align_transcript(
    audio: Audio,
    text: str,
    label: str,
    frames: int,
    frame_rate: float,
    merge: int = MERGE,
    *,
    is_strict: bool = False,
    language: str = ENGLISH,
    heard: Sequence[Timed] = (),
) -> Aligned:
    """Return the transcript in time, over `frames` frames of the codec, in whole merged codes; a doubt is logged, too.

    Raises `AudioError` if it cannot be what is said: too few or too many words for the speech, speech that lies in no
    word, or sounds that are not there. `is_strict`: also if the words fit badly, which else is a doubt. `heard`: when a
    recogniser heard the words, in seconds of the clip: what cannot be aligned is spread over them, which is a doubt.
    """
    try:
        words = phonemize(text, language)
    except TextError as error:
        raise TextError(f"the transcript of {label} cannot be used: {error.what}", error.hint) from None
    try:
        spans, doubt = _align(audio, text, words, label, is_strict, language)
    except AudioError as error:
        if not heard:
            raise
        spans = spread_sounds(words, heard, audio.seconds)
        doubt = f"{error.what}: its sounds are spread over the times at which its words were heard"
    if doubt:
        log.warning("%s: %s", label, doubt)
    spans = mark_edges(spans, audio)
    units_said, frames_of = spans_to_durations(spans, frames, frame_rate, merge)
    symbols, durations = split_units(units_said, frames_of)
    owners = tuple(span.word for span in spans for _ in span.symbol.split(" "))
    return Aligned(tuple(words), symbols, durations, owners, doubt)


def _align(
    audio: Audio, text: str, words: Sequence[Word], label: str, is_strict: bool, language: str
) -> tuple[list[PhoneSpan], str]:
    """Return the sounds of a transcript, which tile the clip, and a doubt about it; see `align_transcript`."""
    if wrong := explain_pace(sum(len(to_units(word.phones)) for word in words), audio):
        raise _refuse_transcript(label, wrong)
    try:
        units = [(word.text, to_units(word.phones)) for word in words]
        aligner = load_aligner(language=language)
        alignment = aligner.align_scored(audio, units, find_ears(language, aligner.symbols))
    except AudioError as error:
        noise = check_noise(audio)
        raise (_refuse_transcript(label, f"{error.what}, and {noise}") if noise else error) from None
    missed = unaligned_share([(span.start, span.end) for span in alignment.spans if span.symbol == SIL], audio)
    if missed > (MISSED if is_strict else MOSTLY_MISSED):
        raise _refuse_transcript(label, f"{100 * missed:.0f} % of the speech lies in none of its words")
    if is_strict and alignment.score < aligner.poor_score:
        raise _refuse_transcript(label, f"its words fit the sound badly (score {alignment.score:.1f})")
    doubt = ""
    if missed > MISSED or alignment.score < aligner.poor_score:
        doubt = f"the words do not fit the sound well, or are of another language: check the transcript {text!r}"
    return list(alignment.spans), doubt


def _refuse_transcript(label: str, why: str) -> AudioError:
    return AudioError(
        f"the transcript of {label} cannot be what is said: {why}",
        "give every word that is said in it, and no other",
    )


def read_clip(
    clip: str | Path | Audio, label: str, channel: Channel | str = Channel.AUTO, longest: float = READ_SECONDS
) -> Audio:
    """Return the clip as 24 kHz mono without an offset; `AudioError` if it is silent, holds no speech or lasts for more
    than `longest` seconds."""
    if isinstance(clip, Audio):
        audio = clip
        check_samples(audio.samples, label)
        check_length(audio.seconds, longest, label)
    else:
        frames, rate, _ = read_frames(clip, longest)
        audio = Audio(mono(frames, choose_channel(frames, rate, channel, label)), rate)
    audio = resample(remove_offset(audio), RATE)
    check_speech(audio, label)
    return audio


def trim_clip(audio: Audio, label: str) -> Audio:
    """Return the recording's speech, trimmed and levelled, of whole merged codes."""
    whole = audio.seconds
    audio = normalize(trim(audio))
    if audio.seconds < MIN_SECONDS:
        raise AudioError(
            f"{label} holds {audio.seconds:.1f} s of speech, too little for a voice",
            f"give {GOOD_SECONDS[0]:.0f} to {GOOD_SECONDS[1]:.0f} s of one person speaking",
        )
    if audio.seconds > MAX_SECONDS:
        raise AudioError(
            f"{label} holds {audio.seconds:.0f} s of speech, more than {MAX_SECONDS:.0f} s",
            f"cut out {GOOD_SECONDS[0]:.0f} to {GOOD_SECONDS[1]:.0f} s in which one person speaks clearly",
        )
    if not GOOD_SECONDS[0] <= audio.seconds <= GOOD_SECONDS[1]:
        log.warning("%s holds %.1f s of speech; 3 to 15 s catch a voice best", label, audio.seconds)
    if whole - audio.seconds > 0.5:
        log.info("%s: trimmed %.1f s of silence", label, whole - audio.seconds)
    size = MERGE * round(RATE / FRAME_RATE)
    # A merged code that is not whole is cut, as in training data, so that none is half padding.
    return Audio(audio.samples[: len(audio.samples) // size * size], audio.rate)


def transcribe(audio: Audio, label: str, asr: str = "", language: str = ENGLISH) -> str:
    """Return what is said, by the recogniser called `asr`, else the best one that is installed; stderr names it."""
    from openvalle.speech_models.asr import best_available, transcribe_in

    recognizer = best_available(asr, language)
    text = transcribe_in(recognizer, audio, language).text
    if not text.strip():
        raise TextError(f"no words were heard in {label}", "say what is spoken in it with --prompt-text")
    log.warning("%s: transcribed by %s: %r; if that is wrong, say what is spoken", label, recognizer.name, text)
    return text


BLEND_SECONDS = 10.0  # of the prompt that comes out, at most


def decode_voice(voice: Voice, generator: SpeechGenerator) -> Speech:
    """Return a voice's prompt as it sounds through its codec, with its phones in time."""
    audio = generator.decode(voice.codes)
    sentence = Sentence(voice.text, (), voice.symbols, (-1,) * len(voice.symbols))
    _, phones = place_in_time(sentence, voice.durations, generator.spec.frame_rate, audio.seconds)
    pace = len(voice.codes) / max(1, sentence.phones)
    return Speech(audio, voice.text, (), phones, Quality("end", pace), voice.codes, voice.symbols, voice.durations)


def invent_voice(generator: SpeechGenerator, text: str, options: AROptions, seed: int, name: str, model: str) -> Voice:
    """Return a voice that is no person's: the networks speak `text` without a prompt. `model`: what they are called."""
    speech = generator.speak([Segment(next(split_sentences(text)), None, seed)], options)[0]
    if not speech.durations:
        raise ModelError("a model without alignment cannot invent voices", "use one with alignment")
    return Voice(
        codes=speech.codes,
        symbols=speech.symbols,
        durations=speech.durations,
        text=speech.text,
        codec_digest=generator.spec.digest,
        symbols_digest=generator.table.digest,
        name=name,
        source=f"{model}, seed {seed}",
        created=now(),
        consent="synthetic: no person's recording",
    )


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
    lengths = [whole * part * FRAME_RATE for part in (1 - share, share)]
    skipped = len(first.symbols) - _count_symbols(first.symbols[::-1], first.durations[::-1], lengths[0])
    taken = _count_symbols(second.symbols, second.durations, lengths[1])
    before = PromptExcerpt(first.codes, first.symbols, first.durations).cut(skipped, len(first.symbols))
    joined = before.then(PromptExcerpt(second.codes, second.symbols, second.durations).cut(0, taken))
    agreed = [f"{voice.name}: {voice.consent}" for voice in (first, second) if voice.consent.strip()]
    return Voice(
        codes=joined.codes,
        symbols=joined.symbols,
        durations=joined.durations,
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


def _count_symbols(symbols: Sequence[str], durations: Sequence[int], frames: float) -> int:
    """Return how many of the symbols last about so many frames, up to a pause if there is one near."""
    is_pause = np.array([symbol == SIL for symbol in symbols])
    return int(np.argmin(np.abs(np.cumsum(durations) - frames) - 0.25 * frames * is_pause)) + 1
