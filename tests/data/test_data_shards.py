"""Shards give back what was written, row by row, and say clearly what is wrong with a damaged folder."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from openvalle.config import write_json_lines
from openvalle.data.shards import AudioShards, TokenShards, read_rows, to_int16, write_tokens
from openvalle.errors import ModelError
from openvalle.types import to_alignment


def test_audio_comes_back_within_half_a_step_of_int16():
    samples = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    back = to_int16(samples).astype(np.float32) / 32768
    assert np.abs(back - samples).max() <= 1 / 32768
    assert to_int16(np.array([2.0, -2.0])).tolist() == [32767, -32768]


def test_a_crop_is_a_slice_of_the_row(audio_folder):
    shards = AudioShards.open(audio_folder)
    for index, row in enumerate(shards.rows):
        whole = shards[index].samples
        assert len(whole) == row["samples"]
        np.testing.assert_array_equal(shards.crop(index, 100, 500), whole[100:600])
        assert len(shards.crop(index, row["samples"] - 10, 500)) == 10


def test_a_split_holds_its_own_rows_only(audio_folder):
    assert set(AudioShards.open(audio_folder, "dev").speakers) == {"cleo"}
    with pytest.raises(ModelError, match="it holds dev, train"):
        AudioShards.open(audio_folder, "test")


def test_shards_travel_to_other_processes_without_their_samples(audio_folder):
    shards = AudioShards.open(audio_folder)
    first = shards[0].samples
    carried = pickle.dumps(shards)
    assert len(carried) < 10_000
    np.testing.assert_array_equal(pickle.loads(carried)[0].samples, first)  # noqa: S301


def test_tokens_come_back_as_written(tmp_path, token_folder):
    rng = np.random.default_rng(3)
    codes = [rng.integers(0, 1024, (frames, 8)) for frames in (6, 4)]
    frames, places = write_tokens(
        token_folder / "tokens" / "shard-00000.safetensors", codes, [[1, 2], [3]], [[2, 4], [4]]
    )
    assert (frames, places) == ([0, 6], [0, 2])
    common = {"speaker": "a", "language": "en", "split": "train", "text": "", "seconds": 0.1}
    common |= {"shard": "shard-00000.safetensors"}
    write_json_lines(
        token_folder / "tokens" / "index.jsonl",
        [
            common | {"id": "x", "frames": 6, "symbols": 2, "frame_start": 0, "symbol_start": 0},
            common | {"id": "y", "frames": 4, "symbols": 1, "frame_start": 6, "symbol_start": 2},
        ],
    )
    shards = TokenShards.open(token_folder, "train")
    for index, name in enumerate("xy"):
        item = shards[index]
        assert item.id == name
        assert item.codes.dtype == item.text.dtype == np.int64
        np.testing.assert_array_equal(item.codes, codes[index])
        assert int(item.durations.sum()) == len(item.codes)
    assert to_alignment(shards[0].durations).tolist() == [0, 0, 1, 1, 1, 1]


def test_tokens_of_another_codec_or_table_are_refused(token_folder):
    shards = TokenShards.open(token_folder)
    shards.require(symbols=shards.vocabulary.digest, codec="c0dec")
    with pytest.raises(ModelError, match="another codec"):
        shards.require(codec="other")
    with pytest.raises(ModelError, match="another symbol table"):
        shards.require(symbols="other")


def test_an_altered_table_is_noticed(token_folder):
    path = token_folder / "tokens" / "symbols.json"
    table = json.loads(path.read_text())
    path.write_text(json.dumps(table | {"symbols": table["symbols"][::-1]}))
    with pytest.raises(ModelError, match="altered"):
        TokenShards.open(token_folder)


@pytest.mark.parametrize("kept", [0, 5, 2000])
def test_a_truncated_shard_is_one_clear_error(token_folder, kept):
    path = token_folder / "tokens" / "shard-00000.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match="run `openvalle prepare` again"):
        TokenShards.open(token_folder)[0]


def test_truncated_audio_is_one_clear_error(audio_folder):
    path = audio_folder / "audio" / "audio-00000.npy"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ModelError, match="cannot read"):
        AudioShards.open(audio_folder)[0]


def test_a_folder_without_shards_is_one_clear_error(tmp_path):
    with pytest.raises(ModelError, match="holds no prepared audio"):
        AudioShards.open(tmp_path)
    with pytest.raises(ModelError, match="holds no prepared tokens"):
        TokenShards.open(tmp_path)


def test_a_damaged_manifest_line_is_named(tmp_path):
    path = tmp_path / "index.jsonl"
    path.write_text('{"id": 1}\n{"id": \n')
    with pytest.raises(ModelError, match="line 2"):
        read_rows(path)


@pytest.mark.long
def test_thousands_of_shards_are_read_with_few_open_files(tmp_path):
    """Each shard is read twice, in two orders, by a process that may open 256 files."""
    clip, count = to_int16(np.zeros(8, np.float32)), 3000
    rows = [{"id": str(n), "speaker": "a", "split": "train", "start": 0, "samples": 8} for n in range(count)]
    for n, row in enumerate(rows):
        row["shard"] = f"audio-{n:05d}.npy"
        np.save(tmp_path / row["shard"], clip)
    write_json_lines(tmp_path / "index.jsonl", rows)
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from openvalle.data.shards import AudioShards
shards = AudioShards.open(sys.argv[1])
for row in [*range(len(shards)), *reversed(range(len(shards)))]:
    assert len(shards.crop(row, 0, 8)) == 8
print(len(shards))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == str(count), done.stderr


def test_token_shards_hold_few_maps(make_tokens, monkeypatch):
    monkeypatch.setattr("openvalle.data.shards.MOST_OPEN", 3)
    shards = TokenShards.open(make_tokens({f"s{n}": [4] for n in range(9)}))
    first = [shards[row].codes for row in range(9)]
    assert len(shards._files._shards) == 3
    assert all(np.array_equal(shards[row].codes, first[row]) for row in reversed(range(9)))
