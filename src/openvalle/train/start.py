"""What a network's training starts from: the codec's codebooks, or the weights of one trained before."""

from __future__ import annotations

import torch
from torch import Tensor

from openvalle.data.shards import TokenShards
from openvalle.errors import ConfigError
from openvalle.hub import Kind, find
from openvalle.model.ar import AR
from openvalle.model.checkpoint import NetworkFile, Part, load_bundle, load_network
from openvalle.model.nar import NAR

LANGUAGES = "language.table.weight"  # (languages + 1, D); a model that knows none has no such table


def load_start(part: Part, place: str, shards: TokenShards) -> tuple[AR | NAR, tuple[str, ...]]:
    """Return the network of a run's folder or of a model (name or folder) and its languages; `ModelError` unless it
    reads `shards`."""
    folder = find(Kind.MODEL, place)
    if (folder / f"{part.value}.json").is_file():
        half = NetworkFile.load(folder / f"{part.value}.json")
        shards.require(symbols=half.symbols_digest, codec=half.codec.digest)
        return load_network(half, folder), half.languages
    bundle = load_bundle(folder)
    shards.require(symbols=bundle.config.symbols_digest, codec=bundle.config.codec.digest)
    return bundle.ar if part is Part.AR else bundle.nar, bundle.config.languages


def take_weights(network: AR | NAR, before: AR | NAR) -> None:
    """Give `network` the weights of the one `before`; `ConfigError` unless both have the same ones.

    Languages may be added: the new ones begin as zeros, so that at first all that was learnt is said as before.
    """
    own, theirs = network.state_dict(), before.state_dict()
    if LANGUAGES in own:
        table = torch.zeros_like(own[LANGUAGES])
        known = theirs.get(LANGUAGES, table[:1])
        table[: len(known)] = known[: len(table)]
        theirs[LANGUAGES] = table
    for name in sorted(set(own) | set(theirs)):
        if name not in own or name not in theirs or own[name].shape != theirs[name].shape:
            raise ConfigError(
                f"the model to start from has another {name}", "leave out `model`, which then is what it was there"
            )
    network.load_state_dict(theirs)


@torch.no_grad()
def start_from_codebooks(network: AR | NAR, codebooks: Tensor, seed: int) -> None:
    """Give the code embeddings the geometry of codebooks (Q, V, L), by one random projection for all of them.

    Entries that sound alike start alike, and a sum of embeddings starts as the frame's latent. Without this a NAR
    model first has to discover thousands of unrelated vectors, which takes it most of a small training run. A NAR
    model of `latent` dimensions takes the vectors as they are.
    """
    if isinstance(network, NAR) and network.config.latent is not None:
        if network.codes.shape != codebooks[: len(network.codes)].shape:
            raise ConfigError(
                f"latent is {network.config.latent} and the codec's code vectors have {codebooks.shape[-1]} dimensions",
                "set model.latent and model.codebook_size to what the codec has",
            )
        network.codes.copy_(codebooks[: len(network.codes)])
        return
    table = network.codes.weight if isinstance(network, AR) else network.codes
    width = table.shape[-1]
    rng = torch.Generator().manual_seed(seed)
    projection = torch.linalg.qr(torch.randn(max(width, codebooks.shape[-1]), codebooks.shape[-1], generator=rng)).Q
    projected = codebooks.cpu() @ projection[:width].T  # (Q, V, D)
    projected = projected * (width**-0.5 / projected[0].pow(2).mean().sqrt())
    if isinstance(network, AR):
        table[: len(projected[0])] = projected[0]  # a tied table has one more row, for <EOS>
    else:
        table.copy_(projected[: len(table)])
