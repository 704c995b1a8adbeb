"""How something is said: pitch, energy and spectral tilt over time, and distances between two ways of saying it.

Pitch is found by the difference function of YIN (de Cheveigné and Kawahara, 2002), with frames every 10 ms. How much of
a voiced frame is harmonic follows from its autocorrelation at that pitch (Boersma 1993, equation 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openvalle.audio import MODEL_RATE, Audio, levels, resample

HOP = 160  # 10 ms
WINDOW = 640  # samples compared: 40 ms, two periods of the lowest voice
LOWEST, HIGHEST = 60.0, 500.0  # hertz
VOICED = 0.18  # a frame whose aperiodicity is lower than this is voiced
LEAST_ALIKE, MOST_ALIKE = 1e-3, 0.9999  # of two periods: harmonicity stays between -30 and 40 dB
ACTIVE_DB = 30.0  # frames this much under the loudest are pauses
CONTOUR = 50  # places through the voiced part at which the pitch is kept
LOW_BAND, HIGH_BAND = (50.0, 1000.0), (1000.0, 5000.0)  # hertz: their ratio is the tilt ("alpha ratio")


@dataclass(frozen=True)
class Prosody:
    """Figures of one clip; `nan` where nothing is voiced."""

    seconds: float
    active_seconds: float  # without pauses
    pitch: float  # median, semitones over 1 Hz
    pitch_range: float  # standard deviation, semitones
    energy_range: float  # standard deviation of the active frames, dB
    tilt: float  # energy under 1 kHz over energy above, dB: falls as the voice is raised (vocal effort)
    harmonicity: float = float("nan")  # mean harmonics-to-noise ratio of the voiced frames, dB
    contour: tuple[float, ...] = ()  # pitch at `CONTOUR` places through the voiced part, semitones over the median


@dataclass(frozen=True)
class PitchTrack:
    """What is heard every 10 ms; `nan` where nothing is voiced."""

    semitones: np.ndarray  # (frames,) float64, over 1 Hz
    harmonicity: np.ndarray  # (frames,) float64, harmonics to noise in dB


def prosody(audio: Audio) -> Prosody:
    """Return how `audio` is said."""
    frames = levels(audio)
    active = frames > frames.max() - ACTIVE_DB
    found = track_pitch(audio)
    count = min(len(found.semitones), len(active))
    semitones = np.where(active[:count], found.semitones[:count], np.nan)
    is_voiced = np.isfinite(semitones)
    voiced = semitones[is_voiced]
    middle = float(np.median(voiced)) if len(voiced) else float("nan")
    return Prosody(
        seconds=audio.seconds,
        active_seconds=float(active.sum()) * 0.01,
        pitch=middle,
        pitch_range=float(voiced.std()) if len(voiced) else float("nan"),
        energy_range=float(frames[active].std()),
        tilt=tilt(audio),
        harmonicity=float(found.harmonicity[:count][is_voiced].mean()) if len(voiced) else float("nan"),
        contour=_contour(semitones - middle),
    )


def pitch(audio: Audio) -> np.ndarray:
    """Return the pitch of every 10 ms in semitones over 1 Hz, (frames,) float64; nan where nothing is voiced."""
    return track_pitch(audio).semitones


def track_pitch(audio: Audio) -> PitchTrack:
    """Return pitch and harmonicity of every 10 ms."""
    samples = resample(audio, MODEL_RATE).samples.astype(np.float64)
    longest, shortest = int(MODEL_RATE / LOWEST), int(MODEL_RATE / HIGHEST)
    size = WINDOW + longest + 1
    padded = np.pad(samples, (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::HOP][: len(samples) // HOP]
    if not len(frames):
        return PitchTrack(np.zeros(0), np.zeros(0))
    normal, likeness = _differences(frames, longest)  # (frames, longest + 1) each
    inside = normal[:, shortest:longest]
    best = inside.argmin(axis=1)
    # The first dip that is deep enough, not the deepest: the deepest is often an octave too low.
    dips = inside < np.maximum(VOICED, inside.min(axis=1) + 0.05)[:, None]
    first = np.where(dips.any(axis=1), dips.argmax(axis=1), best)
    lags = _bottom(inside, first) + shortest
    aperiodic = inside[np.arange(len(inside)), first]
    loud = np.square(frames).mean(axis=1) > 1e-9
    voiced = (inside.min(axis=1) < VOICED) & (aperiodic < 2 * VOICED) & loud
    alike = np.clip(_peak(likeness, lags), LEAST_ALIKE, MOST_ALIKE)
    return PitchTrack(
        np.where(voiced, 12 * np.log2(MODEL_RATE / lags), np.nan),
        np.where(voiced, 10 * np.log10(alike / (1 - alike)), np.nan),
    )


def _differences(frames: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return YIN's cumulative mean normalised difference and the normalised autocorrelation for lags 0 to `longest`."""
    size = frames.shape[1]
    head = frames[:, :WINDOW]
    length = 1 << (size + WINDOW).bit_length()
    spectrum = np.fft.rfft(frames, length) * np.conj(np.fft.rfft(head, length))
    cross = np.fft.irfft(spectrum, length)[:, : longest + 1]
    squares = np.cumsum(np.pad(np.square(frames), ((0, 0), (1, 0))), axis=1)
    energy = squares[:, WINDOW : WINDOW + longest + 1] - squares[:, : longest + 1]
    difference = np.maximum(energy[:, :1] + energy - 2 * cross, 0)
    difference[:, 0] = 0
    mean = np.cumsum(difference, axis=1) / np.maximum(np.arange(longest + 1), 1)
    normal = difference / np.maximum(mean, 1e-12)
    normal[:, 0] = 1
    return normal, cross / np.sqrt(np.maximum(energy[:, :1] * energy, 1e-18))


