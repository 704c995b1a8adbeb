"""The speech that is tested on: any corpus that `openvalle prepare` reads, with genders and lengths, and complete."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openvalle.audio import Audio, normalize
from openvalle.config import json_lines
from openvalle.errors import AudioError, UserError
from openvalle.evaluate.protocols import Corpus, Protocol
from openvalle.evaluate.test_list import CORPUS, PART_OF_CORPUS, CorpusExcerpt
from openvalle.media import read, read_header
from openvalle.pipes import read_text
from openvalle.prepare.formats import Format, detect, read_clips
from openvalle.types import ENGLISH

log = logging.getLogger(__name__)

VARIABLE = "OPENVALLE_SPEECH"  # names the folder of speech where none is given
LAYOUTS = {Corpus.LIBRISPEECH: Format.LIBRISPEECH, Corpus.VCTK: Format.VCTK}
SOURCES = {
    Corpus.LIBRISPEECH: "it comes from https://www.openslr.org/12: unpack {subset}.tar.gz and give that folder",
    Corpus.VCTK: "it comes from https://datashare.ed.ac.uk/handle/10283/3443: unpack it and give the folder with txt/",
    Corpus.ANY: "give a manifest.jsonl, each line with audio and text, or a folder that `openvalle prepare` reads",
}


@dataclass(frozen=True)
class CorpusUtterance:
    """One recording of a corpus."""

    id: str
    root: Path
    name: str  # path inside `root`
    text: str
    speaker: str
    gender: str
    seconds: float
    split: str
    language: str = ENGLISH

    @property
    def path(self) -> Path:
        """Where the recording lies."""
        return self.root / self.name

    def audio(self) -> Audio:
        """Return the recording, 24 kHz mono, levelled as the models expect."""
        return normalize(read(self.path))

    def whole(self, folder: str = CORPUS) -> CorpusExcerpt:
        """Return the whole recording as an excerpt."""
        return CorpusExcerpt(
            self.id, self.name, self.text, self.speaker, self.gender, language=self.language, folder=folder
        )


def find_corpus(folder: str | Path | None) -> Path:
    """Return `folder` or, if it is None, the one that the environment names."""
    chosen = folder or os.environ.get(VARIABLE)
    if not chosen:
        raise UserError(
            "a folder of transcribed speech is needed",
            f"give --data FOLDER or set {VARIABLE}; the folder holds manifest.jsonl, each line with id, audio "
            "(path inside the folder), text, speaker, gender and split, or is LibriSpeech, VCTK or the like",
        )
    return Path(chosen)


def read_corpus(folder: str | Path | None, split: str | None = None) -> list[CorpusUtterance]:
    """Return the utterances of a corpus (of one `split`); files that are missing are left out with a warning.

    `UserError` if there is no corpus, or nothing of it can be used.
    """
    root = find_corpus(folder)
    found, missing = _read(root, split)
    if missing:
        log.warning("%d recordings are missing from %s, such as %s", len(missing), root, missing[0])
    if not found:
        raise UserError(f"{root} holds no usable speech{f' of {split}' if split else ''}", SOURCES[Corpus.ANY])
    return found


def read_complete(
    folder: Path, protocol: Protocol, partial: bool = False
) -> tuple[list[CorpusUtterance], tuple[str, ...]]:
    """Return the utterances that a protocol needs and notes on what is missing.

    `UserError` if the folder holds another corpus, or only a part of it, unless `partial` allows that.
    """
    layout = LAYOUTS.get(protocol.corpus)
    hint = SOURCES[protocol.corpus].format(subset=protocol.subset)
    if layout and (not folder.is_dir() or detect(folder)[0] is not layout):
        raise UserError(f"{protocol.name} needs {layout.value} {protocol.subset}, which is not at {folder}", hint)
    inside = _subset_folder(folder, protocol) if layout is Format.LIBRISPEECH else folder
    found, missing = _read(inside, None, base=folder)
    problems = [f"{len(missing)} recordings are missing, such as {missing[0]}"] if missing else []
    speakers = len({item.speaker for item in found})
    if protocol.utterances and len(found) != protocol.utterances:
        problems.append(f"{len(found)} of {protocol.utterances} utterances are there")
    if protocol.speakers and speakers < protocol.speakers:
        problems.append(f"{speakers} of {protocol.speakers} speakers are there")
    if problems and not partial:
        what = f"{folder} is not the complete {protocol.subset or protocol.corpus.value}: {'; '.join(problems)}"
        raise UserError(what, f"{hint}, or allow it with --partial: the report will say so")
    if not found:
        raise UserError(f"{folder} holds no usable speech", hint)
    return found, tuple(f"{PART_OF_CORPUS} {problem}" for problem in problems)


def choose(utterances: Sequence[CorpusUtterance], limit: int, seed: int) -> list[CorpusUtterance]:
    """Return up to `limit` utterances, taken in turn from every speaker in an order that `seed` decides."""
    rng = np.random.default_rng(seed)
    queues = defaultdict(list)
    for utterance in sorted(utterances, key=lambda item: item.id):
        queues[utterance.speaker].append(utterance)
    return interleave([[queue[i] for i in rng.permutation(len(queue))] for _, queue in sorted(queues.items())])[:limit]


def interleave(queues: Sequence[Sequence[CorpusUtterance]]) -> list[CorpusUtterance]:
    """Return the first of every queue, then the second of every queue, and so on."""
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _subset_folder(folder: Path, protocol: Protocol) -> Path:
    """Return the subset's own folder within a LibriSpeech tree; `UserError` lists the subsets there are."""
    if protocol.subset in ("", folder.name):
        return folder
    there = sorted({path.parents[2] for path in folder.rglob("*.trans.txt")})
    for path in there:
        if path.name == protocol.subset:
            return path
    names = ", ".join(path.name for path in there) or "nothing"
    hint = SOURCES[protocol.corpus].format(subset=protocol.subset)
    raise UserError(f"{folder} holds no {protocol.subset} (it holds {names})", hint)


