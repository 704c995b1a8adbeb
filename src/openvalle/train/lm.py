"""Training the language models: token shards -> AR or NAR, one `Task` for both.

What a network's training starts from: the codec's codebooks, or the weights of one trained before.
"""

from __future__ import annotations

import copy
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from openvalle.codec.load import load_codec
from openvalle.config import Config
from openvalle.data.batches import Data, TokenBatches, fixed_batches, list_shares, open_shards
from openvalle.data.shards import TokenShards
from openvalle.errors import ConfigError
from openvalle.hub import Kind, find
from openvalle.model.ar import AR, ARExamples, ar_examples
from openvalle.model.batch import Batch, Loss, Movable
from openvalle.model.checkpoint import NetworkFile, Part, load_bundle, load_network, save_network
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.kinds import Alignment, PromptKind
from openvalle.model.nar import NAR, NARExamples, nar_examples
from openvalle.text.symbols import SymbolTable
from openvalle.train.discriminators import (
    AdversarialConfig,
    ResidualDiscriminator,
    StretchedExamples,
    draw_stretches,
    judge_residuals,
)
from openvalle.train.distributed import once
from openvalle.train.loop import LoopConfig, Losses, Moment, Validation, fit
from openvalle.types import Utterance


def load_start(part: Part, place: str, shards: TokenShards) -> AR | NAR:
    """Return the network of a run's folder or of a model (name or folder); `ModelError` unless it reads `shards`."""
    folder = find(Kind.MODEL, place)
    if (folder / f"{part.value}.json").is_file():
        half = NetworkFile.load(folder / f"{part.value}.json")
        shards.require(symbols=half.symbols_digest, codec=half.codec.digest)
        return load_network(half, folder)
    bundle = load_bundle(folder)
    shards.require(symbols=bundle.config.symbols_digest, codec=bundle.config.codec.digest)
    return bundle.ar if part is Part.AR else bundle.nar


def take_weights(network: AR | NAR, before: AR | NAR) -> None:
    """Give `network` the weights of the one `before`; `ConfigError` unless both have the same ones."""
    own, theirs = network.state_dict(), before.state_dict()
    for name in sorted(set(own) | set(theirs)):
        if name not in own or name not in theirs or own[name].shape != theirs[name].shape:
            raise ConfigError(
                f"the model to start from has another {name}", "leave out `model`, which then is what it was there"
            )
    network.load_state_dict(theirs)


@torch.no_grad()
def start_from_codebooks(network: AR | NAR, codebooks: Tensor, seed: int) -> None:
    """Give the code embeddings the geometry of codebooks (Q, V, L), by one random projection for all of them.

    Entries that sound alike start alike, and a sum of embeddings starts as the frame's latent. Without this a NAR
    model first has to discover thousands of unrelated vectors, which takes it most of a small training run. A NAR
    model of `latent` dimensions takes the vectors as they are.
    """
    if isinstance(network, NAR) and network.config.latent is not None:
        if network.codes.shape != codebooks[: len(network.codes)].shape:
            raise ConfigError(
                f"latent is {network.config.latent} and the codec's code vectors have {codebooks.shape[-1]} dimensions",
                "set model.latent and model.codebook_size to what the codec has",
            )
        network.codes.copy_(codebooks[: len(network.codes)])
        return
    table = network.codes.weight if isinstance(network, AR) else network.codes
    width = table.shape[-1]
    rng = torch.Generator().manual_seed(seed)
    projection = torch.linalg.qr(torch.randn(max(width, codebooks.shape[-1]), codebooks.shape[-1], generator=rng)).Q
    projected = codebooks.cpu() @ projection[:width].T  # (Q, V, D)
    projected = projected * (width**-0.5 / projected[0].pow(2).mean().sqrt())
    if isinstance(network, AR):
        table[: len(projected[0])] = projected[0]  # a tied table has one more row, for <EOS>
    else:
        table.copy_(projected[: len(table)])


