"""The non-autoregressive model: codebooks 2..Q, each in one pass over all frames (VALL-E 4.2.2; X, R and 2 by config).

Sequence: [text][frames] (with a stage token: [text, <EOS>][frames][<EOS>, stage], VALL-E 2 3.3). Prompt frames are the
sum of all codebooks' embeddings, target frames that of the codebooks before the stage. A `stage` is the index of the
codebook it predicts, 1..Q-1 (the papers' 2..8).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.model.batch import Batch, Loss
from openvalle.model.config import Alignment, EntryChoice, NARConfig, Prenet, StageConditioning, StageDraw
from openvalle.model.embeddings import (
    ConvPrenet,
    PositionEmbedding,
    TextEmbedding,
    drop_languages,
    gather_symbols,
    join,
    language_embedding,
    take,
)
from openvalle.model.nar_inputs import Frames, noisy_first, prompted_frames
from openvalle.model.transformer import AdaptiveNorm, Mask, PlainNorm, SeparateNorm, Stack, dropout

FRAME_KERNEL = 9  # frames that the frame prenet sees: four on either side, 53 ms


@dataclass(frozen=True)
class NARInputs:
    """A text and frames of which the first `prompt_lens` are the prompt."""

    text: Tensor  # (B, S)
    text_lens: Tensor  # (B,)
    frames: Frames
    languages: Tensor  # (B, 1) or (B, T) of the frames; 0 = null
    text_languages: Tensor  # (B, 1) or (B, S)


class NAR(nn.Module):
    """Codebooks 2..Q given the text, the codebooks before, and a prompt."""

    def __init__(self, config: NARConfig) -> None:
        super().__init__()
        self.config = config
        width, books = config.stack.width, config.codebooks
        self.is_token = config.conditioning == StageConditioning.TOKEN
        self.text = TextEmbedding(config, end=self.is_token)
        size = config.latent or width
        # Vectors of the codec are not the model's to change: training puts them here at its start.
        is_learnt = config.latent is None
        self.codes = nn.Parameter(torch.randn(books, config.entries, size) * size**-0.5, requires_grad=is_learnt)
        self.project = None if is_learnt else nn.Linear(size, width, bias=False)
        if self.project is not None:
            nn.init.orthogonal_(self.project.weight)
        self.head = None
        if not config.tie_output:
            self.head = nn.Parameter(torch.randn(books - 1, config.entries, width) * width**-0.5)
        self.expect = nn.Linear(width, size) if config.distance_weight else None
        if self.expect is not None:  # at first it expects nothing, which costs 1
            nn.init.zeros_(self.expect.weight)
            nn.init.zeros_(self.expect.bias)
        self.scale = math.sqrt(width)
        self.positions = PositionEmbedding(config)
        self.prenet = ConvPrenet(width, FRAME_KERNEL) if config.frame_prenet == Prenet.CONV else None
        self.language = language_embedding(config)
        self.end = nn.Parameter(torch.randn(width)) if self.is_token else None
        self.stage = None
        if config.conditioning != StageConditioning.SEPARATE:
            stage_width = config.stage_width or width
            self.stage = nn.Embedding(config.stages, stage_width)
        self.stack = Stack(config.stack, _norms(config))

    def forward(self, inputs: NARInputs, stages: Tensor) -> Tensor:
        """Return hidden states of all frames (B, T, D); `stages` (B,) or, the same for all rows, (1,)."""
        text, frames = inputs.text, inputs.frames
        in_text = None if self.language is None else self.language(inputs.text_languages)
        encoded = self.text(text, inputs.text_lens, in_text)
        audio = self._frame_vectors(frames, stages)
        if self.config.alignment == Alignment.PHONEME:
            assert frames.path is not None, "this model needs the symbol of each frame"
            audio = audio + gather_symbols(encoded.symbols, frames.path)
        if self.prenet is not None:
            at = torch.arange(audio.shape[1], device=audio.device)
            audio = self.prenet(audio, at < frames.lens[:, None])
        audio = audio + self.positions(frames.positions)
        if self.language is not None:
            audio = audio + self.language(inputs.languages)
        parts = [(self._drop(encoded.inputs), encoded.lens), (self._drop(audio), frames.lens)]
        if self.is_token:
            parts.append(self._token(stages, len(text)))
        joined = join(parts)
        mask = Mask(causal=False, lens=None if joined.is_full else joined.lens)
        hidden = self.stack(joined.vectors, mask, self._condition(stages))
        at = torch.arange(frames.codes.shape[1], device=hidden.device)
        return take(hidden, (joined.starts[1][:, None] + at).clamp(max=hidden.shape[1] - 1))

    def logits(self, hidden: Tensor, stage: int) -> Tensor:
        """Return scores (..., entries) of codebook `stage` for hidden states (..., D).

        A tied head is the embedding table of the same codebook.
        """
        if self.head is not None:
            return F.linear(hidden, self.head[stage - 1])
        return F.linear(hidden, self._projected(self.codes[stage]))

    def choose(self, hidden: Tensor, stage: int) -> Tensor:
        """Return the entries (..., n) that the pass `stage` takes, from codebook `stage` on, for states (..., D).

        One codebook a pass; with choice `rest` the last pass takes all that are left.
        """
        if self.config.choice == EntryChoice.LIKELIEST:
            return self.logits(hidden, stage).argmax(-1, keepdim=True)
        left, entries = self._expected(hidden, stage) * self.config.gain, []
        last = self.config.codebooks if stage == self.config.stages else stage + 1
        for table in self.codes[stage:last].float():  # as the codec's quantiser does: nearest, then what is left
            entry = (left @ table.T - 0.5 * table.square().sum(-1)).argmax(-1)
            entries.append(entry)
            left = left - table[entry]
        return torch.stack(entries, dim=-1)

    def _expected(self, hidden: Tensor, stage: int) -> Tensor:
        """Return the expected sum of the code vectors from codebook `stage` on, for hidden states (..., D)."""
        assert self.expect is not None
        size = self.codes[stage:].detach().float().square().mean((1, 2)).sum().sqrt()
        return self.expect(hidden).float() * size

    def _projected(self, vectors: Tensor) -> Tensor:
        """Return code vectors (..., L or D) in the model's width."""
        if self.project is None:
            return vectors
        # Codebook 1's are about as long as learnt ones begin.
        return self.project(vectors / self.codes[0].square().sum(-1).mean().sqrt())

    def _frame_vectors(self, frames: Frames, stages: Tensor) -> Tensor:
        """Return the sum of known codebooks' embeddings, (B, T, D)."""
        books = torch.arange(frames.codes.shape[2], device=stages.device)
        known = books < stages[:, None, None]  # (B or 1, 1, Q)
        known = known | frames.is_prompt[..., None]  # (B, T, Q)
        return self._projected(self._sum(frames.codes, known)) * self.scale

    def _sum(self, codes: Tensor, counted: Tensor) -> Tensor:
        """Return the sum (B, T, L or D) of the vectors of those codes (B, T, Q) that are `counted`."""
        rows, length, books = codes.shape
        offsets = torch.arange(books, device=codes.device) * self.config.entries
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
        return dropout(x, self.config.stack.dropout) if self.training else x

    # training

    def loss(self, batch: Batch, rng: torch.Generator, stage: int | None = None) -> Loss:
        """Return cross-entropy of the stage's codebook over target frames; the prompt is drawn.

        Without `stage`, the batch's share decides on stages, or one that is drawn.
        """
        config = self.config
        right = frames = prompted_frames(config, batch, rng)
        if config.first_noise and self.training:
            frames = noisy_first(right, batch.text, config.first_noise, config.block, rng)
        right, frames = right.to(batch.text.device), frames.to(batch.text.device)
        stages = self._stages(batch, rng) if stage is None else torch.tensor([stage])
        stages = stages.to(batch.text.device)
        share = config.language_dropout if self.training else 0.0
        languages = drop_languages(batch.languages, share, rng)[:, None]
        hidden = self(NARInputs(batch.text, batch.text_lens, frames, languages, languages), stages)
        row_stages = stages.expand(len(batch.text))
        count, parts = max(1, int(frames.scored.sum())), dict[str, Tensor]()
        sums = torch.zeros(3, device=hidden.device)  # cross-entropy, distance, entries that were right
        for each in sorted(set(row_stages.tolist())):
            scored = frames.scored & (row_stages == each)[:, None]
            found = self._stage_sums(hidden[scored], right.codes[scored], frames.codes[scored], each)
            sums = sums + found
            means = found.detach() / max(1, int(scored.sum()))
            parts |= {f"accuracy_{each + 1}": means[2]}
            parts |= {f"distance_{each + 1}": means[1]} if self.expect is not None else {}
        code, distance, right_share = sums / count
        parts |= {"code": code.detach()} if config.code_weight else {}
        loss = config.code_weight * code + config.distance_weight * distance
        return Loss(loss, {"code_accuracy": right_share.detach(), **parts})

    def _stage_sums(self, hidden: Tensor, right: Tensor, given: Tensor, stage: int) -> Tensor:
        """Return cross-entropy, distance and entries that were right, (3,), summed over frames of one stage.

        `hidden`: (N, D); `right` and `given`: codes (N, Q), of which those before the stage were given.
        """
        code = distance = hidden.new_zeros((), dtype=torch.float32)
        if self.config.code_weight:
            code = F.cross_entropy(self.logits(hidden, stage).float(), right[:, stage], reduction="sum")
        if self.expect is not None:
            distance = self._distance(hidden, right, given, stage) * len(right)
        hits = (self.choose(hidden.detach(), stage)[:, 0] == right[:, stage]).sum()
        return torch.stack([code, distance, hits.float()])

    def _distance(self, hidden: Tensor, right: Tensor, given: Tensor, stage: int) -> Tensor:
        """Return the squared distance of expected to right rests over the size of the right ones; knowing nothing
        costs 1.

        The right rest is the frame's whole vector, of the codes `right` (N, Q), less that of the codes before the
        stage that were `given`. The tables get no gradient: they would learn to hold one and the same vector.
        """
        before = torch.arange(right.shape[1], device=right.device) < stage
        with torch.no_grad():
            whole = self._sum(right[None], torch.ones_like(before))[0].float()
            rest = whole - self._sum(given[None], before)[0].float()
        return (self._expected(hidden, stage) - rest).square().sum() / rest.square().sum().clamp(min=1e-9)

    def _stages(self, batch: Batch, rng: torch.Generator) -> Tensor:
        share = torch.rand((), generator=rng) if batch.share is None else batch.share
        return self.stages_at(float(share), len(batch.text))

    def stages_at(self, share: float, rows: int) -> Tensor:
        """Return the stages (rows,) or, one for all rows, (1,) that `share` from [0, 1) decides on.

        If it is even, a stage is as likely as its weight says. Rows of a batch are evenly apart: it has each stage
        about as often as its weight says.
        """
        weights = torch.tensor(self.config.stage_weights or [1.0] * self.config.stages, dtype=torch.float64)
        count = rows if self.config.stage_draw == StageDraw.SAMPLE else 1
        at = (share + torch.arange(count, dtype=torch.float64) / count) % 1
        ends = weights.cumsum(0) / weights.sum()
        return torch.searchsorted(ends[:-1].contiguous(), at, right=True) + 1


def _norms(config: NARConfig) -> Callable[[], nn.Module]:
    width = config.stack.width
    if config.conditioning == StageConditioning.ADAPTIVE:
        return lambda: AdaptiveNorm(width, config.stage_width or width)
    if config.conditioning == StageConditioning.SEPARATE:
        return lambda: SeparateNorm(width, config.stages)
    return lambda: PlainNorm(width)
