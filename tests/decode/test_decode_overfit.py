"""Training and decoding mean the same: a model that has learnt two utterances by heart says them again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from lm_samples import AR_KINDS, NAR_KINDS, SMALL, STACK, as_quantiser, batch_for, decode, utterance
from openvalle.decode.ar import AROptions, StoppedBy
from openvalle.decode.nar import fill
from openvalle.decode.prompt import ARPrompt, NARPrompt
from openvalle.decode.sampling import SamplingOptions
from openvalle.engines.torch import TorchAR, TorchNAR
from openvalle.model.ar import AR
from openvalle.model.batch import Batch
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.kinds import Alignment, PromptKind
from openvalle.model.nar import NAR
from openvalle.types import Utterance

pytestmark = pytest.mark.long

WIDER = {**SMALL, "transformer": {**STACK, "width": 48, "heads": 3, "feedforward": 96, "dropout": 0.0}}
BEST = AROptions(
    sampling=SamplingOptions(temperature=0.0, repetition_aware=False),
    path_temperature=0.0,
    symbol_frames=60,
    most_frames=30.0,
    least_frames=0.0,
)
BOOKS = 3
SLOW = {"rotary": 300, "staged": 200, "prompt apart": 200}  # updates of kinds that learn later
TOO_SLOW = "prenets"


def learn_by_heart(network: AR | NAR, rows: list[Utterance], steps: int) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=6e-3)
    batch, rng = batch_for(network.config, rows), torch.Generator().manual_seed(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 6e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        loss = network.train().loss(batch, rng).total
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()


def ar_prompt(model: AR, row: Utterance) -> tuple[ARPrompt, Batch, int]:
    """Return about the first third of the utterance, up to a symbol's end, as prompt; and its length in codes."""
    config, batch = model.config, batch_for(model.config, [row])
    if config.prompt_codebooks:  # another recording, before all that is spoken
        return ARPrompt(row.text, prompt=row.speaker_codes, language=row.language), batch, 0
    codes, alignment = batch.codes[0, :: config.merge, 0].numpy(), batch.alignment[0, :: config.merge].numpy()
    last = int(alignment[len(codes) // 3])
    count = int((alignment <= last).sum()) // config.group * config.group
    is_aligned = config.alignment == Alignment.PHONEME
    return (
        ARPrompt(row.text, last + 1, codes[:count], alignment[:count] if is_aligned else None, row.language),
        batch,
        count,
    )


@pytest.mark.parametrize("kind", [kind for kind in AR_KINDS if kind != TOO_SLOW])
def test_the_ar_model_repeats_what_it_learnt_and_ends_there(kind):
    torch.manual_seed(0)
    rows = [utterance(6, 48, 0), utterance(9, 40, 1)]
    model = AR(ARConfig.parse({**WIDER, **AR_KINDS[kind]}))
    learn_by_heart(model, rows, SLOW.get(kind, 85))
    for row in rows:
        prompt, batch, count = ar_prompt(model, row)
        codes = batch.codes[0, :: model.config.merge, 0].numpy()
        alignment = batch.alignment[0, :: model.config.merge].numpy()
        result = decode(TorchAR(model), [prompt], BEST, [0])[0]
        assert np.array_equal(result.codes, codes[count:])
        assert result.stopped_by == StoppedBy.EOS
        if model.config.alignment == Alignment.PHONEME:
            assert np.array_equal(result.alignment, alignment[count:] - prompt.prompt_symbols)
            preset = [result.alignment[:: model.config.group]]
            again = decode(TorchAR(model), [prompt], BEST, [0], alignments=preset)[0]
            assert np.array_equal(again.codes, result.codes)


@pytest.mark.parametrize("kind", [kind for kind in NAR_KINDS if kind != TOO_SLOW])
def test_the_nar_model_fills_in_what_it_learnt(kind):
    torch.manual_seed(0)
    rows = [utterance(6, 24, 0, BOOKS), utterance(9, 20, 1, BOOKS)]
    config = NARConfig.parse(
        {**WIDER, **NAR_KINDS[kind], "codebooks": BOOKS, "stage_draw": "sample", "codebook1_noise": 0.0}
        | ({"prompt_codebooks": BOOKS} if "prompt_codebooks" in NAR_KINDS[kind] else {})
    )
    model = as_quantiser(NAR(config))
    learn_by_heart(model, rows, SLOW.get(kind, 90))
    for row in rows:
        codes, alignment = batch_for(config, [row]).codes[0].numpy(), batch_for(config, [row]).alignment[0].numpy()
        start = 0
        given = NARPrompt(row.text, codes[:, 0], 0, row.speaker_codes, language=row.language)
        if config.prompt in (PromptKind.PREFIX, PromptKind.STAGED):
            start = 6
            given = NARPrompt(row.text, codes[start:, 0], int(alignment[start]), codes[:start], alignment, row.language)
        elif config.prompt == PromptKind.SENTENCE:  # the prompt's words are dropped
            words, before = np.array([3, 4]), np.zeros(len(row.speaker_codes), np.int64)
            given = dataclasses.replace(
                given,
                text=np.concatenate([words, row.text]),
                prompt_symbols=2,
                alignment=np.concatenate([before, alignment + 2]),
            )
        assert (fill(TorchNAR(model), [given])[0] == codes[start:]).mean() > 0.95
