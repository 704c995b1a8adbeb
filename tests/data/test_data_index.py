"""Rows as columns say what their JSON lines do, in memory or mapped; batches follow the weights of few rows or many."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from openvalle.config import write_json_lines
from openvalle.data import draws
from openvalle.data.batches import TokenBatches
from openvalle.data.index import Index, join_indices
from openvalle.data.index_files import INDEX, ROWS, TEXTS, read_index, write_index
from openvalle.data.shards import JoinedShards, TokenShards, read_rows
from openvalle.errors import ModelError


def rows_of(lengths: list[int], speakers: list[str], splits: list[str] | None = None) -> list[dict]:
    """Return rows of these frames and speakers."""
    same = {"language": "en", "shard": "s", "symbols": 1, "frame_start": 0, "symbol_start": 0}
    return [
        {"id": f"r{n}", "speaker": speaker, "split": splits[n] if splits else "train", "text": f"no. {n}"}
        | {"seconds": frames / 75, "frames": frames}
        | same
        for n, (frames, speaker) in enumerate(zip(lengths, speakers, strict=True))
    ]


def some_rows(count: int, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    speakers = [f"s{n}" for n in rng.integers(0, 9, count)]
    splits = [("train", "dev", "a test")[n] for n in rng.choice(3, count, p=[0.7, 0.2, 0.1])]
    return rows_of(rng.integers(20, 300, count).tolist(), speakers, splits)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("splits", [None, ["train"], ["dev", "a test"], ["none"]])
def test_every_row_comes_back_as_its_line_says(tmp_path, mapped, splits):
    rows = some_rows(3000)
    write_json_lines(tmp_path / ROWS, rows)
    if mapped:
        pytest.importorskip("pyarrow")
        write_index(tmp_path)
    index = read_index(tmp_path, splits)
    assert list(index) == [row for row in rows if splits is None or row["split"] in splits]
    assert index.by_length.tolist() == np.argsort(index.frames, kind="stable").tolist()
    speakers = [row["speaker"] for row in index]
    assert index.by_speaker.tolist() == sorted(range(len(index)), key=lambda row: (speakers[row], row))


def test_mapped_rows_draw_the_same_batches(token_folder, monkeypatch):
    pytest.importorskip("pyarrow")
    options = {"max_seconds": 4, "pairs": 0.5, "prompt_seconds": (0.5, 1.5)}
    plain = TokenBatches(TokenShards.open(token_folder, "train"), 4000, 3, **options)
    write_index(token_folder / "tokens")
    (token_folder / "tokens" / ROWS).unlink()  # the columns stand for themselves
    mapped = TokenBatches(TokenShards.open(token_folder, "train"), 4000, 3, **options)
    for step in range(10):
        for one, other in zip(plain.batch(step), mapped.batch(step), strict=True):
            assert one.id == other.id
            assert np.array_equal(one.codes, other.codes)


def test_columns_of_other_rows_count_for_nothing(tmp_path):
    pytest.importorskip("pyarrow")
    rows = some_rows(50)
    write_json_lines(tmp_path / ROWS, rows)
    write_index(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (ROWS, INDEX, TEXTS):
        shutil.copy(tmp_path / name, copy / name)  # at another time, and the same
    (copy / INDEX).rename(copy / "kept")
    assert list(read_index(copy)) == rows
    (copy / "kept").rename(copy / INDEX)
    assert list(read_index(copy)) == rows
    rows[7]["frames"] += 1 if rows[7]["frames"] % 10 < 9 else -1  # a file of the same size
    write_json_lines(tmp_path / ROWS, rows)
    assert list(read_index(tmp_path)) == rows
    before = (tmp_path / INDEX).read_bytes()
    write_index(tmp_path)
    assert (tmp_path / INDEX).read_bytes() != before
    (tmp_path / INDEX).write_bytes(before[: len(before) // 2])
    assert list(read_index(tmp_path)) == rows
    (tmp_path / ROWS).unlink()
    with pytest.raises(ModelError, match=r"cannot read .*index\.arrow"):
        read_index(tmp_path)


@pytest.mark.parametrize("line", ['{"id": "a"}', '{"id": "a", "split": "train", "frames": "x"}', "[]", "{"])
def test_a_damaged_line_is_one_clear_error(tmp_path, line):
    rows = some_rows(3)
    write_json_lines(tmp_path / ROWS, rows)
    with (tmp_path / ROWS).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ModelError, match="damaged"):
        read_index(tmp_path)


def test_joined_rows_are_told_apart_by_their_folder():
    parts = [Index.of(some_rows(20, seed)) for seed in range(3)]
    joined = join_indices(parts, ["0/", "1/", "2/"])
    flat = [(number, row) for number, part in enumerate(parts) for row in part]
    assert list(joined) == [
        row | {"id": f"{number}/{row['id']}", "speaker": f"{number}/{row['speaker']}"} for number, row in flat
    ]


def former_rows(shards: TokenShards, budget: int, seed: int, step: int, power: float, most: int) -> list[int]:
    """Return the rows of a step by weighing every row against every other, as drawing began."""
    frames = np.minimum(shards.frames.astype(np.int64), most)
    order = np.argsort(frames, kind="stable")
    part = shards.part if isinstance(shards, JoinedShards) else None
    assert part is None
    weights = draws.row_weights(shards.speakers, shards.frames, power)[order]
    frames = frames[order]
    anchors = np.cumsum(weights / np.clip(budget // frames, 1, len(order)))
    anchor = int(np.searchsorted(anchors / anchors[-1], draws.even_point(seed, step)[0]))
    low = int(np.searchsorted(frames, frames[anchor] / draws.SPREAD))
    high = int(np.searchsorted(frames, frames[anchor] * draws.SPREAD, side="right"))
    while high - low < min(len(order), budget // int(frames[anchor])):
        low, high = max(0, low - 1), min(len(order), high + 1)
    keys = np.log(weights)[low:high] + draws.draw_generator(seed, step, 0).gumbel(size=high - low)
    keys[anchor - low] = np.inf
    drawn = low + np.argsort(-keys)
    fits = np.maximum.accumulate(frames[drawn]) * np.arange(1, len(drawn) + 1) <= budget
    return order[drawn[: max(1, len(drawn) if fits.all() else int(np.argmin(fits)))]].tolist()


@pytest.mark.parametrize(("budget", "power", "most"), [(4000, 0.5, 9999), (900, 0.0, 250), (30_000, 1.0, 400)])
def test_batches_are_those_of_weighing_every_row(token_folder, budget, power, most):
    shards = TokenShards.open(token_folder)
    batches = TokenBatches(shards, budget, 5, speaker_power=power, max_seconds=most / 75)
    for step in range(150):
        assert batches.rows(step) == former_rows(shards, budget, 5, step, power, most), step


def test_rows_that_are_looked_up_are_drawn_by_the_same_weights(monkeypatch):
    """Both ways of drawing meet each speaker's rows as often, and no row twice in a batch."""
    rng = np.random.default_rng(4)
    speakers = [("many", "some", "few")[n] for n in rng.choice(3, 3000, p=[0.8, 0.17, 0.03])]
    index = Index.of(rows_of([100] * 3000, speakers))
    met: list[np.ndarray] = []
    for few in (1 << 16, 1):
        monkeypatch.setattr(draws, "FEW", few)
        made = draws.RowDraws(index, 2000, 0.5)
        counts = np.zeros(3000)
        for step in range(3000):
            rows = made.draw(draws.even_point(1, step)[0], draws.draw_generator(1, step, 0))
            assert len(set(rows)) == len(rows) == 20
            counts[rows] += 1
        met.append(np.bincount(index.names["speaker"].codes, counts))
    np.testing.assert_allclose(met[1], met[0], rtol=0.03)


def test_running_sums_are_those_of_all_values_at_once(monkeypatch):
    values = np.random.default_rng(2).uniform(0.1, 1, 1000)
    sums = draws.RunningSums(len(values), lambda start, end: values[start:end].copy())
    for start in range(0, 1000, 2 * draws.STRIDE):
        sums.add(values[start : start + 2 * draws.STRIDE].copy())
    whole = np.cumsum(values)
    assert sums.total == whole[-1]
    targets = np.random.default_rng(3).uniform(0, whole[-1], 500)
    assert np.array_equal(sums.find(targets), np.searchsorted(whole, targets))
    for place in (0, 1, draws.STRIDE, 600, 1000):
        assert sums.before(place) == pytest.approx(values[:place].sum())


def test_prepared_tokens_have_columns(token_folder):
    pytest.importorskip("pyarrow")
    write_index(token_folder / "tokens")
    first = (token_folder / "tokens" / INDEX).stat().st_mtime_ns
    write_index(token_folder / "tokens")  # nothing to do
    assert (token_folder / "tokens" / INDEX).stat().st_mtime_ns == first
    assert list(TokenShards.open(token_folder).index) == read_rows(token_folder / "tokens" / ROWS)
