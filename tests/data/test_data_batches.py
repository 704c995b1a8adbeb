"""Batches are a pure function of (seed, step, rank), fit their budget, waste little and follow the weights."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from openvalle.data.batches import TokenBatches, crop, join_utterances, list_batches
from openvalle.data.draws import row_weights
from openvalle.data.index import Index
from openvalle.data.shards import JoinedShards, TokenShards
from openvalle.decode.prompt import prepare_inputs, zero_shot
from openvalle.errors import ModelError
from openvalle.model.ar import ar_examples
from openvalle.model.batch import Batch
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.nar import nar_examples
from openvalle.train.samples import with_language
from openvalle.types import TokenSpec, Utterance, Vocabulary

BUDGET = 4000


@pytest.fixture
def shards(token_folder):
    return TokenShards.open(token_folder)


def test_a_batch_depends_on_seed_step_and_rank_alone(shards):
    first, second = (TokenBatches(shards, BUDGET, seed=5, rank=1, world=2, max_seconds=4) for _ in range(2))
    late = second.batch(7)  # asked first here, last there
    for step in range(7):
        first.batch(step)
    for a, b in zip(first.batch(7), late, strict=True):
        assert a.id == b.id
        assert np.array_equal(a.codes, b.codes)
    assert first.rows(7) != first.rows(8)
    assert first.rows(7) != TokenBatches(shards, BUDGET, seed=5, rank=0, world=2, max_seconds=4).rows(7)
    assert first.rows(7) != TokenBatches(shards, BUDGET, seed=6, rank=1, world=2, max_seconds=4).rows(7)
    assert [item.id for item in late] == [shards.index.id(row) for row in first.rows(7)]


def test_batches_fit_the_budget_with_little_padding(shards):
    batches = TokenBatches(shards, BUDGET)
    frames = shards.frames
    used = padded = 0
    for step in range(200):
        rows = batches.rows(step)
        assert len(set(rows)) == len(rows)
        size = int(frames[rows].max()) * len(rows)
        assert size <= BUDGET or len(rows) == 1
        used += int(frames[rows].sum())
        padded += size
    assert 1 - used / padded < 0.10
    assert padded > 0.75 * BUDGET * 200


def test_speakers_are_drawn_by_hours_to_the_power(make_tokens):
    shards = TokenShards.open(make_tokens({"many": [20] * 400, "some": [20] * 100}))
    speakers = np.array(shards.speakers)
    # Small batches: rows of one batch differ, which evens speakers out where a batch takes most of a window.
    batches = TokenBatches(shards, 400, speaker_power=0.5)
    drawn = np.concatenate([batches.rows(step) for step in range(2000)])
    hours = {name: shards.frames[speakers == name].sum() for name in ("many", "some")}
    wanted = (hours["many"] / hours["some"]) ** 0.5
    found = (speakers[drawn] == "many").sum() / (speakers[drawn] == "some").sum()
    assert found == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("world", [1, 2])
def test_every_row_meets_every_stage_about_equally_often(make_tokens, world):
    shards = TokenShards.open(make_tokens({"a": [20] * 10, "b": [20] * 10}))
    ranks = [TokenBatches(shards, 1, rank=rank, world=world, speaker_power=1.0) for rank in range(world)]
    met = np.zeros((len(shards), 7), int)
    for step in range(1400 // world):  # ten times each; chance would let some meet three times and some eighteen
        for batches in ranks:
            (row,) = batches.rows(step)
            met[row, int(7 * batches.stage_uniform(step))] += 1
    assert met.min() >= 7, met
    assert met.max() <= 13, met


def test_long_and_short_rows_are_met_equally_often(make_tokens):
    shards = TokenShards.open(make_tokens({"a": [16] * 20 + [20] * 20}))
    batches = TokenBatches(shards, int(shards.frames.max()))  # no two rows fit
    met = np.bincount(np.concatenate([batches.rows(step) for step in range(2000)]), minlength=40)
    assert met.min() >= 49, met
    assert met.max() <= 51, met


@pytest.mark.parametrize(("power", "share"), [(0.0, 0.5), (0.5, 2 / 3), (1.0, 0.8)])
def test_row_weights(power, share):
    weights = row_weights(["a", "a", "b"], np.array([10, 30, 10]), power)
    assert weights.sum() == pytest.approx(1)
    assert weights[:2].sum() == pytest.approx(share)
    assert weights[0] == weights[1]
    by_length = row_weights(["a", "a", "b"], np.array([10, 30, 10]), power, by_length=True)
    assert by_length[1] == pytest.approx(3 * by_length[0])
    assert by_length[:2].sum() == pytest.approx(share)


def test_a_row_larger_than_the_budget_is_a_batch_of_its_own(shards):
    assert all(len(TokenBatches(shards, 10).rows(step)) == 1 for step in range(20))


def test_long_rows_are_cropped(shards):
    batches = TokenBatches(shards, BUDGET, max_seconds=2)
    assert all(len(item.codes) <= 150 for step in range(20) for item in batches.batch(step))


def test_crops_of_long_recordings_are_as_long_as_valle_has_them(make_tokens):
    """10 to 20 s of recordings of a minute (VALL-E 5.1), with their phones, and the recording for the prompt."""
    folder = make_tokens({"anna": [1100] * 4, "ben": [1150] * 3, "cleo": [40] * 3})  # a minute, and 2 s
    shards = TokenShards.open(folder)
    batches = TokenBatches(shards, 6000, 3, max_seconds=20, min_seconds=10)
    lengths = []
    for step in range(60):
        batch = batches.batch(step)
        for item in batch:
            whole = shards[item.row]
            if len(whole.codes) < 300:
                continue
            lengths.append(len(item.codes) / 75)
            start = item.speaker_start
            assert np.array_equal(item.speaker_codes, whole.codes)
            assert np.array_equal(item.codes, whole.codes[start : start + len(item.codes)])
            first = int(np.searchsorted(np.cumsum(whole.durations), start, side="right"))
            assert np.array_equal(item.text, whole.text[first : first + len(item.text)])
            assert int(item.durations.sum()) == len(item.codes)
        assert sum(len(item.codes) for item in batch) <= 6000
    assert min(lengths) > 9.8 and max(lengths) <= 20 and min(lengths) < 11 and max(lengths) > 19
    assert np.mean(lengths) == pytest.approx(15, abs=1.5)
    again = TokenBatches(shards, 6000, 3, max_seconds=20, min_seconds=10).batch(7)
    assert all(np.array_equal(a.codes, b.codes) for a, b in zip(again, batches.batch(7), strict=True))


def test_validation_visits_every_row_once_in_a_fixed_order(shards):
    batches = list_batches(shards, BUDGET)
    assert sorted(row for rows in batches for row in rows) == list(range(len(shards)))
    assert batches == list_batches(shards, BUDGET)
    assert all(shards.frames[rows].max() * len(rows) <= BUDGET for rows in batches)


def _utterance(durations: list[int]) -> Utterance:
    frames = sum(durations)
    codes = np.repeat(np.arange(frames)[:, None], 8, axis=1)
    return Utterance(np.arange(len(durations)) + 1, codes, np.array(durations))


def test_a_crop_is_a_run_of_whole_symbols_with_their_frames():
    rng = np.random.default_rng(0)
    for _ in range(100):
        whole = _utterance((2 * rng.integers(1, 6, 40)).tolist())
        part = crop(whole, 60, rng)
        first = int(part.text[0]) - 1
        assert 45 < len(part.codes) <= 60
        assert part.text.tolist() == list(range(first + 1, first + 1 + len(part.text)))
        assert np.array_equal(part.durations, whole.durations[first : first + len(part.text)])
        assert part.codes[0, 0] == whole.durations[:first].sum()
        assert int(part.durations.sum()) == len(part.codes)


def test_a_crop_never_splits_a_merged_frame():
    rng = np.random.default_rng(1)
    whole = _utterance([3, 3, 2, 4, 1, 5, 2, 2, 3, 3])
    for _ in range(50):
        part = crop(whole, 10, rng)
        assert int(part.codes[0, 0]) % 2 == 0
        assert len(part.codes) % 2 == 0


def test_an_utterance_that_fits_is_not_cropped():
    whole = _utterance([2, 4, 6])
    assert crop(whole, 12, np.random.default_rng(0)) is whole


def test_building_batches_is_linear_in_the_rows(tmp_path):
    """Four times the rows cost less than five times the time, and a corpus' worth of them is a matter of seconds."""
    codec = TokenSpec(name="any")

    def seconds(count: int) -> float:
        same = {"language": "en", "split": "train", "shard": "", "text": "", "seconds": 1.0}
        same |= {"symbols": 1, "frame_start": 0, "symbol_start": 0}
        rows = [same | {"id": str(n), "speaker": f"s{n % 50}", "frames": 100 + n % 900} for n in range(count)]
        shards = TokenShards(tmp_path, Index.of(rows), Vocabulary(("<pad>",)), codec)
        taken = []
        for _ in range(3):
            start = time.process_time()
            TokenBatches(shards, 2000).rows(0)
            list_batches(shards, 2000)
            taken.append(time.process_time() - start)
        return min(taken)

    few, many = seconds(8_000), seconds(32_000)
    assert many < max(5 * few, 0.2), (few, many)  # a few milliseconds make no ratio


