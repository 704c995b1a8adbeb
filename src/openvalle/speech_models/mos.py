"""UTMOS: predicted naturalness from 1 to 5 (Saeki et al., 2022), from the strong learner's released weights.

The file is `utmos22_strong_step7459_v1.pt` of https://github.com/tarepan/SpeechMOS (MIT); it is given by its path and
never downloaded. wav2vec 2.0 hears the clip, a recurrent layer and two linear ones judge each 20 ms.

Speech quality without a reference: DNSMOS (P.835 and P.808) with the ONNX files in speechmos' wheel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from openvalle.audio import MODEL_RATE, Audio, power_mel, resample, to_model_samples
from openvalle.errors import AudioError, ModelError, import_extra
from openvalle.files import sha256
from openvalle.hub import wheel_file
from openvalle.speech_models.unispeech import load_part, read_state, rename

WINDOW = 144_160  # samples heard at a time: 9.01 s; a longer clip is heard once a second
# Polynomials (highest power first) from the networks' outputs to the P.835 scale, published with the models.
FITS = (
    (-0.08397278, 1.22083953, 0.0052439),  # signal
    (-0.13166888, 1.60915514, -0.39604546),  # background
    (-0.06766283, 1.11546468, 0.04602535),  # overall
)


@dataclass(frozen=True)
class DNSMOSScores:
    """Estimated mean opinions from 1 (bad) to 5: P.835 SIG, BAK, OVRL, and P.808 MOS."""

    signal: float
    background: float
    overall: float
    p808: float


class DNSMOS:
    """The DNSMOS networks, loaded once. Original clean readers score about 3.3 overall."""

    name = "dnsmos"

    def __init__(self, threads: int = 1, step: int = 1) -> None:
        """`step`: seconds between the windows heard; the published tool uses 1."""
        self._primary = _session("sig_bak_ovr.onnx", threads)
        self._p808 = _session("model_v8.onnx", threads)
        self._step = step * MODEL_RATE

    def score(self, audio: Audio) -> DNSMOSScores:
        """Return the mean opinion over all windows; clips under 9 s are repeated. `AudioError` if empty."""
        samples = np.clip(resample(audio, MODEL_RATE).samples, -1, 1)
        if not len(samples):
            raise AudioError("the recording is empty", "give a recording of someone speaking")
        while len(samples) < WINDOW:
            samples = np.concatenate([samples, samples])
        # Whole seconds only, as in the published tool: the last second may stay unheard.
        last = (len(samples) // MODEL_RATE) * MODEL_RATE - WINDOW
        rows = [self._window(samples[i : i + WINDOW]) for i in range(0, max(last, 0) + 1, self._step)]
        signal, background, overall, p808 = np.mean(rows, axis=0).tolist()
        return DNSMOSScores(signal, background, overall, p808)

    def _window(self, samples: np.ndarray) -> list[float]:
        """Return the four opinions of one window (WINDOW,); one at a time is faster than a batch."""
        raw = self._primary.run(None, {"input_1": samples[None]})[0][0]
        p808 = self._p808.run(None, {"input_1": _log_mel(samples[:-160])[None]})[0][0, 0]
        return [*(float(np.polyval(fit, x)) for fit, x in zip(FITS, raw, strict=True)), float(p808)]


def _session(name: str, threads: int) -> Any:
    path = wheel_file("speechmos", f"dnsmos_models/{name}")
    onnxruntime = import_extra("onnxruntime", "onnxruntime", "eval-offline")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _log_mel(samples: np.ndarray) -> np.ndarray:
    """Return (900, 120) float32: power in dB under the peak (80 dB deep), scaled to [-1, 1]."""
    power = power_mel(samples, MODEL_RATE, window=321, hop=160, bands=120)
    decibels = 10 * np.log10(np.maximum(power, 1e-10)) - 10 * np.log10(max(float(power.max()), 1e-10))
    return ((np.maximum(decibels, -80) + 40) / 40).astype(np.float32)


ENCODER = "wav2vec2."


class UTMOS:
    """The released weights, from a path."""

    def __init__(self, path: str | Path) -> None:
        state = read_state(path, "UTMOS model")
        if "judge_emb" not in state or f"{ENCODER}layer_norm.weight" not in state:
            raise ModelError(f"{path} is no UTMOS model", "give utmos22_strong_step7459_v1.pt of tarepan/SpeechMOS")
        self.name = f"utmos {sha256(Path(path))[:16]}"
        self._network = _Network(state, path).eval().requires_grad_(False)

    def score(self, audio: Audio) -> float:
        """Return the predicted opinion; `AudioError` if the clip is silent."""
        with torch.inference_mode():
            return float(self._network(torch.from_numpy(to_model_samples(audio))[None])[0])


class _Network(nn.Module):
    """Samples (1, n) at 16 kHz -> opinion (1,)."""

    def __init__(self, state: dict[str, Tensor], path: str | Path) -> None:
        super().__init__()
        transformers = import_extra("transformers", "transformers", "eval")
        encoder = rename(state, ENCODER)
        width = len(encoder["encoder.layer_norm.weight"])
        positions = encoder["encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
        config = transformers.Wav2Vec2Config(
            hidden_size=width,
            num_hidden_layers=1 + max(int(name.split(".")[2]) for name in encoder if "encoder.layers." in name),
            num_attention_heads=max(1, width // 64),  # base: 12 heads of 64
            intermediate_size=len(encoder["encoder.layers.0.feed_forward.intermediate_dense.bias"]),
            conv_dim=tuple(len(encoder[f"feature_extractor.conv_layers.{i}.conv.weight"]) for i in range(7)),
            num_conv_pos_embeddings=positions.shape[2],
            num_conv_pos_embedding_groups=width // positions.shape[1],
        )
        self.encoder: Any = transformers.Wav2Vec2Model(config)
        load_part(self.encoder, encoder, path)
        self.domain_emb = nn.Parameter(state["domain_emb"].clone())  # (1, 128)
        self.judge_emb = nn.Parameter(state["judge_emb"].clone())
        inner = state["blstm.weight_hh_l0"].shape[1]
        self.head = nn.ModuleDict(
            {
                "blstm": nn.LSTM(state["blstm.weight_ih_l0"].shape[1], inner, batch_first=True, bidirectional=True),
                "projection": nn.Sequential(
                    nn.Linear(2 * inner, len(state["projection.0.bias"])),
                    nn.ReLU(),
                    nn.Linear(len(state["projection.0.bias"]), 1),
                ),
            }
        )
        load_part(self.head, state, path)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the opinion of (1, n) samples."""
        heard = self.encoder(samples).last_hidden_state  # (1, T, D)
        ids = [emb[:, None].expand(-1, heard.shape[1], -1) for emb in (self.domain_emb, self.judge_emb)]
        judged, _ = self.head["blstm"](torch.cat([heard, *ids], dim=2))
        return self.head["projection"](judged).mean(dim=1)[:, 0] * 2 + 3  # trained on opinions scaled to [-1, 1]
