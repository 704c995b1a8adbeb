"""The zero-shot test: a 3 s prompt of an unseen speaker, another text by the same speaker, and a wrong speaker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from corpus import Utterance, choose
from openvalle.audio import Audio, fade
from openvalle.errors import AudioError, UserError
from openvalle.listen.aligner import POOR_SCORE, SIL, Aligner
from openvalle.text.phonemes import phonemize

TARGET_SECONDS = (4.0, 10.0)  # VALL-E's test utterances are this long
PROMPT_SECONDS = 3.0
PROMPT_TOLERANCE = 0.5  # the nearest word boundary may be this far off, in seconds
SOURCE_SECONDS = 4.5  # a recording shorter than this is not cut for a prompt


@dataclass(frozen=True)
class Prompt:
    """The beginning of a recording, cut at the end of a word, and its words."""

    source: Utterance
    audio: Audio
    text: str


@dataclass(frozen=True)
class Pair:
    """`prompt` and `target` are by one speaker; `wrong` is a prompt by another, of the same gender if possible."""

    prompt: Prompt
    target: Utterance
    wrong: Prompt


def make_pairs(utterances: Sequence[Utterance], count: int, seed: int) -> list[Pair]:
    """Return up to `count` pairs; targets are used again, with another prompt, only when they run out."""
    low, high = TARGET_SECONDS
    targets = choose([item for item in utterances if low <= item.seconds <= high], len(utterances), seed)
    sources = choose([item for item in utterances if item.seconds >= SOURCE_SECONDS], len(utterances), seed + 1)
    aligner = Aligner()
    cut: dict[str, Prompt | None] = {}
    drawn: list[tuple[Prompt, Utterance]] = []
    taken: set[tuple[str, str]] = set()
    uses: dict[str, int] = {}
    for number in range(count):
        if not targets:
            break
        target = targets[number % len(targets)]
        own = [item for item in sources if item.speaker == target.speaker and item.id != target.id]
        for source in sorted(own, key=lambda item: uses.get(item.id, 0)):
            if source.id not in cut:
                cut[source.id] = cut_prompt(source, aligner)
            prompt = cut[source.id]
            if prompt and (source.id, target.id) not in taken:
                taken.add((source.id, target.id))
                uses[source.id] = uses.get(source.id, 0) + 1
                drawn.append((prompt, target))
                break
    return _with_wrong_speakers(drawn, seed)


def cut_prompt(source: Utterance, aligner: Aligner) -> Prompt | None:
    """Return the first `PROMPT_SECONDS` or so of a recording; None if its words cannot be found in the sound."""
    audio = source.audio()
    words = phonemize(source.text)
    try:
        found = aligner.align_scored(audio, [(word.text, word.phones) for word in words])
    except AudioError:
        return None
    if found.score < POOR_SCORE:
        return None
    ends = np.array([end for _, end in found.word_times()])
    if found.spans[0].symbol == SIL:
        ends = ends - found.spans[0].end  # silence before the first word is cut off and does not count
    last = int(np.abs(ends - PROMPT_SECONDS).argmin())
    if abs(ends[last] - PROMPT_SECONDS) > PROMPT_TOLERANCE:
        return None
    end = found.word_times()[last][1]
    start = max(0.0, found.word_times()[0][0] - 0.05)
    samples = audio.samples[round(start * audio.rate) : round(end * audio.rate)]
    text = " ".join(word.text for word in words[: last + 1])
    return Prompt(source, fade(Audio(samples, audio.rate), 0.005, 0.005), text)


def _with_wrong_speakers(drawn: Sequence[tuple[Prompt, Utterance]], seed: int) -> list[Pair]:
    rng = np.random.default_rng(seed)
    prompts = [prompt for prompt, _ in drawn]
    pairs = []
    for prompt, target in drawn:
        others = [item for item in prompts if item.source.speaker != target.speaker]
        alike = [item for item in others if item.source.gender == target.gender]
        if not others:
            raise UserError("all pairs are by one speaker", "use data with two speakers or more in each split")
        candidates = alike or others
        pairs.append(Pair(prompt, target, candidates[rng.integers(len(candidates))]))
    return pairs
