"""Codec merging is one function for all codecs."""

from __future__ import annotations

import pytest
import torch

from openvalle.codec.quantizer import ResidualQuantizer, encode_residual, merge_frames


def quantizer() -> ResidualQuantizer:
    made = ResidualQuantizer(width=4, codebooks=3, entries=16)
    made.codebooks.normal_(generator=torch.Generator().manual_seed(0))
    return made


def test_any_codebook_can_be_merged() -> None:
    made, x = quantizer(), torch.randn(1, 12, 4, generator=torch.Generator().manual_seed(1))
    codes = encode_residual(x, made.codebooks, made.nearest, (4, 2))
    assert torch.equal(codes[:, ::4, 0].repeat_interleave(4, 1), codes[..., 0])
    assert torch.equal(codes[:, ::2, 1].repeat_interleave(2, 1), codes[..., 1])
    assert not torch.equal(codes[:, ::2, 2].repeat_interleave(2, 1), codes[..., 2])


def test_blocks_are_averages_and_the_last_one_is_filled_by_its_last_frame() -> None:
    x = torch.tensor([1.0, 3.0, 5.0, 9.0, 4.0])[None, :, None]
    assert merge_frames(x, 2)[0, :, 0].tolist() == [2, 2, 7, 7, 4]
    assert merge_frames(x, 3)[0, :, 0].tolist() == pytest.approx([3, 3, 3, 17 / 3, 17 / 3])