log = logging.getLogger(__name__)


class TokenBatchConfig(Config):
    """What makes up a batch."""

    frames: int = Field(6000, gt=0, description="frames a batch, padding included, on each process")
    max_seconds: float = Field(16.0, gt=0, description="longer utterances are cropped at symbol borders")
    speaker_power: float = Field(0.5, ge=0, le=1, description="speakers are drawn by hours to this power")
    pairs: float = Field(
        0.0, ge=0, le=1, description="share of batches whose rows begin with another utterance of the speaker"
    )
    prompt_seconds: tuple[float, float] = Field(
        (2.0, 6.0), description="shortest and longest piece of it; within a batch all are cut to one length"
    )


class LanguageModelRecipe(Config):
    """`openvalle train ar|nar`. The size of the symbol table comes from the data; a size in `model` is checked."""

    data: Data = Field(..., description="folder made by `openvalle prepare`, or several with their shares")
    valid_split: str | tuple[str, ...] = Field(
        "dev-clean", description="split, or several, of unseen speakers that validation uses"
    )
    codec: str | None = Field(
        None, description="codec (name or folder) whose codebooks the code embeddings start from; random without"
    )
    start: str | None = Field(
        None, description="model (name or folder) or run of this job whose weights, and `model`, training starts from"
    )
    model: dict[str, Any] = Field(default_factory=dict, description="fields of ARConfig or NARConfig")
    loop: LoopConfig
    batches: TokenBatchConfig = TokenBatchConfig()
    adversarial: AdversarialConfig | None = Field(
        None, description="sharpens a NAR model that predicts residuals in one pass; none without"
    )
    valid_batches: int = Field(8, gt=0, description="validation batches, spread over all lengths")


