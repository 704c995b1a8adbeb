"""A sound file written block by block: any length in constant memory, and never half a file under its name."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from openvalle.audio import Audio, format_ending, open_sound
from openvalle.errors import AudioError
from openvalle.files import STDOUT, Place, atomic_path, first_path

FULL_BYTES = 1 << 20  # with less free space than this, a failed write is put down to the full disk


@contextmanager
def sound_file(
    place: Place | None, rate: int, file_format: str | None = None, tags: Mapping[str, str] | None = None
) -> Iterator[Callable[[Audio], None]]:
    """Yield a function that appends a block; the file gets its name only when the body ends well.

    `place` None is standard output; that, a device and a pipe are written once all is complete. `file_format` is by
    default what the path's ending says, and WAV for standard output; `tags`: see `openvalle.audio.open_sound`. Raises
    `AudioError` when the disk is full, the folder cannot be written or the format is unknown.
    """
    import soundfile

    path = None if place is None else first_path(place)
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
        raise refusal(path, error) from None


def refusal(path: Path | None, error: BaseException, then: str = "") -> AudioError:
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
