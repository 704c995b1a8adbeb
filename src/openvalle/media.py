"""Sound files: read and written whole or block by block; what PyAV (the extra `media`) brings is read, too.

Every recording comes in through `read_frames`, the only place that refuses a file.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from openvalle.audio import RATE, Audio, check_length, check_samples, resample
from openvalle.containers import FileSlice, decode, detect_container, read_metadata, with_length
from openvalle.errors import AudioError
from openvalle.files import Place, atomic_path, final_path, likely_path
from openvalle.pipes import STDOUT, is_stdout

log = logging.getLogger(__name__)
_HUSH = threading.Lock()

MAX_SECONDS = 3 * 3600  # longest file read whole; longer ones belong in `openvalle prepare`
UNKNOWN_FRAMES = 1 << 40  # libsndfile counts a FLAC from a pipe as more; no file is a year long
BLOCK_FRAMES = 1 << 18  # read at a time from a file that does not tell its length
FULL_BYTES = 1 << 20  # with less free space than this, a failed write is put down to the full disk
FORMATS = {  # ending -> libsndfile's container and coding
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".pcm": ("RAW", "PCM_16"),  # 16 bit, little-endian, mono, no header: it cannot tell its rate, nor carry tags
}


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
    path: str | Path,
    max_seconds: float = MAX_SECONDS,
    start: float = 0.0,
    seconds: float | None = None,
    inside: Sequence[int] | None = None,
) -> tuple[np.ndarray, int, str]:
    """Return a sound file as (samples, channels) float32, its rate, and libsndfile's name of its sample format.

    All that libsndfile reads is read, and what the extra `media` brings. `start`, `seconds`: the stretch that is
    wanted. `inside`: where the file lies in an archive at `path`, as (offset, bytes). WAV and FLAC that a program wrote
    into a pipe, which do not tell their length, are read to their end; of a file that was cut off, what is there is
    read, with a warning. Raises `AudioError` for a missing, unreadable, empty or too long file and for NaN or infinite
    samples, `MissingExtra` without the extra that a file needs.
    """
    path = Path(path)
    with _open(path, inside) as file:
        container = detect_container(file.peek(16)[:16])
        if container:
            frames, rate = decode(file, container, str(path), max_seconds)
            subtype, first = "PCM_16", round(start * rate)
            frames = frames[first:] if seconds is None else frames[first : first + round(seconds * rate)]
        else:
            with _open_sound(path, file) as sound:
                rate, subtype = sound.samplerate, sound.subtype
                if sound.frames < UNKNOWN_FRAMES:
                    check_length(sound.frames / rate, max_seconds, str(path))
                if start:
                    sound.seek(min(sound.frames, round(start * rate)))
                wanted = round(seconds * rate) if seconds is not None else None
                frames = _whole(sound, path, max_seconds) if wanted is None else _block(sound, wanted)
    check_samples(frames, str(path))
    return frames, rate, subtype


def read_header(path: str | Path, inside: Sequence[int] | None = None) -> Header:
    """Return length, rate and channels of a sound file (see `read_frames`); raises as that does."""
    path = Path(path)
    with _open(path, inside) as file:
        if not detect_container(file.peek(16)[:16]):
            with _open_sound(path, file) as sound:
                if sound.frames < UNKNOWN_FRAMES:
                    return Header(sound.frames, sound.samplerate, sound.channels)
    frames, rate, _ = read_frames(path, inside=inside)
    return Header(len(frames), rate, frames.shape[1])


@contextmanager
def _open(path: Path, inside: Sequence[int] | None = None) -> Iterator[io.BufferedReader]:
    """Yield a regular file, or the one inside it, opened by Python: libsndfile knows no names that are not UTF-8."""
    try:
        status = path.stat()
        mode = status.st_mode
        if stat.S_ISREG(mode):
            if not (inside[1] if inside else status.st_size):
                raise AudioError(f"the audio file {path} is empty", "record or export it again")
            with path.open("rb") as file:
                yield io.BufferedReader(FileSlice(file, *inside)) if inside else file
            return
    except FileNotFoundError:
        raise AudioError(f"no audio file at {path}", "check the path") from None
    except OSError as error:
        raise _unreadable(path, error.strerror or error) from None
    if stat.S_ISDIR(mode):
        raise AudioError(f"no audio file at {path}: it is a folder", "give the path of a sound file")
    raise AudioError(f"{path} is a pipe or a device, not a file", "write the sound to a file first")


@contextmanager
def _open_sound(path: Path, file: io.BufferedReader) -> Iterator[Any]:
    """Yield the file as a `soundfile.SoundFile`."""
    import soundfile

    head = file.peek(3)[:3]
    is_mpeg = head == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0)
    try:
        with _hush_stderr() if is_mpeg else nullcontext(), soundfile.SoundFile(with_length(path, file)) as sound:
            yield sound
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise _unreadable(path, error) from None


@contextmanager
def _hush_stderr() -> Iterator[None]:
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
        check_length(count / sound.samplerate, max_seconds, str(path))
    return np.concatenate(blocks) if blocks else _block(sound, 0)


def _block(sound: Any, count: int) -> np.ndarray:
    return sound.read(count, dtype="float32", always_2d=True)


def write(path: Place, audio: Audio, file_format: str | None = None, tags: Mapping[str, str] | None = None) -> Path:
    """Write `audio` to `path`, atomically; return the path.

    `file_format`: wav, flac, mp3, ogg, opus or pcm, by default what the path's ending says; `tags`: see `open_sound`.
    """
    with sound_file(path, audio.rate, file_format, tags) as append:
        append(audio)
    return final_path(path)


@contextmanager
def sound_file(
    place: Place | None, rate: int, file_format: str | None = None, tags: Mapping[str, str] | None = None
) -> Iterator[Callable[[Audio], None]]:
    """Yield a function that appends a block; the file gets its name only when the body ends well.

    `place` None is standard output; that, a device and a pipe are written once all is complete. `file_format` is by
    default what the path's ending says, and WAV for standard output; `tags`: see `open_sound`. Raises
    `AudioError` when the disk is full, the folder cannot be written or the format is unknown.
    """
    import soundfile

    path = None if place is None else likely_path(place)
    ending = format_ending(path, file_format)
    try:
        with (
            atomic_path(STDOUT if place is None else place) as part,
            open_sound(part, rate, ending, tags) as file,
        ):
            yield lambda audio: file.write(np.clip(audio.samples, -1, 1))
    except (soundfile.LibsndfileError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise write_error(path, error) from None


def write_error(path: Path | None, error: BaseException, then: str = "") -> AudioError:
    """Return what to tell a person about a failed write; `then`: what to do once it is mended."""
    folder = path.parent if path else Path(tempfile.gettempdir())
    number = getattr(error, "errno", None)  # libsndfile has none and says "System error."
    is_short = number is None and folder.is_dir() and shutil.disk_usage(folder).free < FULL_BYTES
    if is_short or number in (errno.ENOSPC, errno.EDQUOT):
        what, hint = (
            f"cannot write {path or 'standard output'}: the disk is full",
            "free some space or use another disk",
        )
    else:
        what = f"cannot write {path or 'standard output'} ({getattr(error, 'strerror', None) or error})"
        hint = "check the folder, its permissions and the free space"
    return AudioError(what, f"{hint}, {then}" if then else hint)


def format_ending(path: Path | None, file_format: str | None = None) -> str:
    """Return the key of `FORMATS` for a format's name or else the path's ending; `AudioError` if there is none."""
    if file_format is not None:
        if f".{file_format}" not in FORMATS:
            raise AudioError(f"unknown format {file_format!r}", f"use one of: {', '.join(key[1:] for key in FORMATS)}")
        return f".{file_format}"
    if path is None or is_stdout(path):
        return ".wav"
    if path.is_dir():
        raise AudioError(f"{path} is a folder", "give the name of a file in it")
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
    name = os.fspath(path) if sys.platform == "win32" else os.fsencode(path)  # whatever bytes it holds
    file = soundfile.SoundFile(name, "w", rate, channels, chosen, "LITTLE" if is_raw else None, container)
    for key, value in ({} if is_raw else tags or {}).items():
        if value:
            setattr(file, key, value)
    return file


def read_tags(path: str | Path) -> dict[str, str]:
    """Return the tags of a sound file, as `open_sound` names them; `AudioError` if it cannot be read."""
    path = Path(path)
    with _open(path) as file:
        if container := detect_container(file.peek(16)[:16]):
            return read_metadata(file, container, str(path))
        with _open_sound(path, file) as sound:
            return {key: value for key, value in sound.copy_metadata().items() if value}


def _unreadable(path: Path, error: object) -> AudioError:
    if path.suffix.lower() == ".pcm":
        return AudioError(f"{path} is raw PCM, which does not tell its rate", "convert it to WAV first")
    return AudioError(f"cannot read {path} as audio ({error})", "convert it to WAV, FLAC, MP3, Ogg or Opus")
