"""Joining a trained AR and a trained NAR network into the model folder that speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from openvalle.config import Config
from openvalle.errors import ModelError
from openvalle.model.ar import AR
from openvalle.model.bundle import Bundle, BundleConfig, CodecIdentity, Storage, save_bundle
from openvalle.model.nar import NAR
from openvalle.train.halves import Part, PartFile, load_half

BPE_MOST_FRAMES = 64.0  # per symbol before the decoder is cut off: a byte pair is about four phones long


class PackRecipe(Config):
    """`openvalle train pack`: two trained networks -> one model folder."""

    ar: Path = Field(..., description="folder of a run of `openvalle train ar`")
    nar: Path = Field(..., description="folder of a run of `openvalle train nar`")
    name: str
    licence: str
    storage: Storage = Field(Storage.FLOAT16, description="how weights are stored")
    generation: dict[str, Any] = Field(default_factory=dict, description="default decoding options")


def pack(recipe: PackRecipe, out: Path) -> Path:
    """Join an AR and a NAR network that were trained on the same tokens into the folder `say --model` loads."""
    halves = {part: PartFile.load(getattr(recipe, part.value) / f"{part.value}.json") for part in Part}
    first, second = halves[Part.AR], halves[Part.NAR]
    for name in ("symbols_digest", "languages"):
        if getattr(first, name) != getattr(second, name):
            raise ModelError(f"the two networks have different {name}", "train both on the same prepared folder")
    if first.codec["digest"] != second.codec["digest"]:
        raise ModelError(
            "the two networks were trained on tokens of different codecs", "train both on the same prepared folder"
        )
    networks = {part: load_half(part, half, getattr(recipe, part.value)) for part, half in halves.items()}
    ar, nar = networks[Part.AR], networks[Part.NAR]
    assert isinstance(ar, AR) and isinstance(nar, NAR)
    codec = CodecIdentity(**{name: first.codec[name] for name in ("name", "digest", "rate", "hop")})
    values = {
        "name": recipe.name,
        "licence": recipe.licence,
        "languages": first.languages,
        "codec": codec,
        "symbols_digest": first.symbols_digest,
        "ar": ar.config,
        "nar": nar.config,
    }
    config = BundleConfig.parse(values, f"{recipe.ar} and {recipe.nar}")
    generation = ({"most_frames": BPE_MOST_FRAMES} if first.merges else {}) | recipe.generation
    save_bundle(Bundle(config, ar, nar, first.symbols, generation, first.merges), out, recipe.storage)
    return out
