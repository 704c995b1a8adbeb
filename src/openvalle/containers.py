"""What libsndfile cannot read by itself: containers that PyAV (the extra `media`) opens, and WAV from a pipe.

Containers (M4A, MP4, WebM, AAC, AMR, WMA) are told by the file's first bytes, never guessed by FFmpeg, and FFmpeg is
handed an open file: it cannot reach another one, nor an address that a file may name.
"""

from __future__ import annotations

import io
import logging
import struct
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from openvalle.audio import check_length
from openvalle.errors import AudioError, MissingExtra

log = logging.getLogger(__name__)

UNKNOWN_BYTES = 0x7FFF0000  # programs that write WAV into a pipe say that it is larger, or 0
SIGNATURES = ((4, b"ftyp", "mov"), (0, b"\x1aE\xdf\xa3", "matroska"), (0, b"#!AMR", "amr"), (0, b"0&\xb2u", "asf"))
MICROSECONDS = 1_000_000  # FFmpeg counts a container's length in these


def detect_container(head: bytes) -> str:
    """Return FFmpeg's name of the container that begins with these bytes; "" if it is none that needs it."""
    for offset, mark, name in SIGNATURES:
        if head[offset : offset + len(mark)] == mark:
            return name
    is_adts = len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0  # AAC without a container; MP3 has a layer
    return "aac" if is_adts else ""


def decode(file: BinaryIO, container: str, label: str, max_seconds: float) -> tuple[np.ndarray, int]:
    """Return the first sound track as (samples, channels) float32 and its rate in hertz.

    Raises `MissingExtra` without PyAV, `AudioError` for a file without sound, a damaged or a too long one. Of a file
    that breaks off, what came before is returned, with a warning.
    """
    try:
        import av
    except ImportError:
        raise MissingExtra("av (PyAV)", "media") from None
    blocks: list[np.ndarray] = []
    rate = count = 0
    try:
        with av.open(file, "r", format=container, io_open=_nothing_else, metadata_errors="replace") as source:
            if not source.streams.audio:
                raise AudioError(f"{label} holds no sound", "give a recording of someone speaking")
            check_length((source.duration or 0) / MICROSECONDS, max_seconds, label)
            resampler: Any = None
            for frame in source.decode(source.streams.audio[0]):
                if resampler is None:
                    rate = frame.sample_rate
                    resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=rate)
                blocks += [part.to_ndarray() for part in resampler.resample(frame)]
                count += frame.samples
                check_length(count / rate, max_seconds, label)
            if resampler is not None:
                blocks += [part.to_ndarray() for part in resampler.resample(None)]
    except (av.FFmpegError, ValueError, OSError) as error:
        if not blocks:
            raise AudioError(f"cannot read {label} as audio ({error})", "convert it to WAV or FLAC") from None
        log.warning("%s breaks off after %.1f s; what is there is read", label, count / rate)
    frames = np.concatenate(blocks, axis=1).T if blocks else np.zeros((0, 1))
    return np.ascontiguousarray(frames, np.float32), rate or 1


def read_metadata(file: BinaryIO, container: str, label: str) -> dict[str, str]:
    """Return the tags of a container, as FFmpeg names them; raises as `decode` does."""
    try:
        import av
    except ImportError:
        raise MissingExtra("av (PyAV)", "media") from None
    try:
        with av.open(file, "r", format=container, io_open=_nothing_else, metadata_errors="replace") as source:
            return {key: value for key, value in source.metadata.items() if value}
    except (av.FFmpegError, ValueError, OSError) as error:
        raise AudioError(f"cannot read {label} as audio ({error})", "convert it to WAV or FLAC") from None


def _nothing_else(*_: object, **__: object) -> NoReturn:
    raise PermissionError("a recording may not name another file")


def with_length(path: Path, file: io.BufferedReader) -> BinaryIO:
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


class FileSlice(io.RawIOBase):
    """A stretch of an open file as a file: a member of an archive that is not compressed."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the stretch."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from here on; return how much there was."""
        self._file.seek(self._start + self._at)
        found = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


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
