"""Spoofed and genuine speech in the layout of ASVspoof, so that detectors can be trained and tested on it.

Genuine (bonafide) are the original recordings of an evaluation, spoofed what its systems said. Speakers are parted:
none is in two of train, dev and eval.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.config import Syntax, read_data
from openvalle.errors import UserError
from openvalle.evaluate.results import ORIGINAL, Result, read_results
from openvalle.evaluate.test_list import read_list
from openvalle.files import atomic_folder, atomic_path, write_text
from openvalle.media import read, write

RATE = 16_000  # hertz of every ASVspoof edition
PARTS = ("train", "dev", "eval")
Progress = Callable[[str, int, int], None]


class Layout(StrEnum):
    """Whose folders and columns are written."""

    LA2019 = "2019"  # ASVspoof 2019, logical access: five columns
    ASVSPOOF5 = "5"  # ASVspoof 5, track 1: ten columns


@dataclass(frozen=True)
class SplitShares:
    """Shares of the speakers; what is left goes to eval."""

    train: float = 0.0
    dev: float = 0.0

    def __post_init__(self) -> None:
        if self.train < 0 or self.dev < 0 or self.train + self.dev > 1:
            raise UserError(
                f"shares of {self.train:g} and {self.dev:g} cannot be", "give numbers that add up to 1 or less"
            )


@dataclass(frozen=True)
class SpoofingTrial:
    """One utterance of the data set."""

    name: str
    part: str
    speaker: str
    gender: str
    attack: str  # A01 ...; - for genuine speech
    row: Result

    @property
    def key(self) -> str:
        """The label."""
        return "bonafide" if self.attack == "-" else "spoof"

    def line(self, layout: Layout) -> str:
        """Return the utterance's line of the protocol file."""
        if layout is Layout.LA2019:
            return f"{self.speaker} {self.name} - {self.attack} {self.key}"
        label = self.attack if self.attack != "-" else "bonafide"
        return f"{self.speaker} {self.name} {self.gender} - - - {self.attack} {label} {self.key} -"


