"""Prepared speech on disk: `AudioShards` (int16 samples) and `TokenShards` (codes with aligned symbols).

Both stay on disk, memory-mapped, and are read row by row or crop by crop. Their manifests are JSON lines.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.audio import RATE, Audio
from openvalle.config import BadLine, json_lines
from openvalle.data.index import Index, Row, join_indices
from openvalle.data.index_files import INDEX, ROWS, read_index
from openvalle.errors import ModelError, UserError
from openvalle.files import atomic_path
from openvalle.pipes import read_text
from openvalle.types import TokenSpec, Utterance, Vocabulary


def read_rows(path: Path) -> list[Row]:
    """Return the objects of a JSON lines file; `ModelError` names the line that cannot be read."""
    try:
        rows = list(json_lines(read_text(path, most=None)))
        for number, row in rows:
            if not isinstance(row, dict):
                raise BadLine(number, "no object")
        return [row for _, row in rows]
    except BadLine as error:
        raise ModelError(f"{path} is damaged at line {error.number}", "run `openvalle prepare` again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read {path} ({error})", "run `openvalle prepare` again") from None


def select_split(rows: list[Row], split: str | Sequence[str] | None, source: Path) -> list[Row]:
    """Return the rows of `split`, or of several (None: all); `ModelError` lists the splits if there are none."""
    splits = (split,) if isinstance(split, str) else split
    chosen = [row for row in rows if splits is None or row["split"] in splits]
    if not chosen:
        raise _no_split(source, splits, sorted({str(row["split"]) for row in rows}))
    return chosen


def _no_split(source: Path, splits: Sequence[str] | None, there: Sequence[str]) -> ModelError:
    wanted = " or ".join(repr(name) for name in splits or ())
    return ModelError(f"{source} holds no utterance of the split {wanted}", f"it holds {', '.join(there) or 'nothing'}")


FULL_SCALE = 32768.0  # int16 value of 1.0
MOST_OPEN = 64  # shards at a time: each open one costs a file descriptor or a memory map, and both are limited


class OpenShards:
    """The shards read last, at most `MOST_OPEN` of them; the one that was not read for longest is let go.

    They stay behind when this is pickled: a memory map would carry its samples to the other process.
    """

    def __init__(self, open_: Callable[[Path], Any]) -> None:
        self._open = open_
        self._shards: OrderedDict[Path, Any] = OrderedDict()

    def __getitem__(self, path: Path) -> Any:
        """Return the shard, opened if it is not; whatever opening it raises."""
        if path not in self._shards:
            self._shards[path] = self._open(path)
            if len(self._shards) > MOST_OPEN:
                self._shards.popitem(last=False)
        self._shards.move_to_end(path)
        return self._shards[path]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_shards": OrderedDict()}


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Return float samples in [-1, 1] as they are stored, (samples,) int16."""
    return np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def write_audio(path: Path, clips: Sequence[np.ndarray]) -> list[int]:
    """Write clips, each (samples,) int16 at 24 kHz, as one .npy; return where each starts."""
    starts = np.cumsum([0, *(len(clip) for clip in clips)]).tolist()
    with atomic_path(path) as part, part.open("wb") as file:
        np.save(file, np.concatenate([np.empty(0, np.int16), *clips]))
    return starts[:-1]


class AudioShards:
    """Cleaned 24 kHz mono speech. Rows hold id, speaker, language, split, text, seconds, shard, start,
    samples and `sound`, a digest of the samples."""

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        self.folder, self.rows = folder, rows
        self._maps = OpenShards(_map)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def speakers(self) -> list[str]:
        """Speaker of each row."""
        return [row["speaker"] for row in self.rows]

    @classmethod
    def open(cls, folder: str | Path, split: str | None = None) -> AudioShards:
        """Open the audio step of a prepared folder; `ModelError` if it is missing or has no such split."""
        folder = _step_folder(Path(folder), "audio")
        return cls(folder, select_split(read_rows(folder / "index.jsonl"), split, folder))

    def __getitem__(self, index: int) -> Audio:
        """Return a whole row."""
        return Audio(self.crop(index, 0, self.rows[index]["samples"]), RATE)

    @property
    def lengths(self) -> np.ndarray:
        """Samples of each row, (rows,) int64."""
        return np.array([row["samples"] for row in self.rows], np.int64)

    def crop(self, index: int, start: int, samples: int) -> np.ndarray:
        """Return (samples,) float32 of one row from sample `start`; shorter only where the row ends."""
        row = self.rows[index]
        end = row["start"] + min(start + samples, row["samples"])
        shard = self._maps[self.folder / row["shard"]]
        return shard[row["start"] + start : end].astype(np.float32) / np.float32(FULL_SCALE)


