"""What a rater's browser is told: everything on the pages, and nothing that says which system a clip is from."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from openvalle.evaluate.listening.design import TestKind
from openvalle.evaluate.listening.schedule import schedule
from openvalle.evaluate.listening.study import AUDIO_FOLDER, Study, Trial

PAGE_FILES = {
    "index.html": "text/html",
    "listen.css": "text/css",
    **dict.fromkeys(("answers.js", "players.js", "listen.js"), "text/javascript"),
}
STUDY_SCRIPT = "study.js"
TRIAL_SECONDS = {TestKind.CMOS: 25, TestKind.MOS: 14, TestKind.SMOS: 22, TestKind.MUSHRA: 75}


def page_file(name: str) -> bytes:
    """Return one of the `PAGE_FILES`."""
    return files("openvalle.evaluate.listening").joinpath("page", name).read_bytes()


def public_study(study: Study) -> dict[str, Any]:
    """Return what the page shows in every trial and before the first."""
    design = study.design
    count = len(study.headphones) + len(study.training) + study.per_rater + len(study.catches)
    return {
        "study": study.id,
        "kind": str(design.kind),
        "title": design.title,
        "question": design.asks(),
        "introduction": [part for part in design.introduction.split("\n\n") if part.strip()],
        "consent": design.consent,
        "scale": design.scale().model_dump(),
        "mustHear": design.must_hear,
        "trials": count,
        "minutes": max(1, round(count * TRIAL_SECONDS[design.kind] / 60)),
    }


def public_trials(study: Study, number: int) -> list[dict[str, Any]]:
    """Return the trials of rater `number` as the page shows them; a catch looks like any other."""
    return [_public(study, trial) for trial in schedule(study, number)]


def _public(study: Study, trial: Trial) -> dict[str, Any]:
    shown: dict[str, Any] = {"stage": trial.stage, "clips": list(trial.clips), "reference": trial.reference}
    if study.design.show_text and (text := study.texts.get(trial.item, "")):
        shown["text"] = text
    if trial.lesson:
        shown["lesson"] = trial.lesson
    return shown


def audio_type(name: str) -> str:
    """Return the media type of a clip."""
    return {".flac": "audio/flac", ".wav": "audio/wav", ".mp3": "audio/mpeg"}[Path(name).suffix]


def clip_path(folder: Path, study: Study, name: str) -> Path | None:
    """Return the file of a clip; None for any name that the test does not list, so that no path can be asked for."""
    return folder / AUDIO_FOLDER / name if name in study.clips else None
