"""Where somebody speaks: Silero VAD (MIT), whose weights lie in its wheel, by onnxruntime, without its own code."""

from __future__ import annotations

from typing import Any

import numpy as np

from openvalle.audio import MODEL_RATE, Audio, to_model_samples
from openvalle.errors import import_extra
from openvalle.hub import Wheels

WINDOW, CONTEXT = 512, 64  # samples at 16 kHz that one look is of, and those before them that it sees too
WEIGHTS = Wheels(
    wheels=("silero-vad==6.2.3",),
    folder="data",
    weights="silero_vad.onnx",
    digest="1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
)


class SileroVAD:
    """The probability of speech every 32 ms."""

    hop = WINDOW / MODEL_RATE  # seconds

    def __init__(self) -> None:
        onnxruntime = import_extra("onnxruntime", "onnxruntime", "eval-offline")
        path = WEIGHTS.find() / WEIGHTS.weights
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def probabilities(self, audio: Audio) -> np.ndarray:
        """Return the probability that somebody speaks in each window, (windows,) float32."""
        samples = to_model_samples(audio)
        samples = np.pad(samples, (CONTEXT, -len(samples) % WINDOW)).astype(np.float32)
        state, rate = np.zeros((2, 1, 128), np.float32), np.array(MODEL_RATE, np.int64)
        found = []
        for start in range(CONTEXT, len(samples), WINDOW):
            window = samples[None, start - CONTEXT : start + WINDOW]
            output, state = self._session.run(None, {"input": window, "state": state, "sr": rate})
            found.append(float(output[0, 0]))
        return np.array(found, np.float32)
