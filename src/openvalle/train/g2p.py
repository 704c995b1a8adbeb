"""Training the grapheme-to-phoneme model: lexicons -> a chunk of phones for each letter -> `openvalle.text.g2p`, which
is the same network on NumPy; here it is in torch, under the same names.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from openvalle.config import Config
from openvalle.data.draws import draw_generator
from openvalle.files import atomic_path, write_text
from openvalle.model.batch import Movable
from openvalle.text.g2p import LETTERS, MAX_LETTERS, NO_STRESS, G2PConfig, G2PModel
from openvalle.text.lexicon import DEFAULT, Phones, cmu_lexicon, lexicon
from openvalle.train.distributed import once
from openvalle.train.loop import LoopConfig, Losses, TrainingProgress, Validation, fit
from openvalle.types import CONSONANTS, STRESSES, VOWELS

log = logging.getLogger(__name__)
PHONES = (*VOWELS, *CONSONANTS)
MISAKI, CMU = 0, 1  # where a pronunciation comes from; the second carries no stress
UNKNOWN = -100  # a target that no loss looks at
ROUNDS = 6  # in which chunks and the letters they belong to are found
VALIDATED = 500  # about so many held-out words does a validation read
_SPELLING = re.compile(rf"[a-z'][a-z']{{1,{MAX_LETTERS - 1}}}")
_IS_VOWEL = np.arange(len(PHONES)) < len(VOWELS)
_FORBIDDEN = -1e9

Costs = tuple[NDArray, NDArray, NDArray]  # of a letter with no phone (27,), one (27, 39), two (27, 39, 39): log chances


class Pair(NamedTuple):
    """A spelling and its phones (stressed if the source is `MISAKI`)."""

    word: str
    phones: Phones
    source: int

    @property
    def is_held_out(self) -> bool:
        """Whether the word belongs to the 5 % that are never trained on: by its SHA-256, whatever lexicon has it."""
        return hashlib.sha256(self.word.encode()).digest()[0] % 20 == 0


def pairs() -> list[Pair]:
    """Return every spelling of letters and apostrophes with one pronunciation; acronyms are left out."""
    merged: dict[str, Pair] = {}
    words = lexicon()
    for word in words.list_words():
        lower = word.lower()
        is_wanted = not word.isupper() and lower not in merged and _SPELLING.fullmatch(lower)
        if is_wanted and (readings := words.entry(word)) and readings[DEFAULT]:
            merged[lower] = Pair(lower, readings[DEFAULT], MISAKI)
    for word, phones in cmu_lexicon().items():
        if word not in merged and _SPELLING.fullmatch(word):
            merged[word] = Pair(word, phones, CMU)
    return [merged[word] for word in sorted(merged)]


def bare(phones: Phones) -> Phones:
    """Return the phones without stress digits."""
    return tuple(phone.rstrip("012") for phone in phones)


def align(items: list[Pair], rare: int = 5) -> tuple[list[Phones], dict[str, list[Phones]]]:
    """Return the chunk inventory and each word's chunk per letter, by hard EM (Viterbi training).

    A word is left out where no chunks of the inventory (those seen at least `rare` times) spell it.
    """
    groups: dict[tuple[int, int], list[Pair]] = defaultdict(list)
    for item in items:
        if len(item.phones) <= 2 * len(item.word):  # a letter yields at most two
            groups[len(item.word), len(item.phones)].append(item)
    coded = []
    for group in groups.values():
        letters = np.array([[LETTERS.index(letter) for letter in item.word] for item in group])
        coded.append((letters, np.array([[PHONES.index(phone) for phone in bare(item.phones)] for item in group])))
    costs = _first_costs(coded)
    for _ in range(ROUNDS):
        costs = _count_costs([(letters, phones, _best_path(costs, letters, phones)) for letters, phones in coded])
    aligned: dict[str, list[Phones]] = {}
    for group, (letters, phones) in zip(groups.values(), coded, strict=True):
        for item, path in zip(group, _best_path(costs, letters, phones), strict=True):
            if path[0] >= 0:
                plain, ends = bare(item.phones), np.cumsum(path)
                aligned[item.word] = [plain[end - size : end] for size, end in zip(path, ends, strict=True)]
    counts = Counter(chunk for chunks in aligned.values() for chunk in chunks)
    kept = {chunk for chunk, count in counts.items() if count >= rare}
    return sorted(kept), {word: chunks for word, chunks in aligned.items() if kept.issuperset(chunks)}


def _no_counts() -> Costs:
    letters, phones = len(LETTERS), len(PHONES)
    return np.full(letters, 0.1), np.full((letters, phones), 0.01), np.full((letters, phones, phones), 1e-5)


def _to_costs(none: NDArray, one: NDArray, two: NDArray) -> Costs:
    total = none + one.sum(1) + two.sum((1, 2))
    pairs = np.log(two / total[:, None, None])
    pairs[:, _IS_VOWEL[:, None] & _IS_VOWEL] = _FORBIDDEN  # one stress per letter
    return np.log(none / total), np.log(one / total[:, None]), pairs


def _first_costs(coded: list[tuple[NDArray, NDArray]]) -> Costs:
    """Begin from letters and phones that stand at about the same place, of the same kind."""
    none, one, two = _no_counts()
    for letters, phones in coded:
        near = np.arange(letters.shape[1]) * phones.shape[1] // letters.shape[1]
        np.add.at(one, (letters, phones[:, near]), 1.0)
    vowel_letters = np.array([letter in "aeiouy" for letter in LETTERS])
    one *= np.where(vowel_letters[:, None] == _IS_VOWEL, 1.0, 0.02)
    none += 0.2 * one.sum(1)
    two += one[:, :, None] * one[:, None] / one.sum(1)[:, None, None] * 0.02
    return _to_costs(none, one, two)


def _count_costs(coded: list[tuple[NDArray, NDArray, NDArray]]) -> Costs:
    """Count the chunks of aligned words."""
    tables = _no_counts()
    for letters, phones, paths in coded:
        starts = paths.cumsum(1) - paths
        for size, table in enumerate(tables):
            rows, places = np.nonzero(paths == size)
            parts = [phones[rows, starts[rows, places] + step] for step in range(size)]
            np.add.at(table, (letters[rows, places], *parts), 1.0)
    return _to_costs(*tables)


def _best_path(costs: Costs, letters: NDArray[np.int64], phones: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many phones each letter yields, (B, L); -1 in rows that cannot be aligned."""
    none, one, two = costs
    rows, size = letters.shape
    count = phones.shape[1]
    score = np.full((rows, count + 1), _FORBIDDEN)
    score[:, 0] = 0.0
    choices = np.zeros((size, rows, count + 1), dtype=np.int8)
    for index in range(size):
        letter = letters[:, index, None]
        options = np.full((3, rows, count + 1), _FORBIDDEN)
        options[0] = score + none[letter]
        options[1, :, 1:] = score[:, :-1] + one[letter, phones]
        options[2, :, 2:] = score[:, :-2] + two[letter, phones[:, :-1], phones[:, 1:]]
        choices[index] = options.argmax(0)
        score = options.max(0)
    path = np.zeros((rows, size), dtype=np.int64)
    at = np.full(rows, count)
    for index in reversed(range(size)):
        path[:, index] = choices[index][np.arange(rows), at]
        at = at - path[:, index]
    path[score[:, -1] < _FORBIDDEN / 2] = -1
    return path


