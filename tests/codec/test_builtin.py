"""Laws of the built-in codec: geometry, streaming, digest, files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from openvalle.codec.builtin import BuiltinCodec
from openvalle.codec.layers import LogMel, normalized_mel_filters
from openvalle.codec.load import load_codec
from openvalle.codec.settings import BuiltinCodecConfig
from openvalle.errors import ModelError

TINY = {
    "encoder_width": 16,
    "encoder_depth": 1,
    "trunk_width": 16,
    "trunk_depth": 1,
    "decoder_width": 16,
    "decoder_depth": 2,
    "latent": 8,
    "mel_bins": 20,
    "entries": 32,
}


FINE = {"fine_depth": 2, "fine_width": 12, "fine_parts": 4}


@pytest.fixture(params=[{}, FINE], ids=["plain", "harmonic"])
def codec(request: pytest.FixtureRequest) -> BuiltinCodec:
    torch.manual_seed(0)
    codec = BuiltinCodec(BuiltinCodecConfig(**TINY, **request.param))
    if codec.decoder.fine is not None:
        codec.decoder.fine.pitch.leave.weight.data.mul_(3)  # so that voices begin and end
    codec.quantizer.codebooks.normal_()
    return codec.eval()


def noise(rows: int, samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(1))


def assert_same(one: torch.Tensor, other: torch.Tensor) -> None:
    """As equal as float32 lets them be: a pulse train adds up the rounding of its pitch."""
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("samples", "frames"), [(320, 1), (321, 2), (3200, 10), (3519, 11)])
def test_one_frame_per_hop_and_back(codec: BuiltinCodec, samples: int, frames: int) -> None:
    codes = codec.encode(noise(2, samples))
    assert codes.shape == (2, frames, 8)
    assert codes.dtype == torch.int64
    assert codec.decode(codes).shape == (2, frames * 320)


@pytest.mark.parametrize("size", [1, 2, 5, 13, 40])
def test_stream_equals_whole(codec: BuiltinCodec, size: int) -> None:
    codes = codec.encode(noise(2, 320 * 40))
    stream = codec.stream()
    blocks = [stream.push(codes[:, start : start + size]) for start in range(0, 40, size)]
    assert_same(torch.cat([*blocks, stream.flush()], dim=1), codec.decode(codes))


def test_streams_do_not_meet(codec: BuiltinCodec) -> None:
    codes = codec.encode(noise(2, 320 * 20))
    first, second = codec.stream(), codec.stream()
    mixed = [(first.push(codes[:1, t : t + 5]), second.push(codes[1:, t : t + 5])) for t in range(0, 20, 5)]
    mixed.append((first.flush(), second.flush()))
    whole = codec.decode(codes)
    for row in (0, 1):
        assert_same(torch.cat([pair[row] for pair in mixed], dim=1), whole[row : row + 1])


def test_a_row_in_a_batch_is_the_row_alone(codec: BuiltinCodec) -> None:
    samples = noise(3, 320 * 12)
    codes = codec.encode(samples)
    assert torch.equal(codes[1:2], codec.encode(samples[1:2]))
    assert_same(codec.decode(codes)[1:2], codec.decode(codes[1:2]))


def test_merging_by_one_is_plain_and_by_two_repeats_codebook_1(codec: BuiltinCodec) -> None:
    samples = noise(1, 320 * 11)
    latents = codec.encoder(codec.encoder.mel(samples))
    assert torch.equal(codec.encode(samples, merge=1), codec.quantizer.encode(latents))
    merged = codec.encode(samples, merge=2)[0, :, 0]
    assert torch.equal(merged[0:10:2], merged[1:11:2])


def test_fewer_codebooks_decode_too(codec: BuiltinCodec) -> None:
    codes = codec.encode(noise(1, 320 * 4))
    assert codec.decode(codes[..., :3]).shape == (1, 320 * 4)


def test_saved_and_loaded_is_the_same_function(codec: BuiltinCodec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    stored = load_codec(tmp_path)
    again = BuiltinCodec.load(tmp_path)
    samples = noise(1, 320 * 9)
    assert torch.equal(stored.encode(samples), again.encode(samples))
    assert stored.spec == codec.spec  # the digest does not depend on the precision of storage
    assert stored.spec.frame_rate == 75


def test_digest_names_the_tokens_not_the_sound(codec: BuiltinCodec) -> None:
    before = codec.digest()
    codec.decoder.widen.weight.data.add_(1)
    assert codec.digest() == before
    codec.quantizer.codebooks.add_(1)
    assert codec.digest() != before


@pytest.mark.parametrize("damage", ["missing", "truncated", "other"])
def test_damaged_files_are_one_clear_error(codec: BuiltinCodec, tmp_path: Path, damage: str) -> None:
    codec.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "decoder_width": 24}))
    with pytest.raises(ModelError) as caught:
        load_codec(tmp_path)
    assert "\n" not in str(caught.value)


def test_unknown_codec_is_refused() -> None:
    with pytest.raises(ModelError, match="no codec called"):
        load_codec("nonsense")


def test_mel_filters_cover_every_band() -> None:
    filters = normalized_mel_filters(24_000, 1280, 100)
    assert filters.shape == (641, 100)
    torch.testing.assert_close(filters.sum(0), torch.ones(100))
    # the shipped encoder was trained with exactly these
    assert hashlib.sha256(filters.numpy().tobytes()).hexdigest().startswith("382ce0536ee8beca")


def test_log_mel_of_a_tone_peaks_at_its_band() -> None:
    mel = LogMel(24_000, 1280, 320, 100, 1e-5)
    time = torch.arange(24_000) / 24_000
    low, high = (mel(torch.sin(2 * torch.pi * f * time)[None])[0, 20:60].mean(0).argmax() for f in (300.0, 3000.0))
    assert 0 < low < high < 99
