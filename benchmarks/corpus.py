"""The speech that the benchmarks use: a folder with `manifest.jsonl` and the audio it names."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openvalle.audio import Audio, normalize, read
from openvalle.errors import UserError

VARIABLE = "OPENVALLE_SPEECH"


@dataclass(frozen=True)
class Utterance:
    """One line of the manifest."""

    id: str
    path: Path
    text: str
    speaker: str
    gender: str
    seconds: float
    split: str

    def audio(self) -> Audio:
        """Return the recording, 24 kHz mono, levelled as the models expect."""
        return normalize(read(self.path))


def read_corpus(folder: str | None) -> list[Utterance]:
    """Return the utterances in `folder` or, if None, in the folder that the environment names."""
    folder = folder or os.environ.get(VARIABLE)
    if not folder:
        raise UserError(
            "the benchmarks need a folder of transcribed speech",
            f"give --data FOLDER or set {VARIABLE}; the folder holds manifest.jsonl, each line with id, audio "
            "(path inside the folder), text, speaker, gender, seconds and split (dev-clean, dev-other)",
        )
    root = Path(folder)
    try:
        lines = (root / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        return [
            Utterance(
                row["id"],
                root / row["audio"],
                row["text"],
                row["speaker"],
                row.get("gender", ""),
                float(row["seconds"]),
                row["split"],
            )
            for row in rows
        ]
    except OSError as error:
        raise UserError(f"cannot read {root / 'manifest.jsonl'} ({error.strerror})", "check --data") from None
    except (json.JSONDecodeError, KeyError) as error:
        raise UserError(f"{root / 'manifest.jsonl'} is not a manifest: {error!r}", "check --data") from None


def choose(utterances: Sequence[Utterance], limit: int, seed: int) -> list[Utterance]:
    """Return up to `limit` utterances, taken in turn from every speaker in an order that `seed` decides."""
    rng = np.random.default_rng(seed)
    queues = defaultdict(list)
    for utterance in sorted(utterances, key=lambda item: item.id):
        queues[utterance.speaker].append(utterance)
    shuffled = [[queue[i] for i in rng.permutation(len(queue))] for _, queue in sorted(queues.items())]
    longest = max((len(queue) for queue in shuffled), default=0)
    turns = [queue[turn] for turn in range(longest) for queue in shuffled if turn < len(queue)]
    return turns[:limit]
