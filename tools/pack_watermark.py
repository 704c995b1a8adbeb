"""Pack the watermark's weights into src/openvalle/assets/watermark, in 4 bits where there are many of them.

    pip download --no-deps resemble-perth==1.0.1
    python tools/pack_watermark.py resemble_perth-1.0.1-*.whl

Four networks of 2.3 million weights would be 37 MB. A weight is rounded to whole numbers up to 7 (127 in the first and
last layer of a network, which are small), with a scale for each output; what rounding one of them changes is made good
by those that are still to be rounded, as the inputs of the layer allow (GPTQ, 2210.17323), and by the bias. The inputs
are speech of the built-in voices, with and without the mark. Rounded to the nearest, 4 bits would hear marks where
there are none.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from openvalle.audio import Audio, normalize
from openvalle.safety import watermark
from openvalle.safety.watermark import BANDS, DEPTH, KERNEL, NETWORKS, SPEEDS, WEIGHTS, WIDTH, Layers, MarkWindows
from openvalle.synth.synthesizer import Synthesizer

FILE = "perth/perth_net/pretrained/implicit/perth_net_250000.pth.tar"
SHA256 = "a15bce457ebc53ce5e6c9c3f11df78cf7ee2bf9cdab0a798902135b4c4027670"
TOP, TOP_SMALL = 7, 127  # largest whole number of a weight, in layers of `KERNEL` frames and in those of one
DAMP = 0.01  # is added to the inputs' own products, as a share of their mean
COLUMNS = 128  # that are rounded before the rest of them is told
QUIETER = 0.1
VOICES = ("default", "second", "clara", "edgar", "ella", "victor")
TEXTS = (
    "The birch canoe slid on the smooth planks, and nobody on the shore said a word about it.",
    "Glue the sheet to the dark blue background before the paint is dry.",
    "It is easy to tell the depth of a well, if you have a stone and a watch.",
)


def read_published(path: Path) -> dict[str, Layers]:
    """Return the convolutions of each network in the wheel.

    A file of torch is a zip file, with the numbers of each tensor in an entry of its own, in the order of the network's
    layers. The pickle beside them, which would have to be run, only says so.
    """
    with zipfile.ZipFile(path) as wheel:
        data = wheel.read(FILE)
    if hashlib.sha256(data).hexdigest() != SHA256:
        sys.exit(f"{path} holds other weights than those that are known: give the wheel of resemble-perth 1.0.1")
    networks: dict[str, Layers] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        root = archive.namelist()[0].partition("/")[0]
        for number, name in enumerate(NETWORKS):
            networks[name] = []
            for layer in range(DEPTH + 2):
                inner, kernel = (BANDS, 1) if layer == 0 else (WIDTH, 1 if layer == DEPTH + 1 else KERNEL)
                out = WIDTH if layer <= DEPTH else BANDS if number == 0 else 2
                first = 2 * (number * (DEPTH + 2) + layer)
                weight, bias = (np.frombuffer(archive.read(f"{root}/data/{first + at}"), "<f4") for at in range(2))
                networks[name].append((weight.reshape(out, inner, kernel), bias))
    return networks


def speak() -> list[Audio]:
    """Return speech of the built-in voices, unmarked."""
    synthesizer = Synthesizer.load(engine="onnx-fp32", watermark=False)
    return [
        synthesizer.say(TEXTS[seed % len(TEXTS)], voice=voice, seed=seed).audio for seed, voice in enumerate(VOICES)
    ]


def look(audio: Audio) -> np.ndarray:
    """Return what the networks read of a sound, (T, BANDS)."""
    windows = MarkWindows(audio.rate)
    return windows.scale(windows.spectrum(np.pad(audio.samples, windows.half, mode="reflect")))[:, :BANDS]


def round_network(layers: Layers, inputs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the layers in whole numbers, for `inputs` (T, BANDS): weight (out, inner, kernel) int8, scale, bias."""
    packed: dict[str, np.ndarray] = {}
    for index, (weight, bias) in enumerate(layers):
        out, inner, kernel = weight.shape
        seen = [gather(frames, kernel) for frames in inputs]
        flat = np.concatenate([weight.transpose(0, 2, 1).reshape(out, -1), bias[:, None]], axis=1)
        values, scale, bias = round_layer(flat, np.concatenate(seen), TOP if kernel > 1 else TOP_SMALL)
        packed[f"{index}.weight"] = np.ascontiguousarray(values.reshape(out, kernel, inner).transpose(0, 2, 1))
        packed |= {f"{index}.scale": scale, f"{index}.bias": bias}
        rounded = np.concatenate([values * scale[:, None], bias[:, None]], axis=1)
        inputs = [frames @ rounded.T for frames in seen]
        inputs = [np.where(frames > 0, frames, np.float32(0.01) * frames) for frames in inputs]
    return packed


def gather(frames: np.ndarray, kernel: int) -> np.ndarray:
    """Return every frame with its neighbours and a one for the bias, (T, kernel * inner + 1)."""
    padded = np.pad(frames, ((kernel // 2, kernel // 2), (0, 0)))
    parts = [padded[at : at + len(frames)] for at in range(kernel)]
    return np.concatenate([*parts, np.ones((len(frames), 1), np.float32)], axis=1)


def round_layer(weight: np.ndarray, inputs: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a weight (out, K + 1), its bias last, as whole numbers (out, K) int8, scales and biases (out,)."""
    products = (inputs.T @ inputs).astype(np.float64)
    products += np.eye(len(products)) * DAMP * np.mean(np.diag(products))
    shares = np.linalg.cholesky(np.linalg.inv(products)).T
    left, count = weight.astype(np.float64), weight.shape[1] - 1
    scale = np.abs(left[:, :count]).max(1) / top
    values = np.empty((len(weight), count), np.int8)
    for start in range(0, count, COLUMNS):
        end = min(start + COLUMNS, count)
        errors = np.empty((len(weight), end - start))
        for column in range(start, end):
            values[:, column] = np.clip(np.rint(left[:, column] / scale), -top, top)
            error = (left[:, column] - values[:, column] * scale) / shares[column, column]
            left[:, column + 1 : end] -= np.outer(error, shares[column, column + 1 : end])
            errors[:, column - start] = error
        left[:, end:] -= errors @ shares[start:end, end:]
    return values, scale.astype(np.float32), left[:, count].astype(np.float32)


def main(wheel: Path) -> None:
    """Write the file."""
    networks = read_published(wheel)
    sounds = speak()
    marker = watermark.Marker(networks["encoder"])
    marked = [marker.mark(sound) for sound in sounds]
    quiet = [Audio(sound.samples * np.float32(QUIETER), sound.rate) for sound in sounds]
    heard = [look(normalize(sound)) for sound in [*sounds, *marked]]
    packed: dict[str, np.ndarray] = {}
    for name, layers in networks.items():
        inputs = [look(sound) for sound in [*sounds, *quiet]]
        if name in SPEEDS:
            inputs = [watermark.stretch(frames, SPEEDS[name]) for frames in heard]
        packed |= {f"{name}.{key}": values for key, values in round_network(layers, inputs).items()}
    about = {
        "licence": "MIT, Copyright (c) 2025 Resemble AI",
        "source": f"resemble-perth 1.0.1, {FILE}, SHA-256 {SHA256}",
    }
    path = Path(watermark.__file__).parents[1] / "assets" / WEIGHTS
    path.parent.mkdir(exist_ok=True)
    save_file(packed, path, about)
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
