"""Judge many clips in worker processes: words heard, voice, quality. Results are kept on disk, so that an
interrupted benchmark goes on where it was and originals are judged once."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from openvalle.audio import Audio
from openvalle.config import atomic_path
from openvalle.errors import AudioError
from openvalle.listen.quality import Quality
from openvalle.listen.scoring import NORMALIZER, WordErrors, word_errors

STEP = 3  # seconds between the windows that DNSMOS hears; 1 (its default) takes three times as long
JUDGES = f"pocketsphinx + {NORMALIZER}, Resemblyzer, DNSMOS every {STEP} s"
FORMAT = "1"  # change it when a judge changes: older results on disk are then not used


@dataclass(frozen=True)
class Clip:
    """A sound to judge and the text that should be heard in it."""

    audio: Audio
    text: str

    def key(self) -> str:
        """Return what names this clip's results on disk."""
        parts = (FORMAT, JUDGES, str(self.audio.rate), self.text)
        return hashlib.sha256("\0".join(parts).encode() + self.audio.samples.tobytes()).hexdigest()[:32]


@dataclass(frozen=True)
class Judgement:
    """What the judges say of one clip. `voice`: (256,) of unit length, or None if nobody is heard to speak."""

    errors: WordErrors
    heard: str
    voice: np.ndarray | None
    quality: Quality

    def likeness(self, other: Judgement) -> float:
        """Return the cosine between two voices; 0 where nobody speaks."""
        if self.voice is None or other.voice is None:
            return 0.0
        return float(np.dot(self.voice, other.voice))


class Panel:
    """The judges of one process, loaded once."""

    def __init__(self) -> None:
        import torch

        from openvalle.listen.asr import PocketsphinxRecognizer
        from openvalle.listen.quality import DNSMOS
        from openvalle.listen.speaker import ResemblyzerEncoder

        torch.set_num_threads(1)
        self.recognizer, self.encoder, self.dnsmos = (
            PocketsphinxRecognizer(),
            ResemblyzerEncoder(),
            DNSMOS(step=STEP),
        )

    def judge(self, clip: Clip) -> dict[str, Any]:
        """Return the judgement as plain values."""
        try:
            heard = self.recognizer.transcribe(clip.audio).text
        except AudioError:  # a silent clip: every word is missing
            heard = ""
        try:
            voice = self.encoder.embed(clip.audio).tolist()
        except AudioError:
            voice = None
        return {
            "heard": heard,
            "voice": voice,
            "errors": asdict(word_errors(clip.text, heard)),
            "quality": asdict(self.dnsmos.score(clip.audio)),
        }


_PANEL: list[Panel] = []  # of a worker process, filled by `_seat`


def _seat() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then lets its workers end
    _PANEL.append(Panel())


def _judge(clip: Clip) -> dict[str, Any]:
    return _PANEL[0].judge(clip)


def judge_all(clips: Sequence[Clip], folder: Path, workers: int = 2) -> list[Judgement]:
    """Return a judgement for every clip; results are kept in `folder`, one small file each."""
    keys = [clip.key() for clip in clips]
    missing = {key: clip for key, clip in zip(keys, clips, strict=True) if not (folder / f"{key}.json").exists()}
    if missing:
        _judge_missing(missing, folder, workers)
    return [_read(folder / f"{key}.json") for key in keys]


def _judge_missing(missing: dict[str, Clip], folder: Path, workers: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the workers: each judge keeps to its own core
    columns = (TextColumn("judging"), MofNCompleteColumn(), TimeElapsedColumn())
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _seat)
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("judging", total=len(missing))
            futures = {pool.submit(_judge, clip): key for key, clip in missing.items()}
            for future in as_completed(futures):
                with atomic_path(folder / f"{futures[future]}.json") as part:
                    part.write_text(json.dumps(future.result()), encoding="utf-8")
                progress.advance(task)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _read(path: Path) -> Judgement:
    values = json.loads(path.read_text(encoding="utf-8"))
    voice = None if values["voice"] is None else np.array(values["voice"], np.float32)
    return Judgement(WordErrors(**values["errors"]), values["heard"], voice, Quality(**values["quality"]))
