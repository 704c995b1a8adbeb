"""The non-autoregressive model: codebooks 2..Q, each in one pass over all frames (VALL-E 4.2.2; X, R and 2 by config).

Sequence: [text][frames] (with a stage token: [text, <EOS>][frames][<EOS>, stage], VALL-E 2 3.3). Prompt frames are the
sum of all codebooks' embeddings, target frames that of the codebooks before the stage. A `stage` is the index of the
codebook it predicts, 1..Q-1 (the papers' 2..8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.model.batch import Batch, Loss, Movable
from openvalle.model.config import NARConfig
from openvalle.model.embeddings import (
    ConvPrenet,
    LinearPrenet,
    PositionEmbedding,
    PromptEmbedding,
    TextEmbedding,
    gather_symbols,
    join,
    language_embedding,
    place_languages,
    take,
)
from openvalle.model.heads import CodeHead, ResidualHead
from openvalle.model.kinds import (
    FRAME_KERNEL,
    Alignment,
    LanguageOn,
    NormKind,
    Positions,
    Prenet,
    PromptKind,
    StageConditioning,
    StageDraw,
)
from openvalle.model.nar_inputs import NARFrames, add_codebook1_noise, draw_prompts
from openvalle.model.transformer import (
    AdaptiveNorm,
    AdaptiveRMSNorm,
    Mask,
    PlainNorm,
    RMSNorm,
    SeparateNorm,
    Transformer,
)


@dataclass(frozen=True)
class NARInputs(Movable):
    """A text and frames of which the first `prompt_lens` are the prompt."""

    text: Tensor  # (B, S)
    text_lens: Tensor  # (B,)
    frames: NARFrames
    languages: Tensor  # (B, 1) or (B, T) of the frames; 0 = null
    text_languages: Tensor  # (B, 1) or (B, S)
    longest: int | None = None  # positions of the longest row, where that is known
    is_full: bool | None = None  # whether all rows are as long, where that is known


@dataclass(frozen=True)
class NARExamples(Movable):
    """A batch as the network trains on it, with every draw done and every size known: made on the CPU."""

    inputs: NARInputs
    stages: Tensor  # (B,) or, the same for all rows, (1,)
    each: tuple[int, ...]  # the different stages
    at: tuple[Tensor, ...]  # (P,) places of the scored frames of each stage among all frames (B * T)
    right: tuple[Tensor, ...]  # (P, Q) codes of these frames


class NAR(nn.Module):
    """Codebooks 2..Q given the text, the codebooks before, and a prompt."""

    def __init__(self, config: NARConfig) -> None:
        super().__init__()
        self.config = config
        width, books = config.transformer.width, config.codebooks
        self.is_token = config.conditioning == StageConditioning.TOKEN
        self.text = TextEmbedding(config, end=self.is_token or config.text_eos)
        size = config.latent or width
        # Vectors of the codec are not the model's to change: training puts them here at its start.
        is_learnt = config.latent is None
        self.codes = nn.Parameter(torch.randn(books, config.codebook_size, size) * size**-0.5, requires_grad=is_learnt)
        self.project = None if is_learnt else nn.Linear(size, width, bias=False)
        if self.project is not None:
            nn.init.orthogonal_(self.project.weight)
        self.code_head = CodeHead(config)
        self.residual_head = None if config.residual is None else ResidualHead(config.residual, width, size)
        self.prompts = PromptEmbedding(config) if config.prompt_codebooks else None
        self.bos = nn.Parameter(torch.randn(width)) if config.prompt_codebooks else None
        self.scale = math.sqrt(width)
        self.positions = PositionEmbedding(config)
        self.prenet = ConvPrenet(width, FRAME_KERNEL) if config.frame_prenet == Prenet.CONV else None
        self.linear = LinearPrenet(width) if config.frame_prenet == Prenet.LINEAR else None
        self.language = language_embedding(config)
        self.end = nn.Parameter(torch.randn(width)) if self.is_token else None
        self.stage = None
        if config.conditioning != StageConditioning.SEPARATE:
            stage_width = config.stage_width or width
            self.stage = nn.Embedding(config.stages, stage_width)
        is_rotary = config.positions == Positions.ROTARY
        self.transformer = Transformer(config.transformer, _norm_maker(config), rotary=is_rotary)

    def forward(self, inputs: NARInputs, stages: Tensor) -> Tensor:
        """Return hidden states of all frames (B, T, D); `stages` (B,) or, the same for all rows, (1,)."""
        text, frames = inputs.text, inputs.frames
        in_text = None if self.language is None else self.language(inputs.text_languages)
        encoded = self.text(text, inputs.text_lens, in_text)
        audio = self._frame_vectors(frames, stages)
        if self.config.alignment == Alignment.PHONEME:
            assert frames.alignment is not None, "this model needs the symbol of each frame"
            audio = audio + gather_symbols(encoded.symbols, frames.alignment)
        if self.prenet is not None:
            at = torch.arange(audio.shape[1], device=audio.device)
            audio = self.prenet(audio, at < frames.lens[:, None])
        audio = (audio if self.linear is None else self.linear(audio)) + self.positions(frames.positions)
        if self.language is not None and self.config.language_on != LanguageOn.TEXT:
            audio = audio + self.language(inputs.languages)
        parts = [(self._drop(encoded.inputs), encoded.lens), *self._split(self._drop(audio), frames)]
        if self.is_token:
            parts.append(self._token(stages, len(text)))
        joined = join(parts, inputs.longest)
        joined = replace(joined, vectors=self.positions.run(joined.vectors))
        is_full = joined.is_full if inputs.is_full is None else inputs.is_full
        mask = Mask(causal=False, lens=None if is_full else joined.lens)
        hidden = self.transformer(joined.vectors, mask, self._condition(stages))
        at = joined.starts[1][:, None] + torch.arange(frames.codes.shape[1], device=hidden.device)
        if self.bos is not None:  # it stands between prompt and target
            at = at + ~frames.is_prompt
        return take(hidden, at.clamp(max=hidden.shape[1] - 1))

    def _split(self, audio: Tensor, frames: NARFrames) -> list[tuple[Tensor, Tensor]]:
        """Return the parts of the audio (B, T, D): one, or the prompt, <BOS> and the target."""
        if self.prompts is None or self.bos is None:
            return [(audio, frames.lens)]
        at = torch.arange(audio.shape[1], device=audio.device)
        target = take(audio, (frames.prompt_lens[:, None] + at).clamp(max=audio.shape[1] - 1))
        prompt = self.prompts(frames.codes) + self.positions(frames.positions)
        bos = self.bos.expand(len(audio), 1, -1)
        ones = torch.ones_like(frames.lens)
        return [(prompt, frames.prompt_lens), (bos, ones), (target, frames.lens - frames.prompt_lens)]

    def logits(self, hidden: Tensor, stage: int) -> Tensor:
        """Return scores (..., V) of codebook `stage` for hidden states (..., D)."""
        return self.code_head(hidden, stage, self._to_width(self.codes[stage]))

    def predict(self, hidden: Tensor, stage: int, end: int | None = None) -> Tensor:
        """Return the codes (..., n) of the pass `stage`, from codebook `stage` on, for hidden states (..., D).

        n is 1: the likeliest code (VALL-E 4.3). Codes that the residual head quantises may be more in the last pass:
        all that are left, or those before `end`.
        """
        if self.residual_head is None or not self.residual_head.config.predicts:
            return self.logits(hidden, stage).argmax(-1, keepdim=True)
        last = self.config.codebooks if stage == self.config.stages else stage + 1
        return self.residual_head.quantize(hidden, stage, end or last, self.codes)

    def _to_width(self, vectors: Tensor) -> Tensor:
        """Return code vectors (..., L or D) in the model's width."""
        if self.project is None:
            return vectors
        # Codebook 1's are about as long as learnt ones begin.
        return self.project(vectors / self.codes[0].square().sum(-1).mean().sqrt())

    def _frame_vectors(self, frames: NARFrames, stages: Tensor) -> Tensor:
        """Return the sum of known codebooks' embeddings, (B, T, D)."""
        books = torch.arange(frames.codes.shape[2], device=stages.device)
        known = books < stages[:, None, None]  # (B or 1, 1, Q)
        if self.config.prompt != PromptKind.STAGED:
            known = known | frames.is_prompt[..., None]  # (B, T, Q)
        return self._to_width(self._sum(frames.codes, known)) * self.scale

    def _sum(self, codes: Tensor, counted: Tensor) -> Tensor:
        """Return the sum (B, T, L or D) of the vectors of those codes (B, T, Q) that are `counted`."""
        rows, length, books = codes.shape
        offsets = torch.arange(books, device=codes.device) * self.config.codebook_size
        table = self.codes.flatten(0, 1)
        # A table row of codes that do not count is read too, with weight 0: one lookup for all books.
        weights = counted.to(table.dtype).expand(codes.shape).reshape(rows * length, books)
        bags = (codes + offsets).view(rows * length, books)
        return F.embedding_bag(bags, table, mode="sum", per_sample_weights=weights).view(rows, length, -1)

    def _token(self, stages: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        assert self.stage is not None and self.end is not None
        stage = self.stage(stages - 1).expand(rows, -1)
        token = torch.stack([self.end.expand(rows, -1), stage], dim=1)
        return token, torch.full((rows,), 2, device=stages.device)

    def _condition(self, stages: Tensor) -> Tensor | None:
        if self.is_token:
            return None
        return stages - 1 if self.stage is None else self.stage(stages - 1)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.transformer.dropout, self.training)

    # training

    def loss(self, batch: Batch, rng: torch.Generator, stage: int | None = None) -> Loss:
        """Return cross-entropy of the stage's codebook over target frames; the prompt is drawn.

        Without `stage`, the batch's number decides on stages, or one that is drawn.
        """
        examples = nar_examples(self.config, batch, rng, stage, training=self.training).to(self.codes.device)
        return self.states_loss(self.states(examples), examples)

    def states(self, batch: NARExamples) -> list[Tensor]:
        """Return the hidden states (P, D) of the scored frames of each stage of prepared examples."""
        hidden = self(batch.inputs, batch.stages).flatten(0, 1)
        return [hidden.index_select(0, at) for at in batch.at]

    def states_loss(self, states: Sequence[Tensor], batch: NARExamples) -> Loss:
        """Return the loss for the hidden states (P, D) of the scored frames of each stage."""
        codes, parts = batch.inputs.frames.codes.flatten(0, 1), dict[str, Tensor]()
        sums = torch.zeros(4, device=codes.device)  # as in `_stage_sums`
        for hidden, stage, at, right in zip(states, batch.each, batch.at, batch.right, strict=True):
            found = self._stage_sums(hidden, right, codes.index_select(0, at), stage)
            sums = sums + found
            means = found.detach() / max(1, len(at))
            parts[f"accuracy_{stage + 1}"] = means[2]
            if self.residual_head is not None:
                parts |= {f"distance_{stage + 1}": means[1], f"size_{stage + 1}": means[3]}
        code, distance, accuracy, _ = sums / max(1, sum(len(at) for at in batch.at))
        parts["code_accuracy"] = accuracy.detach()
        if self.code_weight:
            parts["code"] = code.detach()
        loss, residual = self.code_weight * code, self.config.residual
        return Loss(loss if residual is None else loss + residual.weight * distance, parts)

    @property
    def code_weight(self) -> float:
        """Weight of the cross-entropy."""
        return 1.0 if self.config.residual is None else self.config.residual.code_weight

    def _stage_sums(self, hidden: Tensor, right: Tensor, given: Tensor, stage: int) -> Tensor:
        """Return cross-entropy, distance, codes that were right, and the size of expected over that of right residuals,
        (4,), summed over frames of one stage.

        `hidden`: (N, D); `right` and `given`: codes (N, Q), of which those before the stage were given.
        """
        code = distance = size = hidden.new_zeros((), dtype=torch.float32)
        if self.code_weight:
            code = F.cross_entropy(self.logits(hidden, stage).float(), right[:, stage], reduction="sum")
        if self.residual_head is not None:
            residual = self.residual(right, given, stage)
            distance = self.residual_head.distance(hidden, residual, stage, self.codes) * len(right)
            with torch.no_grad():
                expected = self.residual_head(hidden, stage, self.codes)
                size = expected.norm() / residual.norm().clamp(min=1e-9) * len(right)
        hits = (self.predict(hidden.detach(), stage, stage + 1)[:, 0] == right[:, stage]).sum()
        return torch.stack([code, distance, hits.float(), size])

    @torch.no_grad()
    def residual(self, right: Tensor, given: Tensor, stage: int) -> Tensor:
        """Return each frame's whole vector, of the codes `right` (N, Q), less that of the codes before the stage that
        were `given`, (N, L). The tables get no gradient: they would learn to hold one and the same vector."""
        return self.sum_before(right, right.shape[1]) - self.sum_before(given, stage)

    @torch.no_grad()
    def sum_before(self, codes: Tensor, stage: int) -> Tensor:
        """Return the sum (N, L) of the vectors of codes (N, Q) before codebook `stage`."""
        return self._sum(codes[None], torch.arange(codes.shape[1], device=codes.device) < stage)[0].float()