def export_spoofing(
    report: Path,
    target: Path,
    layout: Layout = Layout.LA2019,
    shares: SplitShares | None = None,
    prefix: str = "openvalle",
    without: Sequence[str] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Write the speech of the evaluation in `report` into the new folder `target`; return how much of what.

    The counts name what was left out: answers that failed, and rows without sound.
    """
    if target.exists():
        raise UserError(f"{target} is there already", "choose another folder")
    rows = [
        row for row in read_results(report / "rows.jsonl") if row.system not in without and row.condition == "clean"
    ]
    there = [row for row in rows if row.audio and not row.failed and (report / row.audio).is_file()]
    systems = [name for name in dict.fromkeys(row.system for row in there) if name != ORIGINAL]
    if not systems:
        raise UserError(
            f"{report} holds no synthesised speech", "run `openvalle evaluate` or `openvalle compare` first"
        )
    attacks = {name: f"A{number:02d}" for number, name in enumerate(systems, 1)}
    trials = _trials(there, attacks, shares or SplitShares(), genders(report), seed)
    with atomic_folder(target) as part:
        for count, trial in enumerate(trials):
            write(part / audio_path(trial, layout, prefix), read(report / trial.row.audio, RATE))
            if progress:
                progress("writing", count + 1, len(trials))
        _write_protocols(part, trials, layout, prefix)
        _write_facts(part, trials, attacks, report)
    counts = {"bonafide": sum(trial.key == "bonafide" for trial in trials)}
    counts["spoof"] = len(trials) - counts["bonafide"]
    failed = sum(row.failed for row in rows)
    return counts | {"failed": failed, "without sound": len(rows) - len(there) - failed}


def genders(report: Path) -> dict[str, str]:
    """Return M or F of each speaker, where the test list says so."""
    path = report / "items.jsonl"
    if not path.is_file():
        return {}
    return {item.prompt.speaker: item.prompt.gender[:1].upper() for item in read_list(path).items if item.prompt.gender}


def split_speakers(speakers: Sequence[str], shares: SplitShares, seed: int) -> dict[str, str]:
    """Return train, dev or eval for each speaker."""
    order = np.random.default_rng(seed).permutation(len(speakers))
    train, dev = round(shares.train * len(speakers)), round((shares.train + shares.dev) * len(speakers))
    places = {speakers[number]: place for place, number in enumerate(order)}
    return {name: "train" if place < train else "dev" if place < dev else "eval" for name, place in places.items()}


def _trials(
    rows: Sequence[Result], attacks: Mapping[str, str], shares: SplitShares, known: Mapping[str, str], seed: int
) -> list[SpoofingTrial]:
    """Return the utterances under names that say nothing about their label."""
    names = sorted({row.speaker or "unknown" for row in rows})
    codes = {name: f"OV_{number:04d}" for number, name in enumerate(names, 1)}
    part_of = split_speakers(names, shares, seed)
    shuffled = [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))]
    counts = dict.fromkeys(PARTS, 0)
    trials = []
    for row in shuffled:
        speaker = row.speaker or "unknown"
        part = part_of[speaker]
        counts[part] += 1
        name = f"LA_{part[0].upper()}_{counts[part]:07d}"
        attack = attacks.get(row.system, "-")
        trials.append(SpoofingTrial(name, part, codes[speaker], known.get(speaker, "-"), attack, row))
    return sorted(trials, key=lambda trial: trial.name)


def audio_path(trial: SpoofingTrial, layout: Layout, prefix: str) -> Path:
    """Return where an utterance lies."""
    if layout is Layout.LA2019:
        return Path("LA", f"{prefix}_LA_{trial.part}", "flac", f"{trial.name}.flac")
    folder = {"train": "flac_T", "dev": "flac_D", "eval": "flac_E_eval"}[trial.part]
    return Path(folder, f"{trial.name}.flac")


def protocol_path(part: str, layout: Layout, prefix: str) -> Path:
    """Return where the protocol file of train, dev or eval lies."""
    if layout is Layout.LA2019:
        kind = "trn" if part == "train" else "trl"
        return Path("LA", f"{prefix}_LA_cm_protocols", f"{prefix}.LA.cm.{part}.{kind}.txt")
    name = f"{prefix}.{part}.tsv" if part == "train" else f"{prefix}.{part}.track_1.tsv"
    return Path(f"{prefix}_protocols", name)


def _write_protocols(folder: Path, trials: Sequence[SpoofingTrial], layout: Layout, prefix: str) -> None:
    for part in PARTS:
        lines = [trial.line(layout) for trial in trials if trial.part == part]
        if lines:
            write_text(folder / protocol_path(part, layout, prefix), "".join(f"{line}\n" for line in lines))


def _system_facts(record: Any, system: str) -> dict[str, Any]:
    """Return what a report's record tells of a system; nothing where it was edited."""
    for name in ("systems", system):
        record = record.get(name) if isinstance(record, dict) else None
    return record if isinstance(record, dict) else {}


def _write_facts(folder: Path, trials: Sequence[SpoofingTrial], attacks: Mapping[str, str], report: Path) -> None:
    """Write what the protocol files cannot say: which attack is which system, what is said, where it came from."""
    with atomic_path(folder / "metadata.csv") as path, path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("utterance", "part", "speaker", "source_speaker", "attack", "system", "item", "seed", "text"))
        for t in trials:
            row = t.row
            table.writerow((t.name, t.part, t.speaker, row.speaker, t.attack, row.system, row.item, row.seed, row.text))
    record = report / "report.json"
    values = read_data(record, Syntax.JSON, finite=False) if record.is_file() else {}
    known = values.get("record", {}) if isinstance(values, dict) else {}
    systems = {attack: {"system": name, **_system_facts(known, name)} for name, attack in attacks.items()}
    write_text(folder / "attacks.json", json.dumps({"attacks": systems, "record": known}, indent=2) + "\n")
