"""open-mmlab/Amphion, VALLE (v1): the networks of lifeiteng/vall-e in an experiment's folder.

The folder has `args.json` (settings), `symbols.dict` (symbols of its texts), and `checkpoint/epoch-..._step-..._loss-`
with the bare weights. Of the two names of a shared weight a safetensors file may hold one.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from openvalle.config import parse_data
from openvalle.convert import lifeiteng
from openvalle.convert.base import Converted, Given
from openvalle.errors import ModelError
from openvalle.pipes import read_text

ARGS, SYMBOLS = "args.json", "symbols.dict"
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*')


def convert(given: Given) -> Converted:
    """Return the model of an experiment's folder."""
    named = {path.name: path for path in given.files}
    if given.symbols is None and SYMBOLS not in named:
        raise ModelError(f"there is no {SYMBOLS} among the files", "give the experiment's folder, or --symbols FILE")
    settings = read_args(named[ARGS]) if ARGS in named else {}
    symbols = given.symbols or named[SYMBOLS]
    return lifeiteng.convert(replace(given, symbols=symbols, settings=settings | dict(given.settings)))


def read_args(path: Path) -> dict[str, Any]:
    """Return what an experiment's settings say of the networks, by the names of lifeiteng/vall-e."""
    values = parse_data(_COMMENT.sub(lambda found: found[1] or "", read_text(path)), str(path))
    values = values if isinstance(values, dict) else {}
    model, preprocess = values.get("model") or {}, values.get("preprocess") or {}
    names = {"nhead": "nhead", "prefix_mode": "prefix_mode", "nar_scale_factor": "scale_factor"}
    found = {ours: model[theirs] for theirs, ours in names.items() if theirs in model}
    extractor = preprocess.get("phone_extractor", "espeak")
    if extractor == "lexicon":
        raise ModelError(f"{path}: its texts were read with a lexicon of its own", "it can be used with espeak only")
    return found | {"text_extractor": extractor}


SOURCE = replace(
    lifeiteng.SOURCE,
    name="amphion",
    repository="https://github.com/open-mmlab/Amphion",
    revision="d3de90f02e7f1c7dbc24b04d52fe1b8ef438effe",
    licence="MIT",
    recognise=lambda weights: False,  # its weights are named as those of lifeiteng/vall-e
    convert=convert,
    published=("amphion/valle-libritts", "amphion/valle_librilight_6k"),
)
