"""`Voice`: a few seconds of someone's speech as tokens with their phones, in memory and on disk.

One `.safetensors` file per voice. Tensors: `codes` (T, Q) uint16 and `durations` (S,) uint16 in frames, summing to
T. Metadata, all strings: the symbols spoken (by name, so that the file can be read without a table, and with every
table that has them), the transcript, the codec's digest, without which tokens turn to noise unnoticed, where the clip
comes from, who agreed to its use, and what the checks of the clip found.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.errors import ModelError
from openvalle.files import atomic_path
from openvalle.hub import VOICE_SUFFIX, Kind, assets, list_names
from openvalle.pipes import check_regular
from openvalle.types import FRAME_RATE

FORMAT = "openvalle-voice"
VERSION = 2
DEFAULT_VOICE = "default"  # the built-in voice to use when none is asked for; else the first one there is
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{1,8}){0,3}")  # en, en-GB, zh-Hant-TW
LONGEST = 30.0  # seconds of a voice file, as of a clip
STRINGS = (
    *("text", "codec_digest", "symbols_digest", "name", "language", "source", "clip_digest", "created", "consent"),
    *("licence", "checks"),
)


@dataclass(frozen=True, eq=False)
class Voice:
    """A prompt: `codes` (T, Q) uint16, what is said in it, and where it comes from."""

    codes: np.ndarray
    symbols: tuple[str, ...]
    durations: tuple[int, ...]  # frames of each symbol; none for byte pairs, which are not aligned
    text: str
    codec_digest: str
    symbols_digest: str
    name: str = "unnamed"
    language: str = "en"
    source: str = ""  # where the recording comes from
    clip_digest: str = ""  # of the recording's samples: what the consent was given for
    created: str = ""  # date and time, ISO 8601, UTC
    consent: str = ""  # who agreed to the use of this voice, and when
    licence: str = ""
    checks: str = ""  # what is wrong with the recording, in sentences; empty: nothing was found

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise ModelError(f"the voice {self.name[:40]!r} {fault}", "make it again with `openvalle voice add`")

    def _fault(self) -> str:
        """Return why this cannot be a prompt; "" if it can."""
        if self.codes.ndim != 2 or self.codes.dtype != np.uint16:
            return (
                f"has codes of shape {self.codes.shape} and type {self.codes.dtype}, not frames by codebooks of uint16"
            )
        if not len(self.codes) or not self.codes.shape[1]:
            return "holds no sound"
        if not self.symbols:
            return "does not say what is spoken in it"
        if not _LANGUAGE.fullmatch(self.language):
            return f"names no language but {self.language[:40]!r}"
        if not self.durations:
            return ""
        if len(self.symbols) != len(self.durations):
            return f"has {len(self.symbols)} symbols and {len(self.durations)} durations"
        if min(self.durations) < 0:
            return "has symbols that last less than nothing"
        if sum(self.durations) != len(self.codes):
            return f"has symbols for {sum(self.durations)} frames, and {len(self.codes)} frames"
        return ""

    @property
    def seconds(self) -> float:
        """Length of the prompt in seconds."""
        return len(self.codes) / FRAME_RATE

    def check(self, codec_digest: str, known: Container[str], codebooks: int = 8, entries: int = 1024) -> Voice:
        """Return the voice if it fits the codec and all its symbols are `known`; `ModelError` says what does not."""
        hint = "make it again from its clip with this model: openvalle voice add"
        if self.codec_digest != codec_digest:
            made = f"with another codec ({self.codec_digest}) than the model's ({codec_digest})"
            raise ModelError(f"the voice {self.name!r} was made {made}", hint)
        if self.codes.shape[1] != codebooks:
            raise ModelError(f"the voice {self.name!r} has {self.codes.shape[1]} codebooks, not {codebooks}", hint)
        if int(self.codes.max()) >= entries:
            raise ModelError(f"the voice {self.name!r} is damaged: the codec has no entry {self.codes.max()}", hint)
        unknown = [symbol for symbol in dict.fromkeys(self.symbols) if symbol not in known]
        if unknown:
            raise ModelError(
                f"the voice {self.name!r} has text symbols that the model does not know ({' '.join(unknown[:5])})", hint
            )
        return self

    def facts(self) -> dict[str, Any]:
        """Return what a person wants to know about the voice."""
        origin = {"source": self.source, "created": self.created, "consent": self.consent, "licence": self.licence}
        return {
            "seconds": round(self.seconds, 2),
            "text": self.text,
            "language": self.language,
            **origin,
            "codec": self.codec_digest,
            "symbols": self.symbols_digest,
            "clip": self.clip_digest,
            "checks": self.checks,
        }

    def save(self, path: str | Path, *, replace: bool = True) -> Path:
        """Write the file, atomically; return its path. `FileExistsError` if not to `replace` one that is there."""
        from safetensors.numpy import save

        path = Path(path)
        metadata = {key: getattr(self, key) for key in STRINGS}
        metadata |= {"format": FORMAT, "version": str(VERSION), "symbols": " ".join(self.symbols)}
        # rows one after the other, as the file's shape says: the library writes memory as it lies
        tensors = {"codes": np.ascontiguousarray(self.codes), "durations": np.array(self.durations, np.uint16)}
        with atomic_path(path, replace=replace) as part:
            part.write_bytes(save(tensors, metadata))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Voice:
        """Read a voice file; `ModelError` if it is missing, damaged, no voice, or of a newer version."""
        from safetensors import SafetensorError, safe_open

        path = check_regular(Path(path))
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = dict(file.metadata() or {})
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            if not path.is_file():
                raise ModelError(f"no voice file at {path}", "check the path") from None
            raise ModelError(
                f"the voice {path} cannot be read ({' '.join(str(error).split())})",
                "it is damaged or no voice: make it again with `openvalle voice add`",
            ) from None
        if _version(path, metadata) < 2:  # had no digest of the clip, and no checks
            metadata = {"clip_digest": "", "checks": ""} | metadata
        hint = "make it again with `openvalle voice add`"
        try:
            codes, durations = tensors["codes"], tensors["durations"]
            strings = {key: metadata[key] for key in STRINGS}
            symbols = tuple(metadata["symbols"].split())
        except KeyError as error:
            raise ModelError(f"the voice {path} has no {error.args[0]}", hint) from None
        if durations.ndim != 1 or durations.dtype.kind not in "iu":
            raise ModelError(f"the voice {path} has durations that are no whole numbers", hint)
        if len(codes.shape) == 2 and len(codes) > LONGEST * FRAME_RATE:
            raise ModelError(f"the voice {path} is {len(codes) / FRAME_RATE:.0f} s long", f"give up to {LONGEST:.0f} s")
        try:
            return cls(codes=codes, symbols=symbols, durations=tuple(durations.tolist()), **strings)
        except ModelError as error:
            raise ModelError(f"{path}: {error.what}", hint) from None


@dataclass(frozen=True, eq=False)
class PromptExcerpt:
    """A stretch of a recording or voice, as prompts are made of: `codes` (T, Q), and `durations` in frames."""

    codes: np.ndarray
    symbols: tuple[str, ...]
    durations: tuple[int, ...]
    text: str = ""  # its words

    def cut(self, start: int, end: int) -> PromptExcerpt:
        """Return the symbols [start, end) with their codes."""
        edges = np.cumsum([0, *self.durations])
        codes = self.codes[edges[start] : edges[end]]
        return PromptExcerpt(codes, self.symbols[start:end], self.durations[start:end], self.text)

    def then(self, other: PromptExcerpt) -> PromptExcerpt:
        """Return both, one after the other; equal symbols that meet become one, as models expect."""
        symbols, durations = list(self.symbols), list(self.durations)
        for symbol, frames in zip(other.symbols, other.durations, strict=True):
            if symbols and symbols[-1] == symbol:
                durations[-1] += frames
            else:
                symbols.append(symbol)
                durations.append(frames)
        text = f"{self.text} {other.text}".strip()
        return PromptExcerpt(np.concatenate([self.codes, other.codes]), tuple(symbols), tuple(durations), text)


def list_builtin_voices() -> list[Path]:
    """Return the files of the voices in the package, the default one first, the others by name."""
    folder = assets() / "voices"
    return sorted(folder.glob(f"*{VOICE_SUFFIX}"), key=lambda path: (path.stem != DEFAULT_VOICE, path.stem))


def default_voice() -> Voice:
    """Return the built-in voice; `ModelError` if this installation has none."""
    if paths := list_builtin_voices():
        return Voice.load(paths[0])
    there = ", ".join(list_names(Kind.VOICE))
    raise ModelError("there is no built-in voice", f"give one with --voice: a clip{' or ' + there if there else ''}")


def now() -> str:
    """Return the present in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _version(path: Path, metadata: dict[str, str]) -> int:
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path} is not a voice", "give a voice made by `openvalle voice add`, or a clip")
    try:
        version = int(metadata.get("version", ""))
    except ValueError:
        raise ModelError(f"the voice {path} has no version", "make it again with `openvalle voice add`") from None
    if version > VERSION:
        raise ModelError(
            f"the voice {path} has format version {version}; this openvalle reads up to {VERSION}",
            "update: pip install --upgrade openvalle",
        )
    return version
