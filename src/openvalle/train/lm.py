"""Training the language models: token shards -> AR or NAR, one `Task` for both."""

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
from torch import nn

from openvalle.codec.load import load_codec
from openvalle.config import Config
from openvalle.data.batches import Data, TokenBatches, list_batches, list_shares, open_shards
from openvalle.data.shards import TokenShards
from openvalle.errors import ConfigError
from openvalle.model.adapter import ADAPTER_FILE, Adapter, weights_digest
from openvalle.model.ar import AR, ARExamples, ar_examples
from openvalle.model.batch import Batch, Loss, Movable
from openvalle.model.checkpoint import NetworkFile, Part, save_network
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.kinds import Alignment, PromptKind
from openvalle.model.lora import AdapterConfig, adapter_tensors, add_adapter, to_arrays, without_adapter
from openvalle.model.nar import NAR, NARExamples, nar_examples
from openvalle.text.symbols import SymbolTable
from openvalle.train.curves import Validation
from openvalle.train.discriminators import (
    AdversarialConfig,
    ResidualDiscriminator,
    StretchedExamples,
    draw_stretches,
    judge_residuals,
)
from openvalle.train.distributed import once
from openvalle.train.loop import LoopConfig, Losses, TrainingProgress, fit
from openvalle.train.samples import Listening, Sounds, attention_picture, with_language
from openvalle.train.start import load_start, start_from_codebooks, take_weights
from openvalle.types import Utterance

log = logging.getLogger(__name__)


class TokenBatchConfig(Config):
    """What makes up a batch."""

    frames: int = Field(6000, gt=0, description="frames a batch, padding included, on each process")
    max_seconds: float = Field(16.0, gt=0, description="longer utterances are cropped at symbol borders")
    min_seconds: float | None = Field(
        None, gt=0, description="a batch is cropped to a length drawn between this and max_seconds; None: to that"
    )
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
    adapter: AdapterConfig | None = Field(
        None, description="train only a small addition to the matrices of `start` (LoRA); all weights without"
    )
    loop: LoopConfig
    batches: TokenBatchConfig = TokenBatchConfig()
    adversarial: AdversarialConfig | None = Field(
        None, description="sharpens a NAR model that predicts residuals in one pass; none without"
    )
    valid_batches: int = Field(8, gt=0, description="validation batches, spread over all lengths")
    shows: bool = Field(True, description="at each validation a picture of the attention and sounds of one utterance")


