"""Speaker similarity: an embedding of the voice, whose cosine says how alike two voices are."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from openvalle.audio import MODEL_RATE, Audio, power_mel, to_model_samples
from openvalle.errors import AudioError, ModelError, UserError, import_extra
from openvalle.hub import wheel_file

WAVLM = "microsoft/wavlm-base-plus-sv"
LEVEL_DB = -30.0  # RMS that quiet sound is raised to, as the encoder was trained


class SpeakerEncoder(Protocol):
    """Anything that turns a recording into a vector of unit length."""

    name: str

    def embed(self, audio: Audio) -> np.ndarray:
        """Return the embedding (D,) float32 of unit length; `AudioError` if nobody speaks."""
        ...


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine of two embeddings (D,)."""
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


class ResemblyzerEncoder:
    """GE2E encoder with the weights in Resemblyzer's wheel; works offline.

    Typical cosines: one reader 0.75-0.9, two readers 0.5-0.65. Gives what Resemblyzer 0.1.4 gives for
    `embed_utterance(preprocess_wav(samples))`, without its imports.
    """

    name = "resemblyzer"
    partial_frames = 160  # the network hears 1.6 s at a time ...
    partial_step = 77  # ... 1.3 times a second, in 10 ms frames
    coverage = 0.75  # a last stretch with less sound than this share is left out

    def __init__(self) -> None:
        import torch

        path = wheel_file("resemblyzer", "pretrained.pt")
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        self._lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
        self._linear = torch.nn.Linear(256, 256)
        for module, prefix in ((self._lstm, "lstm."), (self._linear, "linear.")):
            own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            module.load_state_dict(own)

    def embed(self, audio: Audio) -> np.ndarray:
        """Return the embedding (256,) float32 of unit length."""
        import torch

        samples = _cut_silence(_raise_level(to_model_samples(audio)))
        starts = self._starts(len(samples))
        samples = np.pad(samples, (0, max(0, (starts[-1] + self.partial_frames) * 160 - len(samples))))
        mel = power_mel(samples, MODEL_RATE, window=400, hop=160, bands=40)
        parts = np.stack([mel[start : start + self.partial_frames] for start in starts])
        with torch.inference_mode():
            _, (hidden, _) = self._lstm(torch.from_numpy(parts))
            embeddings = torch.relu(self._linear(hidden[-1]))  # (parts, 256)
            embeddings = torch.nn.functional.normalize(embeddings, dim=1)
            return torch.nn.functional.normalize(embeddings.mean(dim=0), dim=0).numpy()

    def _starts(self, samples: int) -> list[int]:
        """Return the first frame of every stretch that the network hears."""
        frames = -(-(samples + 1) // 160)
        starts = list(range(0, max(1, frames - self.partial_frames + self.partial_step + 1), self.partial_step))
        covered = (samples - starts[-1] * 160) / (self.partial_frames * 160)
        return starts[:-1] if covered < self.coverage and len(starts) > 1 else starts


class WavLMEncoder:
    """WavLM speaker verification through transformers: nearer to the measure of the papers.

    `model` is a hub name (downloaded on first use) or a local folder.
    """

    def __init__(self, model: str = WAVLM, device: str = "cpu") -> None:
        transformers = import_extra("transformers", "transformers", "eval")
        try:
            self._features = transformers.AutoFeatureExtractor.from_pretrained(model)
            self._model: Any = transformers.WavLMForXVector.from_pretrained(model).eval().to(device)
        except OSError as error:
            raise ModelError(
                f"cannot load the speaker model {model} ({str(error).splitlines()[0]})",
                "give a local folder, or go online for the first use",
            ) from None
        revision = getattr(self._model.config, "_commit_hash", None)
        self.name = model + (f" {revision[:8]}" if revision else "")

    def embed(self, audio: Audio) -> np.ndarray:
        """Return the x-vector (512,) float32 of unit length."""
        import torch

        inputs = self._features(to_model_samples(audio), sampling_rate=MODEL_RATE, return_tensors="pt")
        with torch.inference_mode():
            embeddings = self._model(**inputs.to(self._model.device)).embeddings[0]
            return torch.nn.functional.normalize(embeddings, dim=0).cpu().numpy()


def load_encoder(name: str, device: str = "cpu") -> SpeakerEncoder:
    """Return the speaker encoder called `name`; `UserError` lists the names.

    `resemblyzer`; `campplus` or `campplus:PATH` (a folder or .pt file); `wavlm-sv` or
    `wavlm-sv:MODEL` (a hub name or a folder); `unispeech:PATH` (wavlm_large_finetune.pth).
    """
    kind, _, model = name.partition(":")
    match kind, bool(model):
        case "resemblyzer", False:
            return ResemblyzerEncoder()
        case "campplus", _:
            from openvalle.speech_models.campplus import CAMPPlusEncoder

            return CAMPPlusEncoder(model or None)
        case "wavlm-sv", _:
            return WavLMEncoder(model or WAVLM, device)
        case "unispeech", True:
            from openvalle.speech_models.fairseq import UniSpeechEncoder

            return UniSpeechEncoder(model, device)
        case "unispeech", False:
            hint = (
                "get wavlm_large_finetune.pth from https://github.com/microsoft/UniSpeech (downstreams/"
                "speaker_verification) and give --speaker unispeech:PATH; or use campplus, wavlm-sv or resemblyzer"
            )
            raise UserError("the papers' speaker model is not downloaded by itself", hint)
    hint = "use campplus[:PATH], resemblyzer, wavlm-sv[:MODEL] or unispeech:PATH"
    raise UserError(f"there is no speaker model {name!r}", hint)


def _nobody() -> AudioError:
    return AudioError("nobody speaks in the recording", "give a recording of someone speaking")


def _raise_level(samples: np.ndarray) -> np.ndarray:
    """Return quiet sound at an RMS of `LEVEL_DB` under full scale, louder sound as it is."""
    gain = 10 ** (LEVEL_DB / 20) / float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    return samples * np.float32(gain) if gain > 1 else samples


def _cut_silence(samples: np.ndarray) -> np.ndarray:
    """Return `samples` without the silences longer than 0.2 s, found by WebRTC's activity detector."""
    window = MODEL_RATE * 30 // 1000
    if len(samples) < window:
        raise _nobody()
    samples = samples[: len(samples) - len(samples) % window]
    pcm = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").reshape(-1, window)
    detector = import_extra("webrtcvad", "webrtcvad-wheels", "eval-offline").Vad(3)
    flags = np.array([detector.is_speech(frame.tobytes(), MODEL_RATE) for frame in pcm], dtype=float)
    # Eight-window majority, then three windows of margin on either side, as the encoder was trained.
    padded = np.concatenate([np.zeros(3), flags, np.zeros(4)])
    means = np.convolve(padded, np.ones(8) / 8)[7 : 7 + len(flags)]
    wide = np.convolve(np.round(means) > 0, np.ones(7))[3 : 3 + len(flags)] > 0
    if not wide.any():
        raise _nobody()
    return samples[np.repeat(wide, window)]
