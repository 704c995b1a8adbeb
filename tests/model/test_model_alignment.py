"""AR steps of frames: durations add up, every symbol keeps a step where that is possible, cuts and groups are whole."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openvalle.model.alignment import cut_durations, find_whole, to_step_alignment, to_step_durations
from openvalle.model.batch import Batch, pack
from openvalle.types import Utterance, to_alignment, to_durations

DURATIONS = st.lists(st.integers(0, 9), min_size=1, max_size=12).map(np.array)


@settings(max_examples=200, deadline=None)
@given(DURATIONS, st.integers(1, 4))
def test_every_symbol_that_lasts_keeps_a_step_where_possible_and_no_other_has_one(durations, frames):
    steps, lasting = to_step_durations(durations, frames), durations > 0
    count = int(durations.sum()) // frames
    assert int(steps.sum()) == count
    assert (steps[lasting] >= 0).all() and not steps[~lasting].any()
    if count >= int(lasting.sum()):
        assert (steps[lasting] >= 1).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=8).map(np.array))
def test_borders_move_less_than_a_step_when_nothing_needs_repair(durations):
    borders = 2 * to_step_durations(durations, 2).cumsum(0)
    assert (np.abs(borders - durations.cumsum()) <= 1).all()


def test_steps_of_one_frame_change_nothing():
    durations = np.array([1, 3, 2])
    assert to_step_durations(durations, 1).tolist() == [1, 3, 2]
    assert to_step_alignment(durations, 1).tolist() == [0, 1, 1, 1, 2, 2]


@given(DURATIONS)
def test_paths_and_durations_are_inverses(durations):
    assert np.array_equal(to_durations(to_alignment(durations), len(durations)), durations)


@given(DURATIONS, st.data())
def test_cut_durations_are_those_of_the_cut_path(durations, data):
    total = int(durations.sum())
    start = data.draw(st.integers(0, total))
    end = data.draw(st.integers(start, total))
    expected = to_durations(to_alignment(durations)[start:end], len(durations))
    assert np.array_equal(cut_durations(durations, start, end), expected)


def test_groups_hold_the_codes_in_their_order():
    for count, group in itertools.product(range(5), (1, 2, 3, 8)):
        codes = torch.randint(1024, (2, count * group))
        assert pack(codes, group).shape == (2, count, group)
        assert torch.equal(pack(codes, group).flatten(1), codes)


def test_frames_are_cut_from_the_end_and_codes_from_the_start():
    for length, merge, group in itertools.product(range(30, 60), (1, 2, 3), (1, 2, 4, 8)):
        start, end = find_whole(length, merge, group)
        assert (end - start) % (merge * group) == 0
        assert 0 <= length - end < merge
        assert 0 <= start < merge * group
        assert start % merge == 0


def test_a_batch_holds_whole_groups_with_one_symbol_each():
    codes = np.arange(23)[:, None].repeat(8, axis=1)
    row = Utterance(np.array([4, 5, 6]), codes, np.array([6, 9, 8]))
    batch = Batch.of([row], merge=2, group=4)  # 11 merged codes: 3 from the start are left out
    assert batch.codes[0, :, 0].tolist() == list(range(6, 22))
    assert batch.alignment[0].tolist() == [1] * 8 + [2] * 8
