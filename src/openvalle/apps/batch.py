"""Many texts from a table, spoken into a folder. A row that is done is not spoken again, so a batch can be resumed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from openvalle.config import BadLine, Config, append_line, json_lines, write_json_lines
from openvalle.decode.ar import AROptions
from openvalle.errors import AudioError, ConfigError, ModelError, TextError
from openvalle.files import lock_folder, sha256
from openvalle.hub import Kind, find
from openvalle.media import format_ending
from openvalle.pipes import read_bytes, read_given_text
from openvalle.synth.plan import BATCH, Script, parse_script
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.text.language import UserLexicon
from openvalle.text.layout import TextFormat
from openvalle.text.markup import Markup
from openvalle.types import ENGLISH

REPORT = "report.jsonl"
TABLES = {".csv": ",", ".tsv": "\t", ".jsonl": "", ".ndjson": ""}  # ending -> separator of the columns
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


class TableRow(Config):
    """A line of the table. What is left out comes from the command line."""

    text: str = Field(min_length=1, description="what to say")
    id: str = Field("", description="the file's name without its ending; by default the number of the row")
    voice: str | None = Field(None, description="a name, or a file (relative paths count from the table's folder)")
    prompt_text: str | None = Field(None, description="what the voice's clip says")
    seed: int | None = Field(None, ge=0, description="same seed, same sound")
    duration: float | None = Field(None, gt=0, description="seconds that it is to last")

    @field_validator("id")
    @classmethod
    def _names_a_file(cls, value: str) -> str:
        if value and not _ID.fullmatch(value):
            raise ValueError("use up to 100 letters, digits, '-', '_' and '.', and no '.' at the start")
        return value


@dataclass(frozen=True)
class Outcome:
    """What became of a row. `status`: spoken, kept (it was there already) or failed."""

    status: str
    entry: dict[str, Any]  # its line in the report
    seconds: float = 0.0


def read_table(path: Path) -> list[TableRow]:
    """Return the rows of a CSV, TSV (both with a header) or JSONL file; `ConfigError` names the first bad one."""
    if path.suffix.lower() not in TABLES:
        raise ConfigError(f"cannot read {path.name} as a table", f"end its name in {' '.join(TABLES)}")
    text = read_given_text(path)
    rows = []
    for number, (line, values) in enumerate(_read_values(path, text), start=1):
        if unknown := [str(key) for key in values if key not in TableRow.model_fields]:
            raise ConfigError(
                f"{path}, line {line}: unknown column {unknown[0]!r}", f"use {', '.join(TableRow.model_fields)}"
            )
        row = TableRow.parse(values, f"{path}, line {line}")
        rows.append(row.model_copy(update={"id": row.id or f"{number:05}"}))
    if not rows:
        raise ConfigError(f"{path} holds no rows", "write one line for each text")
    met = Counter(row.id.casefold() for row in rows)
    if twice := [row.id for row in rows if met[row.id.casefold()] > 1]:
        raise ConfigError(f"{path}: two rows have the id {twice[0]!r}", "give each row another id")
    return rows


def _read_values(path: Path, text: str) -> Iterator[tuple[int, dict[Any, Any]]]:
    """Yield the line number and the filled cells of each row."""
    separator = TABLES[path.suffix.lower()]
    if separator:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restkey="(a cell without a header)")
        try:
            for values in reader:
                yield reader.line_num, {key: cell for key, cell in values.items() if cell not in (None, "")}
        except csv.Error as error:
            raise ConfigError(f"{path}, line {reader.line_num}: {error}", "check the quotes") from None
        return
    try:
        for number, values in json_lines(text):
            if not isinstance(values, dict):
                raise ConfigError(f"{path}, line {number} is not an object", 'write lines like {"text": "Hello."}')
            yield number, {key: value for key, value in values.items() if value is not None}
    except BadLine as error:
        raise ConfigError(
            f"{path}, line {error.number} is not JSON: {error.reason}", "write one object per line"
        ) from None


@dataclass(frozen=True)
class PendingRow:
    """A row that is to be spoken. `key`: see `TableJob._digest`; `lines`: of its script."""

    row: TableRow
    key: str
    script: Script
    lines: int
    voice: Voice


@dataclass(frozen=True)
class TableJob:
    """How a table is spoken: what its rows leave out, and where the files go."""

    synthesizer: Synthesizer
    folder: Path
    base: Path  # the table's folder
    voice: str | None = None
    prompt_text: str | None = None
    seed: int = 0
    file_format: str = "wav"
    options: AROptions | None = None
    markup: Markup | str = Markup.AUTO
    lexicon: UserLexicon = field(default_factory=dict)
    channel: str = "auto"  # of clips that are voices
    consent: str = ""  # to the use of clips that are voices: who agreed, and when
    text_format: TextFormat | str = TextFormat.AUTO  # how the texts are written
    language: str = ""  # of the rows; empty: as their script shows
    prompt_language: str = ENGLISH  # of clips that are voices
    _voices: dict[tuple[str | None, str | None], Voice] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        """The file that says what became of every row."""
        return self.folder / REPORT

    def run(self, rows: Sequence[TableRow], resume: bool = True) -> Iterator[Outcome]:
        """Speak the rows, a few at a time, and yield what became of each, once it is on the disk.

        With `resume`, rows whose file is there as it was written, from the same text, voice and settings, are kept. A
        row that cannot be spoken does not stop the others. `AudioError` if a file cannot be written, `UserError` if
        another process is at the same folder.
        """
        format_ending(None, self.file_format)
        languages = self.synthesizer.find_languages(self.language)
        with lock_folder(self.folder):
            done = self._read_report() if resume else {}
            waiting: list[PendingRow] = []
            kept = []
            failed = []
            for row in rows:
                try:
                    key = self._digest(row)
                    entry = done.get(row.id)
                    if entry and self._is_kept(row, key, entry):
                        kept.append(Outcome("kept", entry, entry["seconds"]))
                        continue
                    script = parse_script(row.text, self.markup, self.lexicon, self.text_format)
                    script.cast(self.synthesizer.voice)  # a voice in it that is not known is an error of the row
                    lines = sum(1 for _ in script.in_languages(languages.spoken).sentences(languages=languages))
                    waiting.append(PendingRow(row, key, script, lines, self._load_voice(row)))
                except (TextError, ModelError, AudioError) as error:
                    failed.append(Outcome("failed", {"id": row.id, "status": "failed", "error": str(error)}))
            write_json_lines(self.report, [outcome.entry for outcome in (*kept, *failed)])
            yield from (*kept, *failed)
            for group in _group_rows(waiting):
                yield from self._speak(group)

    def _speak(self, group: Sequence[PendingRow]) -> Iterator[Outcome]:
        spoken = self.synthesizer.say_batch(
            [pending.script for pending in group],
            [pending.voice for pending in group],
            seed=[self._choose_seed(pending.row) for pending in group],
            options=self.options,
            duration=[pending.row.duration for pending in group],
            language=self.language,
        )
        for pending, speech in zip(group, spoken, strict=True):
            row = pending.row
            path = speech.save(self._path(row), self.file_format)
            entry = {
                "id": row.id,
                "status": "spoken",
                "path": path.name,
                "seconds": round(speech.seconds, 3),
                "text": row.text,
                "voice": row.voice or self.voice,
                "seed": self._choose_seed(row),
                "quality": speech.quality.as_dict(),
                "key": pending.key,
                "digest": sha256(path),
            }
            append_line(self.report, entry)
            yield Outcome("spoken", entry, speech.seconds)

    def _path(self, row: TableRow) -> Path:
        return self.folder / f"{row.id}{format_ending(None, self.file_format)}"

    def _is_kept(self, row: TableRow, key: str, entry: dict[str, Any]) -> bool:
        """Return True if the row's file is what the entry of an earlier report says it is, and what is wanted."""
        path = self._path(row)
        is_meant = (entry.get("key"), entry.get("path")) == (key, path.name)
        if not is_meant or not isinstance(entry.get("seconds"), int | float) or not path.is_file():
            return False
        return sha256(path) == entry.get("digest")

    def _choose_seed(self, row: TableRow) -> int:
        return self.seed if row.seed is None else row.seed

    def _choose_voice(self, row: TableRow) -> tuple[str | None, str | None]:
        """Return a row's voice and what its clip says."""
        if row.voice is None:
            return self.voice, row.prompt_text or self.prompt_text
        beside = self.base / row.voice
        return str(beside) if beside.is_file() else row.voice, row.prompt_text

    def _load_voice(self, row: TableRow) -> Voice:
        """Return a row's voice; each is read once."""
        name = self._choose_voice(row)
        if name not in self._voices:
            about = {"consent": self.consent, "channel": self.channel, "language": self.prompt_language}
            self._voices[name] = self.synthesizer.voice(*name, **about)
        return self._voices[name]

    def _digest(self, row: TableRow) -> str:
        """Return what tells whether a row must be spoken again."""
        voice, prompt_text = self._choose_voice(row)
        what = [
            row.text,
            self.markup,
            dict(self.lexicon),
            voice and sha256(find(Kind.VOICE, voice)),
            prompt_text,
            self.channel,
            self._choose_seed(row),
            row.duration,
            self.file_format,
            *([] if self.text_format == TextFormat.AUTO else [self.text_format]),
            *([self.language, self.prompt_language] if self.language or self.prompt_language != ENGLISH else []),
        ]
        options = (self.options or self.synthesizer.options).model_dump(mode="json")
        mark = self.synthesizer.provenance.watermark
        facts = json.dumps([*what, options, mark, self.synthesizer.describe()], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:32]

    def _read_report(self) -> dict[str, dict[str, Any]]:
        """Return the spoken rows of an earlier report, by id. A line that was cut off is left out."""
        entries = {}
        if self.report.is_file():
            for line in read_bytes(self.report, None).decode("utf-8", "replace").split("\n"):
                with suppress(BadLine):
                    for _, entry in json_lines(line):
                        if isinstance(entry, dict) and entry.get("status") == "spoken":
                            entries[str(entry.get("id"))] = entry
        return entries


def _group_rows(pending_rows: Sequence[PendingRow]) -> Iterator[list[PendingRow]]:
    """Yield the rows that are spoken together: as many lines as are spoken at a time, or one row with more.

    They reach the disk together, so that this is what an interruption loses at most.
    """
    group: list[PendingRow] = []
    for pending in pending_rows:
        if group and sum(each.lines for each in group) + pending.lines > BATCH:
            yield group
            group = []
        group.append(pending)
    if group:
        yield group
