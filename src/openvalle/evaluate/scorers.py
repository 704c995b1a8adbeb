"""The loaded judges of a process, and the scoring of many clips in several processes.

What the judges say is kept on disk, one small file a clip: an interrupted evaluation goes on where it was, and
recordings are judged once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.audio import RATE, Audio
from openvalle.config import Syntax, read_data
from openvalle.errors import AudioError, UserError
from openvalle.evaluate.judges import JUDGES, Judge
from openvalle.evaluate.protocols import Judges
from openvalle.files import write_text
from openvalle.parallel import progress, run_units
from openvalle.speech_models.wer import word_errors
from openvalle.synth.normalizers import choose_normalizer, find_normalizer
from openvalle.types import ENGLISH

FORMAT = "7"  # change it when a judge changes: older results on disk are then not used


@dataclass(frozen=True)
class ScoreRequest:
    """A clip to be judged, by which judges (rows of `JUDGES`), and which language is spoken in it."""

    audio: Audio
    wants: tuple[str, ...] = field(default_factory=lambda: tuple(JUDGES))
    language: str = ENGLISH

    def key(self, judges: Judges) -> str:
        """Return what names this clip's results on disk."""
        used = judges.model_dump(exclude={"normalizer"})  # words are kept as heard
        parts = (FORMAT, json.dumps(used, sort_keys=True), " ".join(self.wants), str(self.audio.rate), self.language)
        return hashlib.sha256("\0".join(parts).encode() + self.audio.samples.tobytes()).hexdigest()[:32]


@dataclass(frozen=True)
class Judgement:
    """What the judges say of one clip: `judgement["prosody"]` is None where that was not asked or cannot be said."""

    results: dict[str, Any] = field(default_factory=dict)  # by the names of `JUDGES`, as their `read` gives them
    by: dict[str, str] = field(default_factory=dict)  # which judge was which model and revision

    def __getitem__(self, judge: str) -> Any:
        return self.results.get(judge)

    def likeness(self, other: Judgement) -> float:
        """Return the cosine between two voices; 0 where nobody speaks."""
        if self["voice"] is None or other["voice"] is None:
            return 0.0
        return float(np.dot(self["voice"], other["voice"]))


class Scorers:
    """The judges of one process, loaded once. `UserError` names all of them that cannot be."""

    def __init__(self, judges: Judges, device: str = "cpu") -> None:
        self.loaded: dict[str, Judge] = {}
        failed: dict[str, UserError] = {}
        for name, kind in JUDGES.items():
            try:
                judge = kind.load(judges, device)
            except UserError as error:
                failed[f"{kind.choice} {getattr(judges, kind.choice, name)}".strip()] = error
                continue
            if judge is not None:
                self.loaded[name] = judge
        if failed:
            raise UserError(
                "; ".join(f"{what}: {error.what}" for what, error in failed.items()),
                "; ".join(dict.fromkeys(error.hint for error in failed.values())),
            )
        self.names = {what: name for judge in self.loaded.values() for what, name in judge.names.items()}

    def score(self, clip: ScoreRequest) -> dict[str, Any]:
        """Return what each wanted judge says and which models they are, as JSON values."""
        results = {}
        for name in [name for name in self.loaded if name in clip.wants]:
            try:
                results[name] = self.loaded[name].score(clip.audio, clip.language)
            except AudioError:  # nothing is heard: no words, no voice
                results[name] = JUDGES[name].silent
        return {"results": results, "by": self.names}


@cache
def require_judges(judges: Judges, device: str = "cpu", languages: tuple[str, ...] = (ENGLISH,)) -> None:
    """Load every judge and let it judge a buzz in each language, so that nothing is spoken that cannot be judged.

    `UserError` names those that cannot, and what to give. They are not kept: whoever speaks next has the memory.
    """
    times = np.arange(RATE) / RATE
    buzz = (0.1 * np.sign(np.sin(2 * np.pi * 120 * times)) * np.sin(2 * np.pi * 3 * times) ** 2).astype(np.float32)
    try:
        scorers = Scorers(judges, device)
        for place, language in enumerate(languages):
            wants = ("words",) if place else tuple(JUDGES)
            scorers.score(ScoreRequest(Audio(buzz, RATE), wants, language))
            word_errors("one", "one", find_normalizer(choose_normalizer(judges.normalizer, language)))
    except UserError as error:
        hint = (
            "choose others by --asr and --speaker; pocketsphinx and resemblyzer judge offline, but not as a paper's do"
        )
        raise UserError(f"nothing can be judged: {error.what}", f"{error.hint}; or {hint}") from None


def score_all(
    clips: Sequence[ScoreRequest],
    judges: Judges,
    folder: Path,
    workers: int = 1,
    device: str = "cpu",
    quiet: bool = False,
) -> list[Judgement]:
    """Return a judgement for every clip; results are kept in `folder`.

    One worker judges in this process, more in processes of their own.
    """
    keys = [clip.key(judges) for clip in clips]
    found = {key: _read(folder / f"{key}.json") for key in keys}
    missing = {key: clip for key, clip in zip(keys, clips, strict=True) if found[key] is None}
    if workers > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the workers: each keeps to its own core
    with progress(quiet) as show:
        names, build = list(missing), partial(_load_scorers, judges, device, workers > 1)
        for done, (number, result) in enumerate(run_units(build, list(missing.values()), workers), 1):
            write_text(folder / f"{names[number]}.json", json.dumps(result))
            show("judging", done, len(missing))
    found |= {key: _read(folder / f"{key}.json") for key in missing}
    judged = [one for key in keys if (one := found[key]) is not None]
    if len(judged) < len(keys):
        raise UserError("what was judged cannot be read again", "does another program write there?")
    return judged


def _load_scorers(judges: Judges, device: str, is_worker: bool) -> Callable[[ScoreRequest], dict[str, Any]]:
    if is_worker:
        import torch

        torch.set_num_threads(1)
    return Scorers(judges, device).score


def _read(path: Path) -> Judgement | None:
    """Return a result on disk; None if it is not there, or was damaged: then the clip is judged again."""
    try:
        values = read_data(path, Syntax.JSON, finite=False)
        results = {
            name: None if value is None else JUDGES[name].read(value) for name, value in values["results"].items()
        }
        return Judgement(results, by=dict(values["by"]))
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return None
