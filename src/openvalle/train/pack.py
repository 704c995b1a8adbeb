"""Joining a trained AR and a trained NAR network into the model folder that speaks."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field

from openvalle.codec.load import ENCODEC, find_kept_codec, keep_codec, load_codec
from openvalle.config import Config
from openvalle.decode.ar import AROptions
from openvalle.decode.failures import find_silence_codes
from openvalle.engines.probe import record_steps
from openvalle.engines.torch import TorchAR, TorchCodec
from openvalle.errors import ConfigError, ModelError, UserError
from openvalle.hub import BUILTIN, is_repository
from openvalle.model.ar import AR
from openvalle.model.bundle import OWN, BundleConfig, read_description
from openvalle.model.checkpoint import Bundle, NetworkFile, Part, Storage, load_network, save_bundle
from openvalle.model.nar import NAR
from openvalle.types import CodecSpec, TokenSpec

log = logging.getLogger(__name__)

BPE_MOST_FRAMES = 64.0  # per symbol before the decoder is cut off: a byte pair is about four phones long


class PackRecipe(Config):
    """`openvalle train pack`: two trained networks -> one model folder."""

    ar: Path = Field(..., description="folder of a run of `openvalle train ar`")
    nar: Path = Field(..., description="folder of a run of `openvalle train nar`")
    name: str
    licence: str
    storage: Storage = Field(Storage.FLOAT16, description="how weights are stored")
    codec: str | None = Field(
        None,
        description="what the model speaks with, as `say --codec`: the codec of its tokens with another decoder "
        "(encodec?bandwidth=6&vocos=), or where that codec is now; by default where the tokens were made",
    )
    generation: AROptions = Field(AROptions(), description="default decoding options")


def pack(recipe: PackRecipe, out: Path) -> Path:
    """Join an AR and a NAR network that were trained on the same tokens into the folder `say --model` loads."""
    halves = {part: NetworkFile.load(getattr(recipe, part.value) / f"{part.value}.json") for part in Part}
    first, second = halves[Part.AR], halves[Part.NAR]
    for name in ("symbols_digest", "languages"):
        if getattr(first, name) != getattr(second, name):
            raise ModelError(f"the two networks have different {name}", "train both on the same prepared folder")
    if first.codec.digest != second.codec.digest:
        raise ModelError(
            "the two networks were trained on tokens of different codecs", "train both on the same prepared folder"
        )
    networks = {part: load_network(half, getattr(recipe, part.value)) for part, half in halves.items()}
    ar, nar = networks[Part.AR], networks[Part.NAR]
    assert isinstance(ar, AR) and isinstance(nar, NAR)
    named = _find_address(recipe, first.codec)
    codec = CodecSpec(**first.codec.model_dump(include=set(CodecSpec.model_fields)))
    with tempfile.TemporaryDirectory() as place:
        own = Path(place) / OWN
        name = _kept(named, own, codec)
        codec = codec.model_copy(update={"name": name or codec.name})
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
        generation = _choose_generation(recipe, first.merges)
        if silent := _find_silence(codec, own):
            generation["watch"] = {"silent": silent} | generation.get("watch", {})
        save_bundle(Bundle(config, ar, nar, first.vocabulary, generation), out, recipe.storage)
        if own.is_dir():
            shutil.rmtree(out / OWN, ignore_errors=True)
            shutil.copytree(own, out / OWN)
    record_steps(read_description(out), TorchAR(ar.eval()), out)  # what other engines are compared with
    return out


def _choose_generation(recipe: PackRecipe, merges: tuple[str, ...]) -> dict[str, Any]:
    """Return the decoding options that the recipe names, and what byte pairs need."""
    own: dict[str, Any] = {"most_frames": BPE_MOST_FRAMES} if merges else {}
    return own | recipe.generation.model_dump(mode="json", exclude_unset=True)


def _find_silence(codec: CodecSpec, own: Path) -> tuple[int, ...]:
    """Return the codes of silence, so that nobody has to look for them when the model is loaded.

    None of a codec that is neither the package's nor in the model's folder: nothing is fetched to pack a model.
    """
    place = find_kept_codec(codec.name, own)
    if place not in (BUILTIN, own):
        return ()
    found = load_codec(place)
    return find_silence_codes(TorchCodec(found)) if found.spec.digest == codec.digest else ()


def _find_address(recipe: PackRecipe, tokens: TokenSpec) -> str:
    """Return the codec that the model is to speak with: the recipe's, in the place where the tokens' codec was."""
    source = tokens.source or tokens.name
    if recipe.codec is None:
        return source
    place, _, _ = source.partition("?")
    is_placeless = recipe.codec.startswith(f"{ENCODEC}?")
    return place + recipe.codec.removeprefix(ENCODEC) if is_placeless and place.startswith(ENCODEC) else recipe.codec


def _kept(name: str, folder: Path, codec: CodecSpec) -> str:
    """Copy a codec of this machine into `folder`; return the name that the model keeps, empty for its tokens' own.

    `ModelError` if it is another one than the tokens were made with.
    """
    wanted, _, query = codec.name.partition("?")
    if name.partition("?")[0].partition(":")[0] == ENCODEC != wanted:
        raise ConfigError(
            f"the networks speak the tokens of the codec {codec.name}, which {name} cannot decode",
            "leave `codec` out of the recipe, or prepare the speech with EnCodec",
        )
    kept = keep_codec(name, folder)
    place = kept.partition("?")[0].removeprefix(f"{ENCODEC}:")
    if place not in (ENCODEC, BUILTIN, "") and not is_repository(place):
        if place != codec.name:
            log.warning("the codec is no longer at %s: `say` will need --codec, or a copy in %s", place, OWN)
        return ""
    if not folder.is_dir():
        return "" if kept == BUILTIN else kept
    kept = kept if kept != f"{ENCODEC}?" else f"{ENCODEC}?{query}"
    try:
        found = find_kept_codec(kept, folder) if kept else folder
        digest = load_codec(found).spec.digest if any(path.is_file() for path in folder.iterdir()) else codec.digest
    except UserError as error:
        raise ModelError(f"the codec {name} cannot be packed: {error.what}", error.hint) from None
    if digest != codec.digest:
        raise ModelError(
            f"the codec {name} is {digest}, and the networks were trained on tokens of {codec.digest}",
            "give the codec of the prepared folder",
        )
    return kept
