"""Training the forced aligner: speech with its words -> a network that hears the phones (CTC; no times are needed).

It reads what `openvalle prepare --last audio` made, in any languages that a front end reads.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from openvalle.audio import MODEL_RATE, resample
from openvalle.config import Config
from openvalle.data.draws import draw_generator
from openvalle.data.shards import AudioShards
from openvalle.errors import ConfigError, TextError
from openvalle.files import atomic_path
from openvalle.model.batch import Movable
from openvalle.speech_models.ctc import BLANK, CONFIG, WEIGHTS, CTCConfig, log_mel
from openvalle.text.language import phonemize
from openvalle.text.nearest import find_segments, to_units
from openvalle.text.phones import Phones
from openvalle.train.ctc import CTCNetwork
from openvalle.train.distributed import once
from openvalle.train.g2p import edit_distance
from openvalle.train.loop import LoopConfig, Losses, TrainingProgress, Validation, fit

log = logging.getLogger(__name__)
SETTLING = 100  # steps of which the classes' priors are the mean


class AlignerRecipe(Config):
    """`openvalle train aligner`."""

    data: str | tuple[str, ...] = Field(description="folders that `openvalle prepare --last audio` made")
    loop: LoopConfig
    valid_split: tuple[str, ...] = Field(("dev",), description="never trained on; the loss and phone errors are of it")
    seconds: float = Field(100.0, gt=0, description="sound of a batch on each process, padding included")
    max_seconds: float = Field(18.0, gt=0, description="longer utterances are left out")
    rare: int = Field(20, ge=1, description="sounds that are said less often are heard as the nearest English ones")
    checked: int = Field(120, ge=1, description="utterances that a validation reads, at most")
    bands: int = 80
    width: int = 144
    depth: int = 8
    reach: int = 3
    stride: int = 2
    prior: float = 0.3


@dataclass(frozen=True)
class AlignerBatch(Movable):
    """Utterances, padded: features (B, F, bands), classes (B, S) and how many of both each has, (B,)."""

    features: Tensor
    spectra: Tensor
    classes: Tensor
    counts: Tensor


@dataclass(frozen=True)
class AlignerRow:
    """An utterance of training: the row of some shards, and the segments that are said in it."""

    shards: AudioShards
    row: int
    segments: Phones

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return float(self.shards.rows[self.row]["seconds"])


def read_sources(folders: Sequence[str], most: float) -> list[AlignerRow]:
    """Return the utterances of prepared folders that last up to `most` seconds; what cannot be spoken is left out."""
    found: list[AlignerRow] = []
    silent = 0
    for folder in folders:
        shards = AudioShards.open(folder)
        for place, row in enumerate(shards.rows):
            if row["seconds"] > most:
                continue
            try:
                words = phonemize(row["text"], row["language"])
            except TextError:
                silent += 1
                continue
            segments = [find_segments(unit)[0] for word in words for unit in to_units(word.phones)]
            found.append(AlignerRow(shards, place, tuple(segments)))
    if silent:
        log.warning("%d utterances have nothing to speak and are left out", silent)
    return found


def find_occupancy(scores: Tensor, frames: Tensor, classes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's loss, (B,), and how likely each frame is each class on the right paths, (B, T, K).

    `scores` (B, T, K) need not sum to one. The gradient of the loss is the occupancy, with its sign changed; torch's
    own gradient supposes probabilities. Both are 0 for a row with fewer frames than it has classes.
    """
    given = scores.detach().transpose(0, 1).requires_grad_()
    with torch.enable_grad():
        loss = functional.ctc_loss(given, classes, frames, counts, BLANK, reduction="none", zero_infinity=True)
        (gradient,) = torch.autograd.grad(loss.sum(), given)
    there = torch.arange(len(given), device=frames.device)[:, None] < frames  # (T, B)
    there &= (gradient != 0).flatten(2).any(2)
    occupancy = (given.detach().exp() - gradient) * there[..., None]
    return loss.detach(), occupancy.transpose(0, 1)


