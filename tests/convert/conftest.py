"""A small EnCodec, as large a codebook as the layouts have."""

from __future__ import annotations

from pathlib import Path

import pytest

from encodec_samples import small_encodec


@pytest.fixture(scope="session")
def encodec(tmp_path_factory) -> Path:
    """The folder of an EnCodec of random weights: 8 codebooks of 32 entries at 3 kbps."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("encodec")
    small_encodec().save_pretrained(folder)
    return folder