def _peak(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the values of each row at a place between two samples, by the parabola through the nearest three."""
    near = np.clip(np.rint(places).astype(int), 1, values.shape[1] - 2)
    rows = np.arange(len(values))
    left, middle, right = (values[rows, near + shift] for shift in (-1, 0, 1))
    away = places - near
    return middle + 0.5 * away * (right - left) + 0.5 * away**2 * (left - 2 * middle + right)


def _bottom(values: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return the place of the first minimum at or after `start` in each row, refined by a parabola."""
    rising = np.diff(values, axis=1) >= 0
    columns = np.arange(rising.shape[1])
    after = rising & (columns[None] >= start[:, None])
    place = np.where(after.any(axis=1), after.argmax(axis=1), start)
    place = np.clip(place, 1, values.shape[1] - 2)
    rows = np.arange(len(values))
    left, middle, right = (values[rows, place + shift] for shift in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(np.abs(bend) > 1e-12, 0.5 * (left - right) / np.where(bend == 0, 1, bend), 0)
    return place + np.clip(shift, -0.5, 0.5)


def _contour(semitones: np.ndarray) -> tuple[float, ...]:
    voiced = np.flatnonzero(np.isfinite(semitones))
    if len(voiced) < 2:
        return ()
    at = np.linspace(voiced[0], voiced[-1], CONTOUR)
    return tuple(np.round(np.interp(at, voiced, semitones[voiced]), 3).tolist())


def tilt(audio: Audio) -> float:
    """Return the energy of 50 to 1000 Hz over that of 1 to 5 kHz, in decibels."""
    power = np.abs(np.fft.rfft(audio.samples.astype(np.float64))) ** 2
    hertz = np.fft.rfftfreq(len(audio.samples), 1 / audio.rate)
    low, high = (float(power[(hertz >= a) & (hertz < b)].sum()) for a, b in (LOW_BAND, HIGH_BAND))
    return float(10 * np.log10(max(low, 1e-20) / max(high, 1e-20)))


def contour_distance(a: Prosody, b: Prosody) -> float:
    """Return the RMS difference of two pitch contours, stretched to each other, in semitones; nan without pitch."""
    if not a.contour or not b.contour:
        return float("nan")
    return float(np.sqrt(np.mean(np.square(np.array(a.contour) - np.array(b.contour)))))
