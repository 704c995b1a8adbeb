"""Codes as a trained NAR model makes them, beside the sound they should make: what the codec's decoder is tuned on.

A decoder that has only met the codes of real speech renders a model's smoother guesses dully. As vocoders are tuned on
the spectrograms that an acoustic model predicts, `sound.predicted` lets the decoder train on these codes too.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field

from openvalle.config import Config, write_json_lines
from openvalle.data.batches import crop
from openvalle.data.draws import draw_generator
from openvalle.data.shards import AudioShards, Row, TokenShards, write_tokens
from openvalle.decode.nar import fill
from openvalle.decode.prompt import zero_shot
from openvalle.engines.torch import TorchNAR
from openvalle.errors import ConfigError
from openvalle.files import write_text
from openvalle.model.alignment import cut_whole
from openvalle.model.checkpoint import NetworkFile, load_network
from openvalle.model.config import ARConfig
from openvalle.model.nar import NAR
from openvalle.parallel import progress_bars
from openvalle.types import Utterance

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
    of_speaker: dict[str, list[int]] = {}
    for row, values in enumerate(shards.index):
        if values["id"] in recorded:
            of_speaker.setdefault(values["speaker"], []).append(row)
    chosen = in_turn(shards, sorted(row for rows in of_speaker.values() for row in rows), recipe)
    engine, merge = TorchNAR(network.eval()), shards.codec.merge
    # of the AR model that would speak before this one
    config = ARConfig(symbols=network.config.symbols, merge=merge, alignment=network.config.alignment)
    codes = []
    with progress_bars() as bar:
        for row in bar.track(chosen, description="predicting"):
            target = _read(shards, row, half)
            recorded_codes, alignment = cut_whole(target, merge, group=1)
            assert alignment is not None  # the data is aligned
            others = [other for other in of_speaker[shards.index[row]["speaker"]] if other != row]
            prompt = None
            if others:
                rng = draw_generator(recipe.seed, 1, row)
                frames = int(recipe.prompt_seconds * shards.codec.frame_rate)
                prompt = crop(_read(shards, int(rng.choice(others)), half), frames, rng, merge)
            inputs = zero_shot(config, prompt, target.text, target.language)
            nar = inputs.nar(config, codebook1=recorded_codes[::merge, 0], alignment=alignment[::merge])
            codes.append(fill(engine, [nar])[0])
    _write(out, shards, chosen, codes)
    log.info("predicted the codes of %d utterances in %s", len(chosen), out)
    return out


def _read(shards: TokenShards, row: int, network: NetworkFile) -> Utterance:
    """Return an utterance with its language as the network knows it."""
    found, known = shards[row], network.languages
    return replace(found, language=known.index(found.language_name) + 1 if found.language_name in known else 0)


def in_turn(shards: TokenShards, rows: list[int], recipe: PredictRecipe) -> list[int]:
    """Return enough of the rows, one of each speaker, then a second of each, and so on."""
    rate = shards.codec.frame_rate
    turns: dict[str, int] = {}
    usable = []
    for row in draw_generator(recipe.seed, 0, 0).permutation(rows).tolist():
        if shards.frames[row] <= recipe.max_seconds * rate:
            speaker = shards.index[row]["speaker"]
            turns[speaker] = turns.get(speaker, -1) + 1
            usable.append((turns[speaker], row))
    if not usable:
        raise ConfigError(f"no utterance is shorter than {recipe.max_seconds:g} s", "raise max_seconds")
    order = [row for _, row in sorted(usable)]
    lengths = np.cumsum([shards.frames[row] for row in order])
    return order[: int(np.searchsorted(lengths, recipe.hours * 3600 * rate)) + 1]


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
        shards.index[row] | {"shard": name, "frame_start": frame, "symbol_start": place}
        for row, frame, place in zip(rows, frames, places, strict=True)
    ]
    for file in ("symbols.json", "codec.json"):
        write_text(out / "tokens" / file, (shards.folder / file).read_text(encoding="utf-8"))
    write_json_lines(out / "tokens" / "index.jsonl", index)
