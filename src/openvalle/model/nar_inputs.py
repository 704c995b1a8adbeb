"""What the NAR model reads: frames with their prompt. In training, prompts are drawn and mistakes are put in; into what
the AR model reads too.

The first frames of a row are its prompt, the rest its target.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from openvalle.model.batch import Batch, Movable
from openvalle.model.config import NARConfig
from openvalle.model.kinds import PromptKind

HISTORY_RANDOM = 1 / 8  # of the changed steps of a history: entries that suit nothing


@dataclass(frozen=True)
class NARFrames(Movable):
    """Prompt and target of each row without a gap, padding last."""

    codes: Tensor  # (B, T, Q)
    lens: Tensor  # (B,)
    prompt_lens: Tensor  # (B,) of which
    alignment: Tensor | None  # (B, T) symbol of each frame; -1: none
    positions: Tensor  # (B, T)
    scored: Tensor  # (B, T) frames that count in the loss

    @property
    def is_prompt(self) -> Tensor:
        """Which frames are prompt, (B, T)."""
        return torch.arange(self.codes.shape[1], device=self.lens.device) < self.prompt_lens[:, None]


def make_frames(
    codes: Tensor, lens: Tensor, prompt_lens: Tensor, alignment: Tensor | None, *, restart: bool
) -> NARFrames:
    """Return frames whose positions run on from prompt to target, or `restart` with the target."""
    at = torch.arange(codes.shape[1], device=codes.device).expand(codes.shape[:2])
    is_target = at >= prompt_lens[:, None]
    positions = torch.where(is_target, at - prompt_lens[:, None], at) if restart else at
    return NARFrames(codes, lens, prompt_lens, alignment, positions, is_target & (at < lens[:, None]))


def restarts(config: NARConfig) -> bool:
    """Whether the target's positions begin again at 0 after the prompt."""
    return config.prompt in (PromptKind.SEGMENT, PromptKind.SENTENCE) and config.restart_positions


def draw_prompts(config: NARConfig, batch: Batch, rng: torch.Generator) -> NARFrames:
    """Return the batch's frames with prompts given (rows of `batch.prompt_lens`) or drawn as `config.prompt` says."""
    nothing = torch.zeros_like(batch.code_lens)
    is_without = config.prompt_none > 0 and float(torch.rand((), generator=rng)) < config.prompt_none
    if config.prompt in (PromptKind.NONE, PromptKind.STAGED) or is_without:
        return make_frames(batch.codes, batch.code_lens, nothing, batch.alignment, restart=restarts(config))
    given = batch.prompt_lens
    assert given is None or config.prompt == PromptKind.PREFIX, "given prompt lengths are prefixes of the utterances"
    if config.prompt == PromptKind.SENTENCE:
        assert batch.speaker_codes is not None, "prompt `sentence` needs another recording of each speaker"
        assert batch.speaker_lens is not None
        return _run_on(config, _prepend(batch, batch.speaker_codes, batch.speaker_lens))
    lens = _draw_lengths(config, batch, rng)
    if config.prompt == PromptKind.PREFIX:
        lens = lens if given is None else torch.where(given >= 0, given, lens)
        return make_frames(batch.codes, batch.code_lens, lens, batch.alignment, restart=False)
    return _run_on(config, _segment(batch, lens, rng))


def _run_on(config: NARConfig, frames: NARFrames) -> NARFrames:
    """Return frames whose positions do not begin again after the prompt, if the model's do not."""
    at = torch.arange(frames.codes.shape[1], device=frames.codes.device)
    return frames if restarts(config) else replace(frames, positions=at.expand(frames.codes.shape[:2]))


def _draw_lengths(config: NARConfig, batch: Batch, rng: torch.Generator) -> Tensor:
    """Return min(T / 2, U(prompt_min, prompt_max)) frames per row (VALL-E 2 4.1.1), whole AR steps.

    A piece from beside the row (VALL-E 4.2.2: always 3 s) may be as long as there is room for it.
    """
    drawn = torch.rand(batch.code_lens.shape, generator=rng).to(batch.code_lens.device)
    lens = (config.prompt_min + drawn * (config.prompt_max + 1 - config.prompt_min)).long()
    most = batch.code_lens // 2
    if config.prompt == PromptKind.SEGMENT and batch.speaker_lens is not None:
        starts, ends = batch.speaker_starts, batch.speaker_lens
        beside = ends if starts is None else torch.maximum(starts, ends - starts - batch.code_lens)
        most = torch.maximum(most, beside)
    return torch.minimum(most, lens) // config.step_frames * config.step_frames


def _segment(batch: Batch, lens: Tensor, rng: torch.Generator) -> NARFrames:
    """Put a piece of the same recording before each row (VALL-E 5.1): of `speaker_codes` if the data gives the
    recording or the rest of it, else of the utterance itself. NARFrames that the piece shows are not scored."""
    starts_in = torch.zeros_like(lens) if batch.speaker_codes is None else batch.speaker_starts
    source = batch.codes if batch.speaker_codes is None else batch.speaker_codes
    source_lens = batch.code_lens if batch.speaker_lens is None else batch.speaker_lens
    lens = torch.minimum(lens, source_lens)
    drawn = torch.rand(lens.shape, generator=rng).to(lens.device)
    starts = _piece_starts(drawn, lens, source_lens, starts_in, batch.code_lens)
    index = starts[:, None] + torch.arange(int(lens.max()), device=lens.device)  # (B, P) frames of the source
    piece = source.gather(1, index.clamp(max=source.shape[1] - 1)[..., None].expand(-1, -1, source.shape[2]))
    if starts_in is None:
        return _prepend(batch, piece, lens)
    within = index - starts_in[:, None]  # frames of the row
    alignment = None
    if batch.alignment is not None:
        is_own = (within >= 0) & (within < batch.code_lens[:, None])
        alignment = torch.where(is_own, batch.alignment.gather(1, within.clamp(0, batch.alignment.shape[1] - 1)), -1)
    frames = _prepend(batch, piece, lens, alignment)
    at = torch.arange(frames.codes.shape[1], device=lens.device) - lens[:, None] + starts_in[:, None]
    is_shown = (at >= starts[:, None]) & (at < (starts + lens)[:, None])
    return replace(frames, scored=frames.scored & ~is_shown)


