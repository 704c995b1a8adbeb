"""Speech quality without a reference: DNSMOS (P.835 and P.808) with the ONNX files in speechmos' wheel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from openvalle.audio import MODEL_RATE, Audio, power_mel, resample
from openvalle.errors import AudioError, import_extra
from openvalle.hub import wheel_file

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
