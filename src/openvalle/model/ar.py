"""The autoregressive model: codebook 1, step by step (VALL-E 4.2.1, with VALL-E X 3.3, VALL-E R 3.2 and VALL-E 2 3.2).

Sequence: [text, <EOS>][<BOS>, groups of G codes]; without `use_bos` (VALL-E) there is no <BOS>, and the text's <EOS>
takes its part. The state at audio position t predicts group t and, with alignment, a phoneme.
With `phoneme_lead` 0 (VALL-E R) the input holds the frame's own phoneme, and code and phoneme of the next
frame are predicted from one state, so given the past they are independent. With `phoneme_lead` 1 the input holds the
phoneme of the frame to be predicted (<BOS> that of the first frame) and the phoneme output is one frame further
ahead: a code is drawn knowing its phoneme. This is our deviation; for a small model it is the easier task.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.model.batch import Batch, Loss, Movable, pack
from openvalle.model.config import ARConfig
from openvalle.model.embeddings import (
    Joined,
    LinearPrenet,
    PositionEmbedding,
    PromptEmbedding,
    TextEmbedding,
    TextVectors,
    gather_symbols,
    join,
    language_embedding,
    place_languages,
    scaled_embedding,
    take,
)
from openvalle.model.kinds import Alignment, LanguageOn, NormKind, Positions, Prenet, TextAttention
from openvalle.model.linear import Linear, Packed
from openvalle.model.nar_inputs import add_history_noise
from openvalle.model.transformer import Cache, KVCache, Mask, PlainNorm, RMSNorm, Transformer


@dataclass(frozen=True)
class ARInputs(Movable):
    """A text and the audio after it, at one position per group of codes."""

    text: Tensor  # (B, S)
    text_lens: Tensor  # (B,)
    groups: Tensor  # (B, N, G); N may be 0
    group_lens: Tensor  # (B,)
    aligned: Tensor | None  # (B, N + 1) symbol index entering with <BOS> and each group ; -1: none
    languages: Tensor  # (B, 1) or (B, N + 1) of <BOS> and the groups; 0 = null
    text_languages: Tensor  # (B, 1) or (B, S)
    prompt: Tensor | None = None  # (B, T, Q) of a prompt that is a part of its own
    prompt_lens: Tensor | None = None  # (B,)
    longest: int | None = None  # positions of the longest row, where that is known


@dataclass(frozen=True)
class ARExamples(Movable):
    """A batch as the network trains on it, with every draw done and every size known: made on the CPU."""

    inputs: ARInputs
    at: Tensor  # (P,) place of each scored position among all of them (B * longest)
    codes: Tensor  # (P * G,) what is right there
    phonemes: Tensor | None  # (P,) -100: not scored


@dataclass(frozen=True)
class ARLogits:
    """Scores of what comes next at each audio position."""

    codes: Tensor  # (B, N + 1, G, V + 1), the last class is <EOS>
    phonemes: Tensor | None  # (B, N + 1, symbols)


@dataclass(frozen=True)
class ARState:
    """What a step needs of all before it."""

    cache: KVCache
    symbols: Tensor  # (B, S, D) vectors that frames gather
    position: Tensor  # (B,) of the next audio input

    def fork(self, rows: Tensor) -> ARState:
        """Return an independent state with the given rows; a row may occur several times."""
        return ARState(self.cache.fork(rows), self.symbols.index_select(0, rows), self.position[rows])

    def join(self, other: ARState) -> ARState:
        """Return the state of these rows, then of the others'; both are used up."""
        longest = max(self.symbols.shape[1], other.symbols.shape[1])
        symbols = [F.pad(each, (0, 0, 0, longest - each.shape[1])) for each in (self.symbols, other.symbols)]
        together = torch.cat(symbols), torch.cat([self.position, other.position])
        self.cache.join(other.cache)
        return ARState(self.cache, *together)

    def keep(self, rows: Tensor) -> ARState:
        """Return the state of the given rows, each once, in that order; this one is used up."""
        self.cache.keep(rows)
        return ARState(self.cache, self.symbols.index_select(0, rows), self.position[rows])


