"""CAM++ with tiny made weights by the names of the released file, its features, and the real weights where they are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from openvalle.audio import Audio, silence
from openvalle.errors import AudioError, MissingExtra, ModelError
from openvalle.speech_models.campplus import CAMPPlusEncoder, kaldi_fbank
from openvalle.speech_models.speaker import load_encoder, similarity
from openvalle.speech_models.wheels import CAMPPLUS

ROWS, CHANNELS, GROWTH, LAYERS = 10, 4, 3, (2, 3, 2)  # the released sizes are 10, 32, 32 and (12, 24, 16)


def made_state() -> dict[str, torch.Tensor]:
    """A network with the names and proportions of the released file."""
    rng = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def weight(name: str, *shape: int, bias: int = 0) -> None:
        state[f"{name}.weight"] = torch.randn(*shape, generator=rng) / np.sqrt(np.prod(shape[1:]))
        if bias:
            state[f"{name}.bias"] = torch.randn(bias, generator=rng)

    def norm(name: str, size: int, has_scale: bool = True) -> None:
        state[f"{name}.running_mean"] = 0.1 * torch.randn(size, generator=rng)
        state[f"{name}.running_var"] = torch.rand(size, generator=rng) + 0.5
        if has_scale:
            state[f"{name}.weight"] = torch.rand(size, generator=rng) + 0.5
            state[f"{name}.bias"] = 0.1 * torch.randn(size, generator=rng)

    weight("head.conv1", CHANNELS, 1, 3, 3)
    for name in ("head.bn1", "head.bn2"):
        norm(name, CHANNELS)
    weight("head.conv2", CHANNELS, CHANNELS, 3, 3)
    for block in ("head.layer1.0", "head.layer1.1", "head.layer2.0", "head.layer2.1"):
        for number in (1, 2):
            weight(f"{block}.conv{number}", CHANNELS, CHANNELS, 3, 3)
            norm(f"{block}.bn{number}", CHANNELS)
        if block.endswith("0"):
            weight(f"{block}.shortcut.0", CHANNELS, CHANNELS, 1, 1)
            norm(f"{block}.shortcut.1", CHANNELS)
    width = 8
    weight("xvector.tdnn.linear", width, CHANNELS * ROWS, 5)
    norm("xvector.tdnn.nonlinear.batchnorm", width)
    for block, layers in enumerate(LAYERS, 1):
        for layer in range(1, layers + 1):
            name = f"xvector.block{block}.tdnnd{layer}"
            norm(f"{name}.nonlinear1.batchnorm", width)
            weight(f"{name}.linear1", 4 * GROWTH, width, 1)
            norm(f"{name}.nonlinear2.batchnorm", 4 * GROWTH)
            weight(f"{name}.cam_layer.linear_local", GROWTH, 4 * GROWTH, 3)
            weight(f"{name}.cam_layer.linear1", 2 * GROWTH, 4 * GROWTH, 1, bias=2 * GROWTH)
            weight(f"{name}.cam_layer.linear2", GROWTH, 2 * GROWTH, 1, bias=GROWTH)
            width += GROWTH
        norm(f"xvector.transit{block}.nonlinear.batchnorm", width)
        weight(f"xvector.transit{block}.linear", width // 2, width, 1)
        width //= 2
    norm("xvector.out_nonlinear.batchnorm", width)
    weight("xvector.dense.linear", 12, 2 * width, 1)
    norm("xvector.dense.nonlinear.batchnorm", 12, has_scale=False)
    return state


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny CAM++."""
    folder = tmp_path_factory.mktemp("campplus")
    torch.save(made_state(), folder / "tiny.pt")
    return folder


def test_a_folder_is_read_and_gives_a_voice(made, clip):
    encoder = load_encoder(f"campplus:{made}")
    embedding = encoder.embed(clip)
    assert embedding.shape == (12,)
    assert embedding.dtype == np.float32
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
    assert (embedding < 0).any()  # the published network ends without a rectifier
    assert encoder.name == f"campplus {made}"
    louder = Audio(clip.samples * np.float32(2), clip.rate)
    assert similarity(encoder.embed(louder), embedding) > 0.999  # the mean over time is taken off the logarithms


def test_silence_and_snippets_are_refused(made):
    encoder = CAMPPlusEncoder(made / "tiny.pt")
    with pytest.raises(AudioError, match="silent"):
        encoder.embed(silence(1.0))
    with pytest.raises(AudioError, match="too short"):
        encoder.embed(Audio(np.full(2400, 0.1, np.float32)))


def test_wrong_files_are_named(made, tmp_path):
    with pytest.raises(ModelError, match="there is no CAM"):
        load_encoder(f"campplus:{tmp_path / 'nothing.pt'}")
    with pytest.raises(ModelError, match="holds 0 files"):
        CAMPPlusEncoder(tmp_path)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ModelError, match="cannot be read as CAM"):
        CAMPPlusEncoder(tmp_path / "text.pt")
    torch.save({"code": Path("x")}, tmp_path / "code.pt")
    with pytest.raises(ModelError, match="cannot be read"):
        CAMPPlusEncoder(tmp_path / "code.pt")
    state = torch.load(made / "tiny.pt", weights_only=True)
    del state["xvector.transit2.linear.weight"]
    torch.save(state, tmp_path / "part.pt")
    with pytest.raises(ModelError, match=re.escape("lacks xvector.transit2.linear.weight")):
        CAMPPlusEncoder(tmp_path / "part.pt")
    state["xvector.transit2.linear.weight"] = torch.zeros(3, 5, 1)
    torch.save(state, tmp_path / "shape.pt")
    with pytest.raises(ModelError, match="is no CAM"):
        CAMPPlusEncoder(tmp_path / "shape.pt")


def test_features_are_those_of_kaldi():
    """The published definition, written out for one window."""
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal(1000)).astype(np.float32)
    found = kaldi_fbank(samples, 16_000, 80)
    assert found.shape == ((1000 - 400) // 160 + 1, 80)
    window = samples[160:560].astype(np.float64)
    window = window - window.mean()
    window = np.append(window[0] * (1 - 0.97), window[1:] - 0.97 * window[:-1])
    window = window * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.fft(window, 512)[:257]) ** 2
    mel = [1127 * np.log(1 + 31.25 * bin / 700) for bin in range(257)]
    low, high = 1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 8000 / 700)
    for band in (0, 1, 40, 79):
        left, centre, right = (low + (band + place) * (high - low) / 81 for place in (0, 1, 2))
        energy = 0.0
        for bin, place in enumerate(mel):
            if left < place <= centre:
                energy += power[bin] * (place - left) / (centre - left)
            elif centre < place < right:
                energy += power[bin] * (right - place) / (right - centre)
        assert found[1, band] == pytest.approx(np.log(energy), abs=1e-3)
    assert len(kaldi_fbank(samples[:399], 16_000, 80)) == 0


def test_the_real_weights_tell_voices_apart(voice):
    try:
        CAMPPLUS.find()
    except MissingExtra as error:
        pytest.skip(f"optional: {error}")
    encoder = CAMPPlusEncoder()
    low, again, high = (encoder.embed(voice(hz, seed)) for hz, seed in ((120, 0), (122, 1), (230, 0)))
    assert low.shape == (192,)
    assert similarity(low, again) > similarity(low, high) + 0.1
