"""Codecs that lie among the files of a checkpoint: they are what the model is decoded with, and no model themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from openvalle.codec.load import ENCODEC, FILES, SPEECHTOKENIZER
from openvalle.convert.weights import StoredWeights
from openvalle.errors import ModelError

VOCOS = "vocos"
NAMES = {ENCODEC: "EnCodec", SPEECHTOKENIZER: "SpeechTokenizer", VOCOS: "a Vocos head"}
# Of each kind, weights that no other has.
_KINDS = {
    ENCODEC: ("quantizer.layers.0.codebook.embed",),
    SPEECHTOKENIZER: ("quantizer.vq.layers.0._codebook.embed", "decoder.model.0.conv.conv.weight_g"),
    VOCOS: ("backbone.embed.weight", "head.out.weight"),
}


def find_kind(weights: StoredWeights) -> str:
    """Return the kind of codec that a file of weights is; nothing for other weights."""
    return next((kind for kind, names in _KINDS.items() if all(name in weights for name in names)), "")


def split_codecs(weights: Sequence[StoredWeights]) -> tuple[tuple[StoredWeights, ...], dict[str, Path]]:
    """Return the weights of models, and the folder of each kind of codec; `ModelError` for two of a kind."""
    models: list[StoredWeights] = []
    folders: dict[str, Path] = {}
    for one in weights:
        kind, folder = find_kind(one), Path(one.source).parent
        if not kind:
            models.append(one)
        elif folders.setdefault(kind, folder) != folder:
            raise ModelError(f"{NAMES[kind]} is in {folders[kind]} and in {folder}", "give one of them with --codec")
        elif kind != VOCOS and not (folder / FILES[0]).is_file():
            raise ModelError(f"{one.source} is {NAMES[kind]} without its {FILES[0]}", "give the folder that holds both")
    return tuple(models), folders


def name_codec(folders: Mapping[str, Path], usual: str) -> str:
    """Return the address of the codec in these folders; `usual` is that of the source, and all of it without any."""
    if SPEECHTOKENIZER in folders and usual == SPEECHTOKENIZER:
        return f"{SPEECHTOKENIZER}:{folders[SPEECHTOKENIZER]}"
    if not usual.startswith(ENCODEC) or not folders.keys() & {ENCODEC, VOCOS}:
        return usual
    place = f":{folders[ENCODEC]}" if ENCODEC in folders else ""
    head = f"vocos={folders.get(VOCOS, '')}" if VOCOS in folders or "vocos=" in usual else ""
    return f"{ENCODEC}{place}?{head}"
