"""A model folder, or a codec's name -> what computes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openvalle.codec.load import find_builtin
from openvalle.engines.base import AREngine, CodecEngine, NAREngine
from openvalle.engines.choose import Choice
from openvalle.errors import import_extra
from openvalle.model.adapter import Adapter
from openvalle.model.bundle import Description
from openvalle.parallel import count_threads, note_threads

if TYPE_CHECKING:
    import torch

SMALL = 512  # width up to which a step is sooner done than handed out to other threads


def check_device(choice: Choice, device: str) -> None:
    """Raise `ModelError` if there is no such device, `MissingExtra` without torch where it is wanted."""
    if choice.precision is None:
        _start_torch(device)


def load_networks(
    model: Description, choice: Choice, device: str, adapter: Adapter | None = None
) -> tuple[AREngine, NAREngine]:
    """Return the AR and the NAR model of a folder, with what is added to them; `ModelError` if they are damaged or do
    not fit its settings."""
    if choice.precision is not None:
        from openvalle.engines.onnx import load_ar, load_nar

        threads = count_threads()
        alone = 1 if model.config.ar.transformer.width <= SMALL else threads  # sooner done than handed out
        return load_ar(model, choice.precision, alone, adapter), load_nar(model, choice.precision, threads, adapter)
    place = _start_torch(device)
    from openvalle.engines.captured import Way, choose_way
    from openvalle.engines.torch import TorchAR, TorchNAR
    from openvalle.engines.torch_static import StaticAR
    from openvalle.model.checkpoint import load_bundle

    bundle = load_bundle(model.folder)
    if adapter is not None:
        from openvalle.model.lora import adapt

        bundle = adapt(bundle, adapter)
    engine = StaticAR if choose_way() is Way.STATIC else TorchAR
    return engine(bundle.ar.to(place).eval()), TorchNAR(bundle.nar.to(place).eval())


def load_codec(name: str | Path, choice: Choice, device: str) -> CodecEngine:
    """Return the codec called `name`; `ModelError` if there is none or it is damaged."""
    folder = find_builtin(name)
    if choice.precision is not None and folder is not None:
        from openvalle.engines import onnx

        return onnx.load_codec(folder, choice.precision, count_threads())
    place = _start_torch(device)  # only torch computes the other kinds
    from openvalle.codec.builtin import BuiltinCodec
    from openvalle.codec.load import load_codec as load
    from openvalle.engines.captured import Way, choose_way
    from openvalle.engines.torch import TorchCodec, to_device
    from openvalle.engines.torch_blocks import StaticCodec

    codec = to_device(load(name), place)
    if isinstance(codec, BuiltinCodec) and choose_way() is Way.STATIC:
        return StaticCodec(codec)
    return TorchCodec(codec)


def _start_torch(device: str) -> torch.device:
    """Load torch and return the device called `device`; `MissingExtra` where it is not installed."""
    import_extra("torch", "torch", "torch")
    from openvalle.engines.torch import choose_device

    note_threads()  # torch is loaded now
    return choose_device(device)
