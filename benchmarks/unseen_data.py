"""The same few hours of many speakers for every system, prepared once per merging of codebook 1."""

from __future__ import annotations

import argparse
import json
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from openvalle.errors import UserError
from openvalle.evaluate.corpus import CorpusUtterance, choose, read_corpus
from openvalle.files import write_text
from openvalle.prepare.run import PrepareOptions, prepare
from openvalle.prepare.steps import Step

SECONDS = (2.0, 17.0)  # of an utterance; the recipes crop those over 12 or 13 s
VALID = 24  # utterances of readers that are neither learnt nor judged: what training calls dev-clean


def tokens(options: argparse.Namespace, merge: int) -> Path:
    """Return the folder of tokens whose codebook 1 is merged by `merge`; sound and alignments are made once for all."""
    folder, first = options.out / f"tokens-{merge}", options.out / "tokens-1"
    if merge != 1 and not folder.is_dir():
        tokens(options, 1)
        for step in (Step.SCAN, Step.AUDIO, Step.ALIGN):
            shutil.copytree(first / step, folder / step)
    prepare(options.speech, folder, options.codec, options=PrepareOptions(merge=merge))
    return folder


def write_manifest(options: argparse.Namespace) -> Path:
    """Write what is learnt, and what training is watched on, as a manifest; return its path."""
    path = options.out / "speech.jsonl"
    learnt = pick(read_corpus(options.data, "train"), options.hours * 3600, options.speakers, options.seed)
    watched = [
        item for item in read_corpus(options.data, "dev-clean") if item.speaker not in options.readers.split(",")
    ]
    rows = [(item, "train") for item in learnt]
    rows += [(item, "dev-clean") for item in choose(_usable(watched), VALID, options.seed)]
    if len(rows) == len(learnt):
        raise UserError(
            "every reader of dev-clean is judged: none is left to watch training on", "give fewer --readers"
        )
    write_rows(path, rows)
    return path


def write_rows(path: Path, rows: Iterable[tuple[CorpusUtterance, str]]) -> None:
    """Write utterances and the splits that they are in as a manifest for `openvalle prepare`."""
    lines = [
        {"id": item.id, "audio": str(item.path.resolve()), "text": item.text, "speaker": item.speaker, "split": split}
        for item, split in sorted(rows, key=lambda row: row[0].id)
    ]
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def pick(corpus: list[CorpusUtterance], seconds: float, speakers: int, seed: int) -> list[CorpusUtterance]:
    """Return about `seconds` of the speakers of whom there is most, each in turn as long as there is anything left.

    `UserError` where the corpus holds less than half of that.
    """
    said: dict[str, float] = defaultdict(float)
    for item in corpus:
        said[item.speaker] += item.seconds
    chosen = set(sorted(said, key=lambda name: (-said[name], name))[:speakers])
    usable = _usable([item for item in corpus if item.speaker in chosen])
    found: list[CorpusUtterance] = []
    length = 0.0
    for item in choose(usable, len(usable), seed):
        if length >= seconds:
            break
        found.append(item)
        length += item.seconds
    if length < seconds / 2:
        raise UserError(
            f"`train` holds {length / 60:.1f} min of speech that can be used", "give less --hours, or more speech"
        )
    return found


def _usable(items: list[CorpusUtterance]) -> list[CorpusUtterance]:
    return [item for item in items if SECONDS[0] <= item.seconds <= SECONDS[1]]
