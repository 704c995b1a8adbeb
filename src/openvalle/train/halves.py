"""Half a model on disk: one trained network, with what `pack` must know of it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from openvalle.config import Config
from openvalle.data.shards import TokenShards
from openvalle.errors import ModelError
from openvalle.files import atomic_path
from openvalle.model.ar import AR
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.nar import NAR


class Part(StrEnum):
    """Which network is trained."""

    AR = "ar"  # codebook 1
    NAR = "nar"  # codebooks 2 and up


class PartFile(Config):
    """Half a model: what `pack` must know of a trained network."""

    part: Part
    config: dict[str, Any]
    codec: dict[str, Any]
    symbols: tuple[str, ...]
    merges: tuple[str, ...] = ()  # of byte pairs
    symbols_digest: str
    languages: tuple[str, ...]


def save_part(part: Part, network: AR | NAR, shards: TokenShards, out: Path) -> None:
    """Write `ar.safetensors` or `nar.safetensors` with a JSON file that says what the network needs."""
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with atomic_path(out / f"{part.value}.safetensors") as path:
        save_file(weights, path)
    PartFile(
        part=part,
        config=network.config.model_dump(mode="json"),
        codec=shards.codec,
        symbols=shards.symbols,
        merges=shards.merges,
        symbols_digest=shards.symbols_digest,
        languages=tuple(languages_of(shards)),
    ).save(out / f"{part.value}.json")


def load_half(part: Part, half: PartFile, folder: Path) -> AR | NAR:
    """Return a trained network with its weights; `ModelError` if they cannot be read."""
    network: AR | NAR
    if part is Part.AR:
        network = AR(ARConfig.parse(half.config, str(folder)))
    else:
        network = NAR(NARConfig.parse(half.config, str(folder)))
    path = folder / f"{part.value}.safetensors"
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(f"cannot read {path} ({str(error).splitlines()[0][:120]})", "train it again") from None
    return network


def languages_of(shards: TokenShards) -> list[str]:
    """Return the languages of the rows, sorted: the order of their embeddings."""
    return sorted({row["language"] for row in shards.rows})
