"""A codec's name, folder or address -> the codec.

- `builtin`: the codec that comes with the package.
- a folder: a codec of `openvalle train codec`, or EnCodec as transformers writes it.
- `hf://owner/name`: the same from the hub; `@revision` at its end chooses a commit, tag or branch.
- `encodec[:PLACE][?bandwidth=6&vocos=PLACE]`: EnCodec from a folder or a hub address (`hf://facebook/encodec_24khz`
  without one), with as many kbps (6), decoded by a Vocos head (`vocos=` alone: `hf://charactr/vocos-encodec-24khz`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from openvalle.codec.base import Codec
from openvalle.codec.builtin import BuiltinCodec
from openvalle.config import read_mapping
from openvalle.errors import ConfigError, ModelError
from openvalle.hub import BUILTIN, assets, fetch, is_repository

ENCODEC = "encodec"
FILES = ("config.json", "model.safetensors")  # of the built-in kind and of EnCodec alike
_ADDRESS = re.compile(rf"{ENCODEC}(?::(?P<place>[^?]+))?(?:\?(?P<query>.*))?")


def load_codec(name: str | Path = BUILTIN) -> Codec:
    """Return the codec that `name` stands for (see the module); `ModelError` if there is none or it is damaged.

    `ConfigError` for settings that an address cannot have.
    """
    if str(name) == BUILTIN:
        return BuiltinCodec.load(assets() / "codec")
    if Path(name).is_dir() or is_repository(str(name)):
        folder = place_of(str(name), FILES)
        return _load_encodec(folder) if _is_encodec(folder) else BuiltinCodec.load(folder)
    address = _ADDRESS.fullmatch(str(name))
    if address:
        from openvalle.codec.encodec import HUB

        return _load_encodec(place_of(address["place"] or HUB, FILES), address["query"] or "")
    raise ModelError(
        f"no codec called {str(name)!r}",
        f"use {BUILTIN!r}, a folder made by `openvalle train codec`, {ENCODEC}:FOLDER?bandwidth=6 or hf://owner/name",
    )


def place_of(place: str, files: tuple[str, ...]) -> Path:
    """Return the folder that a path or an address on the hub stands for, downloaded if need be."""
    if Path(place).is_dir():
        return Path(place)
    if is_repository(place):
        return fetch(place, files)
    raise ModelError(f"there is no folder {place}", "give a folder, or an address on the hub as hf://owner/name")


def _is_encodec(folder: Path) -> bool:
    path = folder / "config.json"
    return path.is_file() and read_mapping(path).get("model_type") == ENCODEC


def _load_encodec(folder: Path, query: str = "") -> Codec:
    from openvalle.codec import vocos
    from openvalle.codec.encodec import EncodecCodec

    settings: dict[str, Any] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key == "bandwidth":
            settings[key] = _number(value)
        elif key == "vocos":
            settings[key] = place_of(value or vocos.HUB, vocos.FILES)
        else:
            raise ConfigError(f"EnCodec has no setting {key!r}", "use bandwidth=KBPS and vocos=PLACE")
    return EncodecCodec.load(folder, **settings)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"the bandwidth {text!r} is not a number", "write for example bandwidth=6") from None
