"""Small prepared folders, made without speech, aligner or codec."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from openvalle.config import write_json_lines
from openvalle.data.shards import to_int16, write_audio, write_tokens
from openvalle.types import Vocabulary

SYMBOLS = ("<pad>", "SIL", "AA1", "B", "K")
LENGTHS = {"anna": (3.0, 1.0, 0.2), "ben": (2.0,), "cleo": (1.5, 2.5)}  # seconds of each row


@pytest.fixture
def audio_folder(tmp_path: Path) -> Path:
    """Audio shards of three speakers; cleo is the split `dev`."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "audio"
    rows = []
    for number, (speaker, lengths) in enumerate(LENGTHS.items()):
        clips = [to_int16(rng.uniform(-0.5, 0.5, round(24_000 * seconds))) for seconds in lengths]
        starts = write_audio(folder / f"audio-{number:05d}.npy", clips)
        for place, (clip, start) in enumerate(zip(clips, starts, strict=True)):
            rows.append(
                {"id": f"{speaker}-{place}", "speaker": speaker, "language": "en", "text": "a b"}
                | {"split": "dev" if speaker == "cleo" else "train", "seconds": len(clip) / 24_000}
                | {"shard": f"audio-{number:05d}.npy", "start": start, "samples": len(clip), "sound": ""}
            )
    write_json_lines(folder / "index.jsonl", rows)
    return tmp_path


def _write_tokens(folder: Path, lengths: dict[str, list[int]]) -> Path:
    """Write token shards, one a speaker; `lengths` are symbols per row, each of 2, 4 or 6 frames."""
    rng = np.random.default_rng(1)
    rows = []
    for number, (speaker, counts) in enumerate(lengths.items()):
        durations = [rng.choice([2, 4, 6], count).tolist() for count in counts]
        symbols = [(1 + np.arange(count) % 4).tolist() for count in counts]
        codes = [rng.integers(0, 1024, (sum(item), 8)) for item in durations]
        shard = f"shard-{number:05d}.safetensors"
        frames, places = write_tokens(folder / "tokens" / shard, codes, symbols, durations)
        for place, item in enumerate(codes):
            rows.append(
                {"id": f"{speaker}-{place}", "speaker": speaker, "language": "en", "split": "train", "text": ""}
                | {"seconds": len(item) / 75, "shard": shard, "frames": len(item), "symbols": counts[place]}
                | {"frame_start": frames[place], "symbol_start": places[place]}
            )
    write_json_lines(folder / "tokens" / "index.jsonl", rows)
    Vocabulary(tuple(SYMBOLS)).save(folder / "tokens" / "symbols.json")
    codec = {"name": "random", "digest": "c0dec", "rate": 24_000, "hop": 320, "codebooks": 8, "entries": 1024}
    (folder / "tokens" / "codec.json").write_text(json.dumps(codec | {"merge": 2}))
    return folder


@pytest.fixture
def make_tokens(tmp_path: Path) -> Callable[..., Path]:
    """Maker of token shards from the symbol counts of each speaker's rows, in a folder of a name that may be given."""
    return lambda lengths, name=".": _write_tokens(tmp_path / name, lengths)


@pytest.fixture
def token_folder(make_tokens: Callable[..., Path]) -> Path:
    """Token shards of 3 speakers with 300, 60 and 1 rows of very different lengths."""
    rng = np.random.default_rng(2)
    counts = {"many": 300, "some": 60, "one": 1}
    return make_tokens({name: rng.integers(8, 160, n).tolist() for name, n in counts.items()})