class G2PRecipe(Config):
    """`openvalle train g2p`."""

    loop: LoopConfig
    batch: int = Field(default=256, gt=0, description="words in a batch, all of one length, on each process")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="after every sublayer")
    width: int = Field(default=160, description="D, the width of every layer")
    heads: int = Field(default=5, description="attention heads")
    feed: int = Field(default=480, description="width inside the feed-forward sublayers")
    encoder: int = Field(default=3, description="bidirectional layers over the letters")
    decoder: int = Field(default=1, description="causal layers over letters and chosen chunks")


@dataclass(frozen=True)
class G2PBatch(Movable):
    """Words of one length L: letters, chunks, stresses (B, L) and where each word comes from (B,)."""

    letters: Tensor
    chunks: Tensor
    stresses: Tensor
    sources: Tensor


class G2PBlock(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, recipe: G2PRecipe) -> None:
        super().__init__()
        width = recipe.width
        self.heads, self.dropout = recipe.heads, nn.Dropout(recipe.dropout)
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, recipe.feed), nn.Linear(recipe.feed, width)

    def forward(self, states: Tensor, causal: bool) -> Tensor:
        """Map (B, L, D) to (B, L, D)."""
        rows, size, width = states.shape
        mixed = self.mix(self.norm_attention(states)).view(rows, size, 3, self.heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        # plain products: on CPU the fused attention takes twice as long for words of ten letters
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        if causal:
            scores = scores.masked_fill(scores.new_ones((size, size), dtype=torch.bool).triu(1), -math.inf)
        joined = scores.softmax(-1).to(value.dtype) @ value
        states = states + self.dropout(self.out(joined.transpose(1, 2).reshape(rows, size, width)))
        inner = functional.relu(self.up(self.norm_feed(states))).square()
        return states + self.dropout(self.down(inner))


class G2PNetwork(nn.Module):
    """The torch twin of `G2PModel`."""

    def __init__(self, recipe: G2PRecipe, chunks: int) -> None:
        super().__init__()
        width = recipe.width
        self.letters, self.sources = nn.Embedding(len(LETTERS), width), nn.Embedding(2, width)
        self.starts, self.ends = nn.Embedding(MAX_LETTERS, width), nn.Embedding(MAX_LETTERS, width)
        self.chunks = nn.Embedding(chunks + 1, width)  # the last one stands before the first letter
        self.stresses = nn.Embedding(NO_STRESS + 1, width)
        self.encoder = nn.ModuleList(G2PBlock(recipe) for _ in range(recipe.encoder))
        self.decoder = nn.ModuleList(G2PBlock(recipe) for _ in range(recipe.decoder))
        self.norm, self.chunk_head = nn.LayerNorm(width), nn.Linear(width, chunks)
        self.stress_hidden, self.stress_chunks = nn.Linear(width, width // 2), nn.Embedding(chunks, width // 2)
        self.stress_head = nn.Linear(width // 2, len(STRESSES))
        for table in (m for m in self.modules() if isinstance(m, nn.Embedding)):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, words: G2PBatch) -> tuple[Tensor, Tensor]:
        """Return logits of the chunks (B, L, C) and, given the true chunk, of the stresses (B, L, 3)."""
        places = torch.arange(words.letters.shape[1], device=words.letters.device)
        states = self.letters(words.letters) + self.sources(words.sources)[:, None]
        states = states + self.starts(places) + self.ends(places.flip(0))
        for block in self.encoder:
            states = block(states, causal=False)
        stresses = words.stresses.masked_fill(words.stresses == UNKNOWN, NO_STRESS)
        states = states + self.stresses(functional.pad(stresses, (1, -1), value=NO_STRESS))
        states = states + self.chunks(functional.pad(words.chunks, (1, -1), value=self.chunks.num_embeddings - 1))
        for block in self.decoder:
            states = block(states, causal=True)
        features = self.norm(states)
        hidden = self.stress_hidden(features) + self.stress_chunks(words.chunks)
        return self.chunk_head(features), self.stress_head(functional.relu(hidden).square())


class G2PTask:
    """The network on all words but the held-out 5 %, each epoch in a new order."""

    def __init__(self, recipe: G2PRecipe, items: list[Pair], rare: int = 5) -> None:
        self.recipe = recipe
        self.unseen = [item for item in items if item.is_held_out]
        inventory, aligned = align([item for item in items if not item.is_held_out], rare=rare)
        log.info("%d words, %d aligned for training, %d chunks", len(items), len(aligned), len(inventory))
        sizes = recipe.model_dump(include=set(G2PConfig.model_fields))
        self.config = G2PConfig(**sizes, chunks=tuple(inventory))
        ids = {chunk: index for index, chunk in enumerate(inventory)}
        rows: dict[int, list[tuple[list[int], list[int], list[int], int]]] = defaultdict(list)
        for item in (item for item in items if item.word in aligned):
            chunks = aligned[item.word]
            digits = iter([phone[-1] for phone in item.phones if phone.rstrip("012") in VOWELS])
            marks = [next(digits) if any(phone in VOWELS for phone in chunk) else "" for chunk in chunks]
            stresses = [int(mark) if mark in STRESSES and item.source == MISAKI else UNKNOWN for mark in marks]
            letters = [LETTERS.index(letter) for letter in item.word]
            rows[len(letters)].append((letters, [ids[chunk] for chunk in chunks], stresses, item.source))
        self.words = {
            size: G2PBatch(*(torch.tensor(part) for part in zip(*group, strict=True))) for size, group in rows.items()
        }
        self.parts = [(size, start) for size, group in rows.items() for start in range(0, len(group), recipe.batch)]
        torch.manual_seed(recipe.loop.seed)
        self.networks: dict[str, nn.Module] = {"g2p": G2PNetwork(recipe, len(inventory))}

    def batch(self, index: int, rank: int, world: int) -> G2PBatch:
        epoch, place = divmod(index * world + rank, len(self.parts))
        seed = self.recipe.loop.seed
        size, start = self.parts[draw_generator(seed, epoch, 0).permutation(len(self.parts))[place]]
        words = self.words[size]
        order = draw_generator(seed, epoch, size).permutation(len(words.letters))
        rows = torch.from_numpy(order[start : start + self.recipe.batch])
        return G2PBatch(words.letters[rows], words.chunks[rows], words.stresses[rows], words.sources[rows])

    def losses(self, batch: G2PBatch, at: TrainingProgress, rng: torch.Generator) -> Losses:
        """Return the mean negative log likelihood of a letter's chunk and of a known stress."""
        chunks, stresses = (logits.flatten(0, 1).float() for logits in self.networks["g2p"](batch))
        spoken = functional.cross_entropy(chunks, batch.chunks.flatten())
        marks = batch.stresses.flatten()
        stressed = functional.cross_entropy(stresses, marks, ignore_index=UNKNOWN, reduction="sum") / len(marks)
        loss = spoken + stressed
        return Losses({"g2p": loss}, {"loss": loss.detach(), "stresses": stressed.detach()})

    def validate(self, averages: Mapping[str, nn.Module]) -> Validation:
        weights = {name: value.float().cpu().numpy() for name, value in averages["g2p"].state_dict().items()}
        sample = self.unseen[:: max(1, len(self.unseen) // VALIDATED)]
        scores = judge(G2PModel(self.config, weights), sample)
        return Validation({f"{source} {name}": value for source, own in scores.items() for name, value in own.items()})

    def keep(self, averages: Mapping[str, nn.Module], folder: Path, done: float) -> None:
        """Write the weights as float16 with their configuration."""
        weights = {name: value.half().contiguous() for name, value in averages["g2p"].state_dict().items()}
        with atomic_path(folder / "model.safetensors") as part:
            save_file(weights, part)
        self.config.save(folder / "config.json")


def judge(model: G2PModel, items: list[Pair]) -> dict[str, dict[str, float]]:
    """Return the shares of exact words and of right phones, by source: with stress, where it has it, and without."""
    scores: dict[str, dict[str, float]] = {}
    for name, source in (("misaki", MISAKI), ("cmudict", CMU)):
        found = [(model(item.word), item.phones) for item in items if item.source == source]
        if found:
            scores[name] = {"words": len(found), **(_accuracies(found, "") if source == MISAKI else {})}
            scores[name] |= _accuracies([(bare(own), bare(right)) for own, right in found], " without stress")
    return scores


def _accuracies(found: list[tuple[Phones, Phones]], how: str) -> dict[str, float]:
    phones, edits = sum(len(right) for _, right in found), sum(edit_distance(*each) for each in found)
    words = sum(own == right for own, right in found)
    return {f"word accuracy{how}": words / len(found), f"phone accuracy{how}": 1 - edits / phones}


def edit_distance(found: Phones, wanted: Phones) -> int:
    """Return the fewest insertions, deletions and substitutions between two phone strings."""
    row = list(range(len(wanted) + 1))
    for index, left in enumerate(found, 1):
        above, row[0] = row[0], index
        for at, right in enumerate(wanted, 1):
            above, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, above + (left != right))
    return row[-1]


def train_g2p(recipe: G2PRecipe, out: Path) -> Path:
    """Train the model, write it and its scores by source; return the folder that holds them."""
    task, folder = G2PTask(recipe, pairs()), out / "g2p"
    averages = fit(task, recipe.loop, out)

    def write() -> None:
        task.keep(averages, folder, 1.0)
        scores = judge(G2PModel.load(folder), task.unseen)
        write_text(folder / "scores.json", json.dumps(scores, indent=1) + "\n")

    once(write)
    return folder
