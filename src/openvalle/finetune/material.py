"""Speech to fine-tune on: any corpus, or clips with or without words -> tokens, of which some are held out."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from openvalle.audio import RATE, Audio
from openvalle.codec.load import find_kept_codec
from openvalle.config import write_json_lines
from openvalle.data.index_files import write_index
from openvalle.data.shards import AudioShards, Row, TokenShards, read_rows
from openvalle.errors import UserError
from openvalle.files import write_text
from openvalle.model.bundle import OWN, BundleConfig
from openvalle.prepare.executor import Progress
from openvalle.prepare.run import PrepareOptions, Step, prepare
from openvalle.prepare.transcribe import TranscribeSettings
from openvalle.text.symbols import SymbolTable
from openvalle.types import Vocabulary

log = logging.getLogger(__name__)

TRAIN, HELD_OUT = "train", "held-out"
LEAST_SECONDS, LEAST_CLIPS, MOST_HELD_OUT = 30.0, 4, 32
GOOD_PROMPT = (4.0, 10.0)  # seconds of a clip that a voice is caught by


@dataclass(frozen=True)
class Material:
    """Prepared speech: `tokens` is a folder that training opens, `rows` the utterances with their sound's place."""

    tokens: Path
    audio: Path
    rows: list[Row]

    def of(self, split: str) -> list[Row]:
        """Return the utterances of a split."""
        return [row for row in self.rows if row["split"] == split]

    @property
    def seconds(self) -> float:
        """Length of all of it."""
        return float(sum(row["seconds"] for row in self.rows))

    def sounds(self, rows: list[Row]) -> list[Audio]:
        """Return the recordings of utterances."""
        shards = AudioShards(self.audio, rows)
        return [Audio(shards.crop(index, 0, row["samples"]), RATE) for index, row in enumerate(rows)]

    def prompts(self) -> list[Row]:
        """Return the training utterances, those first that are likely to catch the voice best."""
        least, most = GOOD_PROMPT

        def rank(row: Row) -> tuple[bool, float]:
            return not least <= row["seconds"] <= most, -row.get("score", 0.0)

        return sorted(self.of(TRAIN), key=rank)


def gather(
    source: Path,
    out: Path,
    folder: Path,
    config: BundleConfig,
    share: float,
    asr: str,
    jobs: int,
    progress: Progress | None,
) -> Material:
    """Prepare `source` for the model in `folder`, in `out`; hold a `share` of the utterances out.

    Recordings without words are cut where nobody speaks and transcribed. `UserError` if too little is left.
    """
    table = folder / "symbols.json"
    options = PrepareOptions(
        text_unit=SymbolTable(Vocabulary.load(table)).unit,
        symbols=table,
        merge=config.ar.merge,
        transcribe=TranscribeSettings(recognizer=asr),
    )
    codec = str(find_kept_codec(config.codec.name, folder / OWN))
    prepare(source, out, codec, jobs, options=options, progress=progress)
    places = {row["id"]: row for row in read_rows(_find_sounds(out))}
    tokens = hold_out(read_rows(out / Step.TOKENS / "index.jsonl"), share)
    rows = [places[row["id"]] | {"split": row["split"]} for row in tokens]
    found = Material(_view(out, tokens), out / Step.AUDIO, rows)
    if len(rows) < LEAST_CLIPS or found.seconds < LEAST_SECONDS:
        raise UserError(
            f"only {found.seconds:.0f} s of speech in {len(rows)} utterances can be used of {source}",
            f"give {LEAST_SECONDS:.0f} s in {LEAST_CLIPS} utterances at least, better 10 minutes; "
            f"{out / 'rejected.jsonl'} says what was left out and why",
        )
    return found


def _find_sounds(out: Path) -> Path:
    """Return the index of the last step whose rows say where their sound is."""
    steps = (out / step / "index.jsonl" for step in (Step.ALIGN, Step.TRANSCRIBE, Step.AUDIO))
    return next(path for path in steps if path.is_file())


def hold_out(rows: list[Row], share: float) -> list[Row]:
    """Return the rows with the split `held-out` for a share of them, chosen by their ids alone, and `train` for all
    others. One at least is held out, and those of one voice as well as those of many."""
    order = sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    count = min(MOST_HELD_OUT, max(1, round(share * len(rows))))
    chosen = {row["id"] for row in order[:count]}
    return [row | {"split": HELD_OUT if row["id"] in chosen else TRAIN} for row in rows]


def _view(out: Path, rows: list[Row]) -> Path:
    """Write an index of the same shards with other splits, in a folder of its own; return that."""
    view, tokens = out / "chosen" / "tokens", out / Step.TOKENS
    fields = (
        "id",
        "speaker",
        "language",
        "split",
        "text",
        "seconds",
        "frames",
        "symbols",
        "frame_start",
        "symbol_start",
    )
    written = [{key: row[key] for key in fields} | {"shard": f"../../{Step.TOKENS}/{row['shard']}"} for row in rows]
    for name in ("symbols.json", "codec.json"):
        write_text(view / name, (tokens / name).read_text(encoding="utf-8"))
    write_json_lines(view / "index.jsonl", written)
    write_index(view)
    TokenShards.open(view)  # what is wrong with it is said now
    return view
