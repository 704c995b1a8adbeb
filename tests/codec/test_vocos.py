"""The Vocos head: what the published layout computes, streamed or whole, from plain tensors only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch.nn import functional as F

from openvalle.codec.vocos import Vocos, VocosStream
from openvalle.errors import ConfigError, ModelError

ENTRIES = 32


def codes_of(rows: int, frames: int, levels: int = 8) -> torch.Tensor:
    return torch.randint(ENTRIES, (rows, frames, levels), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def head(vocos_folder: Path) -> Vocos:
    return Vocos.load(vocos_folder, ENTRIES)


def reference(w: dict[str, torch.Tensor], codes: torch.Tensor, condition: int) -> torch.Tensor:
    """Return the samples (T * 320,) of codes (T, Q), written down from the paper frame by frame."""

    def norm(x, name):
        return (
            F.layer_norm(x, x.shape[-1:], eps=1e-6) * w[f"{name}.scale.weight"][condition]
            + (w[f"{name}.shift.weight"][condition])
        )

    books = w["feature_extractor.codebook_weights"].view(-1, ENTRIES, w["backbone.embed.weight"].shape[1])
    x = sum(books[q][codes[:, q]] for q in range(codes.shape[1]))  # (T, D)
    x = F.conv1d(x.T[None], w["backbone.embed.weight"], w["backbone.embed.bias"], padding=3)[0].T
    x = norm(x, "backbone.norm")
    for layer in range(sum(name.endswith("gamma") for name in w)):
        own = {key.split(f"convnext.{layer}.")[1]: v for key, v in w.items() if f"convnext.{layer}." in key}
        y = F.conv1d(x.T[None], own["dwconv.weight"], own["dwconv.bias"], padding=3, groups=x.shape[1])[0].T
        y = F.gelu(norm(y, f"backbone.convnext.{layer}.norm") @ own["pwconv1.weight"].T + own["pwconv1.bias"])
        x = x + own["gamma"] * (y @ own["pwconv2.weight"].T + own["pwconv2.bias"])
    x = F.layer_norm(x, x.shape[-1:], w["backbone.final_layer_norm.weight"], w["backbone.final_layer_norm.bias"], 1e-6)
    log_magnitude, phase = (x @ w["head.out.weight"].T + w["head.out.bias"]).chunk(2, dim=1)
    window = torch.hann_window(1280)
    total, envelope = torch.zeros(320 * len(x) + 960), torch.zeros(320 * len(x) + 960)
    for t in range(len(x)):
        spectrum = torch.polar(log_magnitude[t].exp().clamp(max=100), phase[t])
        total[320 * t : 320 * t + 1280] += torch.fft.irfft(spectrum, 1280) * window
        envelope[320 * t : 320 * t + 1280] += window**2
    return (total / envelope)[480:-480]


@pytest.mark.parametrize("levels", [8, 3])
@pytest.mark.parametrize("frames", [1, 2, 20])
def test_it_computes_what_is_published(head: Vocos, vocos_folder: Path, frames: int, levels: int) -> None:
    weights, codes = torch.load(vocos_folder / "pytorch_model.bin", weights_only=True), codes_of(2, frames, levels)
    for condition, bandwidth in enumerate(head.config.bandwidths):
        samples = head(codes, bandwidth)
        assert samples.shape == (2, 320 * frames)
        for row in (0, 1):
            wanted = reference(weights, codes[row], condition)
            torch.testing.assert_close(samples[row], wanted, atol=1e-4, rtol=1e-4)


def test_bandwidths_sound_different(head: Vocos) -> None:
    codes = codes_of(1, 10)
    assert not torch.allclose(head(codes, 1.5), head(codes, 3.0))


@pytest.mark.parametrize("pieces", [[40], [1] * 40, [3, 0, 12, 25], [39, 1], [2], [1]])
def test_stream_is_whole(head: Vocos, pieces: list[int]) -> None:
    codes, stream = codes_of(2, sum(pieces)), VocosStream(head, 3.0)
    parts = [stream.push(part) for part in codes.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat([*parts, stream.flush()], dim=1), head(codes, 3.0), atol=1e-4, rtol=1e-4)


def test_a_stream_waits_for_three_frames_per_convolution(head: Vocos) -> None:
    codes, stream = codes_of(1, 16), VocosStream(head, 3.0)
    sizes = [stream.push(codes[:, t : t + 1]).shape[1] for t in range(16)]
    # 3 convolutions: 9 frames ahead; then 480 samples of the first window are dropped
    assert sizes == [0] * 10 + [160] + [320] * 5
    assert stream.flush().shape[1] == 16 * 320 - sum(sizes)
    assert VocosStream(head, 3.0).flush().shape == (1, 0)


def test_safetensors_are_read_too(head: Vocos, vocos_folder: Path) -> None:
    save_file(torch.load(vocos_folder / "pytorch_model.bin", weights_only=True), vocos_folder / "model.safetensors")
    (vocos_folder / "pytorch_model.bin").unlink()
    codes = codes_of(1, 5)
    assert torch.equal(Vocos.load(vocos_folder, ENTRIES)(codes, 3.0), head(codes, 3.0))


class Harmful:
    """Runs a command when it is unpickled without restriction."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_in_the_file_is_run(vocos_folder: Path, tmp_path: Path) -> None:
    torch.save({"head.out.bias": Harmful(tmp_path / "harm")}, vocos_folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be read") as caught:
        Vocos.load(vocos_folder, ENTRIES)
    assert not (tmp_path / "harm").exists() and "\n" not in str(caught.value)


def test_other_files_are_one_clear_error(vocos_folder: Path) -> None:
    config = yaml.safe_load((vocos_folder / "config.yaml").read_text())
    weights = torch.load(vocos_folder / "pytorch_model.bin", weights_only=True)
    hidden, whole = config["backbone"], config["head"]
    narrow = config | {"backbone": hidden | {"init_args": hidden["init_args"] | {"intermediate_dim": 13}}}
    uneven = config | {"backbone": hidden | {"init_args": hidden["init_args"] | {"dim": 13}}}
    centred = config | {"head": whole | {"init_args": whole["init_args"] | {"padding": "center"}}}
    mel = config | {"feature_extractor": {"class_path": "vocos.feature_extractors.MelSpectrogramFeatures"}}
    for changed, message in (
        (narrow, "do not fit"),
        (uneven, "one dim"),
        (centred, "padding"),
        (mel, "MelSpectrogramFeatures"),
        ({}, "feature_extractor is None"),
    ):
        (vocos_folder / "config.yaml").write_text(yaml.safe_dump(changed))
        with pytest.raises(ModelError, match=message):
            Vocos.load(vocos_folder, ENTRIES)
    (vocos_folder / "config.yaml").write_text(yaml.safe_dump(config))
    del weights["head.out.bias"]
    torch.save(weights, vocos_folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"head\.out\.bias"):
        Vocos.load(vocos_folder, ENTRIES)
    (vocos_folder / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="no Vocos head"):
        Vocos.load(vocos_folder, ENTRIES)


def test_a_head_for_other_codes_is_refused(head: Vocos) -> None:
    with pytest.raises(ModelError, match="entries and hops"):
        head.check(width=99, hop=320, levels=8, bandwidth=3.0)
    with pytest.raises(ConfigError, match="no bandwidth of 24 kbps"):
        head.check(width=16, hop=320, levels=8, bandwidth=24.0)
