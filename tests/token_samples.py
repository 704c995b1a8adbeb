"""Made-up tokens that a network can be trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openvalle.config import write_json_lines
from openvalle.data.shards import write_tokens
from openvalle.text.symbols import inventory


def write_random_tokens(folder: Path, speakers: Sequence[str], merge: int, splits: dict[str, str]) -> Path:
    """Write a short row for each of `speakers`, in the split that `splits` names for them, else to train on; codebook 1
    is merged. Return the folder."""
    rng = np.random.default_rng(0)
    durations = [[6, 4, 0, 8, 6, 12 + 2 * index] for index in range(len(speakers))]
    codes = [rng.integers(0, 1024, (sum(item), 8)) for item in durations]
    for item in codes:
        item[:, 0] = np.repeat(item[::merge, 0], merge)
    symbols = [[1, 45, 3, 49, 46, 1]] * len(speakers)
    frames, places = write_tokens(folder / "tokens" / "shard-00000.safetensors", codes, symbols, durations)
    rows = [
        {"id": f"{speaker}-{index}", "speaker": speaker, "language": "en", "split": splits.get(speaker, "train")}
        | {"text": "a", "seconds": len(codes[index]) / 75, "shard": "shard-00000.safetensors"}
        | {"frames": len(codes[index]), "symbols": 6, "frame_start": frames[index], "symbol_start": places[index]}
        for index, speaker in enumerate(speakers)
    ]
    write_json_lines(folder / "tokens" / "index.jsonl", rows)
    inventory().vocabulary.save(folder / "tokens" / "symbols.json")
    codec = {"name": "random", "digest": "c0dec", "rate": 24_000, "hop": 320, "codebooks": 8, "entries": 1024}
    (folder / "tokens" / "codec.json").write_text(json.dumps(codec | {"merge": merge}))
    return folder
