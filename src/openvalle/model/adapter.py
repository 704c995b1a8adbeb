"""Adapters (LoRA): small low-rank additions to a trained model's matrices, as they are kept and used.

`adapter.safetensors` holds two matrices by the name of what their product is added to: `ar.transformer.blocks.0.up`
(out, in) becomes itself + up @ down, with down (rank, in) and up (out, rank). It says which model it belongs to: on
another one of the same shape it would be noise. The products are added once, when the weights are loaded, so that what
speaks is as fast as before, in every engine. torch is not needed; `openvalle.model.lora` trains them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from openvalle.errors import ModelError
from openvalle.files import atomic_path
from openvalle.pipes import check_regular

FORMAT, VERSION = "openvalle-adapter", "1"
ADAPTER_FILE = "adapter.safetensors"
VOICE = "voice"  # a voice file, byte by byte: who speaks where nobody else is asked for
INSIDE = "transformer.blocks."  # the matrices of attention and feed-forward

Weights = Mapping[str, np.ndarray]


def weights_digest(weights: Weights) -> str:
    """Return a digest of a network's weights, as they are stored in float16."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(weights):
        found.update(name.encode())
        found.update(_to_half(weights[name]))
    return found.hexdigest()


def _to_half(value: np.ndarray) -> bytes:
    with np.errstate(over="ignore"):
        return value.astype(np.float16).tobytes()


class MergedWeights(Weights):
    """The weights of a network with the products added to its matrices, each when it is asked for."""

    def __init__(self, weights: Weights, additions: Weights) -> None:
        """`additions`: `name.down` and `name.up`; `ModelError` if one does not fit."""
        self._weights, self._additions = weights, additions
        for name in sorted({key.rpartition(".")[0] for key in additions}):
            if not self._fits(name):
                raise ModelError(
                    f"the adapter has another {name} than the model", "give the model that it was made with"
                )

    def _fits(self, name: str) -> bool:
        down, up = (self._additions.get(f"{name}.{each}") for each in ("down", "up"))
        known = self._weights.get(f"{name}.weight")
        if not name.startswith(INSIDE) or known is None or down is None or up is None:
            return False
        return (len(up), *down.shape[1:]) == known.shape and up.shape[1:] == down.shape[:1]

    def __getitem__(self, name: str) -> np.ndarray:
        value, place = self._weights[name], name.removesuffix(".weight")
        if f"{place}.up" not in self._additions or place == name:
            return value
        down, up = (self._additions[f"{place}.{each}"].astype(np.float32) for each in ("down", "up"))
        return value.astype(np.float32) + up @ down

    def __contains__(self, name: object) -> bool:
        return name in self._weights

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


@dataclass(frozen=True, eq=False)
class Adapter:
    """What is added to the matrices of both networks, by network; the digests of the networks that it is added to."""

    tensors: Mapping[str, Weights]
    digests: Mapping[str, str]
    model: str = ""  # the name of the model
    about: Mapping[str, str] = field(default_factory=dict)  # what it was made of, for people
    voice: bytes | None = None  # a voice file

    def save(self, path: Path) -> Path:
        """Write the file, atomically, in float16; return its path."""
        tensors = {
            f"{part}.{name}": np.ascontiguousarray(each, np.float16)  # as the library writes memory: in its order
            for part, found in self.tensors.items()
            for name, each in found.items()
        }
        if self.voice is not None:
            tensors[VOICE] = np.frombuffer(self.voice, np.uint8)
        metadata = {"format": FORMAT, "version": VERSION, "model": self.model, "about": json.dumps(dict(self.about))}
        metadata |= {f"digest.{part}": digest for part, digest in self.digests.items()}
        with atomic_path(path) as part_file:
            part_file.write_bytes(save(tensors, metadata))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Adapter:
        """Read an adapter, given its file or the folder of `openvalle finetune`; `ModelError` if it is none."""
        path = Path(path)
        path = check_regular(path / ADAPTER_FILE if path.is_dir() else path)
        try:
            with safe_open(path, framework="np") as file:
                metadata = dict(file.metadata() or {})
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            if not path.is_file():
                raise ModelError(f"there is no adapter at {path}", "make one: openvalle finetune") from None
            why = " ".join(str(error).split())
            raise ModelError(f"the adapter {path} cannot be read ({why})", "make it again") from None
        if metadata.get("format") != FORMAT:
            raise ModelError(f"{path} is no adapter", "give what `openvalle finetune` wrote")
        if metadata.get("version") != VERSION:
            raise ModelError(f"{path} has version {metadata.get('version')}, not {VERSION}", "update openvalle")
        voice = tensors.pop(VOICE, None)
        by_part: dict[str, dict[str, np.ndarray]] = {}
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            by_part.setdefault(part, {})[name] = value
        digests = {key.removeprefix("digest."): each for key, each in metadata.items() if key.startswith("digest.")}
        about = json.loads(metadata.get("about", "{}"))
        return cls(by_part, digests, metadata.get("model", ""), about, None if voice is None else voice.tobytes())

    def merge(self, part: str, weights: Weights, model: str) -> Weights:
        """Return the weights of a network (`ar` or `nar`) of the model of that name with what is added to them.

        `ModelError` if it was made for another one.
        """
        if not self.tensors.keys() <= {"ar", "nar"} or (
            part in self.tensors and weights_digest(weights) != self.digests.get(part)
        ):
            raise ModelError(
                f"the adapter was made for another model ({self.model or 'unnamed'}) than {model}",
                "give that one with --model",
            )
        return MergedWeights(weights, self.tensors.get(part, {}))

    def name_model(self, model: str) -> str:
        """Return what the model of that name is called with this adapter."""
        return f"{model}+{self.about.get('name') or 'adapter'}-{self.digest[:8]}"

    @property
    def digest(self) -> str:
        """What tells it from other adapters."""
        found = hashlib.blake2b(digest_size=16)
        for part, tensors in sorted(self.tensors.items()):
            for name, value in sorted(tensors.items()):
                found.update(f"{part}.{name}".encode() + _to_half(value))
        return found.hexdigest()
