"""A codec's name, folder or address -> the codec.

- `builtin`: the codec that comes with the package.
- a folder: a codec of `openvalle train codec`, EnCodec as transformers writes it, or SpeechTokenizer as published.
- `hf://owner/name`: the same from the hub; `@revision` at its end chooses a commit, tag or branch.
- `encodec[:PLACE][?bandwidth=6&vocos=PLACE]`: EnCodec from a folder or a hub address (`hf://facebook/encodec_24khz`
  without one), with as many kbps (6), decoded by a Vocos head (`vocos=` alone: `hf://charactr/vocos-encodec-24khz`).
- `speechtokenizer[:PLACE]`: SpeechTokenizer from a folder, or as published on the hub.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode

from openvalle.config import read_mapping
from openvalle.errors import ConfigError, ModelError
from openvalle.hub import BUILTIN, assets, fetch, is_repository

if TYPE_CHECKING:
    from openvalle.codec.base import Codec

ENCODEC, SPEECHTOKENIZER = "encodec", "speechtokenizer"
FILES = ("config.json", "model.safetensors")  # of the built-in kind and of EnCodec alike
OWN_FILES = (*FILES, "SpeechTokenizer.pt")  # what is copied of a codec's folder
HEAD = "vocos"  # folder of the head beside a model's own EnCodec
HEAD_FILES = ("config.yaml", "pytorch_model.bin", "model.safetensors")
_ADDRESS = re.compile(rf"{ENCODEC}(?::(?P<place>[^?]+))?(?:\?(?P<query>.*))?")


def load_codec(name: str | Path = BUILTIN) -> Codec:
    """Return the codec that `name` stands for (see the module); `ModelError` if there is none or it is damaged.

    `ConfigError` for settings that an address cannot have.
    """
    from openvalle.codec.builtin import BuiltinCodec

    folder = find_builtin(name)
    if folder is not None:
        return BuiltinCodec.load(folder)
    if Path(name).is_dir() or is_repository(str(name)):
        folder = locate(str(name), FILES)
        if _is_speechtokenizer(folder):
            return load_speechtokenizer(f"{SPEECHTOKENIZER}:{folder}")
        return _load_encodec(folder, {})
    kind = re.split("[:?]", str(name), maxsplit=1)[0]
    if kind in CODECS:
        return CODECS[kind](str(name))
    raise ModelError(
        f"no codec called {str(name)!r}",
        f"use {BUILTIN!r}, a folder made by `openvalle train codec`, {ENCODEC}:FOLDER?bandwidth=6, "
        f"{SPEECHTOKENIZER}:FOLDER or hf://owner/name",
    )


def find_builtin(name: str | Path = BUILTIN) -> Path | None:
    """Return the folder of a codec of the built-in kind, or None if `name` stands for another kind, or for nothing."""
    if str(name) == BUILTIN:
        return assets() / "codec"
    if not Path(name).is_dir() and not is_repository(str(name)):
        return None
    folder = locate(str(name), FILES)
    return None if _is_encodec(folder) or _is_speechtokenizer(folder) else folder


def load_address(address: str) -> Codec:
    """Return the EnCodec of an address (see the module)."""
    from openvalle.codec.encodec import HUB, need_transformers

    read = _read_address(address)
    if read is None:
        raise ModelError(f"no codec called {address!r}", f"write {ENCODEC}:FOLDER?bandwidth=6")
    need_transformers()  # before anything is downloaded for it
    place, settings = read
    return _load_encodec(locate(place or HUB, FILES), settings)


def load_speechtokenizer(address: str) -> Codec:
    """Return the SpeechTokenizer of an address (see the module)."""
    from openvalle.codec import speechtokenizer

    place = address.partition(":")[2]
    if place and not is_repository(place):
        return speechtokenizer.SpeechTokenizerCodec.load(locate(place, ()))
    inside = [f"{speechtokenizer.SUBFOLDER}/{name}" for name in speechtokenizer.FILES]
    return speechtokenizer.SpeechTokenizerCodec.load(fetch(place or speechtokenizer.HUB, inside))


# Codecs that are neither built in nor a folder: what their names begin with, to the first `:` or `?`, and what loads
# one by its name. docs/extending.md adds one.
CODECS: dict[str, Callable[[str], Codec]] = {
    ENCODEC: load_address,
    SPEECHTOKENIZER: load_speechtokenizer,
}


def find_again(name: str) -> str:
    """Return a codec's name with the folders in it as absolute paths, so that it can be read from elsewhere."""
    address = _read_address(name)
    if Path(name).is_dir():
        return str(Path(name).resolve())
    kind, _, own = name.partition(":")
    if kind == SPEECHTOKENIZER and own and Path(own).is_dir():
        return f"{kind}:{Path(own).resolve()}"
    if address is None:
        return name
    place, settings = address
    if Path(settings.get("vocos") or "?").is_dir():
        settings["vocos"] = str(Path(settings["vocos"]).resolve())
    return _address(str(Path(place).resolve()) if place and Path(place).is_dir() else place, settings)