def test_pairs_begin_with_another_utterance_of_the_speaker_as_when_speaking(make_tokens):
    """Text, codes and path of a pair are those of a zero-shot prompt followed by what is then said."""
    shards = TokenShards.open(make_tokens({"many": [20, 25, 30, 40], "alone": [30]}))
    batches = TokenBatches(shards, 600, pairs=1.0, prompt_seconds=(0.2, 0.8))
    config = ARConfig(symbols=5, alignment="phoneme", merge=2)
    found = [row for step in range(40) for row in batches.batch(step)]
    assert {row.prompt_frames is None for row in found if row.id.startswith("alone")} == {True}
    pairs = [row for row in found if row.id.startswith("many")]
    assert pairs
    for row in pairs:
        count = row.prompt_frames
        assert count is not None and 0 < count <= 60 and count % 2 == 0
        symbols = int((row.durations.cumsum(0) <= count).sum())
        spoken = shards[row.row]
        assert np.array_equal(row.codes[count:], spoken.codes)
        assert np.array_equal(row.text[symbols:], spoken.text)
        assert row.text[symbols - 1] != row.text[symbols]
        recording = Utterance(row.text[:symbols], row.codes[:count], row.durations[:symbols])
        prompt = zero_shot(config, recording, spoken.text).ar(config)
        assert np.array_equal(prompt.text, row.text)
        padded = Batch.of([row], merge=2)
        assert padded.prompt_lens.tolist() == [count]
        assert np.array_equal(padded.alignment[0, :count:2].numpy(), prompt.alignment[: count // 2])


def test_a_prompt_in_another_language_keeps_it_as_when_it_prompts_a_line():
    """VALL-E X 3.3: each frame has its own language's id, <BOS> the first frame's; the target has its own."""
    config = ARConfig.parse({"symbols": 9, "codebook_size": 8, "alignment": "phoneme", "merge": 2, "languages": 2})
    rng = np.random.default_rng(0)
    english = Utterance(np.array([1, 3, 4]), rng.integers(8, size=(8, 8)), np.array([2, 4, 2]), language_name="en")
    chinese = Utterance(np.array([1, 5, 6]), rng.integers(8, size=(6, 8)), np.array([2, 2, 2]), language_name="zh")
    names = {"en": 1, "zh": 2}
    row = with_language(join_utterances(english, chinese, 2), names)
    prompt = zero_shot(config, with_language(english, names), chinese.text, 2)
    read = prepare_inputs(config, [prompt.ar(config)])
    batch = Batch.of([row, replace(row, prompt_frames=None, prompt_symbols=0, prompt_language=2)], merge=2)
    learnt = ar_examples(config, batch, None, training=False).inputs
    assert learnt.text_languages[0].tolist() == read.text_languages[0].tolist() == [1, 1, 1, 2, 2, 2]
    assert learnt.languages[0].tolist() == [*read.languages[0].tolist(), 2, 2, 2] == [1, 1, 1, 1, 1, 2, 2, 2]
    assert set(learnt.languages[1].tolist()) == set(learnt.text_languages[1].tolist()) == {2}
    filled = NARConfig.parse({"symbols": 9, "codebook_size": 8, "alignment": "phoneme", "merge": 2, "languages": 2})
    inputs = nar_examples(filled, batch, torch.Generator().manual_seed(0), 1, training=False).inputs
    assert inputs.languages[0].tolist() == [1] * 8 + [2] * 6
    alike = Batch.of([with_language(join_utterances(english, english, 2), names)], merge=2)
    assert alike.prompt_languages is None


def test_folders_are_drawn_by_their_shares(make_tokens, tmp_path):
    few = TokenShards.open(make_tokens({"anna": [20] * 40}, "few"))
    many = TokenShards.open(make_tokens({"anna": [20] * 300, "ben": [20] * 60}, "many"))
    shards = JoinedShards([few, many])
    assert len(shards) == 400 and len(set(shards.speakers)) == 3
    assert np.array_equal(shards[41].codes, many[1].codes) and shards[41].id == "1/anna-1"
    assert shards.neighbour(41).id == "1/anna-0"
    batches = TokenBatches(shards, 400, shares=[0.7, 0.3])
    drawn = np.concatenate([batches.rows(step) for step in range(2000)])
    assert (shards.part[drawn] == 0).mean() == pytest.approx(0.7, abs=0.05)


def test_folders_of_different_codecs_are_refused(make_tokens):
    first, second = (make_tokens({"anna": [20] * 4}, name) for name in ("one", "two"))
    path = second / "tokens" / "codec.json"
    path.write_text(path.read_text().replace("c0dec", "other"))
    with pytest.raises(ModelError, match="another codec"):
        JoinedShards([TokenShards.open(first), TokenShards.open(second)])
