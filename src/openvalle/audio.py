"""`Audio`: mono float32 samples with their rate: read, write, resample, trim, level, join."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.errors import AudioError
from openvalle.files import Place, atomic_path, first_path, is_stdout, written_path

RATE = 24_000  # every model works at this rate, in hertz
MAX_SECONDS = 3 * 3600  # longest file read whole; longer ones belong in `openvalle prepare`
SILENCE_DB = -60.0  # a recording whose loudest 50 ms is quieter than this holds no speech
TARGET_DB = -24.0  # RMS of the active part that every clip is brought to, in dBFS
FORMATS = {  # ending -> libsndfile's container and coding
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".pcm": ("RAW", "PCM_16"),  # 16 bit, little-endian, mono, no header: it cannot tell its rate, nor carry tags
}


@dataclass(frozen=True)
class Audio:
    """Mono sound. `samples`: (samples,) float32 in [-1, 1]; `rate` in hertz."""

    samples: np.ndarray
    rate: int = RATE

    def __post_init__(self) -> None:
        assert self.samples.ndim == 1, self.samples.shape
        assert self.samples.dtype == np.float32, self.samples.dtype

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate

    def pcm(self) -> bytes:
        """Return the samples as 16-bit little-endian integers."""
        return (np.clip(self.samples, -1, 1) * 32767).round().astype("<i2").tobytes()

    def save(self, path: Place, file_format: str | None = None) -> Path:
        """Write the file (format by its ending, or by name), atomically; return its path."""
        return write(path, self, file_format)


def read(path: str | Path, rate: int | None = RATE, max_seconds: float = MAX_SECONDS) -> Audio:
    """Read any file libsndfile knows, mixed to mono and resampled to `rate` (None keeps the file's).

    Raises `AudioError` for a missing, unreadable, empty or too long file and for NaN or infinite samples.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise AudioError(f"no audio file at {path}", "check the path")
    try:
        with soundfile.SoundFile(sound_name(path)) as file:
            if file.frames > max_seconds * file.samplerate:
                raise AudioError(
                    f"{path} lasts {file.frames / file.samplerate:.0f} s, more than {max_seconds:.0f} s",
                    "cut it first",
                )
            frames, source_rate = file.read(dtype="float32", always_2d=True), file.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from None
    if not len(frames):
        raise AudioError(f"{path} holds no samples", "record it again")
    samples = frames.mean(axis=1, dtype=np.float32)
    if not np.isfinite(samples).all():
        raise AudioError(f"{path} holds samples that are not numbers", "export it again from its source")
    return resample(Audio(samples, source_rate), rate or source_rate)


def write(path: Place, audio: Audio, file_format: str | None = None, tags: Mapping[str, str] | None = None) -> Path:
    """Write `audio` to `path`, atomically; return the path.

    `file_format`: wav, flac, mp3, ogg, opus or pcm, by default what the path's ending says; `tags`: see `open_sound`.
    """
    import soundfile

    ending = format_ending(first_path(path), file_format)
    try:
        with atomic_path(path) as part, open_sound(part, audio.rate, ending, tags) as file:
            file.write(np.clip(audio.samples, -1, 1))
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(
            f"cannot write {first_path(path)} ({error})", "check the folder, its permissions and the free space"
        ) from None
    return written_path(path)


def format_ending(path: Path | None, file_format: str | None = None) -> str:
    """Return the key of `FORMATS` for a format's name or else the path's ending; `AudioError` if there is none."""
    if file_format is not None:
        if f".{file_format}" not in FORMATS:
            raise AudioError(f"unknown format {file_format!r}", f"use one of: {', '.join(key[1:] for key in FORMATS)}")
        return f".{file_format}"
    if path is None or is_stdout(path):
        return ".wav"
    if path.suffix.lower() not in FORMATS:
        raise AudioError(f"cannot write {path.name}: unknown format {path.suffix!r}", f"end it in {' '.join(FORMATS)}")
    return path.suffix.lower()


def open_sound(
    path: Path,
    rate: int,
    ending: str,
    tags: Mapping[str, str] | None = None,
    channels: int = 1,
    coding: str | None = None,
) -> Any:
    """Return a `soundfile.SoundFile` to write samples to, mono by default.

    `coding`: libsndfile's name of the sample format, taken where the container has it, else the usual one.
    `tags`: title, artist, comment, software, date, genre, copyright; written where the format has a place for them
    (INFO chunk, ID3, Vorbis comments).
    """
    import soundfile

    container, usual = FORMATS[ending]
    is_raw = container == "RAW"
    chosen = coding if coding and not is_raw and soundfile.check_format(container, coding) else usual
    file = soundfile.SoundFile(sound_name(path), "w", rate, channels, chosen, "LITTLE" if is_raw else None, container)
    for key, value in ({} if is_raw else tags or {}).items():
        if value:
            setattr(file, key, value)
    return file


def sound_name(path: Path) -> str | bytes:
    """Return a path as libsndfile takes it, whatever bytes its name holds."""
    return os.fspath(path) if sys.platform == "win32" else os.fsencode(path)


def read_tags(path: str | Path) -> dict[str, str]:
    """Return the tags of a sound file, as `open_sound` names them; `AudioError` if it cannot be read."""
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise AudioError(f"no audio file at {path}", "check the path")
    try:
        with soundfile.SoundFile(sound_name(path)) as file:
            return {key: value for key, value in file.copy_metadata().items() if value}
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> AudioError:
    if path.suffix.lower() == ".pcm":
        return AudioError(f"{path} is raw PCM, which does not tell its rate", "convert it to WAV first")
    return AudioError(f"cannot read {path} as audio ({error})", "convert it to WAV, FLAC, MP3, Ogg or Opus")


def resample(audio: Audio, rate: int) -> Audio:
    """Return the same sound at `rate` hertz."""
    if audio.rate == rate:
        return audio
    import soxr

    return Audio(soxr.resample(audio.samples, audio.rate, rate).astype(np.float32), rate)


def at_speed(audio: Audio, speed: float) -> Audio:
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
    loud = np.flatnonzero(levels(audio) > levels(audio).max() - below_db)
    size, margin = round(audio.rate * 0.01), round(audio.rate * margin_seconds)
    start = max(0, loud[0] * size - margin)
    end = min(len(audio.samples), (loud[-1] + 1) * size + margin)
    return Audio(audio.samples[start:end], audio.rate)


def normalize(audio: Audio, target_db: float = TARGET_DB) -> Audio:
    """Bring the RMS of the active part (within 25 dB of the loudest) to `target_db`; peaks stay under 0.99."""
    frames = levels(audio)
    active = frames[frames > frames.max() - 25]
    rms_db = 10 * np.log10(np.mean(10 ** (active.astype(np.float64) / 10)))
    gain = 10 ** ((target_db - rms_db) / 20)
    peak = float(np.abs(audio.samples).max())
    gain = min(gain, 0.99 / peak) if peak > 0 else 1.0
    return Audio((audio.samples * np.float32(gain)).astype(np.float32), audio.rate)


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