def keep_codec(name: str, folder: Path) -> str:
    """Copy what of the codec `name` lies in folders of this machine into `folder`, so that it travels with a model;
    return the name by which `find_kept_codec` finds it there. A codec of the package or the hub is not copied."""
    address = _read_address(name)
    if Path(name).is_dir():
        _copy(Path(name), folder, OWN_FILES)
        if _is_speechtokenizer(folder):
            return SPEECHTOKENIZER
        return f"{ENCODEC}?" if _is_encodec(folder) else ""
    kind, _, own = name.partition(":")
    if kind == SPEECHTOKENIZER and own and Path(own).is_dir():
        _copy(Path(own), folder, OWN_FILES)
        return SPEECHTOKENIZER
    if address is None:
        return name
    place, settings = address
    if Path(place).is_dir() and place:
        _copy(Path(place), folder, FILES)
        place = ""
    head = settings.get("vocos", "")
    if head and Path(head).is_dir():
        _copy(Path(head), folder / HEAD, HEAD_FILES)
        settings["vocos"] = ""
    return _address(place, settings)


def find_kept_codec(name: str, folder: Path) -> str | Path:
    """Return the codec that a model calls `name` and may have in its `folder`."""
    if name.partition(":")[0] == SPEECHTOKENIZER:
        return f"{SPEECHTOKENIZER}:{folder}" if (folder / FILES[0]).is_file() else name
    if not name.startswith((f"{ENCODEC}?", f"{ENCODEC}:")):
        return folder if folder.is_dir() else name if is_repository(name) else BUILTIN
    address = _read_address(name)
    assert address is not None, name
    place, settings = address
    if (folder / HEAD).is_dir() and "vocos" in settings:
        settings["vocos"] = str(folder / HEAD)
    return _address(str(folder) if (folder / FILES[0]).is_file() else place, settings)


def _read_address(name: str) -> tuple[str, dict[str, str]] | None:
    """Return the place (none: "") and the settings in an address of EnCodec; None if it is none."""
    found = _ADDRESS.fullmatch(name)
    return found and (found["place"] or "", dict(parse_qsl(found["query"] or "", keep_blank_values=True)))


def _address(place: str, settings: dict[str, str]) -> str:
    return f"{ENCODEC}{':' if place else ''}{place}?{urlencode(settings, safe='/:@', quote_via=quote)}"


def _copy(source: Path, folder: Path, names: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def locate(place: str, files: tuple[str, ...]) -> Path:
    """Return the folder that a path or an address on the hub stands for, downloaded if need be."""
    if Path(place).is_dir():
        return Path(place)
    if is_repository(place):
        return fetch(place, files)
    raise ModelError(f"there is no folder {place}", "give a folder, or an address on the hub as hf://owner/name")


def _is_encodec(folder: Path) -> bool:
    path = folder / "config.json"
    return path.is_file() and read_mapping(path).get("model_type") == ENCODEC


def _is_speechtokenizer(folder: Path) -> bool:
    path = folder / "config.json"
    return path.is_file() and {"n_filters", "n_q", "strides", "lstm_layers"} <= read_mapping(path).keys()


def _load_encodec(folder: Path, settings: dict[str, str]) -> Codec:
    from openvalle.codec import vocos
    from openvalle.codec.encodec import BANDWIDTH, EncodecCodec

    if unknown := settings.keys() - {"bandwidth", "vocos"}:
        raise ConfigError(f"EnCodec has no setting {min(unknown)!r}", "use bandwidth=KBPS and vocos=PLACE")
    try:
        bandwidth = float(settings.get("bandwidth", BANDWIDTH))
    except ValueError:
        raise ConfigError(
            f"the bandwidth {settings['bandwidth']!r} is not a number", "write for example bandwidth=6"
        ) from None
    head = locate(settings["vocos"] or vocos.HUB, vocos.FILES) if "vocos" in settings else None
    return EncodecCodec.load(folder, bandwidth, head)
