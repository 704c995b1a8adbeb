"""What may spoil a recording of a voice, whether it holds speech at all, and whether a transcript can be its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from openvalle.audio import Audio, is_silent, levels, remove_offset, resample
from openvalle.errors import AudioError, MissingExtra, ModelError

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
LEAST_SECONDS = 1.0  # that can be judged
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


def clip_warnings(recording: Audio) -> list[str]:
    """Return what may spoil the voice of a recording, one sentence each; none for a good one.

    Whether more than one person speaks is measured only if the speaker encoder is installed.
    """
    found = [check(recording) for check in (_check_level, _check_clipping, check_noise, _check_speakers)]
    return [warning for warning in found if warning]


def check_speech(audio: Audio, label: str) -> None:
    """Raise `AudioError` for silence, music, tones and noise."""
    if is_silent(audio):
        raise AudioError(f"{label} is silent", "record it again, closer to the microphone")
    if not holds_speech(audio):
        raise AudioError(
            f"no speech can be made out in {label}: it sounds like music, tones or noise",
            "give a recording of one person speaking in a quiet place",
        )


def holds_speech(recording: Audio) -> bool:
    """Return False for music, tones, hums and noise; speech over noise or music counts as speech."""
    sound = resample(remove_offset(recording), SPEECH_RATE)
    if sound.seconds < LEAST_SECONDS:
        return True  # one vowel may be all there is
    size = round(PIECE_SECONDS * SPEECH_RATE)
    pieces = [sound.samples[start : start + size] for start in range(0, len(sound.samples), size)]
    return any(
        _piece_holds_speech(Audio(piece, SPEECH_RATE)) for piece in pieces if len(piece) >= LEAST_SECONDS * SPEECH_RATE
    )


def _piece_holds_speech(audio: Audio) -> bool:
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


def explain_pace(sounds: int, recording: Audio) -> str:
    """Return why so many sounds cannot be all that is said in a recording; "" if they can."""
    seconds = 0.01 * float(speech_frames(recording).sum())
    if sounds < FEWEST * seconds:
        return f"it is too short for {seconds:.1f} s of speech"
    if sounds > MOST * recording.seconds:
        return f"it is too long for {recording.seconds:.1f} s"
    return ""


def unaligned_share(pauses: Sequence[tuple[float, float]], recording: Audio) -> float:
    """Return the share of the speech that lies in what the alignment takes for pauses, [start, end) in seconds."""
    speech = speech_frames(recording)
    missed = sum(
        int(speech[round((start + JOIN_SECONDS) * 100) : max(0, round((end - JOIN_SECONDS) * 100))].sum())
        for start, end in pauses
    )
    return missed / max(1, int(speech.sum()))


def _measure_levels(recording: Audio) -> tuple[float, float]:
    """Return the level of the active part and of the quietest tenth, in dBFS."""
    frames = levels(recording).astype(np.float64)
    active = frames[frames > frames.max() - 25]
    return float(10 * np.log10(np.mean(10 ** (active / 10)))), float(np.quantile(frames, 0.1))


def _check_level(recording: Audio) -> str:
    level = _measure_levels(recording)[0]
    return f"it is quiet ({level:.0f} dBFS): record closer to the microphone" if level < QUIET_DB else ""


def _check_clipping(recording: Audio) -> str:
    full = np.abs(recording.samples) >= CLIPPED
    share = float((full[1:] & full[:-1]).mean()) if len(full) > 1 else 0.0
    return (
        f"it is clipped ({100 * share:.2f} % of the samples): record at a lower level" if share > CLIPPED_SHARE else ""
    )


def check_noise(recording: Audio) -> str:
    """Return what is wrong with the noise in a recording; "" if nothing is."""
    level, floor = _measure_levels(recording)
    if level - floor >= NOISE_DB:
        return ""
    return f"speech is only {level - floor:.0f} dB above what lies between the words: record in a quiet room"


def _check_speakers(recording: Audio) -> str:
    """Return what is wrong if the voices of the two halves differ; "" if they do not, or cannot be compared."""
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