def _piece_starts(drawn: Tensor, lens: Tensor, source_lens: Tensor, starts: Tensor | None, row_lens: Tensor) -> Tensor:
    """Return the first frame (B,) of a piece of `lens` frames of each source, for `drawn` (B,) in [0, 1).

    Rows that begin at `starts` of their source are avoided where there is room beside them (VALL-E trains on 10-20 s
    of recordings of a minute).
    """
    anywhere = (drawn * (source_lens - lens + 1)).long()
    if starts is None:
        return anywhere
    before = (starts - lens + 1).clamp(min=0)  # places before the row
    ends = starts + row_lens
    after = (source_lens - lens - ends + 1).clamp(min=0)
    place = (drawn * (before + after)).long()
    beside = torch.where(place < before, place, ends + place - before)
    return torch.where(before + after > 0, beside, anywhere)


def _prepend(batch: Batch, prompt: Tensor, prompt_lens: Tensor, prompt_alignment: Tensor | None = None) -> NARFrames:
    """Put prompts (B, P, Q) before the batch's frames; without an alignment, prompt frames have no symbol."""
    width = prompt.shape[1]
    lens = prompt_lens + batch.code_lens
    at = torch.arange(int(lens.max()), device=lens.device)
    is_prompt = at < prompt_lens[:, None]
    source = torch.where(is_prompt, at, (at - prompt_lens[:, None] + width))
    source = source.clamp(max=width + batch.codes.shape[1] - 1)
    together = torch.cat([prompt, batch.codes], dim=1)
    codes = together.gather(1, source[..., None].expand(-1, -1, together.shape[2]))
    alignment = None
    if batch.alignment is not None:
        before = torch.full(prompt.shape[:2], -1, device=lens.device) if prompt_alignment is None else prompt_alignment
        alignment = torch.cat([before, batch.alignment], dim=1).gather(1, source)
    return make_frames(codes, lens, prompt_lens, alignment, restart=True)


def add_codebook1_noise(frames: NARFrames, text: Tensor, most: float, merge: int, rng: torch.Generator) -> NARFrames:
    """Return frames some of whose target's merged codes are those of another frame of the same symbol.

    Each row draws how many: between none and the share `most` of its codes, merged by `merge`. Entries come from
    anywhere in the batch: they suit the symbol (of `text`, (B, S)) and nothing else. Prompts stay as they are.
    """
    assert frames.alignment is not None, "frames must know their symbols"
    rows, length, _ = frames.codes.shape
    device = frames.codes.device
    heads = (torch.arange(length, device=device) // merge * merge).expand(rows, -1)  # first frame of each one's code
    shares = torch.rand(rows, 1, generator=rng) * most
    is_swapped = (torch.rand(rows, length, generator=rng) < shares).to(device).gather(1, heads) & frames.scored
    row, at = frames.scored.nonzero(as_tuple=True)
    codebook1 = frames.codes[..., 0]
    drawn = codebook1.clone()
    drawn[row, at] = codebook1[row, at][_draw_partners(text[row, frames.alignment[row, at]], rng)]
    codes = frames.codes.clone()
    codes[..., 0] = torch.where(is_swapped, drawn.gather(1, heads), codebook1)  # one entry for all its frames
    return replace(frames, codes=codes)


def add_history_noise(
    groups: Tensor, phonemes: Tensor, may_change: Tensor, entries: int, most: float, rng: torch.Generator | None
) -> Tensor:
    """Return groups (B, N, G) some of which are those of other steps of the same phoneme, or random.

    `phonemes`, `may_change`: (B, N). Each row draws how many: between none and the share `most` of those that may
    change, of which one in eight becomes random entries.
    """
    rows, length, _ = groups.shape
    shares = torch.rand(rows, 1, generator=rng) * most
    is_swapped = (torch.rand(rows, length, generator=rng) < shares) & may_change
    row, at = may_change.nonzero(as_tuple=True)
    drawn = groups.clone()
    drawn[row, at] = groups[row, at][_draw_partners(phonemes[row, at], rng)]
    is_random = torch.rand(rows, length, generator=rng) < HISTORY_RANDOM
    anything = torch.randint(entries, groups.shape, generator=rng)
    drawn = torch.where(is_random[..., None], anything, drawn)
    return torch.where(is_swapped[..., None], drawn, groups)


def _draw_partners(symbols: Tensor, rng: torch.Generator | None) -> Tensor:
    """Return a random permutation (N,) that moves each place to one of the same symbol (N,)."""
    partners = torch.empty_like(symbols)
    partners[_shuffled(symbols, rng)] = _shuffled(symbols, rng)  # both orders go through the symbols one by one
    return partners


def _shuffled(symbols: Tensor, rng: torch.Generator | None) -> Tensor:
    """Return the order of `symbols` (N,) by value, random among equals."""
    mixed = torch.randperm(len(symbols), generator=rng).to(symbols.device)
    return mixed[symbols[mixed].argsort(stable=True)]
