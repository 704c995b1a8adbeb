"""Codes as a trained NAR model makes them, beside the sound they should make: what the codec's decoder is tuned on.

A decoder that has only met the codes of real speech renders a model's smoother guesses dully. As vocoders are tuned on
the spectrograms that an acoustic model predicts, `sound.predicted` lets the decoder train on these codes too.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from openvalle.config import Config, write_json_lines
from openvalle.data.batches import draw_generator
from openvalle.data.shards import AudioShards, Row, TokenShards, crop, write_tokens
from openvalle.decode.nar import fill
from openvalle.decode.prompt import NARPrompt
from openvalle.engines.torch import TorchNAR
from openvalle.errors import ConfigError
from openvalle.files import write_text
from openvalle.model.checkpoint import NetworkFile, load_network
from openvalle.model.nar import NAR
from openvalle.parallel import progress_bars
from openvalle.types import Utterance, to_alignment

log = logging.getLogger(__name__)


class PredictRecipe(Config):
    """`openvalle train predict`."""

    data: Path = Field(..., description="folder made by `openvalle prepare`")
    nar: Path = Field(..., description="folder of a run of `openvalle train nar`")
    hours: float = Field(1.0, gt=0, description="how much speech is predicted, evenly over the speakers")
    prompt_seconds: float = Field(3.0, gt=0, description="longest prompt, from another utterance of the speaker")
    max_seconds: float = Field(16.0, gt=0, description="longer utterances are left out")
    seed: int = 0


def predict(recipe: PredictRecipe, out: Path) -> Path:
    """Write token shards to `out`: codebook 1 as recorded, the others as the NAR model fills them."""
    shards = TokenShards.open(recipe.data, "train")
    if not shards.is_aligned:
        raise ConfigError("the data is of byte pairs, which are not aligned", "prepare it with the text unit phoneme")
    half = NetworkFile.load(recipe.nar / "nar.json")
    shards.require(symbols=half.symbols_digest, codec=half.codec.digest)
    network = load_network(half, recipe.nar)
    assert isinstance(network, NAR)
    recorded = {row["id"] for row in AudioShards.open(recipe.data, "train").rows}  # copies at other speeds are not
    rows = [row for row, values in enumerate(shards.rows) if values["id"] in recorded]
    of_speaker: dict[str, list[int]] = {}
    for row in rows:
        of_speaker.setdefault(shards.rows[row]["speaker"], []).append(row)
    chosen = in_turn(shards, rows, recipe)
    predictor = _Predictor(network.eval(), shards, of_speaker, recipe)
    with progress_bars() as bar:
        codes = [predictor(row) for row in bar.track(chosen, description="predicting")]
    _write(out, shards, chosen, codes)
    log.info("predicted the codes of %d utterances in %s", len(chosen), out)
    return out


def in_turn(shards: TokenShards, rows: list[int], recipe: PredictRecipe) -> list[int]:
    """Return enough of the rows, one of each speaker, then a second of each, and so on."""
    rate = shards.codec.frame_rate
    turns: dict[str, int] = {}
    usable = []
    for row in draw_generator(recipe.seed, 0, 0).permutation(rows).tolist():
        if shards.rows[row]["frames"] <= recipe.max_seconds * rate:
            speaker = shards.rows[row]["speaker"]
            turns[speaker] = turns.get(speaker, -1) + 1
            usable.append((turns[speaker], row))
    if not usable:
        raise ConfigError(f"no utterance is shorter than {recipe.max_seconds:g} s", "raise max_seconds")
    order = [row for _, row in sorted(usable)]
    lengths = np.cumsum([shards.rows[row]["frames"] for row in order])
    return order[: int(np.searchsorted(lengths, recipe.hours * 3600 * rate)) + 1]


@dataclass(frozen=True)
class _Predictor:
    network: NAR
    shards: TokenShards
    of_speaker: dict[str, list[int]]
    recipe: PredictRecipe

    def __call__(self, row: int) -> np.ndarray:
        """Return the codes (T, Q) of one row, prompted with another utterance of its speaker where there is one."""
        target, prompt = self.shards[row], self._prompt(row)
        assert target.durations is not None  # the data is aligned
        if prompt is None or prompt.durations is None:
            inputs = NARPrompt(target.text, target.codes[:, 0], alignment=to_alignment(target.durations))
        else:
            inputs = NARPrompt(
                text=np.concatenate([prompt.text, target.text]),
                codebook1=target.codes[:, 0],
                prompt_symbols=len(prompt.text),
                prompt=prompt.codes,
                alignment=to_alignment(np.concatenate([prompt.durations, target.durations])),
            )
        return fill(TorchNAR(self.network), [inputs])[0]

    def _prompt(self, row: int) -> Utterance | None:
        others = [other for other in self.of_speaker[self.shards.rows[row]["speaker"]] if other != row]
        if not others:
            return None
        rng = draw_generator(self.recipe.seed, 1, row)
        rate = self.shards.codec.frame_rate
        frames = int(self.recipe.prompt_seconds * rate)
        return crop(self.shards[int(rng.choice(others))], frames, rng, self.shards.codec.merge)


def _write(out: Path, shards: TokenShards, rows: list[int], codes: list[np.ndarray]) -> None:
    found = [shards[row] for row in rows]
    name = "shard-00000.safetensors"
    frames, places = write_tokens(
        out / "tokens" / name,
        codes,
        [each.text.tolist() for each in found],
        [each.durations.tolist() for each in found if each.durations is not None],
    )
    index: list[Row] = [
        shards.rows[row] | {"shard": name, "frame_start": frame, "symbol_start": place}
        for row, frame, place in zip(rows, frames, places, strict=True)
    ]
    for file in ("symbols.json", "codec.json"):
        write_text(out / "tokens" / file, (shards.folder / file).read_text(encoding="utf-8"))
    write_json_lines(out / "tokens" / "index.jsonl", index)