def nar_examples(
    config: NARConfig, batch: Batch, rng: torch.Generator, stage: int | None = None, *, training: bool
) -> NARExamples:
    """Return a batch as the network trains on it or, without noise and null languages, is validated.

    The network need not be there: other processes do this ahead.
    """
    right = given = draw_prompts(config, batch, rng)
    if config.codebook1_noise and training:
        given = add_codebook1_noise(right, batch.text, config.codebook1_noise, config.step_frames, rng)
    if stage is None:
        uniform = torch.rand((), generator=rng) if batch.stage_uniform is None else batch.stage_uniform
        stages = choose_stages(config, float(uniform), len(batch.text))
    else:
        stages = torch.tensor([stage])
    row_stages = stages.to(batch.text.device).expand(len(batch.text))
    each = tuple(sorted(set(row_stages.tolist())))
    at = tuple((given.scored & (row_stages == one)[:, None]).flatten().nonzero()[:, 0] for one in each)
    frames = torch.arange(given.codes.shape[1], device=batch.text.device) if batch.prompt_lens is not None else None
    dropped = config.language_dropout if training else 0.0
    languages, in_text = place_languages(batch, dropped, rng, frames)
    is_token = config.conditioning == StageConditioning.TOKEN
    # beside text and frames: <EOS> and stage, or <BOS> after a prompt
    lens = batch.text_lens + config.text_edges + given.lens + (2 if is_token else 0) + (config.prompt_codebooks > 0)
    longest, is_full = int(lens.max()), bool((lens == lens[0]).all())
    inputs = NARInputs(batch.text, batch.text_lens, given, languages, in_text, longest, is_full)
    return NARExamples(inputs, stages, each, at, tuple(right.codes.flatten(0, 1)[where] for where in at))


