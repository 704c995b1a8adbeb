"""WebDataset's tars, which are read where they lie: members of one name are an utterance, `KEY.flac` beside `KEY.json`.

Nothing is unpacked: a clip says at which byte of its tar its sound begins. Emilia is published so. A tar that is
compressed cannot be read from its middle, and is refused.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openvalle.errors import UserError
from openvalle.media import FORMATS
from openvalle.prepare.clips import UNKNOWN_SPEAKER, CorpusClip

SOUNDS = frozenset({*FORMATS, ".oga", ".m4a", ".aac"} - {".pcm"})
TEXTS = ("text", "normalized_text", "sentence", "transcript", "transcription", "txt")  # names in the .json
MOST_BYTES = 1 << 20  # of a .json or .txt


def find_tars(folder: Path) -> list[Path]:
    """Return the tars of a folder and those below it, in the order of their names."""
    return sorted(path for path in folder.rglob("*.tar") if path.is_file())


def read_webdataset(source: Path) -> Iterator[CorpusClip]:
    """Yield the utterances of a tar, or of all in a folder; `UserError` for one that cannot be read."""
    for path in [source] if source.is_file() else find_tars(source):
        try:
            with tarfile.open(path, "r:") as tar:
                yield from _read_tar(path, tar)
        except tarfile.TarError as error:
            raise UserError(f"{path} is no tar, or a compressed one ({error})", "unpack or download it again") from None


def _read_tar(path: Path, tar: tarfile.TarFile) -> Iterator[CorpusClip]:
    key, members = "", dict[str, tarfile.TarInfo]()
    for member in tar:  # one at a time: a tar may hold a million
        if not member.isreg():
            continue
        folder, slash, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        if members and folder + slash + stem != key:
            yield from _read_clip(path, tar, key, members)
            members = {}
        key = folder + slash + stem
        members["." + ending.lower()] = member
        tar.members = []  # type: ignore[attr-defined] # else all of them are kept
    yield from _read_clip(path, tar, key, members)


def _read_clip(path: Path, tar: tarfile.TarFile, key: str, members: dict[str, tarfile.TarInfo]) -> Iterator[CorpusClip]:
    """Yield the utterance that members of one name make; nothing if there is no sound among them."""
    sound = next((member for ending, member in members.items() if ending in SOUNDS), None)
    if sound is None:
        return
    about: dict[str, Any] = {}
    if ".json" in members:
        try:
            about = json.loads(_read_text(path, tar, members[".json"]))
        except ValueError:
            raise UserError(f"{path}: {members['.json'].name} is no JSON", "restore the tar from its source") from None
    text = next((str(about[name]) for name in TEXTS if about.get(name)), "")
    written = next((members[ending] for ending in (".txt", ".lab") if ending in members), None)
    if not text and written is not None:
        text = _read_text(path, tar, written).strip()
    yield CorpusClip(
        id=str(about.get("id") or about.get("_id") or f"{path.stem}/{key}"),
        audio=path,
        text=text,
        speaker=str(about.get("speaker") or about.get("speaker_id") or UNKNOWN_SPEAKER),
        language=str(about.get("language") or "en").lower(),
        split=about.get("split"),
        inside=(sound.offset_data, sound.size),
    )


def _read_text(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = tar.extractfile(member) if member.size <= MOST_BYTES else None
    if file is None:
        raise UserError(f"{path}: {member.name} is too long for words", "restore the tar from its source")
    try:
        return file.read().decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: {member.name} is not UTF-8 text", "restore the tar from its source") from None
