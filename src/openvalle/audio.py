"""`Audio`: mono float32 samples with their rate: channels, resampling, levels, trimming, fades, mel spectra."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from openvalle.errors import AudioError, find_choice

log = logging.getLogger(__name__)

RATE = 24_000  # every model that speaks works at this rate, in hertz
MODEL_RATE = 16_000  # and every model that listens at this one
SILENCE_DB = -60.0  # a recording whose loudest 50 ms is quieter than this holds no speech
CANCELLED = 0.25  # of the power of the loudest channel, that of the sum of all: less means opposite phases
FAINT = 0.01  # of the louder channel's power: a second channel with less holds nothing of its own
ALIKE = 0.7  # correlation of the levels of two channels over time: one voice 0.9 to 1, two people under 0.6
TARGET_DB = -24.0  # RMS of the active part that every clip is brought to, in dBFS
MEL_BREAK, MEL_LINEAR, MEL_LOG = 1000.0, 200 / 3, np.log(6.4) / 27  # Slaney's mel scale: linear below the break


@dataclass(frozen=True)
class Audio:
    """Mono sound. `samples`: (samples,) float32 in [-1, 1], other floats become such; `rate` in hertz.

    `AudioError` for samples of several channels or of integers.
    """

    samples: np.ndarray
    rate: int = RATE

    def __post_init__(self) -> None:
        kind = self.samples.dtype
        if self.samples.ndim != 1:
            raise AudioError(
                f"samples of the shape {self.samples.shape} are not mono", "give one channel or their mean"
            )
        if not np.issubdtype(kind, np.floating):
            raise AudioError(f"samples cannot be {kind}", "give floats in [-1, 1]: 16-bit integers / 32768")
        if kind != np.float32:
            object.__setattr__(self, "samples", self.samples.astype(np.float32))

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate

    def pcm(self) -> bytes:
        """Return the samples as 16-bit little-endian integers."""
        return (np.clip(self.samples, -1, 1) * 32767).round().astype("<i2").tobytes()


class Channel(StrEnum):
    """Which channel of a recording is heard."""

    AUTO = "auto"  # the mix, or the louder one if they cancel; two different sounds are refused
    MIX = "mix"
    LEFT = "left"
    RIGHT = "right"


def choose_channel(frames: np.ndarray, rate: int, wanted: Channel | str, label: str) -> int | None:
    """Return which channel of (samples, channels) is to be heard, None for the mix of all.

    Raises `AudioError` if there is no such channel, or if nothing was chosen and two channels hold different sounds.
    """
    wanted = find_choice(Channel, wanted, "channel")
    count = frames.shape[1]
    if wanted in (Channel.LEFT, Channel.RIGHT):
        if count < 2:
            raise AudioError(f"{label} has one channel", f"leave --channel {wanted} out")
        return int(wanted is Channel.RIGHT)
    if wanted is Channel.MIX or count < 2:
        return None
    inner = frames - frames.mean(axis=0, dtype=np.float64).astype(np.float32)
    power = np.square(inner).mean(axis=0, dtype=np.float64)
    loudest = int(power.argmax())
    if count == 2 and power.min() > FAINT * power.max() and _likeness(inner, rate) < ALIKE:
        raise AudioError(
            f"the two channels of {label} hold different sounds: two people, or one and noise?",
            "choose with --channel left, right or mix (`say`, `voice add`, `edit`, `continue`)",
        )
    if np.square(inner.sum(axis=1)).mean(dtype=np.float64) < CANCELLED * power[loudest]:
        name = ("left", "right")[loudest] if count == 2 else f"number {loudest + 1}"
        log.warning("%s: the channels cancel each other when they are mixed; only one is heard (%s)", label, name)
        return loudest
    return loudest if count == 2 and power.min() <= FAINT * power.max() else None


def _likeness(frames: np.ndarray, rate: int) -> float:
    """Return the correlation of the levels of two channels over time, above -60 dB under the loudest."""
    one, two = (levels(Audio(np.ascontiguousarray(channel), rate), 0.05).astype(np.float64) for channel in frames.T)
    floor = max(one.max(), two.max()) + SILENCE_DB
    one, two = np.maximum(one, floor), np.maximum(two, floor)
    return float(np.corrcoef(one, two)[0, 1]) if min(one.std(), two.std()) > 0.5 else 1.0


def mono(frames: np.ndarray, channel: int | None) -> np.ndarray:
    """Return (samples,) of one channel of (samples, channels), or of the mix of all (None)."""
    return frames.mean(axis=1, dtype=np.float32) if channel is None else np.ascontiguousarray(frames[:, channel])


def remove_offset(audio: Audio) -> Audio:
    """Return the sound without its constant offset, which cheap recorders add: it is no level and nobody hears it."""
    return Audio(audio.samples - np.float32(audio.samples.mean(dtype=np.float64)), audio.rate)


def check_samples(samples: np.ndarray, label: str) -> None:
    """Raise `AudioError` if there are no samples, or some are infinite or no numbers."""
    if not len(samples):
        raise AudioError(f"{label} holds no samples", "record it again")
    if not np.isfinite(samples).all():
        raise AudioError(f"{label} holds samples that are not numbers", "export it again from its source")


def check_length(seconds: float, most: float, label: str) -> None:
    """Raise `AudioError` for a recording that is too long."""
    if seconds > most:
        raise AudioError(f"{label} lasts {seconds:.0f} s, more than {most:.0f} s", "cut it first")


def resample(audio: Audio, rate: int) -> Audio:
    """Return the same sound at `rate` hertz."""
    if audio.rate == rate:
        return audio
    import soxr

    return Audio(soxr.resample(audio.samples, audio.rate, rate).astype(np.float32), rate)


def to_model_samples(audio: Audio) -> np.ndarray:
    """Return the samples at `MODEL_RATE`; `AudioError` if they are silent."""
    if not len(audio.samples) or is_silent(audio):
        raise AudioError("the recording is silent", "give a recording of someone speaking")
    return resample(audio, MODEL_RATE).samples


def change_speed(audio: Audio, speed: float) -> Audio:
    """Play `audio` faster or slower, as from a tape: tempo, pitch and formants move together."""
    import soxr

    return Audio(soxr.resample(audio.samples, audio.rate * speed, audio.rate).astype(np.float32), audio.rate)


def levels(audio: Audio, frame_seconds: float = 0.01) -> np.ndarray:
    """Return the RMS of each frame in dBFS, (frames,) float32."""
    size = max(1, round(audio.rate * frame_seconds))
    count = max(1, -(-len(audio.samples) // size))
    padded = np.zeros(count * size, np.float32)
    padded[: len(audio.samples)] = audio.samples
    power = np.square(padded.reshape(count, size), dtype=np.float64).mean(axis=1)
    return (10 * np.log10(power + 1e-12)).astype(np.float32)


def is_silent(audio: Audio) -> bool:
    """Return True if no 50 ms of the clip is louder than `SILENCE_DB`."""
    return bool(levels(audio, 0.05).max() < SILENCE_DB)


def trim(audio: Audio, below_db: float = 40.0, margin_seconds: float = 0.1) -> Audio:
    """Cut leading and trailing frames more than `below_db` under the loudest, keeping a margin."""
    start, end = find_sounding(audio, below_db, margin_seconds)
    return Audio(audio.samples[start:end], audio.rate)


def find_sounding(audio: Audio, below_db: float = 40.0, margin_seconds: float = 0.1) -> tuple[int, int]:
    """Return the samples [start, end) without leading and trailing frames more than `below_db` under the loudest."""
    loud = np.flatnonzero(levels(audio) > levels(audio).max() - below_db)
    size, margin = round(audio.rate * 0.01), round(audio.rate * margin_seconds)
    start = max(0, loud[0] * size - margin)
    return int(start), int(min(len(audio.samples), (loud[-1] + 1) * size + margin))


def normalize(audio: Audio, target_db: float = TARGET_DB) -> Audio:
    """Bring the RMS of the active part (within 25 dB of the loudest) to `target_db`; peaks stay under 0.99."""
    frames = levels(audio)
    active = frames[frames > frames.max() - 25]
    rms_db = 10 * np.log10(np.mean(10 ** (active.astype(np.float64) / 10)))
    return Audio(change_gain(audio.samples, target_db - rms_db), audio.rate)


def change_gain(samples: np.ndarray, gain_db: float) -> np.ndarray:
    """Return samples (samples,) that are louder by `gain_db`, or by less where a peak would pass 0.99."""
    peak = float(np.abs(samples).max())
    return samples * np.float32(min(10 ** (gain_db / 20), 0.99 / peak) if peak > 0 else 1.0)


def silence(seconds: float, rate: int = RATE) -> Audio:
    """Return `seconds` of digital silence."""
    return Audio(np.zeros(round(seconds * rate), np.float32), rate)


def fade(audio: Audio, start_seconds: float = 0.0, end_seconds: float = 0.0) -> Audio:
    """Return a copy with raised-cosine fades at its edges."""
    samples = audio.samples.copy()
    for seconds, view in ((start_seconds, samples), (end_seconds, samples[::-1])):
        count = min(round(seconds * audio.rate), len(samples))
        if count:
            view[:count] *= (0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / count)).astype(np.float32)
    return Audio(samples, audio.rate)


def concatenate(parts: Sequence[Audio]) -> Audio:
    """Join sounds of one rate end to end."""
    assert len({part.rate for part in parts}) == 1, [part.rate for part in parts]
    return Audio(np.concatenate([part.samples for part in parts]), parts[0].rate)


def mel_filters(rate: int, window: int, bands: int, *, slaney: bool = False) -> np.ndarray:
    """Return triangular filters over the bins of a Fourier transform, (bands, window // 2 + 1) float64, from 0 Hz to
    rate / 2. Evenly spaced and equally high on HTK's mel scale, or of equal area on Slaney's (librosa's default)."""
    top = np.array(rate / 2)
    if slaney:
        edges = _slaney_to_hertz(np.linspace(0.0, float(_hertz_to_slaney(top)), bands + 2))
    else:
        edges = 700 * (10 ** (np.linspace(0.0, float(hertz_to_mel(top)), bands + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(window, 1 / rate)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters = np.maximum(0, np.minimum(rising, falling))
    return filters * (2 / (edges[2:] - edges[:-2]))[:, None] if slaney else filters


def power_mel(samples: np.ndarray, rate: int, window: int, hop: int, bands: int) -> np.ndarray:
    """Return the mel power spectrogram of (samples,) as (frames, bands) float32, frames centred every `hop`."""
    padded = np.pad(samples, window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    power = np.abs(np.fft.rfft(frames * hann.astype(np.float32), axis=1)) ** 2
    return (power @ mel_filters(rate, window, bands, slaney=True).T).astype(np.float32)


def hertz_to_mel(hertz: np.ndarray | float) -> np.ndarray:
    """Return frequencies on HTK's mel scale."""
    return np.asarray(2595 * np.log10(1 + np.asarray(hertz) / 700))


def _hertz_to_slaney(hertz: np.ndarray) -> np.ndarray:
    above = MEL_BREAK / MEL_LINEAR + np.log(np.maximum(hertz, MEL_BREAK) / MEL_BREAK) / MEL_LOG
    return np.where(hertz < MEL_BREAK, hertz / MEL_LINEAR, above)


def _slaney_to_hertz(mel: np.ndarray) -> np.ndarray:
    start = MEL_BREAK / MEL_LINEAR
    return np.where(mel < start, mel * MEL_LINEAR, MEL_BREAK * np.exp(MEL_LOG * (mel - start)))