def choose_stages(config: NARConfig, uniform: float, rows: int) -> Tensor:
    """Return the stages (rows,) or, one for all rows, (1,) that `uniform` from [0, 1) decides on.

    If it is even, a stage is as likely as its weight says. Rows of a batch are evenly apart: it has each stage
    about as often as its weight says.
    """
    weights = torch.tensor(config.stage_weights or [1.0] * config.stages, dtype=torch.float64)
    count = rows if config.stage_draw == StageDraw.SAMPLE else 1
    at = (uniform + torch.arange(count, dtype=torch.float64) / count) % 1
    ends = weights.cumsum(0) / weights.sum()
    return torch.searchsorted(ends[:-1].contiguous(), at, right=True) + 1


def _norm_maker(config: NARConfig) -> Callable[[], nn.Module]:
    width = config.transformer.width
    if config.conditioning == StageConditioning.ADAPTIVE:
        norm: type[nn.Module] = AdaptiveRMSNorm if config.transformer.norm == NormKind.RMS else AdaptiveNorm
        return lambda: norm(width, config.stage_width or width)
    if config.conditioning == StageConditioning.SEPARATE:
        is_bent = config.transformer.norm == NormKind.ADANORM
        return lambda: SeparateNorm(width, config.stages, is_bent=is_bent)
    plain: type[nn.Module] = RMSNorm if config.transformer.norm == NormKind.RMS else PlainNorm
    return lambda: plain(width)
