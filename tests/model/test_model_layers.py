"""The transformer's parts: masks as stated, norms that start at the identity, parts without gaps, sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lm_samples import SMALL, STACK, shaken
from openvalle.errors import ModelError
from openvalle.model.ar import AR
from openvalle.model.config import ARConfig, NARConfig, TransformerConfig
from openvalle.model.embeddings import ConvPrenet, PositionEmbedding, gather_symbols, join
from openvalle.model.nar import NAR
from openvalle.model.transformer import AdaptiveNorm, Mask, PlainNorm, SeparateNorm, Transformer

PAPER = {"width": 1024, "heads": 16, "depth": 12, "feedforward": 4096, "dropout": 0.1}


@pytest.mark.parametrize(
    "mask",
    [
        Mask(causal=True),
        Mask(causal=True, prefix_lens=torch.tensor([3, 5])),
        Mask(causal=False),
        Mask(causal=False, lens=torch.tensor([7, 4])),
    ],
)
def test_attention_is_what_the_mask_pictures(mask):
    query, key, value = torch.randn(3, 2, 2, 7, 4).unbind(0)
    stated = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.picture(7)[:, None])
    torch.testing.assert_close(mask.attend(query, key, value), stated)


def test_the_prefix_sees_itself_and_nothing_after():
    picture = Mask(causal=True, prefix_lens=torch.tensor([2])).picture(4)[0].int().tolist()
    assert picture == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_adaptive_norms_start_as_plain_ones():
    x, condition = torch.randn(3, 5, 16), torch.randn(3, 4)
    torch.testing.assert_close(AdaptiveNorm(16, 4)(x, condition), PlainNorm(16)(x))
    torch.testing.assert_close(SeparateNorm(16, 7)(x, torch.tensor([0, 3, 6])), PlainNorm(16)(x))


@pytest.mark.parametrize("norm", [AdaptiveNorm(16, 4), SeparateNorm(16, 7)])
def test_a_condition_per_row_or_one_for_all_are_the_same(norm):
    shaken(norm)
    x = torch.randn(3, 5, 16)
    one = torch.tensor([2]) if isinstance(norm, SeparateNorm) else torch.randn(1, 4)
    every = one.expand(3) if isinstance(norm, SeparateNorm) else one.expand(3, 4)
    torch.testing.assert_close(norm(x, one), norm(x, every))


def test_parts_are_joined_without_gaps():
    text, audio = torch.arange(8.0).view(2, 4, 1), 10 + torch.arange(6.0).view(2, 3, 1)
    joined = join([(text, torch.tensor([4, 2])), (audio, torch.tensor([1, 3]))])
    assert joined.vectors[0, :, 0].tolist() == [0, 1, 2, 3, 10]
    assert joined.vectors[1, :, 0].tolist() == [4, 5, 13, 14, 15]
    assert joined.starts[1].tolist() == [4, 2]
    assert joined.is_full


def test_frames_gather_the_vector_of_their_symbol():
    symbols = torch.arange(6.0).view(2, 3, 1)
    path = torch.tensor([[0, 2, -1], [1, 1, 0]])
    assert gather_symbols(symbols, path)[..., 0].tolist() == [[0, 2, 0], [4, 4, 3]]


def test_learnt_positions_have_an_end():
    config = ARConfig.parse({**SMALL, "positions": "learnt", "max_positions": 5})
    with pytest.raises(ModelError, match="6 positions"):
        PositionEmbedding(config)(torch.arange(6))


def test_sinusoidal_positions_differ():
    table = PositionEmbedding(ARConfig.parse(SMALL))(torch.arange(3000))
    assert torch.unique(table.round(decimals=4), dim=0).shape[0] == 3000


def test_a_transformer_in_bfloat16_is_nearly_the_same():
    network = Transformer(TransformerConfig.parse(STACK), lambda: PlainNorm(16)).eval()
    x, mask = torch.randn(2, 9, 16), Mask(causal=True, prefix_lens=torch.tensor([3, 5]))
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x, mask)
    torch.testing.assert_close(half.float(), network(x, mask), atol=0.1, rtol=0.1)


def test_blocks_at_the_papers_size_have_151_million_parameters():
    with torch.device("meta"):
        ar = AR(ARConfig.parse({"transformer": PAPER, "symbols": 100}))
        nar = NAR(NARConfig.parse({"transformer": PAPER, "symbols": 100, "conditioning": "separate"}))
    per_block = 12 * 1024**2 + 5 * 1024 + 4096  # four matrices, their biases
    expected = 12 * (per_block + 4 * 1024)  # two norms
    assert sum(p.numel() for p in ar.transformer.blocks.parameters()) == expected
    assert round(expected / 1e6) == 151
    inside = sum(p.numel() for name, p in nar.transformer.blocks.named_parameters() if "norm" not in name)
    assert inside == 12 * per_block


def test_the_prenet_is_the_same_as_a_matrix_multiply():
    torch.manual_seed(0)
    prenet, x = ConvPrenet(8, 5), torch.randn(2, 11, 8)
    torch.testing.assert_close(prenet._multiply(x), prenet._convolve(x))


def test_known_sizes_change_nothing():
    """What the device need not be asked for is what it would have said."""
    torch.manual_seed(0)
    lens = torch.tensor([3, 5])
    query, key, value = torch.randn(3, 2, 2, 9, 4).unbind(0)
    asked, known = (Mask(causal=True, prefix_lens=lens, longest_prefix=size) for size in (None, 5))
    assert torch.equal(asked.attend(query, key, value), known.attend(query, key, value))
    parts = [(torch.randn(2, 5, 4), lens), (torch.randn(2, 3, 4), torch.tensor([3, 1]))]
    assert torch.equal(join(parts).vectors, join(parts, 6).vectors)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputing_what_blocks_hold_changes_no_gradient(dropout):
    stack = Transformer(TransformerConfig(**{**STACK, "dropout": dropout}), lambda: PlainNorm(STACK["width"])).train()
    x = torch.randn(2, 9, STACK["width"], generator=torch.Generator().manual_seed(0))
    found = []
    for recomputes in (False, True):
        stack.recomputes = recomputes
        stack.zero_grad()
        torch.manual_seed(3)
        stack(x, Mask(causal=True)).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in stack.parameters()])
    for kept, again in zip(*found, strict=True):
        assert torch.equal(kept, again)
