"""EnCodec: the same tokens and samples as transformers' own, streamed or whole, merged or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from openvalle.codec.encodec import EncodecCodec, first_frames
from openvalle.codec.load import load_codec
from openvalle.errors import ConfigError, ModelError

BANDWIDTH = 3.0  # eight codebooks in the small model


@pytest.fixture
def codec(encodec_folder: Path) -> EncodecCodec:
    return EncodecCodec.load(encodec_folder, BANDWIDTH)


def noise(rows: int, samples: int, seed: int = 0) -> torch.Tensor:
    return 0.3 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.long
@pytest.mark.parametrize("bandwidth", [0.375, 0.75, 1.5, 3.0])
@pytest.mark.parametrize("samples", [320 * 12, 320 * 5 + 1, 100])
def test_tokens_and_samples_are_those_of_transformers(encodec_model, encodec_folder, bandwidth, samples) -> None:
    codec, sound = EncodecCodec.load(encodec_folder, bandwidth), noise(2, samples)
    theirs = encodec_model.encode(sound[:, None], bandwidth=bandwidth)
    codes = codec.encode(sound)  # (B, T, Q)
    assert codes.shape == (2, -(-samples // 320), codec.spec.codebooks)
    assert samples < 320 or codes[..., 0].unique().numel() > 3
    assert torch.equal(codes, theirs.audio_codes[0].transpose(1, 2))
    whole = encodec_model.decode(theirs.audio_codes, theirs.audio_scales).audio_values[:, 0]
    torch.testing.assert_close(codec.decode(codes), whole, atol=1e-6, rtol=1e-5)


def test_real_sizes_give_the_known_geometry() -> None:
    from transformers import EncodecConfig, EncodecModel

    with torch.device("meta"):
        quantizer = EncodecModel(EncodecConfig()).quantizer
    levels = [quantizer.get_num_quantizers_for_bandwidth(kbps) for kbps in (1.5, 3.0, 6.0, 12.0, 24.0)]
    assert levels == [2, 4, 8, 16, 32]


@pytest.mark.parametrize("pieces", [[30], [1] * 30, [3, 3, 1, 0, 12, 11], [29, 1], [7, 23], [6, 24]])
def test_stream_is_whole(codec: EncodecCodec, pieces: list[int]) -> None:
    codes, stream = codec.encode(noise(2, 320 * sum(pieces))), codec.stream()
    parts = [stream.push(part) for part in codes.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat([*parts, stream.flush()], dim=1), codec.decode(codes), atol=1e-5, rtol=1e-4)


def test_a_stream_is_late_at_its_start_only(codec: EncodecCodec) -> None:
    codes, stream = codec.encode(noise(1, 320 * 12)), codec.stream()
    sizes = [stream.push(codes[:, t : t + 1]).shape[1] for t in range(12)]
    assert first_frames(codec.decoder) == 7
    assert sizes == [0] * 6 + [320 * 7] + [320] * 5


@pytest.mark.parametrize("frames", [0, 1, 3, 6])
def test_a_stream_shorter_than_its_start_is_whole(codec: EncodecCodec, frames: int) -> None:
    codes, stream = codec.encode(noise(1, 320 * 12))[:, :frames], codec.stream()
    parts = [stream.push(codes), stream.flush()]
    whole = codec.decode(codes) if frames else torch.zeros(1, 0)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-4)


def test_a_row_in_a_batch_is_the_row_alone(codec: EncodecCodec) -> None:
    sound = noise(3, 320 * 9)
    codes = codec.encode(sound)
    assert torch.equal(codes[1:2], codec.encode(sound[1:2]))
    torch.testing.assert_close(codec.decode(codes)[1:2], codec.decode(codes[1:2]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("merge", [1, 2, 3])
@pytest.mark.parametrize("frames", [12, 11])
def test_merging_averages_before_codebook_1_and_subtracts_from_the_unmerged(encodec_model, codec, merge, frames):
    sound = noise(2, 320 * frames)
    residual = encodec_model.encoder(sound[:, None])  # (B, D, T)
    wanted = []
    for level, layer in enumerate(encodec_model.quantizer.layers[:8]):
        x = residual
        if level == 0 and merge > 1:
            blocks = F.pad(x, (0, -frames % merge), mode="replicate").unflatten(2, (-1, merge)).mean(-1)
            x = blocks.repeat_interleave(merge, dim=2)[..., :frames]
        wanted.append(layer.encode(x))
        residual = residual - layer.decode(wanted[-1])
    codes = codec.encode(sound, merge=merge)
    assert torch.equal(codes, torch.stack(wanted, -1))
    for start in range(0, frames, merge):
        block = codes[:, start : start + merge, 0]
        assert torch.equal(block, block[:, :1].expand_as(block))
    if merge == 1:
        assert torch.equal(codes, encodec_model.encode(sound[:, None], bandwidth=BANDWIDTH).audio_codes[0].mT)


def test_fewer_codebooks_decode_too(codec: EncodecCodec) -> None:
    assert codec.decode(codec.encode(noise(1, 320 * 4))[..., :3]).shape == (1, 320 * 4)


def test_digest_names_the_tokens_not_the_sound(encodec_model, encodec_folder: Path, tmp_path: Path) -> None:
    specs = {kbps: EncodecCodec.load(encodec_folder, kbps).spec for kbps in (1.5, 3.0)}
    assert specs[1.5].digest != specs[3.0].digest and specs[3.0].name == "encodec?bandwidth=3"
    weights = encodec_folder / "model.safetensors"
    for part, is_same in (("decoder.layers.0.conv.bias", True), ("encoder.layers.0.conv.bias", False)):
        from safetensors.torch import load_file, save_file

        tensors = load_file(weights)
        name = next(key for key in tensors if key == part)
        save_file(tensors | {name: tensors[name] + 1}, tmp_path / "model.safetensors", {"format": "pt"})
        (tmp_path / "config.json").write_text((encodec_folder / "config.json").read_text())
        assert (EncodecCodec.load(tmp_path, 3.0).spec.digest == specs[3.0].digest) is is_same


def test_addresses_choose_folder_bandwidth_and_head(encodec_folder: Path, vocos_folder: Path) -> None:
    spec = load_codec(f"encodec:{encodec_folder}?bandwidth=1.5").spec
    assert (spec.codebooks, spec.entries, spec.rate, spec.hop, spec.frame_rate) == (4, 32, 24_000, 320, 75)
    headed = load_codec(f"encodec:{encodec_folder}?bandwidth=1.5&vocos={vocos_folder}")
    assert headed.spec == spec  # the same tokens
    codes = headed.encode(noise(1, 320 * 5))
    assert not torch.allclose(headed.decode(codes), load_codec(f"encodec:{encodec_folder}?bandwidth=1.5").decode(codes))


@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("encodec:{folder}?bandwidth=5", ConfigError, "no bandwidth of 5 kbps; use one of 0.375, 0.75, 1.5, 3"),
        ("encodec:{folder}?bandwidth=much", ConfigError, "not a number"),
        ("encodec:{folder}?speed=2", ConfigError, "no setting 'speed'"),
        ("encodec:{folder}", ConfigError, "no bandwidth of 6 kbps"),  # the small model has less
        ("encodec:{folder}/nothing", ModelError, "no folder"),
        ("{folder}/nothing", ModelError, "no codec called"),
    ],
)
def test_bad_addresses_are_one_clear_error(encodec_folder: Path, address: str, kind, message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        load_codec(address.format(folder=encodec_folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "truncated", "stereo", "other"])
def test_damaged_folders_are_one_clear_error(encodec_folder: Path, tmp_path: Path, damage: str) -> None:
    config, weights = json.loads((encodec_folder / "config.json").read_text()), tmp_path / "model.safetensors"
    weights.write_bytes((encodec_folder / "model.safetensors").read_bytes())
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        config |= {"normalize": True} if damage == "stereo" else {"num_residual_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError) as caught:
        EncodecCodec.load(tmp_path, BANDWIDTH)
    assert "\n" not in str(caught.value)


def test_the_hub_is_its_cache_when_that_has_the_files(encodec_folder: Path, tmp_path: Path, monkeypatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cannot download facebook/encodec_24khz"):
        load_codec("encodec")
    repository, commit = tmp_path / "models--facebook--encodec_24khz", "a" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_bytes((encodec_folder / name).read_bytes())
    wanted = EncodecCodec.load(encodec_folder, BANDWIDTH).spec
    for address in ("encodec?bandwidth=3", "encodec:hf://facebook/encodec_24khz@main?bandwidth=3"):
        assert load_codec(address).spec == wanted
