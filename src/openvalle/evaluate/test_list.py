"""Test lists: what is to be spoken with which prompt. Written to a file, shared and read again, they are exact.

The file is JSON lines: first `{"format", "version", "protocol", "seed", "corpus", "items"}`, then one item a line.
Paths are relative to the corpus, so that the list works wherever the corpus lies.

A prompt may be put in a condition: a room, noise, a telephone, the same every time for the same clip. It is a name
with its value: `clean`, `room-0.6` (reverberation time in seconds), `noise-15` (speech over
noise in decibels), `band-4000` (bandwidth in hertz).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.audio import Audio, concatenate, fade, levels, normalize, resample
from openvalle.config import json_lines, write_json_lines
from openvalle.errors import UserError
from openvalle.media import read
from openvalle.pipes import read_text
from openvalle.types import ENGLISH

CLEAN = "clean"
KINDS = {"room": "reverberation", "noise": "noise", "band": "bandwidth"}  # kind -> the measure that should follow it
DIRECT_SHARE = 0.5  # of the energy that reaches the microphone directly
SEED = 20_301  # of the rooms and noises: they are the same in every run


def parse_condition(condition: str) -> tuple[str, float] | None:
    """Return the measure that follows the condition and the value put in; None for `clean`."""
    if condition == CLEAN:
        return None
    kind, _, value = condition.partition("-")
    try:
        return KINDS[kind], float(value)
    except (KeyError, ValueError):
        hint = "use clean, room-SECONDS, noise-DECIBELS or band-HERTZ"
        raise UserError(f"there is no condition {condition!r}", hint) from None


def apply_condition(audio: Audio, condition: str) -> Audio:
    """Return the sound in that condition, at the level that it had."""
    found = parse_condition(condition)
    if found is None:
        return audio
    kind, value = found
    changed = {"reverberation": add_room, "noise": add_noise, "bandwidth": limit_band}[kind](audio, value)
    return normalize(changed)


def add_room(audio: Audio, seconds: float) -> Audio:
    """Return the sound in a room with that reverberation time: exponentially decaying noise as impulse response."""
    rng = np.random.default_rng(SEED)
    times = np.arange(round(1.5 * seconds * audio.rate)) / audio.rate
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / seconds)
    tail *= np.sqrt((1 - DIRECT_SHARE) / DIRECT_SHARE / np.square(tail).sum())
    response = np.concatenate([[1.0], tail])
    length = len(audio.samples) + len(response) - 1
    spectrum = np.fft.rfft(audio.samples, length) * np.fft.rfft(response, length)
    return Audio(np.fft.irfft(spectrum, length)[: len(audio.samples)].astype(np.float32), audio.rate)


def add_noise(audio: Audio, decibels: float) -> Audio:
    """Return the sound with white noise that much under the active part of the speech."""
    frames = 10 ** (levels(audio, 0.02).astype(np.float64) / 10)
    active = frames[frames > frames.max() * 10**-2.5].mean()
    noise = np.random.default_rng(SEED).standard_normal(len(audio.samples))
    return Audio((audio.samples + np.sqrt(active / 10 ** (decibels / 10)) * noise).astype(np.float32), audio.rate)


def limit_band(audio: Audio, hertz: float) -> Audio:
    """Return the sound without what lies above that frequency."""
    narrow = resample(audio, round(2 * hertz))
    samples = resample(narrow, audio.rate).samples
    samples = np.pad(samples, (0, max(0, len(audio.samples) - len(samples))))[: len(audio.samples)]
    return Audio(samples.astype(np.float32), audio.rate)


FORMAT = "openvalle-test-list"
VERSION = 2  # in version 1 items had a field that nothing reads, and other digests
CORPUS, PROMPTS = "corpus", "prompts"  # the folders that a list may refer to
EDGE_SECONDS = 0.005  # faded where a recording is cut
PART, PART_OF_CORPUS = "only", "partial corpus:"  # begin the notes of what is not complete
Folders = Mapping[str, Path]


@dataclass(frozen=True)
class CorpusExcerpt:
    """A recording or a part of one, and what is said in it."""

    id: str
    audio: str  # path inside `folder`
    text: str
    speaker: str
    gender: str = ""
    language: str = ENGLISH
    start: float = 0.0  # seconds
    end: float | None = None  # seconds; None: to the end of the file
    folder: str = CORPUS

    def load(self, folders: Folders) -> Audio:
        """Return the sound, 24 kHz mono, levelled over the whole recording and then cut."""
        if self.folder not in folders:
            option = "data" if self.folder == CORPUS else self.folder
            raise UserError(f"the list needs the folder of the {self.folder}", f"give --{option} FOLDER")
        audio = normalize(read(folders[self.folder] / self.audio))
        if not self.start and self.end is None:
            return audio
        end = len(audio.samples) if self.end is None else round(self.end * audio.rate)
        return fade(Audio(audio.samples[round(self.start * audio.rate) : end], audio.rate), EDGE_SECONDS, EDGE_SECONDS)


@dataclass(frozen=True)
class TestItem:
    """One test: say `text` in the voice of `prompt`."""

    __test__ = False  # its name begins like a test's

    id: str
    text: str  # to be spoken; for a continuation, what follows the prompt
    prompt: CorpusExcerpt
    reference: CorpusExcerpt  # a recording of what is judged: `text`, after the prompt's if both are judged
    other: CorpusExcerpt | None = None  # a prompt by another speaker: the control
    condition: str = "clean"  # what is done to the prompt, see `conditions`
    scores_prompt: bool = False  # the beginning as recorded is judged together with what follows
    number: int = 0  # place in the list

    @property
    def language(self) -> str:
        """The language of the text."""
        return self.reference.language

    @property
    def judged_text(self) -> str:
        """What should be heard in what is judged."""
        return f"{self.prompt.text} {self.text}" if self.scores_prompt else self.text

    def judged_audio(self, spoken: Audio, prompt: Audio) -> Audio:
        """Return the sound whose words are `judged_text`: what was spoken, or the prompt and what was spoken."""
        return concatenate([prompt, spoken]) if self.scores_prompt else spoken

    def seed(self, run: int, sample: int = 0) -> int:
        """Return the seed of this item's sample in the run with the seed `run`."""
        return run * 10_007 + self.number + sample * 10_000_019


