"""A protocol and a corpus -> its test list: the exact (prompt, prompt's text, text, reference) of every item."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from openvalle.errors import UserError
from openvalle.evaluate.corpus import CorpusUtterance, choose, find_corpus, interleave, read_complete, read_corpus
from openvalle.evaluate.cutter import Cutter
from openvalle.evaluate.protocols import Corpus, ItemOrder, PromptRule, Protocol, Scored
from openvalle.evaluate.test_list import CORPUS, PROMPTS, CorpusExcerpt, TestItem, TestList, part_note, read_list
from openvalle.files import sha256

log = logging.getLogger(__name__)

MARGIN_SECONDS = 1.0  # a recording that is cut for a prompt, or continued, is at least this much longer
BEGINNING_MARGIN = 1.5  # the same for the first seconds of a recording


@dataclass
class ListBuilder:
    """Draws prompts for targets. Holds what was drawn before, so that prompts are shared out evenly."""

    protocol: Protocol
    utterances: Sequence[CorpusUtterance]
    foreign: Sequence[CorpusUtterance]
    seed: int
    prompts: str = PROMPTS  # the folder that foreign prompts lie in
    cutter: Cutter = field(default_factory=Cutter)
    taken: set[tuple[str, str]] = field(default_factory=set)
    uses: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed + 2)
        choice = self.protocol.prompt
        least = choice.seconds + (BEGINNING_MARGIN if choice.rule is PromptRule.BEGINNING else MARGIN_SECONDS)
        self.sources = choose([item for item in self.utterances if item.seconds >= least], 10**9, self.seed + 1)
        self.by_speaker: dict[str, list[CorpusUtterance]] = defaultdict(list)
        for item in sorted(self.utterances, key=lambda item: item.id):
            self.by_speaker[item.speaker].append(item)

    def item(self, target: CorpusUtterance) -> TestItem | None:
        """Return the test of a target, or None if no prompt can be found for it."""
        match self.protocol.prompt.rule:
            case PromptRule.BEGINNING | PromptRule.CROP:
                prompt = self._part(target)
            case PromptRule.PREFIX:
                return self._continuation(target)
            case PromptRule.PREVIOUS:
                prompt = self._previous(target)
            case PromptRule.BELOW:
                prompt = self._below(target)
            case PromptRule.FOREIGN:
                return self._cross(target)
        return TestItem(target.id, target.text, prompt, target.whole()) if prompt else None

    def _cross(self, target: CorpusUtterance) -> TestItem | None:
        """Return the text with the next prompt in another language."""
        others = [item for item in self.foreign if item.language != target.language]
        if not others:
            return None
        prompt = others[sum(self.uses.values()) % len(others)]
        self.uses[prompt.id] += 1
        return TestItem(target.id, target.text, prompt.whole(self.prompts), target.whole())

    def _part(self, target: CorpusUtterance) -> CorpusExcerpt | None:
        """Return a part of another utterance, of those least used so far."""
        choice = self.protocol.prompt
        own = [item for item in self.sources if item.speaker == target.speaker and item.id != target.id]
        if choice.rule is PromptRule.CROP:
            own = [own[i] for i in self.rng.permutation(len(own))]
        for source in sorted(own, key=lambda item: self.uses[item.id]):
            if choice.rule is PromptRule.CROP:
                prompt = self.cutter.crop(source, choice, float(self.rng.random()))
            else:
                prompt = self.cutter.cut_beginning(source, choice)
            if prompt and (source.id, target.id) not in self.taken:
                self.taken.add((source.id, target.id))
                self.uses[source.id] += 1
                return prompt
        return None

    def _previous(self, target: CorpusUtterance) -> CorpusExcerpt | None:
        low, high = self.protocol.seconds
        own = [item for item in self.by_speaker[target.speaker] if low <= item.seconds <= high]
        place = next(index for index, item in enumerate(own) if item.id == target.id)
        return own[place - 1].whole() if len(own) > 1 else None

    def _below(self, target: CorpusUtterance) -> CorpusExcerpt | None:
        limit = self.protocol.prompt.seconds
        own = [item for item in self.by_speaker[target.speaker] if item.seconds < limit and item.id != target.id]
        return max(own, key=lambda item: (item.seconds, item.id)).whole() if own else None

    def _continuation(self, target: CorpusUtterance) -> TestItem | None:
        if target.seconds < self.protocol.prompt.seconds + MARGIN_SECONDS:
            return None
        halves = self.cutter.split(target, self.protocol.prompt)
        if halves is None:
            return None
        prompt, rest = halves
        is_whole = self.protocol.scored is Scored.WHOLE
        reference = target.whole() if is_whole else rest
        return TestItem(target.id, rest.text, prompt, reference, scores_prompt=is_whole)


@dataclass(frozen=True)
class ListSource:
    """Where a test list comes from: a file, or a corpus and how items are drawn from it."""

    data: Path | None  # the corpus, a folder or manifest.jsonl; None: the one that $OPENVALLE_SPEECH names
    prompts: Path | None = None  # the corpus of prompts, where the protocol takes them from another language
    split: str | None = None  # part of a manifest
    limit: int | None = None  # most items, speakers in turn
    seed: int = 0
    partial: bool = False  # allow an incomplete corpus
    items: Path | None = None  # a list that was written before, used instead

    def folders(self) -> dict[str, Path]:
        """Return the folders that the items' paths begin in."""
        given = {CORPUS: find_corpus(self.data)} | ({PROMPTS: self.prompts} if self.prompts is not None else {})
        return {name: folder if folder.is_dir() else folder.parent for name, folder in given.items()}


