"""A listening test as a folder of plain files, for any web space or a USB stick; raters send back one file each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from openvalle.errors import UserError
from openvalle.evaluate.listening.paper import PAGE_FILES, STUDY_SCRIPT, page_file, public_study, public_trials
from openvalle.evaluate.listening.study import AUDIO_FOLDER, load_study
from openvalle.files import atomic_folder


def export_study(folder: Path, target: Path, raters: int) -> Path:
    """Write the test in `folder` with the trials of `raters` raters into the new folder `target`; return it.

    Nothing in it says which system a clip is from: the key stays in `folder`.
    """
    study = load_study(folder)
    if target.exists():
        raise UserError(f"{target} is there already", "choose another folder")
    with atomic_folder(target) as part:
        for name in PAGE_FILES:
            (part / name).write_bytes(page_file(name))
        shown = public_study(study) | {
            "mode": "files",
            "code": study.design.code,
            "schedules": [public_trials(study, number) for number in range(raters)],
        }
        (part / STUDY_SCRIPT).write_text(f"window.STUDY = {json.dumps(shown)};\n", encoding="utf-8")
        shutil.copytree(folder / AUDIO_FOLDER, part / AUDIO_FOLDER)
    return target