class LanguageModelTask:
    """AR or NAR on token shards."""

    def __init__(self, part: Part, recipe: LanguageModelRecipe) -> None:
        self.part, self.recipe = part, recipe
        self.train = open_shards(recipe.data, ("train",), everywhere=True)
        splits = (recipe.valid_split,) if isinstance(recipe.valid_split, str) else recipe.valid_split
        self.valid = open_shards(recipe.data, splits, everywhere=False)
        self.valid.require(symbols=self.train.vocabulary.digest, codec=self.train.codec.digest)
        before, known = load_start(part, recipe.start, self.train) if recipe.start else (None, ())
        # A model's languages keep their numbers; new ones come after them.
        names = dict.fromkeys([*known, *self.train.languages])
        self.languages = {name: index for index, name in enumerate(names, 1)}
        table = SymbolTable(self.train.vocabulary)
        self.network = make_network(part, recipe, table, recipe.loop.seed, before)
        self._check_data(self.network.config)
        if before is None and recipe.codec is None and getattr(self.network.config, "latent", None) is not None:
            raise ConfigError("model.latent takes the codec's own code vectors", "say with `codec` whose")
        if recipe.codec and before is None:
            codec = load_codec(recipe.codec)
            self.train.require(codec=codec.spec.digest)
            start_from_codebooks(self.network, codec.codebooks, recipe.loop.seed)
        if recipe.adapter is not None:
            if before is None:
                raise ConfigError("an adapter is added to a trained model", "say with `start` which")
            self.base_digest = weights_digest(to_arrays(self.network))
            add_adapter(self.network, recipe.adapter, recipe.loop.seed)
        self.networks: dict[str, nn.Module] = {part.value: self.network}
        if recipe.adversarial is not None:
            self.discriminator = self._make_discriminator(recipe.adversarial)
            self.networks["discriminator"] = self.discriminator
        self.source: TokenBatches | None = None  # made with the first batch, when the rank is known
        self.listening: Listening | None = None  # made with the first validation

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
                min_seconds=b.min_seconds,
                shares=list_shares(self.recipe.data),
                pairs=b.pairs,
                prompt_seconds=b.prompt_seconds,
            )
        rng = torch.Generator().manual_seed((seed * 1_000_003 + index * world + rank) * 4096 + 2048)
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

    def losses(self, batch: Movable, at: TrainingProgress, rng: torch.Generator) -> Losses:
        network, config, name = self.network, self.recipe.adversarial, self.part.value
        if isinstance(network, AR):
            assert isinstance(batch, ARExamples)
            loss = network.examples_loss(batch)
            frames = (len(batch.at) - len(batch.inputs.text)) * network.config.step_frames  # less <EOS>
            return Losses({name: loss.total}, {"loss": loss.total.detach(), **loss.parts}, frames)
        examples = batch.examples if isinstance(batch, StretchedExamples) else batch
        assert isinstance(examples, NARExamples)
        states = network.states(examples)
        loss = network.states_loss(states, examples)
        frames = sum(map(len, examples.at))
        found = Losses({name: loss.total}, {"loss": loss.total.detach(), **loss.parts}, frames)
        places = batch.places if isinstance(batch, StretchedExamples) else None
        if config is None or places is None or at.done < config.begin:
            return found
        assert network.config.residual is not None
        verdict = judge_residuals(config, network, self.discriminator, states[0], examples, places, at.done)
        own = loss.total + network.config.residual.weight * verdict.pull
        return Losses({name: own, "discriminator": verdict.judge}, {**found.metrics, **verdict.metrics}, frames)

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> Validation:
        network = averages[self.part.value]
        device = next(network.parameters()).device
        batches = list_batches(self.valid, self.recipe.batches.frames)
        chosen = batches[:: max(1, len(batches) // self.recipe.valid_batches)]
        found: dict[str, list[float]] = defaultdict(list)
        total = []
        for index, rows in enumerate(chosen):
            batch = self._pad([self.valid[row] for row in rows], self.valid)
            for loss in self._each(network, batch, torch.Generator().manual_seed(index), device):
                total.append(float(loss.total))
                for name, value in loss.parts.items():
                    found[name].append(float(value))
        means = {name: sum(values) / len(values) for name, values in found.items()}
        sounds, pictures = self._show(network) if self.recipe.shows else ({}, {})
        return Validation(means, sounds, pictures, loss=sum(total) / len(total))

    def _show(self, network: nn.Module) -> tuple[Sounds, dict[str, np.ndarray]]:
        """Return sounds of a held-out utterance, and a picture of where the network looks in its text."""
        assert isinstance(network, AR | NAR)
        if self.listening is None:
            self.listening = Listening(self.valid, lambda row: with_language(row, self.languages), self.recipe.codec)
        target = self.listening.target
        batch, rng = self._pad([target], self.valid), torch.Generator().manual_seed(0)
        device = next(network.parameters()).device
        picture = attention_picture(network, lambda: next(self._each(network, batch, rng, device)), len(target.text))
        return self.listening.hear(network), {"attention": picture}

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
        if self.recipe.adapter is not None:
            tensors = {self.part.value: adapter_tensors(network)}
            Adapter(tensors, {self.part.value: self.base_digest}, self.recipe.start or "").save(folder / ADAPTER_FILE)
            network = without_adapter(network)
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
        # The NAR model sees the frames as they will be when it speaks: with codebook 1 merged as the AR model has it.
        config = self.network.config
        group = config.group if isinstance(config, ARConfig) else 1
        return Batch.of([self._row(row, shards) for row in rows], merge=config.merge, group=group)

    def _row(self, row: Utterance, shards: TokenShards) -> Utterance:
        """Return the row as the network trains on it, with the recording that its NAR prompt comes from."""
        config = self.network.config
        prompt = config.prompt if isinstance(config, NARConfig) else None
        if isinstance(config, ARConfig) and config.prompt_codebooks:
            prompt = PromptKind.SENTENCE
        row = with_language(row, self.languages)
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
