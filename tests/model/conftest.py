"""Data for tiny models."""

from __future__ import annotations

import pytest

from lm_samples import utterance
from openvalle.types import Utterance


@pytest.fixture(scope="session")
def utterances() -> list[Utterance]:
    """Three utterances of different lengths, in text and in frames."""
    return [utterance(5, 32, 0), utterance(9, 24, 1), utterance(3, 45, 2)]
