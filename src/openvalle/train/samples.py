"""What validation shows of a language model beside its numbers: where it looks in the text, and how it sounds.

The picture is the attention of the head that follows the text most closely: as long as there is no rising line in it,
a model without alignment babbles. Sounds are one held-out utterance: as its codes have it, and as the model makes it of
the text (AR, of which codebook 1 alone is heard) or of recorded codebook 1 (NAR).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from openvalle.codec.base import Codec
from openvalle.codec.load import load_codec
from openvalle.data.batches import crop
from openvalle.data.draws import draw_generator
from openvalle.data.shards import TokenShards
from openvalle.decode.ar import AROptions, Draw, generate
from openvalle.decode.nar import fill
from openvalle.decode.prompt import SpeechPrompt, zero_shot
from openvalle.engines.torch import TorchAR, TorchNAR
from openvalle.errors import UserError
from openvalle.model.alignment import cut_whole
from openvalle.model.ar import AR
from openvalle.model.config import ARConfig
from openvalle.model.kinds import Alignment
from openvalle.model.nar import NAR
from openvalle.model.transformer import SelfAttention, find_turns, turn
from openvalle.types import Utterance

log = logging.getLogger(__name__)

LIKELY_SECONDS, PROMPT_SECONDS = 4.0, 3.0
ZOOM = 4  # pixels of a picture for each position
Sounds = dict[str, tuple[np.ndarray, int]]


@torch.no_grad()
def attention_picture(network: AR | NAR, run: Callable[[], object], symbols: int) -> np.ndarray:
    """Return where each position behind the text looks in it, as a picture (4 S, 4 L, 3) uint8: text upwards, time to
    the right. `run` lets the network read one row, whose text has `symbols` (S); each column is as bright as its
    brightest."""
    attentions = [module for module in network.transformer.modules() if isinstance(module, SelfAttention)]
    best, found = -2.0, np.zeros((symbols, 1))
    with ExitStack() as stack:
        seen: list[Tensor] = []
        for attention in attentions:
            hook = attention.qkv.register_forward_hook(lambda _, __, out: seen.append(out.detach()))
            stack.callback(hook.remove)
        run()
    for attention, qkv in zip(attentions, seen, strict=True):
        for looks in _look(attention, qkv, symbols, network.transformer.head_width):
            rising = _rise(looks)
            if rising > best:
                best, found = rising, looks.T
    bright = found / found.max(0, keepdims=True).clip(1e-9)
    gray = np.round(255 * bright[::-1]).astype(np.uint8).repeat(ZOOM, 0).repeat(ZOOM, 1)
    return np.stack([gray] * 3, axis=-1)


def _look(attention: SelfAttention, qkv: Tensor, symbols: int, turned: int | None) -> np.ndarray:
    """Return how each head spreads the attention of positions behind the text over it, (H, L - S, S)."""
    query, key, _ = qkv.float().unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    if turned is not None:
        turns = find_turns(torch.arange(query.shape[2], device=query.device)[None], turned)
        query, key = turn(query, turns), turn(key, turns)
    scores = query[0, :, symbols:] @ key[0, :, :symbols].transpose(1, 2) / query.shape[-1] ** 0.5
    return scores.softmax(-1).cpu().numpy()


def _rise(looks: np.ndarray) -> float:
    """Return how steadily the place that is looked at rises with time: a correlation, -1 if there is none."""
    places = looks @ np.arange(looks.shape[1])
    if len(places) < 2 or places.std() < 1e-9:
        return -1.0
    return float(np.corrcoef(places, np.arange(len(places)))[0, 1])


class Listening:
    """One held-out utterance to be heard at each validation, with a prompt of its speaker."""

    def __init__(self, shards: TokenShards, number: Callable[[Utterance], Utterance], codec: str | None = None) -> None:
        """`number`: gives an utterance its language's number in the model; `codec`: by default the tokens' own."""
        self.codec = _find_codec(shards, codec or shards.codec.source or shards.codec.name)
        rate = shards.codec.frame_rate
        row = int(np.argmin(np.abs(shards.frames - LIKELY_SECONDS * rate)))
        self.target = number(shards[row])
        other = shards.neighbour(row)
        self.prompt = None
        if other is not None and other.durations is not None:
            rng = draw_generator(0, 0, 0)
            self.prompt = crop(number(other), int(PROMPT_SECONDS * rate), rng, shards.codec.merge)
        elif other is not None:
            self.prompt = number(other)

    def hear(self, network: AR | NAR) -> Sounds:
        """Return `recorded` and what the model makes of it, with their rate; nothing where there is no codec."""
        if self.codec is None:
            return {}
        try:
            made = self._speak(network) if isinstance(network, AR) else self._fill(network)
        except UserError as error:  # such as a model that cannot begin without a prompt
            log.info("nothing is heard of the model: %s", error.what)
            return {}
        found = {"recorded": self.target.codes} | ({"spoken": made} if isinstance(network, AR) else {"filled": made})
        return {name: self._decode(codes) for name, codes in found.items() if len(codes)}

    def _speak(self, network: AR) -> np.ndarray:
        config = network.config
        prompt = self._begin(config).ar(config)
        options = AROptions(limit_frames=4 * len(self.target.codes))
        (result,) = generate(TorchAR(network), [Draw(prompt, options, seed=0)])
        return np.repeat(result.codes, config.merge)[:, None]

    def _fill(self, network: NAR) -> np.ndarray:
        merge = network.config.merge
        # of the AR model that would speak before this one
        config = ARConfig(symbols=network.config.symbols, merge=merge, alignment=network.config.alignment)
        codes, alignment = cut_whole(self.target, merge, 1)
        if config.alignment != Alignment.PHONEME:
            alignment = None
        at = None if alignment is None else alignment[::merge]
        inputs = self._begin(config).nar(config, codebook1=codes[::merge, 0], alignment=at)
        return fill(TorchNAR(network), [inputs])[0]

    def _begin(self, config: ARConfig) -> SpeechPrompt:
        return zero_shot(config, self.prompt, self.target.text, self.target.language)

    def _decode(self, codes: np.ndarray) -> tuple[np.ndarray, int]:
        assert self.codec is not None
        samples = self.codec.decode(torch.from_numpy(np.ascontiguousarray(codes[None].astype(np.int64))))
        return samples[0].cpu().numpy(), self.codec.spec.rate


def _find_codec(shards: TokenShards, name: str) -> Codec | None:
    """Return the codec that the tokens were made with; None if it is not on this machine."""
    try:
        codec = load_codec(name)
    except UserError as error:
        log.info("nothing will be heard of the training: %s", error.what)
        return None
    return codec if codec.spec.digest == shards.codec.digest else None


def with_language(utterance: Utterance, languages: dict[str, int]) -> Utterance:
    """Return the utterance with the number that its language has in the model, 0 if the model does not know it."""
    own = languages.get(utterance.language_name, 0)
    return replace(utterance, language=own, prompt_language=languages.get(utterance.prompt_language_name, own))
