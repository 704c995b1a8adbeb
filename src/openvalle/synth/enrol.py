"""A clip of someone speaking -> a `Voice`: checked, trimmed, levelled, transcribed if need be, aligned, encoded.

What is wrong with a clip, as a listener would say it; whether it holds speech, and a transcript can be its own.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openvalle.audio import (
    RATE,
    Audio,
    Channel,
    centred,
    chosen_channel,
    is_silent,
    levels,
    mono,
    normalize,
    resample,
    trim,
)
from openvalle.errors import AudioError, MissingExtra, ModelError, TextError
from openvalle.media import read_frames
from openvalle.synth.voice import Voice, now
from openvalle.text.language import language as spoken_language
from openvalle.text.symbols import SymbolTable, TextUnit
from openvalle.types import SIL

if TYPE_CHECKING:
    from openvalle.engines.base import CodecEngine
    from openvalle.text.english import Word


log = logging.getLogger(__name__)

QUIET_DB = -45.0  # RMS of the active part, in dBFS
CLIPPED = 0.99  # of full scale
CLIPPED_SHARE = 1e-4  # of the samples, in runs of at least two
NOISE_DB = 20.0  # that speech should stand above what lies between the words
ONE_SPEAKER = 0.6  # cosine of two halves of a clip: one reader 0.75 to 0.9, two readers 0.5 to 0.65
HALF_SECONDS = 2.0  # of sound that a half needs, to be compared

# What tells speech from music, tones and noise, measured on 400 clips of 280 readers, the same with added noise (20, 10
# and 5 dB), through a telephone, in a hall, clipped, whispered, slow, fast and with music behind them (960 more), and
# on 485 synthetic sounds (chords, tunes, drums, bands, sweeps, sirens, hums, beeps, applause, birds, engines).
SPEECH_RATE = 16_000  # of the samples that are looked at, in hertz
SPEECH_WINDOW, SPEECH_HOP = 400, 160  # samples: 25 ms every 10 ms
LEAST_SECONDS = 1.0  # that can be assess_quality
PIECE_SECONDS = 20.0  # that are looked at at a time; one that holds speech is enough
BANDS = (80, 200, 350, 500, 700, 900, 1200, 1500, 1900, 2400, 3000, 3700, 4600, 5700, 7000, 8000)  # hertz
LOW_HERTZ, HIGH_HERTZ = 1000, 3000  # vowels lie under the first, hisses above the second
SPEECH_DB = 30.0  # frames this much under the loudest are pauses
MOST_VOICED = 0.9  # of the frames; a clip of speech has at most 0.86, tunes have nearly 1
LEAST_LEVEL = 3.2  # spread of the level, dB; speech over noise 3.7 and more
LEAST_HISS = 4.0  # spread of high over low frequencies, dB: vowels and hisses take turns; speech 6 and more
MOST_HISS_VOICED = 10.0  # high over low frequencies of a voiced frame, dB; voices -1 and less, birds 47
LEAST_SHAPE = 3.0  # spread of the spectrum's shape, dB; speech 3.3 and more
LEAST_CHANGE = 4.0  # of the shape in 50 ms, dB, in the liveliest tenth; speech 4.3 and more
MOST_FLATNESS = 14.0  # spread of the spectral flatness, dB; speech 10 and less, drums 28

# What a transcript can be, measured on clips with their own and other words (docs/editing.md).
FEWEST, MOST = 2.5, 30.0  # sounds a second of speech, and a second in all; readers say 9 to 21
MISSED, MOSTLY_MISSED = 0.15, 0.4  # share of the speech that lies in no word; with the right words 0 to 0.1
JOIN_SECONDS = 0.03  # at either end of a pause that may belong to a word


def problems(recording: Audio) -> list[str]:
    """Return what may spoil the voice of a recording, one sentence each; none for a good one.

    Whether more than one person speaks is asked only if the speaker encoder is installed.
    """
    found = [check(recording) for check in (_quiet, _clipped, noisy, _crowded)]
    return [problem for problem in found if problem]


def holds_speech(recording: Audio) -> bool:
    """Return False for music, tones, hums and noise; speech over noise or music counts as speech."""
    sound = resample(centred(recording), SPEECH_RATE)
    if sound.seconds < LEAST_SECONDS:
        return True  # one vowel may be all there is
    size = round(PIECE_SECONDS * SPEECH_RATE)
    pieces = [sound.samples[start : start + size] for start in range(0, len(sound.samples), size)]
    return any(_is_speech(Audio(piece, SPEECH_RATE)) for piece in pieces if len(piece) >= LEAST_SECONDS * SPEECH_RATE)


def _is_speech(audio: Audio) -> bool:
    from openvalle.speech_models.prosody import pitch

    semitones = pitch(audio)
    padded = np.pad(audio.samples.astype(np.float64), (0, SPEECH_WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, SPEECH_WINDOW)[::SPEECH_HOP][: len(semitones)]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(SPEECH_WINDOW), 512)))  # (frames, 257)
    if not power.any():
        return False
    hertz = np.fft.rfftfreq(512, 1 / SPEECH_RATE)
    level = 10 * np.log10(power.sum(axis=1) + 1e-12)
    active = level > level.max() - SPEECH_DB
    voiced = np.isfinite(semitones) & active

    floor = 1e-6 * power.sum(axis=1) + 1e-12
    low, high = (
        power[:, part].sum(axis=1) + floor for part in ((hertz >= 80) & (hertz < LOW_HERTZ), hertz >= HIGH_HERTZ)
    )
    hiss = 10 * np.log10(high / low)
    speech_band = power[:, (hertz > 80) & (hertz < 5000)] + 1e-12
    flatness = 10 * (np.log10(speech_band).mean(axis=1) - np.log10(speech_band.mean(axis=1)))
    bands = np.stack([power[:, (hertz >= one) & (hertz < other)].sum(axis=1) for one, other in pairwise(BANDS)], axis=1)
    logs = 10 * np.log10(bands + 1e-5 * power.sum(axis=1).max())
    smooth = np.stack([np.convolve(band, np.ones(5) / 5, "same") for band in logs.T], axis=1)
    shape = smooth - smooth.mean(axis=1, keepdims=True)
    change = np.sqrt(np.square(shape[5:] - shape[:-5]).mean(axis=1))[active[5:]]
    return bool(
        voiced.sum() <= MOST_VOICED * active.sum()
        and level[active].std() >= LEAST_LEVEL
        and hiss[active].std() >= LEAST_HISS
        and (not voiced.any() or np.median(hiss[voiced]) <= MOST_HISS_VOICED)
        and np.sqrt(shape[active].var(axis=0).mean()) >= LEAST_SHAPE
        and len(change)
        and np.quantile(change, 0.9) >= LEAST_CHANGE
        and flatness[active].std() <= MOST_FLATNESS
    )


def speech_frames(recording: Audio) -> np.ndarray:
    """Return whether each 10 ms is speech by its level, (frames,) bool: loud, and louder than the noise."""
    frames = levels(recording).astype(np.float64)
    loudest, floor = frames.max(), np.quantile(frames, 0.1)
    return frames > max(loudest - 25, min(floor + 12, loudest - 10))


def impossible_pace(sounds: int, recording: Audio) -> str:
    """Return why so many sounds cannot be all that is said in a recording; "" if they can."""
    seconds = 0.01 * float(speech_frames(recording).sum())
    if sounds < FEWEST * seconds:
        return f"it is too short for {seconds:.1f} s of speech"
    if sounds > MOST * recording.seconds:
        return f"it is too long for {recording.seconds:.1f} s"
    return ""


def missed_share(pauses: Sequence[tuple[float, float]], recording: Audio) -> float:
    """Return the share of the speech that lies in what the alignment takes for pauses, [start, end) in seconds."""
    speech = speech_frames(recording)
    missed = sum(
        int(speech[round((start + JOIN_SECONDS) * 100) : max(0, round((end - JOIN_SECONDS) * 100))].sum())
        for start, end in pauses
    )
    return missed / max(1, int(speech.sum()))


def _active(recording: Audio) -> tuple[float, float]:
    """Return the level of the active part and of the quietest tenth, in dBFS."""
    frames = levels(recording).astype(np.float64)
    active = frames[frames > frames.max() - 25]
    return float(10 * np.log10(np.mean(10 ** (active / 10)))), float(np.quantile(frames, 0.1))


def _quiet(recording: Audio) -> str:
    level = _active(recording)[0]
    return f"it is quiet ({level:.0f} dBFS): record closer to the microphone" if level < QUIET_DB else ""


def _clipped(recording: Audio) -> str:
    full = np.abs(recording.samples) >= CLIPPED
    share = float((full[1:] & full[:-1]).mean()) if len(full) > 1 else 0.0
    return (
        f"it is clipped ({100 * share:.2f} % of the samples): record at a lower level" if share > CLIPPED_SHARE else ""
    )


def noisy(recording: Audio) -> str:
    """Return what is wrong with the noise in a recording; "" if nothing is."""
    level, floor = _active(recording)
    if level - floor >= NOISE_DB:
        return ""
    return f"speech is only {level - floor:.0f} dB above what lies between the words: record in a quiet room"


def _crowded(recording: Audio) -> str:
    """Compare the voice of the first half with that of the second."""
    if recording.seconds < 2 * HALF_SECONDS:
        return ""
    from openvalle.speech_models.speaker import ResemblyzerEncoder, similarity

    middle = len(recording.samples) // 2
    try:
        encoder = ResemblyzerEncoder()
        halves = (recording.samples[:middle], recording.samples[middle:])
        first, second = (encoder.embed(Audio(half, recording.rate)) for half in halves)
    except (MissingExtra, ModelError, AudioError) as error:
        log.info("not asked whether one person speaks: %s", error)
        return ""
    alike = similarity(first, second)
    if alike >= ONE_SPEAKER:
        return ""
    return f"its halves sound like two people (similarity {alike:.2f}): cut out where one person speaks"


log = logging.getLogger(__name__)

MIN_SECONDS, MAX_SECONDS = 1.0, 30.0  # of speech after trimming; outside, it cannot be used
GOOD_SECONDS = (3.0, 15.0)  # outside, it can, but a voice is caught best in between
READ_SECONDS = 60.0  # a file longer than this is refused before it is read
BLOCK = 2  # frames that share an entry of codebook 1 (VALL-E R 3.1): prompts are whole blocks


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
    merge: int = BLOCK,
    table: SymbolTable | None = None,
    channel: Channel | str = Channel.AUTO,
    asr: str = "",
) -> Voice:
    """Return the voice of `clip` (a file of any rate and channels, or an `Audio`).

    `transcript`: what is said in the clip; without it, speech recognition finds it. `merge`: frames that
    share an entry of codebook 1; `table`: one of byte pairs needs no alignment; `channel`: of a file of several, the
    one that is heard; `asr`: see `heard`. Raises `AudioError` for a clip that is missing, unreadable, silent, no
    speech, not made of numbers, shorter than 1 s or longer than 30 s, and where words and sound do not match;
    `TextError` if no words are given or heard.
    """
    language = spoken_language(language).value
    label = "the recording" if isinstance(clip, Audio) else str(clip)
    recording = recorded(clip, label, channel)
    audio = cleaned(recording, label)
    found = problems(recording)
    for problem in found:
        log.warning("%s: %s", label, problem)  # before the words are looked for: it may be why they are not found
    text = heard(audio, label, asr) if transcript is None else transcript
    codes = encoded(audio, codec, merge)
    symbols: Sequence[str]
    durations: Sequence[int]
    if table is not None and table.unit is TextUnit.BPE:
        from openvalle.text.tokenizer import pieces

        symbols, durations = pieces(text, table, language), ()
    else:
        aligned = align_transcript(audio, text, label, len(codes), codec.spec.frame_rate)
        symbols, durations = aligned.symbols, aligned.durations
        if aligned.doubt:
            log.warning("%s: %s", label, aligned.doubt)
            found.append(aligned.doubt)
    return Voice(
        codes=codes,
        symbols=tuple(symbols),
        durations=tuple(durations),
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
        checks="; ".join(found),
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
    block: int = BLOCK,
    *,
    is_strict: bool = False,
) -> Aligned:
    """Return the transcript in time, over `frames` frames of the codec, in blocks.

    Raises `AudioError` if it cannot be what is said: too few or too many words for the speech, speech that lies in no
    word, or sounds that are not there. `is_strict`: also if the words fit badly, which else is a doubt.
    """
    from openvalle.speech_models.aligner import POOR_SCORE, Aligner, mark_edges, spans_to_durations

    words = spoken_words(text, label)
    wrong = impossible_pace(sum(len(word.phones) for word in words), audio)
    if wrong:
        raise _not_said(label, wrong)
    try:
        alignment = Aligner().align_scored(audio, [(word.text, word.phones) for word in words])
    except AudioError as error:
        noise = noisy(audio)
        raise (_not_said(label, f"{error.what}, and {noise}") if noise else error) from None
    missed = missed_share([(span.start, span.end) for span in alignment.spans if span.symbol == SIL], audio)
    if missed > (MISSED if is_strict else MOSTLY_MISSED):
        raise _not_said(label, f"{100 * missed:.0f} % of the speech lies in none of its words")
    if is_strict and alignment.score < POOR_SCORE:
        raise _not_said(label, f"its words fit the sound badly (score {alignment.score:.1f})")
    is_doubtful = missed > MISSED or alignment.score < POOR_SCORE
    doubt = f"the words do not fit the sound well, or are of another language: check the transcript {text!r}"
    spans = mark_edges(alignment.spans, audio)
    symbols, durations = spans_to_durations(spans, frames, frame_rate, block)
    owners = tuple(span.word for span in spans)
    return Aligned(tuple(words), tuple(symbols), tuple(durations), owners, doubt if is_doubtful else "")


def _not_said(label: str, why: str) -> AudioError:
    return AudioError(
        f"the transcript of {label} cannot be what is said: {why}",
        "give every word that is said in it, and no other",
    )


def recorded(clip: str | Path | Audio, label: str, channel: Channel | str = Channel.AUTO) -> Audio:
    """Return the clip as 24 kHz mono without an offset; `AudioError` if it is silent or holds no speech."""
    if isinstance(clip, Audio):
        audio = _checked(clip)
    else:
        frames, rate, _ = read_frames(clip, READ_SECONDS)
        audio = Audio(mono(frames, chosen_channel(frames, rate, channel, label)), rate)
    audio = resample(centred(audio), RATE)
    check_speech(audio, label)
    return audio


def check_speech(audio: Audio, label: str) -> None:
    """Refuse silence, music, tones and noise."""
    if is_silent(audio):
        raise AudioError(f"{label} is silent", "record it again, closer to the microphone")
    if not holds_speech(audio):
        raise AudioError(
            f"no speech can be made out in {label}: it sounds like music, tones or noise",
            "give a recording of one person speaking in a quiet place",
        )


def cleaned(audio: Audio, label: str) -> Audio:
    """Return the recording's speech, trimmed and levelled, whole blocks long."""
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
    return _in_blocks(audio)


