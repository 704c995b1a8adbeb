"""Spoken sentences on the disk, a FLAC file of 16 bits each, under the digest of all that their sound depends on.

A file appears whole, and its name also holds the digest of what is in it: what was damaged is spoken again.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from openvalle.files import atomic_path
from openvalle.leftovers import sweep

_NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{16})\.flac")


class SentenceStore:
    """The sentences in a folder."""

    def __init__(self, folder: Path, rate: int) -> None:
        self.folder = folder
        self.rate = rate
        sweep(folder)
        names = os.listdir(folder) if folder.is_dir() else []
        self._digests = {match[1]: match[2] for match in map(_NAME.fullmatch, names) if match}

    def __len__(self) -> int:
        return len(self._digests)

    def has(self, key: str) -> bool:
        """Return True if the sentence is there as it was written; one that is not is removed."""
        if key not in self._digests:
            return False
        path = self._path(key)
        if path.is_file() and _digest(path.read_bytes()) == self._digests[key]:
            return True
        path.unlink(missing_ok=True)
        del self._digests[key]
        return False

    def add(self, key: str, samples: np.ndarray) -> None:
        """Keep samples (count,); once this returns they are on the disk."""
        import soundfile

        buffer = io.BytesIO()
        soundfile.write(buffer, np.clip(samples, -1, 1), self.rate, "PCM_16", format="FLAC")
        data = buffer.getvalue()
        self._digests[key] = _digest(data)
        with atomic_path(self._path(key)) as part:
            part.write_bytes(data)

    def read(self, key: str) -> np.ndarray:
        """Return the samples (count,) float32 of a sentence that is there."""
        import soundfile

        samples: np.ndarray = soundfile.read(self._path(key), dtype="float32")[0]
        return samples

    def keep_only(self, keys: Collection[str]) -> None:
        """Remove all other sentences."""
        for key in set(self._digests) - set(keys):
            self._path(key).unlink(missing_ok=True)
            del self._digests[key]

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}-{self._digests[key]}.flac"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