def find_list(protocol: Protocol, source: ListSource, kept: Path) -> TestList:
    """Return the test list of `source`; if the file `kept` holds the answer to the same request, from there.

    Finding word boundaries takes longer than anything else in drawing a list. Nothing is written: an evaluation writes
    its list when it begins.
    """
    if source.items is not None:
        found = read_list(source.items)
        if found.protocol != protocol.name:
            what = f"{source.items} is a list of the protocol {found.protocol}, not {protocol.name}"
            raise UserError(what, f"give --protocol {found.protocol}, or another list")
        return found.limit(source.limit) if source.limit else found
    request = _request(protocol, source)
    if kept.is_file():
        try:
            found = read_list(kept)
        except UserError as error:
            log.warning("drawing the list again: %s", error)
        else:
            if found.request == request:
                return found
    return replace(build_list(protocol, source), request=request)


def _request(protocol: Protocol, source: ListSource) -> str:
    """Return what names a request: the protocol's own rules, the corpora's contents and the options."""
    rules = protocol.model_dump_json(exclude={"decoding", "judges", "notes", "similarity", "title", "paper", "runs"})
    parts = [rules, repr((source.seed, source.limit, source.split, source.partial))]
    for folder in (find_corpus(source.data), *([source.prompts] if source.prompts else [])):
        manifest = folder / "manifest.jsonl" if folder.is_dir() else folder
        parts += [str(folder.resolve()), sha256(manifest) if manifest.is_file() else ""]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def build_list(protocol: Protocol, source: ListSource) -> TestList:
    """Return a protocol's test list over a corpus, the same for the same seed.

    `UserError` if the corpus is not what the protocol needs.
    """
    notes: tuple[str, ...] = ()
    folder, seed, limit = find_corpus(source.data), source.seed, source.limit
    if protocol.corpus is Corpus.ANY:
        utterances = read_corpus(folder, source.split)
    else:
        utterances, notes = read_complete(folder, protocol, source.partial)
    foreign: list[CorpusUtterance] = []
    if protocol.prompt.rule is PromptRule.FOREIGN:
        language = protocol.prompt.language
        if source.prompts is None and language:
            hint = f"give --prompts FOLDER, speech in {language}"
            raise UserError(f"{protocol.name} takes its prompts from another corpus", hint)
        drawn = choose(utterances if source.prompts is None else read_corpus(source.prompts), 10**9, seed)
        foreign = [replace(item, language=language or item.language) for item in drawn]
    prompts = CORPUS if source.prompts is None else PROMPTS
    builder = ListBuilder(protocol, utterances, foreign, seed, prompts)
    targets = _targets(protocol, utterances, seed, limit)
    items = list(_items(builder, targets, limit))
    if protocol.paper and limit is not None and limit < len(targets):
        notes = (*notes, part_note(limit, len(targets)))
    if not items:
        raise UserError(f"{folder} holds no pair of utterances that {protocol.name} can use", _needs(protocol))
    pairs = [replace(item, id=f"{number:03d}-{item.id}") for number, item in enumerate(_with_others(items, seed))]
    numbered = [replace(item, number=number) for number, item in enumerate(_in_conditions(pairs, protocol))]
    return TestList(protocol.name, seed, folder.name, tuple(numbered), notes)


def _targets(
    protocol: Protocol, utterances: Sequence[CorpusUtterance], seed: int, limit: int | None
) -> list[CorpusUtterance]:
    low, high = protocol.seconds
    fitting = [item for item in utterances if low <= item.seconds <= high]
    if protocol.order is ItemOrder.TURNS:
        return choose(fitting, len(utterances), seed)
    if protocol.order is ItemOrder.ONE_PER_SPEAKER:
        ordered = choose(fitting, len(fitting), seed)
        firsts = {item.speaker: item for item in reversed(ordered)}
        return [firsts[speaker] for speaker in sorted(firsts)]
    ordered = sorted(fitting, key=lambda item: item.id)
    if limit is None:
        return ordered
    speakers = sorted({item.speaker for item in ordered})
    return interleave([[item for item in ordered if item.speaker == speaker] for speaker in speakers])


def _items(builder: ListBuilder, targets: Sequence[CorpusUtterance], limit: int | None) -> Iterator[TestItem]:
    """Yield items up to the limit. Small corpora (order `turns`) use targets again, with other prompts."""
    again = builder.protocol.order is ItemOrder.TURNS and limit is not None
    count = limit if again else min(len(targets), limit or len(targets))
    assert count is not None
    for number in range(count if targets else 0):
        item = builder.item(targets[number % len(targets)])
        if item:
            yield item


def _with_others(items: Sequence[TestItem], seed: int) -> list[TestItem]:
    """Return the items with a prompt by another speaker, of the same gender if possible."""
    rng = np.random.default_rng(seed)
    drawn = [item.prompt for item in items]
    done = []
    for item in items:
        others = [prompt for prompt in drawn if prompt.speaker != item.prompt.speaker]
        alike = [prompt for prompt in others if prompt.gender == item.prompt.gender]
        candidates = alike or others
        if not candidates:
            raise UserError("all prompts are by one speaker", "use speech of two speakers or more")
        done.append(replace(item, other=candidates[rng.integers(len(candidates))]))
    return done


def _in_conditions(items: Sequence[TestItem], protocol: Protocol) -> list[TestItem]:
    return [
        replace(item, condition=condition, id=item.id if condition == "clean" else f"{item.id}-{condition}")
        for item in items
        for condition in protocol.conditions
    ]


def _needs(protocol: Protocol) -> str:
    low, high = protocol.seconds
    length = f" of {low:g} to {high:g} s" if high < 1e8 else ""
    return f"it needs speakers with two transcribed utterances{length} or more, and clear transcripts"
