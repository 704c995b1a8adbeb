"""Laws of the residual quantiser."""

from __future__ import annotations

import torch

from openvalle.codec.quantizer import ResidualQuantizer, merge_frames


def trained(steps: int = 60, entries: int = 16) -> tuple[ResidualQuantizer, torch.Tensor]:
    quantizer = ResidualQuantizer(width=4, codebooks=3, entries=entries).train()
    rng = torch.Generator().manual_seed(0)
    data = torch.randn(steps, 8, 25, 4, generator=rng)
    for batch in data:
        quantizer(batch, merge=1, levels=3, rng=rng)
    return quantizer.eval(), data[0]


def test_each_codebook_refines_the_last() -> None:
    quantizer, x = trained()
    codes = quantizer.encode(x)
    errors = [(x - quantizer.decode(codes[..., :levels])).pow(2).mean() for levels in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.25 * x.pow(2).mean()


def test_encode_is_nearest_neighbour_on_residuals() -> None:
    quantizer, x = trained(steps=3)
    residual = x
    for level, codes in enumerate(quantizer.encode(x).unbind(-1)):
        distances = torch.cdist(residual, quantizer.codebooks[level].expand(len(x), -1, -1))
        assert torch.equal(codes, distances.argmin(-1))
        residual = residual - quantizer.codebooks[level][codes]


def test_training_pass_gives_the_codes_of_encode() -> None:
    quantizer, x = trained()
    result = quantizer(x, merge=2, levels=3, rng=torch.Generator())
    assert torch.equal(result.codes, quantizer.encode(x, merge=2))
    torch.testing.assert_close(result.values, quantizer.decode(result.codes))


def test_gradient_passes_straight_through() -> None:
    quantizer, x = trained()
    x = x.clone().requires_grad_()
    quantizer(x, merge=1, levels=3, rng=torch.Generator()).values.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))


def test_dead_entries_come_back() -> None:
    quantizer, x = trained()
    quantizer.train()
    quantizer.codebooks[0, 0] = 1000.0
    quantizer.sums[0, 0], quantizer.counts[0, 0] = 100.0, 0.1
    quantizer(x, merge=1, levels=1, rng=torch.Generator().manual_seed(3))
    assert quantizer.codebooks[0, 0].abs().max() < 10


def test_every_entry_is_used() -> None:
    quantizer, _ = trained()
    x = torch.randn(1, 4000, 4, generator=torch.Generator().manual_seed(9))
    used = [codes.unique().numel() for codes in quantizer.encode(x).unbind(-1)]
    assert min(used) >= 15


def test_merging_averages_blocks_and_keeps_the_rest() -> None:
    x = torch.arange(10.0).reshape(1, 5, 2)
    assert merge_frames(x, 1) is x
    torch.testing.assert_close(merge_frames(x, 2)[0, :, 0], torch.tensor([1.0, 1.0, 5.0, 5.0, 8.0]))
    quantizer, x = trained()
    # What averaging lost is left to the later codebooks: a merged code never makes the sum useless.
    merged = quantizer.decode(quantizer.encode(x, merge=2))
    assert (x - merged).pow(2).mean() < x.pow(2).mean()