def heard(audio: Audio, label: str, asr: str = "") -> str:
    """Return what is said, by the recogniser called `asr`, else the best one that is installed; stderr names it."""
    from openvalle.speech_models.asr import best_available

    recognizer = best_available(asr)
    text = recognizer.transcribe(audio).text
    if not text.strip():
        raise TextError(f"no words were heard in {label}", "say what is spoken in it with --prompt-text")
    log.warning("%s: transcribed by %s: %r; if that is wrong, say what is spoken", label, recognizer.name, text)
    return text


def spoken_words(text: str, label: str) -> list[Word]:
    """Return the words of the transcript with their phones."""
    from openvalle.text.english import phonemize

    try:
        return phonemize(text)
    except TextError as error:
        raise TextError(f"the transcript of {label} cannot be used: {error.what}", error.hint) from None


def encoded(audio: Audio, codec: CodecEngine, merge: int = BLOCK) -> np.ndarray:
    """Return the codes (T, Q) uint16 of a clip."""
    return codec.encode(audio.samples, merge=merge).astype(np.uint16)


def _checked(audio: Audio) -> Audio:
    if not len(audio.samples):
        raise AudioError("the recording holds no samples", "record it again")
    if not np.isfinite(audio.samples).all():
        raise AudioError("the recording holds samples that are not numbers", "export it again from its source")
    if audio.seconds > READ_SECONDS:
        raise AudioError(f"the recording lasts {audio.seconds:.0f} s, more than {READ_SECONDS:.0f} s", "cut it first")
    return audio


def _in_blocks(audio: Audio) -> Audio:
    """Cut the last block if it is not whole, as in training data, so that no merged frame is half padding."""
    size = BLOCK * RATE // 75
    return Audio(audio.samples[: len(audio.samples) // size * size], audio.rate)
