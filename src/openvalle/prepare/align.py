"""The align step: which phone is spoken when; utterances that do not fit their text are left out.

Long utterances are cut where the speaker pauses.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from pydantic import Field

from openvalle.audio import RATE, Audio
from openvalle.config import Config
from openvalle.data.shards import AudioShards, Row, read_rows
from openvalle.errors import AudioError, ModelError
from openvalle.prepare.units import ROWS, Target, try_each
from openvalle.speech_models.aligner import POOR_SCORE, PhoneAlignment, PhoneSpan, mark_edges
from openvalle.speech_models.aligners import AUTO, PhoneAligner
from openvalle.text.language import phonemize
from openvalle.text.nearest import find_ears, to_units
from openvalle.text.sentences import join_words
from openvalle.types import SIL


def cut(spans: Sequence[PhoneSpan], min_seconds: float, max_seconds: float) -> list[list[PhoneSpan]]:
    """Return the spans of the whole utterance if it lasts up to `max_seconds`, else of pieces that do.

    Each cut lies in the middle of the longest pause that leaves a piece of at least half of `max_seconds`, or,
    failing that, any piece of `min_seconds`. `AudioError` if there is no pause where one is needed.
    """
    rest = list(spans)
    pieces: list[list[PhoneSpan]] = []
    while rest[-1].end - rest[0].start > max_seconds:
        place = _place(rest, min_seconds, max_seconds)
        pause = rest[place]
        middle = (pause.start + pause.end) / 2
        pieces.append([*rest[:place], PhoneSpan(SIL, pause.start, middle)])
        rest = [PhoneSpan(SIL, middle, pause.end), *rest[place + 1 :]]
    return [*pieces, rest]


def _place(spans: Sequence[PhoneSpan], min_seconds: float, max_seconds: float) -> int:
    """Return the index of the pause to cut at."""
    start, end = spans[0].start, spans[-1].end
    for least in (max_seconds / 2, min_seconds):
        pauses = [
            (span.seconds, index)
            for index, span in enumerate(spans)
            if span.symbol == SIL
            and 0 < index < len(spans) - 1
            and least <= (span.start + span.end) / 2 - start <= max_seconds
            and end - (span.start + span.end) / 2 >= min_seconds
        ]
        if pauses:
            return max(pauses)[1]
    raise AudioError(
        f"no pause to cut at between {start + min_seconds:.1f} s and {start + max_seconds:.1f} s",
        "cut the recording by hand",
    )


log = logging.getLogger(__name__)


class AlignSettings(Config):
    """Which aligned utterances are kept, and how long they may be."""

    backend: str = Field(default="builtin", description="maker of phonemes")
    aligner: str = Field(default=AUTO, description="auto, pocketsphinx, ctc or ctc:FOLDER of `openvalle train aligner`")
    min_score: float | None = Field(
        default=None, le=0, description="mean log-likelihood of a frame; None: what wrong words have by this aligner"
    )
    min_rate: float = Field(default=4.0, ge=0, description="phones a second of speech, pauses not counted")
    max_rate: float = Field(default=24.0, gt=0, description="phones a second of speech, pauses not counted")
    max_phone_seconds: float = Field(default=1.0, gt=0, description="a longer phone is a lost alignment")
    min_seconds: float = Field(default=0.5, ge=0, description="shortest piece of a cut utterance")
    max_seconds: float = Field(default=20.0, gt=0, description="longer utterances are cut at long pauses")


def add_words(rows: list[Row], settings: AlignSettings) -> tuple[list[Row], list[Row]]:
    """Return the rows with `words` as [text, phone, phone, ...] each, and the ones without words to speak.

    This is part of the input of the alignment, so that better phones redo exactly the utterances they change.
    """
    done, rejected = try_each(rows, lambda _, row: phonemize(row["text"], row["language"], settings.backend))
    return [row | {"words": [[word.text, *to_units(word.phones)] for word in words]} for row, words in done], rejected


@dataclass(frozen=True)
class AlignWork:
    """Work of the align step on one unit. Utterances whose input did not change are not aligned again."""

    audio: Path
    settings: AlignSettings
    aligners: Mapping[str, PhoneAligner]

    def __call__(self, target: Target, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """Return the aligned rows (several for a cut utterance) and the rejected ones."""
        before = {} if target.before is None else _read_before(target.before)
        rows, speechless = add_words(rows, self.settings)
        shards = AudioShards(self.audio, rows)

        def align(index: int, row: Row) -> list[Row]:
            digest = self.aligners[row["language"]].digest  # wherever its folder lies
            by = self.settings.model_dump() | {"aligner": digest}
            said = {name: value for name, value in row.items() if name not in ("shard", "start")}
            text = json.dumps([by, said], sort_keys=True)
            key = hashlib.sha256(text.encode()).hexdigest()[:16]
            if key in before:
                return _move(before[key], row)
            return [piece | {"input": key} for piece in self._align(row, shards[index])]

        done, rejected = try_each(rows, align)
        return [piece for _, pieces in done for piece in pieces], speechless + rejected

    def _align(self, row: Row, audio: Audio) -> Iterator[Row]:
        words = [(word[0], tuple(word[1:])) for word in row["words"]]
        aligner = self.aligners[row["language"]]
        alignment = aligner.align_scored(audio, words, find_ears(row["language"], aligner.symbols))
        check(alignment, self.settings, aligner.poor_score)
        spans = mark_edges(alignment.spans, audio)
        pieces = cut(spans, self.settings.min_seconds, self.settings.max_seconds)
        for number, piece in enumerate(pieces):
            name = row["id"] if len(pieces) == 1 else f"{row['id']}-{number}"
            yield _piece_row(row | {"id": name}, piece, whole=len(pieces) == 1, score=alignment.score)


def _read_before(folder: Path) -> dict[str, list[Row]]:
    """Return the rows of an earlier, different result of a unit by the digest of their input."""
    found: dict[str, list[Row]] = {}
    with suppress(ModelError):
        for row in read_rows(folder / ROWS):
            if "input" in row:
                found.setdefault(row["input"], []).append(row)
    return found


def _move(pieces: list[Row], row: Row) -> list[Row]:
    """Return the pieces of a row whose sound lies elsewhere now; the first piece begins where the row does."""
    moved = row["start"] - pieces[0]["start"]
    return [piece | {"shard": row["shard"], "start": piece["start"] + moved} for piece in pieces]


def check(alignment: PhoneAlignment, settings: AlignSettings, poor: float = POOR_SCORE) -> None:
    """Raise `AudioError` with the reason if the words are probably not what is said in the clip.

    `poor`: the least score where the settings name none.
    """
    if alignment.score < (poor if settings.min_score is None else settings.min_score):
        raise AudioError(f"the text does not fit the sound: score {alignment.score:.1f}")
    spoken = [span for span in alignment.spans if span.symbol != SIL]
    longest = max(spoken, key=lambda span: span.seconds)
    if longest.seconds > settings.max_phone_seconds:
        raise AudioError(f"{longest.symbol} lasts {longest.seconds:.2f} s at {longest.start:.2f} s")
    rate = len(spoken) / sum(span.seconds for span in spoken)
    if not settings.min_rate <= rate <= settings.max_rate:
        raise AudioError(f"{rate:.1f} phones a second")


def _piece_row(row: Row, piece: Sequence[PhoneSpan], *, whole: bool, score: float) -> Row:
    start = round(piece[0].start * RATE)
    end = row["samples"] if whole else min(row["samples"], round(piece[-1].end * RATE))
    words = sorted({span.word for span in piece if span.word >= 0})
    texts = [word[0] for word in row["words"]]
    # A word whose only phone joined its neighbour's equal one has no span of its own, but is spoken here.
    first, last = (0, len(texts) - 1) if whole else (words[0], words[-1])
    return {
        "id": row["id"],
        "speaker": row["speaker"],
        "language": row["language"],
        "split": row["split"],
        "text": row["text"] if whole else join_words(texts[first : last + 1]),
        "seconds": round((end - start) / RATE, 4),
        "shard": row["shard"],
        "start": row["start"] + start,
        "samples": end - start,
        "sound": row["sound"],
        "recording": row["recording"],
        "heard": row["heard"],
        "score": round(score, 3),
        "words": texts[first : last + 1],
        "spans": [_span_row(span, piece[0].start, first) for span in piece],
    }


def _span_row(span: PhoneSpan, start: float, first_word: int) -> list[str | float | int]:
    word = span.word - first_word if span.word >= 0 else -1
    return [span.symbol, round(span.start - start, 4), round(span.end - start, 4), word]


def read_spans(row: Row) -> list[PhoneSpan]:
    """Return the spans of an aligned row, in seconds from its start."""
    return [PhoneSpan(*span) for span in row["spans"]]


def summarize(rows: Iterable[Row]) -> str:
    """Return figures to judge an alignment by."""
    scores, seconds, pauses, phones = [], 0.0, 0.0, 0
    for row in rows:
        spans = read_spans(row)
        seconds += row["seconds"]
        pauses += sum(span.seconds for span in spans if span.symbol == SIL)
        phones += sum(span.symbol != SIL for span in spans)
        scores.append(row["score"])
    rate = phones / max(1e-9, seconds - pauses)
    share = 100 * pauses / max(1e-9, seconds)
    return f"median score {np.median(scores):.2f}, {rate:.1f} phones a second, {share:.0f} % pauses"


@cache
def front_end_digest() -> str:
    """Return a digest of what makes phones of texts: the code and the tables in this package.

    It is part of the name of a unit, so that units are looked at again when phones may have changed; utterances whose
    phones did not change are taken over.
    """
    digest = hashlib.blake2b(digest_size=8)
    package = resources.files("openvalle")
    for folder in (package / "text", *(package / "assets" / name for name in ("lexicon", "g2p", "homographs"))):
        for file in sorted(folder.iterdir(), key=lambda each: each.name):
            if file.is_file():
                digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
