"""Sound -> bytes of a file format, block by block: what a client hears while the rest is still being made.

A stream cannot be gone back to: sizes that nobody knows yet are written as unknown, and what an encoder would write
over its beginning at the end is left out. `encode` gives a whole file, with true sizes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from openvalle.audio import Audio
from openvalle.errors import UserError, import_extra
from openvalle.media import FORMATS

MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",  # 16 bit, little-endian, mono, at the model's rate
}
UNKNOWN = 0xFFFFFFFF  # for sizes that nobody knows yet; players then read to the end, with 0 they read nothing
PAGE_MS = 100.0  # of Ogg: libsndfile else holds a second of Opus back
_PAGE_LATENCY = 0x1302  # libsndfile's SFC_SET_OGG_PAGE_LATENCY_MS, which soundfile has no name for
MP3_LEVEL = 0.5  # of constant bit rate: 80 kbit/s. A stream of variable rate needs the table that is written at the end
AAC_BIT_RATE = 64_000


class Encoder(Protocol):
    """Makes bytes of samples."""

    def push(self, samples: np.ndarray) -> bytes:
        """Take samples (n,) and return what is ready to be sent."""
        ...

    def finish(self) -> bytes:
        """Return the rest."""
        ...


def make_encoder(name: str, rate: int, tags: Mapping[str, str] | None = None) -> Encoder:
    """Return the encoder of the format called `name`; `UserError` if there is none, `MissingExtra` for one not here.

    `tags`: see `openvalle.media.open_sound`; WAV and PCM carry none in a stream.
    """
    if name in ("wav", "pcm"):
        return _PCM(rate if name == "wav" else None)
    if name == "aac":
        return _AAC(rate)
    if f".{name}" in FORMATS and name in MEDIA_TYPES:
        return _SoundFile(name, rate, tags or {}, is_whole=False)
    raise UserError(f"there is no format {name!r}", f"use one of: {', '.join(MEDIA_TYPES)}")


def encode(audio: Audio, name: str, tags: Mapping[str, str] | None = None) -> bytes:
    """Return a whole file; raises as `make_encoder` does."""
    encoder = make_encoder(name, audio.rate, tags)
    if name not in ("pcm", "aac"):
        encoder = _SoundFile(name, audio.rate, tags or {}, is_whole=True)
    return encoder.push(audio.samples) + encoder.finish()


class _PCM:
    """16-bit samples, after the header of a WAV file if there is a `rate`."""

    def __init__(self, rate: int | None) -> None:
        self._head = b""
        if rate is not None:
            form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
            riff, data = struct.pack("<4sI4s", b"RIFF", UNKNOWN, b"WAVE"), struct.pack("<4sI", b"data", UNKNOWN)
            self._head = riff + form + data

    def push(self, samples: np.ndarray) -> bytes:
        head, self._head = self._head, b""
        return head + Audio(samples, 1).pcm()

    def finish(self) -> bytes:
        head, self._head = self._head, b""
        return head


class _Sink:
    """A file in memory that forgets what was taken; what is written over that later is dropped."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._taken = self._place = 0

    def write(self, data: Any) -> int:
        data = bytes(data)
        start = self._place - self._taken
        self._place += len(data)
        fresh = data[max(0, -start) :]
        start = max(0, start)
        self._data[start : start + len(fresh)] = fresh
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        origin = (0, self._place, self._taken + len(self._data))[whence]
        self._place = origin + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        """Return what was written since the last time."""
        data = bytes(self._data)
        self._data.clear()
        self._taken += len(data)
        return data


class _SoundFile:
    """What libsndfile encodes."""

    def __init__(self, name: str, rate: int, tags: Mapping[str, str], *, is_whole: bool) -> None:
        import soundfile

        container, coding = FORMATS[f".{name}"]
        constant = {"bitrate_mode": "CONSTANT", "compression_level": MP3_LEVEL} if name == "mp3" else {}
        self._sink, self._is_whole = _Sink(), is_whole
        sink: Any = self._sink
        self._file = soundfile.SoundFile(sink, "w", rate, 1, coding, None, container, **constant)
        if name == "opus" and not is_whole:
            milliseconds = soundfile._ffi.new("double *", PAGE_MS)
            soundfile._snd.sf_command(self._file._file, _PAGE_LATENCY, milliseconds, soundfile._ffi.sizeof("double"))
        for key, value in tags.items():
            setattr(self._file, key, value)

    def push(self, samples: np.ndarray) -> bytes:
        if len(samples):
            self._file.write(np.clip(samples, -1, 1))
        return b"" if self._is_whole else self._sink.take()

    def finish(self) -> bytes:
        self._file.close()
        return self._sink.take()


class _AAC:
    """AAC in ADTS frames, by PyAV."""

    def __init__(self, rate: int) -> None:
        self._av = import_extra("av", "av (PyAV)", "media")
        self._sink, self._rate, self._count = _Sink(), rate, 0
        self._file = self._av.open(self._sink, "w", format="adts", container_options={"flush_packets": "1"})
        self._stream = self._file.add_stream("aac", rate=rate, layout="mono")
        self._stream.bit_rate = AAC_BIT_RATE

    def push(self, samples: np.ndarray) -> bytes:
        if len(samples):
            frame = self._av.AudioFrame.from_ndarray(np.clip(samples, -1, 1)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = self._rate, self._count
            self._count += len(samples)
            self._file.mux(self._stream.encode(frame))
        return self._sink.take()

    def finish(self) -> bytes:
        self._file.mux(self._stream.encode(None))
        self._file.close()
        return self._sink.take()
