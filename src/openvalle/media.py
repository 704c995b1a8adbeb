"""Sound in containers that libsndfile does not know (M4A, MP4, WebM, AAC, AMR, WMA), through PyAV: the extra `media`.

The container is told by the file's first bytes, never guessed by FFmpeg, and FFmpeg is handed an open file: it cannot
reach another one, nor an address that a file may name.
"""

from __future__ import annotations

import logging
from typing import Any, BinaryIO, NoReturn

import numpy as np

from openvalle.errors import AudioError, MissingExtra

log = logging.getLogger(__name__)

SIGNATURES = ((4, b"ftyp", "mov"), (0, b"\x1aE\xdf\xa3", "matroska"), (0, b"#!AMR", "amr"), (0, b"0&\xb2u", "asf"))
MICROSECONDS = 1_000_000  # FFmpeg counts a container's length in these


def container_of(head: bytes) -> str:
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
            _limited((source.duration or 0) / MICROSECONDS, max_seconds, label)
            resampler: Any = None
            for frame in source.decode(source.streams.audio[0]):
                if resampler is None:
                    rate = frame.sample_rate
                    resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=rate)
                blocks += [part.to_ndarray() for part in resampler.resample(frame)]
                count += frame.samples
                _limited(count / rate, max_seconds, label)
            if resampler is not None:
                blocks += [part.to_ndarray() for part in resampler.resample(None)]
    except (av.FFmpegError, ValueError, OSError) as error:
        if not blocks:
            raise AudioError(f"cannot read {label} as audio ({error})", "convert it to WAV or FLAC") from None
        log.warning("%s breaks off after %.1f s; what is there is read", label, count / rate)
    frames = np.concatenate(blocks, axis=1).T if blocks else np.zeros((0, 1))
    return np.ascontiguousarray(frames, np.float32), rate or 1


def _nothing_else(*_: object, **__: object) -> NoReturn:
    raise PermissionError("a recording may not name another file")


def _limited(seconds: float, most: float, label: str) -> None:
    if seconds > most:
        raise AudioError(f"{label} lasts {seconds:.0f} s, more than {most:.0f} s", "cut it first")
