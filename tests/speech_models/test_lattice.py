"""The best way through a lattice: as if every way were tried, and the same when only a part of the states is seen."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from openvalle.speech_models.ctc import find_path


def try_all(scores: np.ndarray, labels: np.ndarray, optional: np.ndarray) -> tuple[int, ...]:
    """Return the best path of all that there are; where two are as good, either."""

    def is_way(path: tuple[int, ...]) -> bool:
        if path[0] > bool(optional[0]) or path[-1] < len(labels) - 1 - bool(optional[-1]):
            return False
        steps = np.diff(path)
        passed = [optional[path[i] + 1] for i in np.flatnonzero(steps == 2)]
        return bool(np.all((steps >= 0) & (steps <= 2)) and all(passed))

    ways = [path for path in product(range(len(labels)), repeat=len(scores)) if is_way(path)]
    return max(ways, key=lambda path: weigh(path, scores, labels))


def weigh(path: tuple[int, ...], scores: np.ndarray, labels: np.ndarray) -> float:
    return float(scores[np.arange(len(path)), labels[list(path)]].sum())


@pytest.mark.parametrize("seed", range(8))
def test_the_path_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    labels = np.array([[0, 1, 2, 0, 3, 0], [0, 2, 2, 1, 3, 0]][seed % 2])[: 5 + seed % 2]
    optional = np.array([True, False, False, seed % 2 == 0, False, True])[: len(labels)]
    scores = np.log(rng.dirichlet(np.ones(4), size=6))
    found = find_path(scores, labels, optional)
    best = try_all(scores, labels, optional)
    assert weigh(found, scores, labels) == pytest.approx(weigh(best, scores, labels))
    assert labels[found].tolist() == labels[list(best)].tolist()


def test_too_few_frames_have_no_path():
    labels = np.array([0, 1, 2, 3, 0])
    assert find_path(np.zeros((2, 4)), labels, labels == 0) is None
    assert list(find_path(np.zeros((3, 4)), labels, labels == 0)) == [1, 2, 3]


def test_a_window_of_states_finds_what_all_of_them_find():
    rng = np.random.default_rng(0)
    sounds = rng.integers(1, 6, 400)
    labels = np.concatenate([[0], np.insert(sounds, range(2, 400, 2), 0), [0]])
    frames = np.repeat(labels, rng.integers(1, 6, len(labels)))
    scores = np.log(0.02 + (np.arange(6) == frames[:, None]) + 0.2 * rng.random((len(frames), 6)))
    whole = find_path(scores, labels, labels == 0)
    assert np.array_equal(find_path(scores, labels, labels == 0, window=64), whole)
    assert np.mean(labels[whole] == frames) > 0.97