class LanguageModelTask:
    """AR or NAR on token shards."""

    def __init__(self, part: Part, recipe: LanguageModelRecipe) -> None:
        self.part, self.recipe = part, recipe
        self.train = open_shards(recipe.data, ("train",), everywhere=True)
        splits = (recipe.valid_split,) if isinstance(recipe.valid_split, str) else recipe.valid_split
        self.valid = open_shards(recipe.data, splits, everywhere=False)
        self.valid.require(symbols=self.train.vocabulary.digest, codec=self.train.codec.digest)
        self.languages = {name: index for index, name in enumerate(self.train.languages, 1)}
        before = load_start(part, recipe.start, self.train) if recipe.start else None
        table = SymbolTable(self.train.vocabulary)
        self.network = make_network(part, recipe, table, recipe.loop.seed, before)
        self._check_data(self.network.config)
        if before is None and recipe.codec is None and getattr(self.network.config, "latent", None) is not None:
            raise ConfigError("model.latent takes the codec's own code vectors", "say with `codec` whose")
        if recipe.codec and before is None:
            codec = load_codec(recipe.codec)
            self.train.require(codec=codec.spec.digest)
            start_from_codebooks(self.network, codec.codebooks, recipe.loop.seed)
        self.networks: dict[str, nn.Module] = {part.value: self.network}
        if recipe.adversarial is not None:
            self.discriminator = self._make_discriminator(recipe.adversarial)
            self.networks["discriminator"] = self.discriminator
        self.source: TokenBatches | None = None  # made with the first batch, when the rank is known

    def _make_discriminator(self, config: AdversarialConfig) -> ResidualDiscriminator:
        network = self.network
        residual = network.config.residual if isinstance(network, NAR) else None
        if not isinstance(network, NAR) or residual is None or not residual.predicts or network.config.stages > 1:
            raise ConfigError("adversarial sharpens a NAR model that predicts residuals in one pass", "leave it out")
        torch.manual_seed(self.recipe.loop.seed)
        return ResidualDiscriminator(network.codes.shape[2], config.channels)

    def _check_data(self, config: ARConfig | NARConfig) -> None:
        """Refuse tokens that are not what the configuration says."""
        if config.languages and config.languages < len(self.languages):
            raise ConfigError(f"the data has {len(self.languages)} languages, the model {config.languages}")
        if config.alignment != Alignment.NONE and not self.train.is_aligned:
            raise ConfigError(
                "the data is of byte pairs, which are not aligned, and the model has alignment",
                "prepare it with the text unit phoneme, or set model.alignment=none",
            )
        merged = self.train.codec.merge
        needs_merge = isinstance(config, ARConfig) or config.alignment != Alignment.NONE
        if needs_merge and merged != config.merge:
            raise ConfigError(
                f"the tokens were made with merge {merged} and the model has merge {config.merge}",
                f"prepare the data with --merge {config.merge}, or set model.merge={merged}",
            )

    def batch(self, index: int, rank: int, world: int) -> Movable:
        b, seed = self.recipe.batches, self.recipe.loop.seed
        if self.source is None:
            self.source = TokenBatches(
                self.train,
                b.frames,
                seed,
                rank,
                world,
                speaker_power=b.speaker_power,
                max_seconds=b.max_seconds,
                shares=list_shares(self.recipe.data),
                pairs=b.pairs,
                prompt_seconds=b.prompt_seconds,
            )
        rng = torch.Generator().manual_seed((seed * 1_000_003 + index) * 4096 + 2048 + rank)
        batch = replace(
            self._pad(self.source.batch(index), self.train),
            stage_uniform=torch.tensor(self.source.stage_uniform(index)),
        )
        config, adversarial = self.network.config, self.recipe.adversarial
        if isinstance(config, ARConfig):
            return ar_examples(config, batch, rng, training=True)
        examples = nar_examples(config, batch, rng, training=True)
        if adversarial is None:
            return examples
        return StretchedExamples(examples, draw_stretches(adversarial, examples, rng))

    def losses(self, batch: Movable, at: Moment, rng: torch.Generator) -> Losses:
        network, config, name = self.network, self.recipe.adversarial, self.part.value
        if isinstance(network, AR):
            assert isinstance(batch, ARExamples)
            loss = network.examples_loss(batch)
            return Losses({name: loss.total}, {"loss": loss.total.detach(), **loss.parts})
        examples = batch.examples if isinstance(batch, StretchedExamples) else batch
        assert isinstance(examples, NARExamples)
        states = network.states(examples)
        loss = network.states_loss(states, examples)
        found = Losses({name: loss.total}, {"loss": loss.total.detach(), **loss.parts})
        places = batch.places if isinstance(batch, StretchedExamples) else None
        if config is None or places is None or at.done < config.begin:
            return found
        assert network.config.residual is not None
        verdict = judge_residuals(config, network, self.discriminator, states[0], examples, places, at.done)
        own = loss.total + network.config.residual.weight * verdict.pull
        return Losses({name: own, "discriminator": verdict.judge}, {**found.metrics, **verdict.metrics})

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> Validation:
        network = averages[self.part.value]
        device = next(network.parameters()).device
        batches = fixed_batches(self.valid, self.recipe.batches.frames)
        chosen = batches[:: max(1, len(batches) // self.recipe.valid_batches)]
        found: dict[str, list[float]] = defaultdict(list)
        for index, rows in enumerate(chosen):
            batch = self._pad([self.valid[row] for row in rows], self.valid)
            for loss in self._each(network, batch, torch.Generator().manual_seed(index), device):
                for name, value in loss.parts.items():
                    found[name].append(float(value))
        return Validation({name: sum(values) / len(values) for name, values in found.items()})

    def _each(self, network: nn.Module, batch: Batch, rng: torch.Generator, device: torch.device) -> Iterator[Loss]:
        """Yield the losses of a validation batch: one, or one per stage."""
        if isinstance(network, NAR):
            for stage in range(1, network.config.stages + 1):
                examples = nar_examples(network.config, batch, rng, stage, training=False).to(device)
                yield network.states_loss(network.states(examples), examples)
        else:
            assert isinstance(network, AR)
            yield network.examples_loss(ar_examples(network.config, batch, rng, training=False).to(device))

    def keep(self, averages: Mapping[str, nn.Module], folder: Path, done: float) -> None:
        """Write the averaged network into a folder, ready for `pack`, when a part `done` of the training is over."""
        network, config = copy.copy(averages[self.part.value]), self.recipe.adversarial
        assert isinstance(network, AR | NAR)
        if isinstance(network, NAR) and config is not None and done > config.begin + config.ramp:
            assert network.config.residual is not None
            residual = network.config.residual.model_copy(update={"gain": config.gain})
            network.config = network.config.model_copy(update={"residual": residual})
        about = NetworkFile(
            part=self.part,
            config=network.config.model_dump(mode="json"),
            codec=self.train.codec,
            symbols=self.train.vocabulary.symbols,
            merges=self.train.vocabulary.merges,
            symbols_digest=self.train.vocabulary.digest,
            languages=tuple(self.languages),
        )
        save_network(about, network, folder)

    def _pad(self, rows: list[Utterance], shards: TokenShards) -> Batch:
        # The NAR model sees the frames as they will be when it speaks: in the AR model's merged blocks.
        config = self.network.config
        group = config.group if isinstance(config, ARConfig) else 1
        return Batch.of([self._row(row, shards) for row in rows], merge=config.merge, group=group)

    def _row(self, row: Utterance, shards: TokenShards) -> Utterance:
        """Return the row as the network trains on it, with the recording that its NAR prompt comes from."""
        config = self.network.config
        prompt = config.prompt if isinstance(config, NARConfig) else None
        if isinstance(config, ARConfig) and config.prompt_codebooks:
            prompt = PromptKind.SENTENCE
        row = replace(row, language=self.languages[row.language_name])
        if prompt not in (PromptKind.SEGMENT, PromptKind.SENTENCE):
            elsewhere, start = None, None
        elif prompt == PromptKind.SEGMENT and row.speaker_codes is not None:
            return row
        else:
            neighbour = shards.neighbour(row.row)
            elsewhere, start = row.codes[:0] if neighbour is None else neighbour.codes, None
            if prompt == PromptKind.SEGMENT:  # in a corpus cut at its sentences the recording goes on in the one beside
                elsewhere, start = np.concatenate([elsewhere, row.codes]), len(elsewhere)
        return replace(row, speaker_codes=elsewhere, speaker_start=start)


def make_network(
    part: Part, recipe: LanguageModelRecipe, table: SymbolTable, seed: int, before: AR | NAR | None = None
) -> AR | NAR:
    """Build the network with weights drawn from the seed, or with those of the one `before` it."""
    expected = recipe.model.get("symbols", len(table))
    if expected != len(table):
        raise ConfigError(
            f"the data has a table of {len(table)} symbols and the recipe says {expected}",
            "prepare the data with the text unit of the recipe, or leave model.symbols out",
        )
    known = {} if before is None else before.config.model_dump(mode="json")
    values = {**known, **recipe.model, "symbols": len(table)} | ({"marks": table.marks} if part is Part.AR else {})
    torch.manual_seed(seed)
    network: AR | NAR
    network = AR(ARConfig.parse(values, "model")) if part is Part.AR else NAR(NARConfig.parse(values, "model"))
    if before is not None:
        take_weights(network, before)
    return network


def train_language_model(part: Part, recipe: LanguageModelRecipe, out: Path) -> Path:
    """Train one network and return the folder that holds its averaged weights, ready for `pack`."""
    task = LanguageModelTask(part, recipe)
    averages = fit(task, recipe.loop, out)
    once(lambda: task.keep(averages, out, 1.0))
    return out