def _map(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"cannot read {path} ({error})", "run `openvalle prepare` again") from None


def write_tokens(
    path: Path,
    codes: Sequence[np.ndarray],
    symbols: Sequence[Sequence[int]],
    durations: Sequence[Sequence[int]] | None = None,
) -> tuple[list[int], list[int]]:
    """Write utterances as one safetensors file; return where the frames and the symbols of each start.

    `codes`: (T, Q) each; `symbols` and `durations` (frames of each symbol): (S,) each. Byte pairs have no durations.
    """
    from safetensors.numpy import save_file

    frames = np.cumsum([0, *(len(item) for item in codes)])  # (utterances + 1,)
    places = np.cumsum([0, *(len(item) for item in symbols)])
    tensors: dict[str, np.ndarray] = {
        "codes": np.concatenate([*codes, np.empty((0, codes[0].shape[1] if codes else 1))]).astype(np.uint16),
        "symbols": np.concatenate([*symbols, []]).astype(np.uint16),
        "frame_offsets": frames.astype(np.int64),
        "symbol_offsets": places.astype(np.int64),
    }
    if durations is not None:
        tensors["durations"] = np.concatenate([*durations, []]).astype(np.uint16)
    with atomic_path(path) as part:  # the library writes memory as it lies
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, part)
    return frames[:-1].tolist(), places[:-1].tolist()


