"""Our own models as candidates: from a model's name or folder to what `evaluate` takes."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from openvalle import __version__
from openvalle.evaluate.protocols import Decoding
from openvalle.evaluate.results import SYNTHESISED
from openvalle.evaluate.run import Candidate, commit
from openvalle.evaluate.systems.base import ModelSystem
from openvalle.files import sha256
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
    decoding: Decoding | None = None,
) -> Candidate:
    """Return a model as a candidate. Its answers are kept until weights, source or any setting changes.

    The model is loaded once to ask: `ModelError` or `ConfigError` for what cannot speak.
    """
    build = partial(ModelSystem.load, model, codec, device, threads, name, decoding)
    system = build()
    facts = {
        "model": f"{model}, weights {folder_digest(find(Kind.MODEL, model))}",
        **system.settings(),
        "codec weights": codec_digest(load_model_codec(model, codec)),
        "device": device,
        "threads": threads,
    }
    identity = json.dumps([facts, __version__, commit()], sort_keys=True)
    return Candidate(name, hashlib.sha256(identity.encode()).hexdigest()[:16], build, facts)


def load_model_codec(model: str | Path = BUILTIN, codec: str | Path | None = None) -> Codec:
    """Return the codec that a model speaks through."""
    from openvalle.codec.load import kept_codec, load_codec
    from openvalle.model.checkpoint import OWN, BundleConfig

    if codec is not None:
        return load_codec(codec)
    folder = find(Kind.MODEL, model)
    return load_codec(kept_codec(BundleConfig.load(folder / "config.json").codec.name, folder / OWN))


def folder_digest(folder: Path) -> str:
    """Return the identity of a model, from the bytes of its files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json")):
        digest.update(f"{path.relative_to(folder)} {sha256(path)}\n".encode())
    return digest.hexdigest()[:16]


def codec_digest(codec: Codec) -> str:
    """Return the identity of all that a codec's sound depends on: its decoder too, unlike that of its tokens."""
    import torch

    digest = hashlib.sha256(codec.spec.digest.encode())
    if isinstance(codec, torch.nn.Module):
        for name, tensor in sorted(codec.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
