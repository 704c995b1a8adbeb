"""Our own models as candidates: from a model's name or folder to what `evaluate` takes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from openvalle import __version__
from openvalle.config import read_mapping
from openvalle.evaluate.rows import SYNTHESISED
from openvalle.evaluate.run import Candidate, commit
from openvalle.evaluate.systems import ModelSystem, model_digest
from openvalle.hub import BUILTIN, Kind, find

if TYPE_CHECKING:
    from openvalle.codec.base import Codec


def candidate(
    model: str | Path = BUILTIN,
    codec: str | Path | None = None,
    *,
    name: str = SYNTHESISED,
    device: str = "cpu",
    threads: int = 1,
) -> Candidate:
    """Return a model as a candidate. Its answers are kept until weights or source change."""
    folder = find(Kind.MODEL, model)
    digest = f"{model_digest(model, codec)} {__version__} {commit()}"
    generation = folder / "generation.json"
    facts = {
        "model": str(model),
        "codec": str(codec or "the model's"),
        "sampling": read_mapping(generation) if generation.is_file() else {},
        "device": device,
        "threads": threads,
    }
    return Candidate(name, digest, partial(ModelSystem.load, model, codec, device, threads, name), facts)


def codec_of(model: str | Path = BUILTIN, codec: str | Path | None = None) -> Codec:
    """Return the codec that a model speaks through."""
    from openvalle.codec.load import kept_codec, load_codec
    from openvalle.model.bundle import OWN, BundleConfig

    if codec is not None:
        return load_codec(codec)
    folder = find(Kind.MODEL, model)
    return load_codec(kept_codec(BundleConfig.load(folder / "config.json").codec.name, folder / OWN))
