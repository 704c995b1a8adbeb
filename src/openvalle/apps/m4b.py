"""M4B: AAC in an MP4 file with chapters, title, author and cover, as players of audiobooks read it; through PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.errors import import_extra
from openvalle.files import atomic_path
from openvalle.media import write_error

BIT_RATE = 64_000  # of one voice
_FRAME = 1024  # samples of a frame of AAC
_MILLISECONDS = 1000


@dataclass(frozen=True)
class Track:
    """A chapter of the file. `samples`: how many there are in `blocks`, of float32."""

    title: str
    samples: int
    blocks: Iterable[np.ndarray]


def require_av() -> Any:
    """Return PyAV; `MissingExtra` where it is not installed."""
    return import_extra("av", "av (PyAV)", "books")


def write_m4b(path: Path, rate: int, tracks: Sequence[Track], tags: Mapping[str, str], cover: bytes = b"") -> None:
    """Write the file, atomically. `tags`: as MP4 names them (title, artist, album, genre, comment, date ...).

    `cover`: a JPEG or PNG picture. Chapters begin at whole milliseconds, as the format counts. Raises `AudioError` if
    the file cannot be written.
    """
    av = require_av()
    try:
        with (
            atomic_path(path) as part,
            av.open(str(part), "w", format="mp4", options={"movflags": "+faststart", "brand": "M4B "}) as file,
        ):
            file.metadata.update(tags)
            sound = file.add_stream("aac", rate=rate, layout="mono")
            sound.bit_rate = BIT_RATE
            _set_chapters(file, rate, tracks)
            picture = _add_cover(av, file, cover) if cover else None
            file.start_encoding()
            if picture is not None:
                file.mux(picture)
            at = 0
            for block in _even_blocks(block for track in tracks for block in track.blocks):
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None]), format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
                at += len(block)
                file.mux(sound.encode(frame))
            file.mux(sound.encode(None))
    except (av.FFmpegError, OSError) as error:
        raise write_error(path, error, "then run the same command again") from None


def _set_chapters(file: Any, rate: int, tracks: Sequence[Track]) -> None:
    start, chapters = 0, []
    for number, track in enumerate(tracks):
        times = (round(at * _MILLISECONDS / rate) for at in (start, start + track.samples))
        begin, end = times
        chapter = {"id": number, "start": begin, "end": end, "time_base": Fraction(1, _MILLISECONDS)}
        chapters.append(chapter | {"metadata": {"title": track.title}})
        start += track.samples
    file.set_chapters(chapters)


def _add_cover(av: Any, file: Any, cover: bytes) -> Any:
    """Add a track that holds one picture and return the packet with it."""
    from av.stream import Disposition

    codec = "png" if cover.startswith(b"\x89PNG") else "mjpeg"
    width, height = read_size(cover)
    stream = file.add_stream(codec)
    stream.width, stream.height, stream.pix_fmt = width, height, "rgb24" if codec == "png" else "yuvj420p"
    stream.disposition = Disposition.attached_pic
    packet = av.Packet(cover)
    packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
    packet.time_base = Fraction(1, 90_000)
    return packet


def read_size(picture: bytes) -> tuple[int, int]:
    """Return width and height of a PNG or JPEG as its header says them; (1, 1) if it says nothing."""
    if picture.startswith(b"\x89PNG") and len(picture) >= 24:
        return int.from_bytes(picture[16:20], "big") or 1, int.from_bytes(picture[20:24], "big") or 1
    at = 2
    while at + 9 < len(picture) and picture[at] == 0xFF:
        kind, size = picture[at + 1], int.from_bytes(picture[at + 2 : at + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(picture[at + place : at + place + 2], "big") for place in (5, 7))
            return width or 1, height or 1
        at += 2 + max(size, 2)
    return 1, 1


def _even_blocks(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the samples in blocks of whole frames, whatever pieces they come in; the last one may be shorter."""
    held: list[np.ndarray] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count >= 64 * _FRAME:
            joined = np.concatenate(held)
            end = count // _FRAME * _FRAME
            yield joined[:end]
            held, count = [joined[end:]], count - end
    if count:
        yield np.concatenate(held)