class AR(nn.Module):
    """Codebook 1 given the text."""

    def __init__(self, config: ARConfig) -> None:
        super().__init__()
        self.config = config
        width, classes = config.transformer.width, config.codebook_size + 1
        self.text = TextEmbedding(config, end=config.text_eos)
        # A tied table has a row for <EOS>, which is only ever an output.
        self.codes = scaled_embedding(classes if config.tie_output else config.codebook_size, width)
        self.head = None if config.tie_output else Linear(width, classes, bias=config.head_bias)
        self._tied = Packed()  # else the table as it is laid out for a step
        self.prompts = PromptEmbedding(config) if config.prompt_codebooks else None
        self.scale = math.sqrt(width)
        self.bos = nn.Parameter(torch.randn(width)) if config.use_bos else None
        self.prenet = LinearPrenet(width) if config.audio_prenet == Prenet.LINEAR else None
        self.positions = PositionEmbedding(config)
        self.language = language_embedding(config)
        self.group_in = Linear(config.group * width, width, bias=False) if config.group > 1 else None
        self.group_out = Linear(width, config.group * width, bias=False) if config.group > 1 else None
        norm: type[nn.Module] = RMSNorm if config.transformer.norm == NormKind.RMS else PlainNorm
        is_rotary = config.positions == Positions.ROTARY
        self.transformer = Transformer(config.transformer, lambda: norm(width), rotary=is_rotary)
        self.phoneme_head = None
        if config.alignment == Alignment.PHONEME:
            self.phoneme_head = Linear(width, config.symbols)

    @property
    def eos(self) -> int:
        """The class that ends the audio."""
        return self.config.codebook_size

    # sequence -> states

    def forward(self, inputs: ARInputs) -> ARLogits:
        """Return the scores at every audio position."""
        joined, _ = self._embed(inputs)
        hidden = self.transformer(joined.vectors, self._mask(joined, inputs))
        at = torch.arange(inputs.groups.shape[1] + 1, device=hidden.device)
        index = (self._first(joined)[:, None] + at).clamp(max=hidden.shape[1] - 1)
        return self._logits(take(hidden, index))

    def prefill(self, inputs: ARInputs, room: int) -> tuple[ARLogits, ARState]:
        """Return the scores after each row's last group, (B, 1, ...), and a state with room for `room` steps."""
        joined, text = self._embed(inputs)
        x, shape = joined.vectors, self.config.transformer
        cache = KVCache(shape.depth, len(x), shape.heads, x.shape[1] + room, shape.width // shape.heads, like=x)
        hidden = self.transformer(x, self._mask(joined, inputs), cache=cache)
        cache.advance(joined.lens.tolist())
        running = self.config.positions == Positions.RUNNING
        state = ARState(cache, text.symbols, joined.lens if running else inputs.group_lens + int(self.config.use_bos))
        return self._logits(take(hidden, (joined.lens - 1)[:, None])), state

    def step(
        self, groups: Tensor, aligned: Tensor | None, languages: Tensor, state: ARState
    ) -> tuple[ARLogits, ARState]:
        """Take one group (B, G) per row with its symbol index (B,) and language (B,); return the next scores.

        The cache inside `state` is used up: keep the returned state (or `fork` before).
        """
        self.positions.check(state.position)
        logits = self.follow(groups, aligned, languages, state.position, state.symbols, state.cache)
        state.cache.advance([1] * len(groups))
        return logits, ARState(state.cache, state.symbols, state.position + 1)

    def follow(
        self,
        groups: Tensor,
        aligned: Tensor | None,
        languages: Tensor,
        position: Tensor,
        symbols: Tensor,
        cache: Cache,
    ) -> ARLogits:
        """Return the scores after one group per row, as in `step`. It never waits for the device: the same work for the
        same shapes, so that CUDA can capture it."""
        vectors = self._group_vectors(groups[:, None])
        place = None if aligned is None else aligned[:, None]
        x = self._audio(vectors, position[:, None], place, languages[:, None], symbols)
        x = self.positions.run(x, position)
        return self._logits(self.transformer(x, Mask(causal=True), cache=cache))

    def _embed(self, inputs: ARInputs) -> tuple[Joined, TextVectors]:
        in_text = None if self.language is None else self.language(inputs.text_languages)
        text = self.text(inputs.text, inputs.text_lens, in_text)
        vectors, aligned, languages = self._group_vectors(inputs.groups), inputs.aligned, inputs.languages
        if self.bos is not None:
            vectors = torch.cat([self.bos.expand(len(inputs.text), 1, -1), vectors], dim=1)
        else:  # what belongs to <BOS> belongs to nothing
            aligned = None if aligned is None else aligned[:, 1:]
            languages = languages if languages.shape[1] == 1 else languages[:, 1:]
        at = torch.arange(vectors.shape[1], device=vectors.device)[None]
        self.positions.check(at)
        audio = self._audio(vectors, at, aligned, languages, text.symbols)
        lens = inputs.group_lens + int(self.config.use_bos)
        parts = [(text.inputs, text.lens), (audio, lens)]
        if self.prompts is not None and inputs.prompt is not None and inputs.prompt_lens is not None:
            prompt = self.prompts(inputs.prompt)
            at = torch.arange(prompt.shape[1], device=prompt.device)[None]
            parts.insert(1, (prompt + self.positions(at), inputs.prompt_lens))
        joined = join([(self._drop(vectors), part_lens) for vectors, part_lens in parts], inputs.longest)
        return replace(joined, vectors=self.positions.run(joined.vectors)), text

    def _first(self, joined: Joined) -> Tensor:
        """Return where each row's first group is predicted, (B,)."""
        return joined.starts[-1] if self.config.use_bos else joined.starts[-1] - 1

    def _group_vectors(self, groups: Tensor) -> Tensor:
        vectors = self.codes(groups) * self.scale  # (B, N, G, D)
        return vectors[:, :, 0] if self.group_in is None else self.group_in(vectors.flatten(2))

    def _audio(self, vectors: Tensor, at: Tensor, aligned: Tensor | None, languages: Tensor, symbols: Tensor) -> Tensor:
        """Return audio inputs (B, N, D) from code vectors, positions, aligned symbols and languages."""
        x = (vectors if self.prenet is None else self.prenet(vectors)) + self.positions.look_up(at)
        if self.phoneme_head is not None:
            assert aligned is not None, "this model needs the symbol of each frame"
            x = x + gather_symbols(symbols, aligned)
        if self.language is None or self.config.language_on == LanguageOn.TEXT:
            return x
        return x + self.language(languages)

    def _mask(self, joined: Joined, inputs: ARInputs) -> Mask:
        longest = inputs.text.shape[1] + self.config.text_edges
        longest += 0 if inputs.prompt is None else inputs.prompt.shape[1]
        return attention_mask(self.config, joined.starts[-1], longest)

    def _logits(self, hidden: Tensor) -> ARLogits:
        grouped = hidden if self.group_out is None else self.group_out(hidden)
        grouped = grouped.unflatten(-1, (self.config.group, self.config.transformer.width))
        codes = self._tied(grouped, self.codes.weight) if self.head is None else self.head(grouped)
        return ARLogits(codes, None if self.phoneme_head is None else self.phoneme_head(hidden))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.transformer.dropout, self.training)

    # training

    def loss(self, batch: Batch, rng: torch.Generator | None = None) -> Loss:
        """Return cross-entropy of codes and aligned phonemes over all real positions of the batch."""
        examples = ar_examples(self.config, batch, rng, training=self.training)
        return self.examples_loss(examples.to(self.codes.weight.device))

    def examples_loss(self, batch: ARExamples) -> Loss:
        """Return the loss of prepared examples."""
        joined, _ = self._embed(batch.inputs)
        hidden = self.transformer(joined.vectors, self._mask(joined, batch.inputs))
        logits = self._logits(hidden.flatten(0, 1).index_select(0, batch.at)[:, None])
        scores = logits.codes.flatten(0, 2)
        smoothing = self.config.label_smoothing if self.training else 0.0
        code = F.cross_entropy(scores.float(), batch.codes, label_smoothing=smoothing)
        parts = {"code": code.detach(), "code_accuracy": (scores.detach().argmax(-1) == batch.codes).float().mean()}
        if logits.phonemes is None:
            return Loss(code, parts)
        assert batch.phonemes is not None
        scores, count = logits.phonemes[:, 0], (batch.phonemes >= 0).sum().clamp(min=1)
        phoneme = F.cross_entropy(scores.float(), batch.phonemes, ignore_index=-100, reduction="sum") / count
        hits = (scores.detach().argmax(-1) == batch.phonemes).sum() / count
        parts |= {"phoneme": phoneme.detach(), "phoneme_accuracy": hits}
        return Loss(code + self.config.phoneme_weight * phoneme, parts)