class AlignerTask:
    """The network on all utterances but the held-out ones, each epoch in a new order."""

    def __init__(self, recipe: AlignerRecipe, sources: Sequence[AlignerRow]) -> None:
        held = [source for source in sources if source.shards.rows[source.row]["split"] in recipe.valid_split]
        train = [source for source in sources if source.shards.rows[source.row]["split"] not in recipe.valid_split]
        self.recipe = recipe
        counted = Counter(segment for source in train for segment in source.segments)
        known = tuple(sorted(segment for segment, count in counted.items() if count >= recipe.rare))
        if not known:
            raise ConfigError("there is nothing to learn from", f"no sound is said {recipe.rare} times: give more data")
        sizes = recipe.model_dump(include=set(CTCConfig.model_fields) - {"symbols"})
        self.config = CTCConfig(symbols=known, **sizes)
        self.train, self.unseen = self._hear(train), self._hear(held)[: recipe.checked]
        log.info("%d utterances, %d held out, %d sounds", len(self.train), len(self.unseen), len(known))
        torch.manual_seed(recipe.loop.seed)
        self.networks: dict[str, nn.Module] = {"aligner": CTCNetwork(self.config)}
        self.parts = _cut_batches([source.seconds for source, _ in self.train], recipe.seconds)

    def _hear(self, sources: Sequence[AlignerRow]) -> list[tuple[AlignerRow, list[int]]]:
        """Return the utterances, the shortest first, with their classes; without those of sounds that are not known."""
        places = {symbol: place for place, symbol in enumerate(self.config.symbols, 1)}
        heard = []
        for source in sorted(sources, key=lambda source: source.seconds):
            try:
                near = [sound for each in source.segments for sound in find_segments(each, places)]
            except TextError:
                continue
            heard.append((source, [places[sound] for sound, _ in groupby(near)]))  # equal neighbours are one sound
        return heard

    def batch(self, index: int, rank: int, world: int) -> AlignerBatch:
        """Return the utterances of a batch: a pure function of its arguments."""
        epoch, place = divmod(index * world + rank, len(self.parts))
        start, end = self.parts[draw_generator(self.recipe.loop.seed, epoch, 0).permutation(len(self.parts))[place]]
        return _pad(self.train[start:end], self.config.bands)

    def losses(self, batch: AlignerBatch, at: TrainingProgress, rng: torch.Generator) -> Losses:
        """Return the negative log likelihood of the phones, a frame."""
        network = self.networks["aligner"]
        assert isinstance(network, CTCNetwork)
        loss, heard, frames = _judge(network, batch)
        if network.training:
            with torch.no_grad():
                there = torch.arange(heard.shape[1], device=frames.device) < frames[:, None]
                shares = heard.detach().exp()[there].mean(0)
                network.prior.lerp_(shares, max(1 / SETTLING, 1 / (at.step + 2)))
        return Losses({"aligner": loss}, {"loss": loss.detach()})

    def validate(self, averages: Mapping[str, nn.Module]) -> Validation:
        """Return the loss and the share of wrong phones, as the likeliest class of each frame has them."""
        network, losses, wrong, wanted = averages["aligner"], [], 0, 0
        assert isinstance(network, CTCNetwork)
        device = next(network.parameters()).device
        parts = _cut_batches([source.seconds for source, _ in self.unseen], self.recipe.seconds)
        with torch.no_grad():
            for start, end in parts:
                batch = _pad(self.unseen[start:end], self.config.bands).to(device)
                loss, heard, frames = _judge(network, batch)
                losses.append(float(loss))
                for row, (_, classes) in zip(range(end - start), self.unseen[start:end], strict=True):
                    best = network.weigh(heard[row, : int(frames[row])]).argmax(-1).tolist()
                    said = [one for one, _ in groupby(best) if one != BLANK]
                    wrong += edit_distance(tuple(map(str, said)), tuple(map(str, classes)))
                    wanted += len(classes)
        if not wanted:
            return Validation({})
        return Validation({"phone errors": wrong / wanted}, loss=float(np.mean(losses)))

    def keep(self, averages: Mapping[str, nn.Module], folder: Path, done: float) -> None:
        """Write the network, its weights in half precision."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.half().contiguous() for name, value in averages["aligner"].state_dict().items()}
        with atomic_path(folder / WEIGHTS) as part:
            save_file(weights, part)
        self.config.save(folder / CONFIG)


def _cut_batches(seconds: Sequence[float], most: float) -> list[tuple[int, int]]:
    """Return batches, as (first, end), of utterances in the order of their lengths: up to `most` with their padding."""
    parts, start = [], 0
    for place in range(1, len(seconds) + 1):
        if place == len(seconds) or (place + 1 - start) * seconds[place] > most:
            parts.append((start, place))
            start = place
    return parts


def _pad(rows: Sequence[tuple[AlignerRow, list[int]]], bands: int) -> AlignerBatch:
    features = [
        torch.from_numpy(log_mel(resample(source.shards[source.row], MODEL_RATE).samples, bands)) for source, _ in rows
    ]
    classes = [torch.tensor(each) for _, each in rows]
    return AlignerBatch(
        nn.utils.rnn.pad_sequence(features, batch_first=True),
        torch.tensor([len(each) for each in features]),
        nn.utils.rnn.pad_sequence(classes, batch_first=True),
        torch.tensor([len(each) for each in classes]),
    )


def _judge(network: CTCNetwork, batch: AlignerBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss a frame, the log-probabilities (B, T, K), and the frames of each row."""
    heard = network(batch.features, batch.spectra)
    scores, frames = network.weigh(heard), network.count_frames(batch.spectra)
    loss, occupancy = find_occupancy(scores, frames, batch.classes, batch.counts)
    gradient = -(occupancy * scores).sum()  # its value means nothing, its gradient is that of the loss
    total = frames.sum()
    return (gradient - gradient.detach() + loss.sum()) / total, heard, frames


def train_aligner(recipe: AlignerRecipe, out: Path) -> Path:
    """Train the network; return the folder that holds it."""
    folders = (recipe.data,) if isinstance(recipe.data, str) else recipe.data
    task, folder = AlignerTask(recipe, read_sources(folders, recipe.max_seconds)), out / "aligner"
    averages = fit(task, recipe.loop, out)
    once(lambda: task.keep(averages, folder, 1.0))
    return folder
