"""`openvalle train PART`: a recipe file -> the training job."""

from __future__ import annotations

import os
from pathlib import Path

from openvalle.errors import ConfigError
from openvalle.files import locked


def run(part: str, recipe: Path, overrides: tuple[str, ...] = (), out: Path = Path("runs")) -> Path:
    """Train `part` (codec, ar, nar, predict, pack or g2p) by the recipe into `out`; return what was made.

    `UserError` if another process is at `out`. Of the processes that train together the first one holds the folder;
    `pack` replaces its folder whole, and needs no lock.
    """
    if part in ("codec", "ar", "nar"):
        from openvalle.train.distributed import warn_if_alone
        from openvalle.train.progress import need_tensorboard

        need_tensorboard()
        warn_if_alone()
    if part == "pack" or os.environ.get("RANK", "0") != "0":
        return _run(part, recipe, overrides, out)
    with locked(out):
        return _run(part, recipe, overrides, out)


def _run(part: str, recipe: Path, overrides: tuple[str, ...], out: Path) -> Path:
    if part == "codec":
        from openvalle.train.codec import CodecRecipe, train_codec

        return train_codec(CodecRecipe.load(recipe, overrides), out)
    if part == "g2p":
        from openvalle.train.g2p import SpellingRecipe, train

        train(SpellingRecipe.load(recipe, overrides), out)
        return out
    from openvalle.train.recipe import read_job

    if part in ("ar", "nar"):
        from openvalle.train.halves import Part
        from openvalle.train.lm import LanguageModelRecipe, train_language_model

        values = read_job(part, recipe, overrides)
        return train_language_model(Part(part), LanguageModelRecipe.parse(values, str(recipe)), out)
    if part == "predict":
        from openvalle.train.predict import PredictRecipe, predict

        return predict(PredictRecipe.load(recipe, overrides), out)
    if part == "pack":
        from openvalle.train.pack import PackRecipe, pack

        return pack(PackRecipe.parse(read_job(part, recipe, overrides), str(recipe)), out)
    raise ConfigError(f"cannot train {part!r}", "train codec, ar, nar, predict, pack or g2p")