class TokenShards:
    """Tokenised utterances. Their `index` holds id, speaker, language, split, text, seconds, shard, frames, symbols,
    frame_start and symbol_start; `vocabulary` is what the text ids index, `codec` what made the codes."""

    def __init__(self, folder: Path, index: Index, vocabulary: Vocabulary, codec: TokenSpec) -> None:
        self.folder, self.index, self.vocabulary, self.codec = folder, index, vocabulary, codec
        self._files = OpenShards(_tensors)
        self._starts: np.ndarray | None = None  # of each speaker in `index.by_speaker`; made when first asked for

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def open(cls, folder: str | Path, split: str | Sequence[str] | None = None) -> TokenShards:
        """Open the tokens of a prepared folder; `ModelError` if missing, damaged or without such a split, or any of
        several."""
        folder = _step_folder(Path(folder), "tokens")
        try:
            vocabulary, codec = Vocabulary.load(folder / "symbols.json"), TokenSpec.load(folder / "codec.json")
        except UserError as error:
            raise ModelError(error.what, "run `openvalle prepare` again") from None
        splits = (split,) if isinstance(split, str) else split
        index = read_index(folder, splits)
        if not len(index):
            raise _no_split(folder, splits, read_index(folder).names["split"].used)
        return cls(folder, index, vocabulary, codec)

    def require(self, symbols: str | None = None, codec: str | None = None) -> None:
        """Raise `ModelError` unless the tokens were made with these digests (None: not checked)."""
        for kind, wanted, found in (
            ("symbol table", symbols, self.vocabulary.digest),
            ("codec", codec, self.codec.digest),
        ):
            if wanted is not None and wanted != found:
                raise ModelError(
                    f"the tokens in {self.folder} were made with another {kind} ({found}, not {wanted})",
                    "run `openvalle prepare` with those of the model: --symbols MODEL, --codec",
                )

    def __getitem__(self, index: int) -> Utterance:
        """Return one utterance; `ModelError` if its shard is damaged."""
        numbers, names, name = self.index.numbers, self.index.names, self.index.id(index)
        frames, places = int(numbers["frame_start"][index]), int(numbers["symbol_start"][index])
        last, end = places + int(numbers["symbols"][index]), frames + int(numbers["frames"][index])
        path = self.folder / names["shard"][index]
        return Utterance(
            text=self._read(path, name, "symbols", places, last),
            codes=self._read(path, name, "codes", frames, end),
            durations=self._read(path, name, "durations", places, last) if self.is_aligned else None,
            id=name,
            row=index,
            language_name=names["language"][index],
        )

    @property
    def speakers(self) -> list[str]:
        """Speaker of each row."""
        return [self.index.names["speaker"][row] for row in range(len(self))]

    def of_speaker(self, row: int) -> np.ndarray:
        """Return the rows of the speaker of a row, (rows of the speaker,) in their order."""
        speaker = self.index.names["speaker"]
        if self._starts is None:
            counts = np.bincount(speaker.codes, minlength=len(speaker.values))
            self._starts = np.concatenate([[0], np.cumsum(counts)])
        code = int(speaker.codes[row])
        return self.index.by_speaker[self._starts[code] : self._starts[code + 1]]

    def neighbour(self, row: int) -> Utterance | None:
        """Return what the speaker of a row said before it, or after it if it is the first (VALL-E X 3.2).

        Rows count in the order of the manifest. None if the speaker said nothing else.
        """
        own = self.of_speaker(row)
        if len(own) < 2:
            return None
        place = int(np.searchsorted(own, row))
        return self[int(own[place - 1 if place else 1])]

    @property
    def is_aligned(self) -> bool:
        """Whether it is known which frames speak a symbol; of byte pairs it is not."""
        return not self.vocabulary.merges

    @property
    def frames(self) -> np.ndarray:
        """Frames of each row, (rows,) int32."""
        return self.index.frames

    @property
    def languages(self) -> list[str]:
        """The languages of the rows."""
        return self.index.names["language"].used

    def _read(self, path: Path, row: str, name: str, start: int, end: int) -> np.ndarray:
        """Return a stretch of a shard's tensor for the row of that id."""
        from safetensors import SafetensorError

        try:
            values = self._files[path].get_slice(name)[start:end]
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot read {path} ({error})", "run `openvalle prepare` again") from None
        if len(values) != end - start:
            raise ModelError(f"{path} does not hold all of {row}", "run `openvalle prepare` again")
        return values.astype(np.int64)


class JoinedShards(TokenShards):
    """Tokens of several prepared folders as those of one. Ids and speakers are told apart by the folder's number."""

    def __init__(self, parts: Sequence[TokenShards]) -> None:
        """`ModelError` unless all were made with the same symbol table and codec."""
        first = parts[0]
        for part in parts[1:]:
            part.require(first.vocabulary.digest, first.codec.digest)
            if part.codec.merge != first.codec.merge:
                raise ModelError(
                    f"the tokens in {part.folder} have merge {part.codec.merge}, those in {first.folder} "
                    f"{first.codec.merge}",
                    "run `openvalle prepare` with the same --merge",
                )
        index = join_indices([part.index for part in parts], [f"{number}/" for number in range(len(parts))])
        super().__init__(first.folder, index, first.vocabulary, first.codec)
        self.parts = parts
        self.part = np.repeat(np.arange(len(parts)), [len(part) for part in parts])  # (rows,) number of the folder
        self._first = np.cumsum([0, *(len(part) for part in parts)])

    def __getitem__(self, index: int) -> Utterance:
        """Return one utterance; `ModelError` if its shard is damaged."""
        number = int(self.part[index])
        found = self.parts[number][index - int(self._first[number])]
        return replace(found, id=self.index.id(index), row=index)


def _tensors(path: Path) -> Any:
    from safetensors import safe_open

    return safe_open(path, framework="numpy")


def _step_folder(folder: Path, step: str) -> Path:
    """Return the folder of a step, given itself or the prepared folder around it."""
    for place in (folder / step, folder):
        if (place / ROWS).is_file() or (place / INDEX).is_file():
            return place
    raise ModelError(f"{folder} holds no prepared {step}", "run `openvalle prepare` first")
