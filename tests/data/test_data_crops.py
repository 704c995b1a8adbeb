"""Audio crops are a pure function of (seed, step, rank) and real stretches of the recordings."""

import numpy as np
import pytest

from openvalle.data.index import Index
from openvalle.data.shards import AudioShards, TokenShards
from openvalle.errors import ModelError
from openvalle.train.codec_recipe import AudioCrops, CodedCrops, CropConfig, cut_fixed_crops


def crops(shards, seconds: float, batch: int, seed: int = 0, rank: int = 0, power: float = 1.0, **augmentation: float):
    config = CropConfig(seconds=seconds, batch=batch, speaker_power=power, augmentation=augmentation)
    return AudioCrops(shards, config, seed, rank)


@pytest.fixture
def shards(audio_folder):
    return AudioShards.open(audio_folder, "train")


def test_a_batch_depends_on_seed_step_and_rank_alone(shards):
    options = {"seed": 3, "gain_db": 6, "speed": 0.1}
    first, second = (crops(shards, 0.5, 4, **options) for _ in range(2))
    late = second.batch(9)
    first.batch(0)
    assert np.array_equal(first.batch(9), late)
    assert not np.array_equal(first.batch(8), late)
    assert not np.array_equal(crops(shards, 0.5, 4, rank=1, **options).batch(9), late)


def test_crops_are_stretches_of_rows(shards):
    batch = crops(shards, 0.5, 16).batch(0)
    assert batch.shape == (16, 12_000) and batch.dtype == np.float32
    wholes = [shards[index].samples for index in range(len(shards))]
    for crop in batch:
        placed = np.trim_zeros(crop)
        places = [(whole, start) for whole in wholes for start in np.flatnonzero(whole == placed[0])]
        assert any(np.array_equal(whole[start : start + len(placed)], placed) for whole, start in places)


def test_a_row_shorter_than_the_crop_lies_in_zeros(audio_folder):
    shards = AudioShards.open(audio_folder, "train")
    short = AudioShards(shards.folder, [row for row in shards.rows if row["id"] == "anna-2"])
    batch = crops(short, 1.0, 3, speed=0.2).batch(0)
    assert batch.shape == (3, 24_000)
    assert all(0 < (row != 0).sum() <= 0.2 * 24_000 * 1.3 for row in batch)


def test_gain_never_clips(shards):
    batch = crops(shards, 0.2, 32, gain_db=20).batch(0)
    assert np.abs(batch).max() <= 0.991
    assert np.sqrt(np.square(batch).mean(axis=1)).std() > 0.02


def test_long_recordings_and_the_speaker_power_decide_who_is_drawn(shards):
    def share(power: float) -> float:
        weights = crops(shards, 0.5, 1, power=power)._weights
        return weights[[name == "ben" for name in shards.speakers]].sum()

    assert share(1.0) == pytest.approx(2 / 6.2)
    assert share(0.0) == pytest.approx(1 / 2)


def test_validation_crops_are_always_the_same(shards):
    found = cut_fixed_crops(shards, 0.5, 10)
    assert found.shape == (len(shards), 12_000)
    assert np.array_equal(found, cut_fixed_crops(shards, 0.5, 10))
    assert cut_fixed_crops(shards, 0.5, 2).shape == (2, 12_000)


def test_coded_crops_are_sound_and_codes_of_the_same_frames(audio_folder, make_tokens):
    audio = AudioShards.open(audio_folder, "train")
    tokens = TokenShards.open(make_tokens({"anna": [30, 9, 2], "nobody": [30]}))
    config = CropConfig(seconds=0.5, batch=6)
    samples, codes = CodedCrops(audio, tokens, config, seed=1, rank=0).batch(4)
    assert samples.shape == (6, 37 * 320) and codes.shape == (6, 37, 8)
    assert np.array_equal(CodedCrops(audio, tokens, config, seed=1, rank=0).batch(4)[1], codes)
    sound, whole = audio[0].samples, tokens[0].codes  # the only row long enough whose recording is there
    for crop, coded in zip(samples, codes, strict=True):
        start = next(t for t in range(len(whole)) if np.array_equal(whole[t : t + 37], coded))
        np.testing.assert_array_equal(crop, sound[start * 320 : (start + 37) * 320])
    with pytest.raises(ModelError, match="holds no codes"):
        CodedCrops(
            audio, TokenShards(tokens.folder, Index.of([]), tokens.vocabulary, tokens.codec), config, seed=0, rank=0
        )
