"""`Audio`: mono float32 samples with their rate: read, write, resample, trim, level, join.

Every recording comes in through `read_frames`, the only place that refuses a file.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import struct
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from openvalle.errors import AudioError, ConfigError
from openvalle.files import Place, atomic_path, first_path, is_stdout, written_path
from openvalle.media import container_of, decode

log = logging.getLogger(__name__)
_HUSH = threading.Lock()

RATE = 24_000  # every model works at this rate, in hertz
MAX_SECONDS = 3 * 3600  # longest file read whole; longer ones belong in `openvalle prepare`
SILENCE_DB = -60.0  # a recording whose loudest 50 ms is quieter than this holds no speech
UNKNOWN_FRAMES = 1 << 40  # libsndfile counts a FLAC from a pipe as more; no file is a year long
UNKNOWN_BYTES = 0x7FFF0000  # programs that write WAV into a pipe say that it is larger, or 0
BLOCK_FRAMES = 1 << 18  # read at a time from a file that does not tell its length
CANCELLED = 0.25  # of the power of the loudest channel, that of the sum of all: less means opposite phases
FAINT = 0.01  # of the louder channel's power: a second channel with less holds nothing of its own
ALIKE = 0.7  # correlation of the levels of two channels over time: one voice 0.9 to 1, two people under 0.6
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


class Channel(StrEnum):
    """Which channel of a recording is heard."""

    AUTO = "auto"  # the mix, or the louder one if they cancel; two different sounds are refused
    MIX = "mix"
    LEFT = "left"
    RIGHT = "right"


class Header(NamedTuple):
    """What a sound file says about itself."""

    frames: int  # samples of one channel
    rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.rate


def read(path: str | Path, rate: int | None = RATE, max_seconds: float = MAX_SECONDS) -> Audio:
    """Read any sound file (see `read_frames`), mixed to mono and resampled to `rate` (None keeps the file's)."""
    frames, source_rate, _ = read_frames(path, max_seconds)
    return resample(Audio(frames.mean(axis=1, dtype=np.float32), source_rate), rate or source_rate)


def read_frames(
    path: str | Path, max_seconds: float = MAX_SECONDS, start: float = 0.0, seconds: float | None = None
) -> tuple[np.ndarray, int, str]:
    """Return a sound file as (samples, channels) float32, its rate, and libsndfile's name of its sample format.

    All that libsndfile reads is read, and what the extra `media` brings. `start`, `seconds`: the stretch that is
    wanted. WAV and FLAC that a program wrote into a pipe, which do not tell their length, are read to their end; of a
    file that was cut off, what is there is read, with a warning. Raises `AudioError` for a missing, unreadable, empty
    or too long file and for NaN or infinite samples, `MissingExtra` without the extra that a file needs.
    """
    path = Path(path)
    with _opened(path) as file:
        container = container_of(file.peek(16)[:16])
        if container:
            frames, rate = decode(file, container, str(path), max_seconds)
            subtype, first = "PCM_16", round(start * rate)
            frames = frames[first:] if seconds is None else frames[first : first + round(seconds * rate)]
        else:
            with _sound(path, file) as sound:
                rate, subtype = sound.samplerate, sound.subtype
                if UNKNOWN_FRAMES > sound.frames > max_seconds * rate:
                    raise _too_long(path, sound.frames / rate, max_seconds)
                if start:
                    sound.seek(min(sound.frames, round(start * rate)))
                wanted = round(seconds * rate) if seconds is not None else None
                frames = _whole(sound, path, max_seconds) if wanted is None else _block(sound, wanted)
    if not len(frames):
        raise AudioError(f"{path} holds no samples", "record it again")
    if not np.isfinite(frames).all():
        raise AudioError(f"{path} holds samples that are not numbers", "export it again from its source")
    return frames, rate, subtype


def read_header(path: str | Path) -> Header:
    """Return length, rate and channels of a sound file; raises as `read_frames` does."""
    path = Path(path)
    with _opened(path) as file:
        if not container_of(file.peek(16)[:16]):
            with _sound(path, file) as sound:
                if sound.frames < UNKNOWN_FRAMES:
                    return Header(sound.frames, sound.samplerate, sound.channels)
    frames, rate, _ = read_frames(path)
    return Header(len(frames), rate, frames.shape[1])


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """Yield a regular file, opened by Python: libsndfile knows no names that are not UTF-8."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with path.open("rb") as file:
                yield file
            return
    except FileNotFoundError:
        raise AudioError(f"no audio file at {path}", "check the path") from None
    except OSError as error:
        raise _unreadable(path, error.strerror or error) from None
    if stat.S_ISDIR(mode):
        raise AudioError(f"no audio file at {path}: it is a folder", "give the path of a sound file")
    raise AudioError(f"{path} is a pipe or a device, not a file", "write the sound to a file first")


@contextmanager
def _sound(path: Path, file: io.BufferedReader) -> Iterator[Any]:
    """Yield the file as a `soundfile.SoundFile`."""
    import soundfile

    head = file.peek(3)[:3]
    is_mpeg = head == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)
    try:
        with _hushed() if is_mpeg else nullcontext(), soundfile.SoundFile(_with_length(path, file)) as sound:
            yield sound
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise _unreadable(path, error) from None


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep libmpg123 from telling of a damaged MP3 in C, past Python's stderr; what is wrong is told by whoever reads.

    One MP3 is read at a time, for it is the process's standard error that goes nowhere meanwhile.
    """
    with _HUSH:
        try:
            kept = os.dup(2)
        except OSError:  # there is no standard error
            yield
            return
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _whole(sound: Any, path: Path, max_seconds: float) -> np.ndarray:
    """Return all that follows; a file that does not tell its length is read block by block."""
    if sound.frames < UNKNOWN_FRAMES:
        return _block(sound, -1)
    sound.seekable = lambda: False  # soundfile seeks after each block, which libsndfile cannot do here
    blocks, count = [], 0
    while len(block := _block(sound, BLOCK_FRAMES)):
        blocks.append(block)
        count += len(block)
        if count > max_seconds * sound.samplerate:
            raise _too_long(path, count / sound.samplerate, max_seconds)
    return np.concatenate(blocks) if blocks else _block(sound, 0)


def _block(sound: Any, count: int) -> np.ndarray:
    return sound.read(count, dtype="float32", always_2d=True)


def _with_length(path: Path, file: io.BufferedReader) -> BinaryIO:
    """Return the file; one whose WAV header says 0 bytes, as written into a pipe, with the true number in its place."""
    place, said = _wav_data(file)
    there = file.seek(0, io.SEEK_END) - place if place else 0
    is_length_unknown = place and not said and there > 0 and not _is_chunk(file, place, there)
    file.seek(0)
    if is_length_unknown:
        return _Patched(file, place - 4, struct.pack("<I", min(there, 0xFFFFFFFE)))  # type: ignore[return-value]
    if 0 < there < said < UNKNOWN_BYTES:
        log.warning("%s was cut off: %.0f %% of its sound is there, and is read", path, 100 * there / said)
    return file


def _wav_data(file: BinaryIO) -> tuple[int, int]:
    """Return where the samples of a WAV file begin and how many bytes its header says they are; (0, 0) if there is
    none."""
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return 0, 0
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            return file.tell(), size
        file.seek(size + size % 2, io.SEEK_CUR)
    return 0, 0


def _is_chunk(file: BinaryIO, place: int, there: int) -> bool:
    """Return True if what follows is a chunk that fills the rest of the file: then there are no samples."""
    file.seek(place)
    head = file.read(8)
    return len(head) == 8 and there - 9 <= int.from_bytes(head[4:], "little") <= there - 8


class _Patched:
    """A file some bytes of which read as others."""

    def __init__(self, file: BinaryIO, place: int, patch: bytes) -> None:
        self._file, self._place, self._patch = file, place, patch
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int) -> bytes:
        """Return the next bytes."""
        start = self._file.tell()
        data = bytearray(self._file.read(count))
        for at, byte in enumerate(self._patch, self._place - start):
            if 0 <= at < len(data):
                data[at] = byte
        return bytes(data)


def _too_long(path: Path, seconds: float, most: float) -> AudioError:
    return AudioError(f"{path} lasts {seconds:.0f} s, more than {most:.0f} s", "cut it first")


def chosen_channel(frames: np.ndarray, rate: int, wanted: Channel | str, label: str) -> int | None:
    """Return which channel of (samples, channels) is to be heard, None for the mix of all.

    Raises `AudioError` if there is no such channel, or if nothing was chosen and two channels hold different sounds.
    """
    try:
        wanted = Channel(wanted)
    except ValueError:
        raise ConfigError(f"there is no channel {wanted!r}", f"use one of: {', '.join(Channel)}") from None
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


def centred(audio: Audio) -> Audio:
    """Return the sound without its constant offset, which cheap recorders add: it is no level and nobody hears it."""
    return Audio(audio.samples - np.float32(audio.samples.mean(dtype=np.float64)), audio.rate)


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
    path = Path(path)
    with _opened(path) as file:
        if container_of(file.peek(16)[:16]):
            return {}  # nothing that was made here is in one of these
        with _sound(path, file) as sound:
            return {key: value for key, value in sound.copy_metadata().items() if value}


def _unreadable(path: Path, error: object) -> AudioError:
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