def _read(root: Path, split: str | None, base: Path | None = None) -> tuple[list[CorpusUtterance], list[str]]:
    """Return the utterances and the recordings that are missing or unreadable."""
    base = base or (root if root.is_dir() else root.parent)
    genders = _genders(root)
    found, missing = [], []
    for clip in read_clips(root):
        if split is not None and clip.split != split:
            continue
        try:
            seconds = read_header(clip.audio).seconds
        except AudioError:
            missing.append(str(clip.audio))
            continue
        if clip.text.strip() and seconds > 0 and not clip.start:
            inside = clip.audio.is_relative_to(base)
            name = clip.audio.relative_to(base).as_posix() if inside else str(clip.audio.resolve())
            who = (clip.speaker, genders.get(clip.speaker, ""))
            found.append(
                CorpusUtterance(clip.id, base, name, clip.text, *who, seconds, clip.split or "", clip.language)
            )
    return found, missing


def _genders(root: Path) -> dict[str, str]:
    """Return the gender of each speaker, from manifest.jsonl or the corpus' own list, where there is one."""
    manifest = root / "manifest.jsonl" if root.is_dir() else root
    genders: dict[str, str] = {}
    if manifest.suffix == ".jsonl" and manifest.is_file():
        for _, row in json_lines(read_text(manifest, most=None)):
            if isinstance(row, dict) and row.get("gender"):
                genders[str(row.get("speaker"))] = str(row["gender"])
    for path in (root / "SPEAKERS.TXT", root.parent / "SPEAKERS.TXT"):
        if path.is_file():
            fields = [line.split("|") for line in read_text(path).splitlines() if line[:1] != ";"]
            genders |= {row[0].strip(): row[1].strip() for row in fields if len(row) > 1}
    return genders
