"""A codec's name or folder -> the codec."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from openvalle.codec.base import Codec
from openvalle.codec.builtin import BuiltinCodec
from openvalle.errors import ModelError

BUILTIN = "builtin"


def load_codec(name: str | Path = BUILTIN) -> Codec:
    """Return the codec called `name` (`builtin`) or saved in a folder; `ModelError` if there is none."""
    if str(name) == BUILTIN:
        return BuiltinCodec.load(Path(str(resources.files("openvalle"))) / "assets" / "codec")
    if Path(name).is_dir():
        return BuiltinCodec.load(name)
    raise ModelError(f"no codec called {str(name)!r}", f"use {BUILTIN!r} or a folder made by `openvalle train codec`")