def ar_examples(config: ARConfig, batch: Batch, rng: torch.Generator | None, *, training: bool) -> ARExamples:
    """Return a batch as the network trains on it or, without noise and null languages, is validated.

    The network need not be there: other processes do this ahead.
    """
    groups = pack(batch.codes[:, :: config.merge, 0], config.group)  # (B, N, G)
    lens = batch.code_lens // config.step_frames
    at = torch.arange(groups.shape[1] + 1, device=lens.device)
    real = at <= lens[:, None]  # (B, N + 1)
    longest = int((batch.text_lens + lens).max()) + config.text_edges + int(config.use_bos)
    first = batch.text_lens + config.text_edges - 1 + int(config.use_bos)
    prompt = prompt_lens = None
    if config.prompt_codebooks and batch.speaker_codes is not None:
        assert batch.speaker_lens is not None
        prompt, prompt_lens = batch.speaker_codes, batch.speaker_lens
        first = first + prompt_lens
        longest = int((batch.text_lens + lens + prompt_lens).max()) + config.text_edges + int(config.use_bos)
    # where each row's first group is predicted
    places = first[:, None] + at + torch.arange(len(groups), device=lens.device)[:, None] * longest
    target = F.pad(groups, (0, 0, 0, 1), value=config.codebook_size)
    target = target.masked_fill((at >= lens[:, None])[..., None], config.codebook_size)[real]
    aligned = scored = None
    history = groups
    if config.alignment == Alignment.PHONEME:
        assert batch.alignment is not None, "this model needs durations in its training data"
        symbols, lead = batch.alignment[:, :: config.step_frames], config.phoneme_lead
        if lead:  # <BOS> and each group hold the symbol of the next; the last one's stays
            last = (lens - 1)[:, None]
            aligned = F.pad(symbols, (0, 1)).scatter(1, last + 1, symbols.gather(1, last))
        else:
            aligned = F.pad(symbols, (1, 0), value=-1)
        phonemes = batch.text.gather(1, symbols)
        scored = F.pad(phonemes[:, lead:], (0, 1 + lead)).masked_fill(at + lead >= lens[:, None], -100)[real]
        if config.history_noise and training:
            may_change = at[:-1] < lens[:, None]
            if batch.prompt_lens is not None:  # a prompt is recorded, not drawn
                may_change = may_change & (at[:-1] >= (batch.prompt_lens // config.step_frames)[:, None])
            history = add_history_noise(groups, phonemes, may_change, config.codebook_size, config.history_noise, rng)
    # <BOS> has the language of the first frame.
    frames = (at - 1).clamp(min=0) * config.step_frames
    dropped = config.language_dropout if training else 0.0
    languages, in_text = place_languages(batch, dropped, rng, frames)
    inputs = ARInputs(
        batch.text, batch.text_lens, history, lens, aligned, languages, in_text, prompt, prompt_lens, longest
    )
    return ARExamples(inputs, places[real], target.flatten(), scored)


def attention_mask(config: ARConfig, text_lens: Tensor, longest: int | None = None) -> Mask:
    """Return who attends to whom after texts of `text_lens` (B,) positions, <EOS> included, at most `longest`."""
    is_causal = config.text_attention == TextAttention.CAUSAL
    return Mask(causal=True, prefix_lens=None if is_causal else text_lens, longest_prefix=longest)
