"""The reference engine: the networks as they were trained, on the CPU, CUDA or MPS."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openvalle.codec.base import Codec, DecoderStream
from openvalle.engines.base import ARRows, ARScores, CodecStream, EngineState, NARRows
from openvalle.errors import ModelError
from openvalle.model.ar import AR, ARInputs, ARLogits, ARState
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.nar import NAR, NARInputs
from openvalle.model.nar_inputs import make_frames, restarts
from openvalle.parallel import one_thread
from openvalle.types import CodecSpec

SMALL = 512  # width up to which a step is sooner done than handed out to other threads (benchmarks/threads.py)


@dataclass(frozen=True)
class TorchState:
    """The network's state."""

    inner: ARState

    @torch.inference_mode()
    def fork(self, rows: np.ndarray) -> TorchState:
        return TorchState(self.inner.fork(_tensor(rows, self.inner.position.device)))

    @torch.inference_mode()
    def join(self, other: TorchState) -> TorchState:
        return TorchState(self.inner.join(other.inner))

    @torch.inference_mode()
    def keep(self, rows: np.ndarray) -> TorchState:
        return TorchState(self.inner.keep(_tensor(rows, self.inner.position.device)))


class TorchAR:
    """An `AREngine` over the network."""

    def __init__(self, network: AR) -> None:
        self.network = network

    @property
    def config(self) -> ARConfig:
        return self.network.config

    @torch.inference_mode()
    def prefill(self, rows: ARRows, room: int) -> tuple[ARScores, EngineState]:
        device = self._device
        inputs = ARInputs(
            text=_tensor(rows.text, device),
            text_lens=_tensor(rows.text_lens, device),
            groups=_tensor(rows.groups, device),
            group_lens=_tensor(rows.group_lens, device),
            aligned=None if rows.aligned is None else _tensor(rows.aligned, device),
            languages=_tensor(rows.languages, device),
            text_languages=_tensor(rows.text_languages, device),
            prompt=None if rows.prompt is None else _tensor(rows.prompt, device),
            prompt_lens=None if rows.prompt_lens is None else _tensor(rows.prompt_lens, device),
        )
        logits, state = self.network.prefill(inputs, room)
        return _scores(logits), TorchState(state)

    @torch.inference_mode()
    def step(
        self, groups: np.ndarray, aligned: np.ndarray | None, languages: np.ndarray, state: EngineState
    ) -> tuple[ARScores, EngineState]:
        assert isinstance(state, TorchState)
        device = self._device
        place = None if aligned is None else _tensor(aligned, device)
        with self._choose_threads():
            logits, after = self.network.step(_tensor(groups, device), place, _tensor(languages, device), state.inner)
        return _scores(logits), TorchState(after)

    def _choose_threads(self) -> AbstractContextManager[None]:
        """Return what a step is taken within: on the CPU a small one is sooner done than handed out."""
        is_small = self._device.type == "cpu" and self.config.transformer.width <= SMALL
        return one_thread() if is_small else nullcontext()

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


class TorchNAR:
    """A `NAREngine` over the network."""

    def __init__(self, network: NAR) -> None:
        self.network = network

    @property
    def config(self) -> NARConfig:
        return self.network.config

    @torch.inference_mode()
    def predict(self, rows: NARRows, stage: int) -> np.ndarray:
        device = self.network.codes.device
        frames = make_frames(
            _tensor(rows.codes, device),
            _tensor(rows.lens, device),
            _tensor(rows.prompt_lens, device),
            None if rows.alignment is None else _tensor(rows.alignment, device),
            restart=restarts(self.config),
        )
        inputs = NARInputs(
            text=_tensor(rows.text, device),
            text_lens=_tensor(rows.text_lens, device),
            frames=frames,
            languages=_tensor(rows.languages, device),
            text_languages=_tensor(rows.text_languages, device),
        )
        hidden = self.network(inputs, torch.tensor([stage], device=device))
        return _array(self.network.predict(hidden[frames.scored], stage))


class TorchCodec:
    """A `CodecEngine` over a codec of this package or EnCodec."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec

    @property
    def spec(self) -> CodecSpec:
        return self.codec.spec

    @torch.inference_mode()
    def encode(self, samples: np.ndarray, merge: int = 1) -> np.ndarray:
        return _array(self.codec.encode(_tensor(samples, self._device)[None], merge=merge)[0])

    @torch.inference_mode()
    def decode(self, codes: np.ndarray) -> np.ndarray:
        return _array(self.codec.decode(_tensor(codes.astype(np.int64), self._device)[None])[0].float())

    def stream(self) -> CodecStream:
        return TorchCodecStream(self.codec.stream(), self._device)

    @property
    def _device(self) -> torch.device:
        if isinstance(self.codec, torch.nn.Module):
            return next(self.codec.parameters()).device
        return torch.device("cpu")


@dataclass(frozen=True)
class TorchCodecStream:
    """A `CodecStream` over the codec's."""

    inner: DecoderStream
    device: torch.device

    @torch.inference_mode()
    def push(self, codes: np.ndarray) -> np.ndarray:
        return _array(self.inner.push(_tensor(codes, self.device)[None])[0].float())

    @torch.inference_mode()
    def flush(self) -> np.ndarray:
        return _array(self.inner.flush()[0].float())


def to_device(codec: Codec, device: torch.device) -> Codec:
    """Return the codec on `device`."""
    if isinstance(codec, torch.nn.Module):
        codec.to(device)
    return codec


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is the fastest there is. `ModelError` names those there are."""
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if has[kind]))
    if not has.get(name.split(":")[0], False):
        there = ", ".join(kind for kind, is_there in has.items() if is_there)
        raise ModelError(f"there is no device {name!r} here", f"use auto or one of: {there}")
    return torch.device(name)


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def _array(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()


def _scores(logits: ARLogits) -> ARScores:
    phonemes = None if logits.phonemes is None else _array(logits.phonemes[:, -1].float())
    return ARScores(_array(logits.codes[:, -1].float()), phonemes)
