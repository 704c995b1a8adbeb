"""Small EnCodec and Vocos models of random weights, saved as the real ones are published."""

from __future__ import annotations

from pathlib import Path

import pytest

from encodec_samples import small_encodec, write_vocos


@pytest.fixture(scope="session")
def encodec_model():
    """transformers' EnCodec of random weights."""
    return small_encodec()


@pytest.fixture(scope="session")
def encodec_folder(encodec_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder: config.json and model.safetensors, as transformers writes them."""
    folder = tmp_path_factory.mktemp("encodec")
    encodec_model.save_pretrained(folder)
    return folder


@pytest.fixture
def vocos_folder(tmp_path: Path) -> Path:
    """A Vocos head as it is published: config.yaml and pytorch_model.bin."""
    return write_vocos(tmp_path / "vocos")
