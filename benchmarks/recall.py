"""How much of what a model was trained on it says again: greedily, each NAR pass on what the pass before it wrote."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from openvalle.data.shards import TokenShards
from openvalle.decode.ar import AROptions, Draw, generate
from openvalle.decode.failures import FailureOptions
from openvalle.decode.nar import fill
from openvalle.decode.prompt import SpeechPrompt, continuation, zero_shot
from openvalle.decode.sampling import SamplingOptions
from openvalle.engines.base import AREngine, NAREngine
from openvalle.engines.torch import TorchAR, TorchNAR
from openvalle.model.alignment import cut_durations, cut_whole
from openvalle.model.checkpoint import Bundle
from openvalle.model.config import ARConfig
from openvalle.model.kinds import Alignment, PromptKind
from openvalle.types import Utterance as Row

CONTINUED_FRAMES = 225  # of the recording that is heard first: 3 s (VALL-E 4.3)
SPARE_FRAMES = 75  # that an AR model may go on for after the end
BY_HEART = AROptions(
    sampling=SamplingOptions(temperature=0.0, repetition_aware=False),
    path_temperature=0.0,
    symbol_frames=150,
    pause_frames=300,
    least_frames=0.0,
    most_frames=60.0,
    watch=FailureOptions(ends=False),
)


def recall(bundle: Bundle, shards: TokenShards, limit: int) -> tuple[float, list[float], int]:
    """Return the shares of codebook 1 and of each codebook after it that come back, and of how many utterances."""
    ar, nar = TorchAR(bundle.ar), TorchNAR(bundle.nar)
    count = min(limit, len(shards))
    found, wanted = 0, 0
    right = np.zeros(nar.config.codebooks - 1)
    frames = 0
    for index in range(count):
        row = row_of(shards, index)
        hits, places = recall_first(ar, row)
        found, wanted = found + hits, wanted + places
        hits_after, places = recall_others(ar, nar, row, shards, index)
        right, frames = right + hits_after, frames + places
    return found / wanted, (right / frames).tolist(), count


def row_of(shards: TokenShards, index: int) -> Row:
    """Return a row as the networks were trained on it."""
    item = shards[index]
    return replace(item, language=1)


def continual(config: ARConfig, recording: Row, frames: int) -> SpeechPrompt:
    """Return the prompt for saying again what `recording` says after its first `frames`.

    With durations the target begins with the symbol that was being spoken; without, the border is unknown, and the
    whole transcript is the target's.
    """
    text, language = recording.text, recording.language
    codes = recording.codes[:frames]
    if recording.durations is None:
        codes, _ = cut_whole(Row(text, codes), config.merge, config.group)
        return SpeechPrompt(text, 0, codes, None, language, language)
    ends = recording.durations.cumsum()
    begun = int((ends < frames).sum()) + 1  # symbols of which something is heard
    beginning = Row(text[:begun], codes, cut_durations(recording.durations, 0, frames)[:begun], language)
    rest = text[begun:] if int(ends[begun - 1]) == frames else text[begun - 1 :]
    return continuation(config, beginning, rest, language)


def recall_first(ar: AREngine, row: Row) -> tuple[int, int]:
    """Return how many codes after the prompt come back, and of how many."""
    config = ar.config
    codes, _ = cut_whole(row, config.merge, config.group)
    skipped = len(row.codes) // config.merge % config.group * config.merge  # the clipped start of training
    prompt = continual(config, row, skipped + prompt_frames(len(codes), config.step_frames))
    assert prompt.codes is not None
    true = codes[len(prompt.codes) :: config.merge, 0]
    enough = BY_HEART.model_copy(update={"limit_frames": len(true) * config.merge + SPARE_FRAMES})
    said = generate(ar, [Draw(prompt.ar(config), enough, 0)])[0].codes
    same = min(len(true), len(said))
    return int((true[:same] == said[:same]).sum()), max(len(true), len(said))


def recall_others(ar: AREngine, nar: NAREngine, row: Row, shards: TokenShards, index: int) -> tuple[np.ndarray, int]:
    """Return how many entries of each codebook after the first come back (Q - 1,), and of how many frames."""
    config, kind = ar.config, nar.config.prompt
    codes, path = cut_whole(row, config.merge, config.group)
    if kind == PromptKind.PREFIX:
        skipped = len(row.codes) // config.merge % config.group * config.merge
        prompt = continual(config, row, skipped + prompt_frames(len(codes), config.step_frames))
    else:
        neighbour = shards.neighbour(index)
        voice = None if neighbour is None else neighbour.codes
        if voice is not None and kind == PromptKind.SEGMENT:
            voice = voice[-CONTINUED_FRAMES:]
        said = None if voice is None else Row(row.text[:0], voice, None, row.language)
        prompt = zero_shot(config, said, row.text, row.language)
    shown = len(prompt.codes) if kind == PromptKind.PREFIX and prompt.codes is not None else 0
    true, symbols = codes[shown:], None
    if config.alignment == Alignment.PHONEME and path is not None:
        symbols = path[shown :: config.merge] - prompt.prompt_symbols
    given = prompt.nar(config, codebook1=true[:: config.merge, 0], alignment=symbols)
    same = fill(nar, [given])[0][:, 1:] == true[:, 1:]
    return same.sum(0), len(same)


def prompt_frames(frames: int, block: int) -> int:
    """Return the length of a prompt: 3 s, at most half, in whole blocks."""
    return min(CONTINUED_FRAMES, frames // 2) // block * block