@dataclass(frozen=True)
class TestList:
    """Items with what made them."""

    __test__ = False  # its name begins like a test's

    protocol: str
    seed: int
    corpus: str  # name of the corpus' folder
    items: tuple[TestItem, ...]
    notes: tuple[str, ...] = field(default=())  # what a reader has to know, such as missing files
    request: str = ""  # what was asked for: the same request on the same corpus gives the same list

    @property
    def digest(self) -> str:
        """Identity of the items: equal digests mean the same test."""
        rows = [json.dumps(asdict(item), sort_keys=True) for item in self.items]
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]

    def write(self, path: Path) -> Path:
        """Write the list, atomically; return its path."""
        head = {"format": FORMAT, "version": VERSION, "protocol": self.protocol, "seed": self.seed}
        head |= {"corpus": self.corpus, "items": len(self.items), "digest": self.digest, "notes": list(self.notes)}
        head["request"] = self.request
        return write_json_lines(path, [head, *(asdict(item) for item in self.items)])

    def limit(self, count: int) -> TestList:
        """Return the first `count` items."""
        if count >= len(self.items):
            return self
        return replace(self, items=self.items[:count], notes=(*self.notes, part_note(count, len(self.items))))


def part_note(count: int, there: int) -> str:
    """Return the note of a list that holds a part of the items there are."""
    return f"{PART} {count} of {there} items"


def is_partial(note: str) -> bool:
    """Return True for a note that says that corpus or list are not complete."""
    return note.startswith((PART, PART_OF_CORPUS))


def read_list(path: Path) -> TestList:
    """Read a test list; `UserError` says what is wrong with the file."""
    try:
        text = read_text(path, most=None)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list {path} ({error})", "check the path") from None
    try:
        head, *rows = [row for _, row in json_lines(text)]
        if head.get("format") != FORMAT:
            raise ValueError("the first line is not that of a test list")
        if head["version"] > VERSION:
            raise UserError(f"the list {path} has version {head['version']}", "update openvalle")
        items = tuple(_item(row) for row in rows)
        found = TestList(
            head["protocol"],
            int(head["seed"]),
            head["corpus"],
            items,
            tuple(head.get("notes", ())),
            head.get("request", ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a test list ({error})", "give an items.jsonl that was written here") from None
    if head["version"] == VERSION and head.get("digest") not in (None, found.digest):
        raise UserError(f"the list {path} was changed after it was written", "remove `digest` from its first line")
    return found


def _item(row: dict[str, Any]) -> TestItem:
    excerpts = {name: CorpusExcerpt(**row[name]) for name in ("prompt", "reference")}
    other = CorpusExcerpt(**row["other"]) if row.get("other") else None
    row = {name: value for name, value in row.items() if name != "continuation"}  # of version 1
    return TestItem(**{**row, **excerpts, "other": other})


def check_files(items: Sequence[TestItem], folders: Folders) -> None:
    """Raise `UserError` if a recording that the items name is not there."""
    missing: dict[str, None] = {}
    for item in items:
        for excerpt in (item.prompt, item.reference, item.other):
            if excerpt and not (folders.get(excerpt.folder, Path()) / excerpt.audio).is_file():
                missing[excerpt.audio] = None
    if missing:
        shown = ", ".join(list(missing)[:3])
        raise UserError(
            f"{len(missing)} recordings of the list are missing, such as {shown}", "check the corpus' folder"
        )
