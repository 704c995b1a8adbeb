"""Train the grapheme-to-phoneme model: `openvalle train g2p g2p`.

`openvalle.text.g2p` is the same network on NumPy; here it is in torch, under the same names.

Training pairs for the grapheme-to-phoneme model: merged lexicons, held-out words, letter-phone alignment.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from openvalle.config import Config
from openvalle.files import atomic_path, write_text
from openvalle.parallel import progress_bars
from openvalle.text.g2p import LETTERS, MAX_LETTERS, NO_STRESS, SpellingConfig, SpellingModel
from openvalle.text.lexicon import DEFAULT, Phones, cmu_lexicon, lexicon
from openvalle.train.optim import Decay, OptimConfig, Precision, learning_rate, multiplying
from openvalle.types import CONSONANTS, STRESSES, VOWELS

PHONES = (*VOWELS, *CONSONANTS)
MISAKI, CMU = 0, 1  # where a pronunciation comes from; the second carries no stress
CHUNK = 2  # most phones one letter may yield
_SPELLING = re.compile(rf"[a-z'][a-z']{{1,{MAX_LETTERS - 1}}}")
_IDS = {phone: index for index, phone in enumerate(PHONES)}
_FORBIDDEN = -1e9


@dataclass(frozen=True)
class Pair:
    """A spelling and its phones (stressed if the source is `MISAKI`)."""

    word: str
    phones: Phones
    source: int


def held_out(word: str) -> bool:
    """Whether the word belongs to the 5 % that are never trained on: decided by its SHA-256, for ever."""
    return hashlib.sha256(word.encode()).digest()[0] % 20 == 0


def pairs() -> list[Pair]:
    """Return every spelling of letters and apostrophes with one pronunciation; acronyms are left out."""
    merged: dict[str, Pair] = {}
    words = lexicon()
    for word in words.listed():
        lower = word.lower()
        if word.isupper() or lower in merged or not _SPELLING.fullmatch(lower):
            continue
        readings = words.entry(word)
        if readings and readings[DEFAULT]:
            merged[lower] = Pair(lower, readings[DEFAULT], MISAKI)
    for word, phones in cmu_lexicon().items():
        if word not in merged and _SPELLING.fullmatch(word):
            merged[word] = Pair(word, phones, CMU)
    return [merged[word] for word in sorted(merged)]


def align(
    items: list[Pair], rounds: int = 6, rare: int = 5
) -> tuple[list[tuple[str, ...]], dict[str, list[tuple[str, ...]]]]:
    """Return the chunk inventory and each word's chunk per letter, by hard EM (Viterbi training).

    A word is left out where no chunks of the inventory (those seen at least `rare` times) spell it.
    """
    groups: dict[tuple[int, int], list[Pair]] = defaultdict(list)
    for item in items:
        if len(item.phones) <= CHUNK * len(item.word):
            groups[len(item.word), len(item.phones)].append(item)
    coded = [(group, *_coded(group)) for group in groups.values()]
    costs = _Costs.start(coded)
    for _ in range(rounds):
        paths = [costs.best_path(letters, phones) for _, letters, phones in coded]
        costs = _Costs.counted([(x, y, path) for (_, x, y), path in zip(coded, paths, strict=True)])
    aligned: dict[str, list[tuple[str, ...]]] = {}
    for group, letters, phones in coded:
        for item, path in zip(group, costs.best_path(letters, phones), strict=True):
            if path[0] >= 0:
                aligned[item.word] = _cut(item.phones, path)
    counts = Counter(chunk for chunks in aligned.values() for chunk in chunks)
    kept = {chunk for chunk, count in counts.items() if count >= rare}
    return sorted(kept), {word: chunks for word, chunks in aligned.items() if kept.issuperset(chunks)}


def bare(phones: Phones) -> Phones:
    """Return the phones without stress digits."""
    return tuple(phone.rstrip("012") for phone in phones)


def _coded(group: list[Pair]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    letters = np.array([[LETTERS.index(letter) for letter in item.word] for item in group])
    phones = np.array([[_IDS[phone] for phone in bare(item.phones)] for item in group])
    return letters, phones


def _cut(phones: Phones, path: NDArray[np.int64]) -> list[tuple[str, ...]]:
    ends = np.cumsum(path)
    plain = bare(phones)
    return [plain[end - size : end] for size, end in zip(path, ends, strict=True)]


class _Costs:
    """Log probabilities of a letter yielding no phone (27,), one (27, 39) or two (27, 39, 39)."""

    def __init__(self, none: NDArray, one: NDArray, two: NDArray) -> None:
        total = none + one.sum(1) + two.sum((1, 2))
        self.none = np.log(none / total)
        self.one = np.log(one / total[:, None])
        vowels = np.arange(len(PHONES)) < len(VOWELS)
        self.two = np.log(two / total[:, None, None])
        self.two[:, vowels[:, None] & vowels[None]] = _FORBIDDEN  # one stress per letter

    @classmethod
    def start(cls, coded: list) -> _Costs:
        """Begin from letters and phones that stand at about the same place, of the same kind."""
        none, one, two = cls._empty()
        for _, letters, phones in coded:
            for index in range(letters.shape[1]):
                at = index * phones.shape[1] // letters.shape[1]
                np.add.at(one, (letters[:, index], phones[:, at]), 1.0)
        vowel_letters = np.array([letter in "aeiouy" for letter in LETTERS])
        vowel_phones = np.arange(len(PHONES)) < len(VOWELS)
        one *= np.where(vowel_letters[:, None] == vowel_phones[None], 1.0, 0.02)
        none += 0.2 * one.sum(1)
        two += one[:, :, None] * one[:, None] / one.sum(1)[:, None, None] * 0.02
        return cls(none, one, two)

    @classmethod
    def counted(cls, coded: list) -> _Costs:
        """Count the chunks of aligned words."""
        none, one, two = cls._empty()
        for letters, phones, paths in coded:
            rows = np.arange(len(paths))
            at = np.zeros(len(paths), dtype=np.int64)
            for index in range(letters.shape[1]):
                sizes, letter = paths[:, index], letters[:, index]
                for size, table in ((0, none), (1, one), (2, two)):
                    chosen = rows[sizes == size]
                    parts = [phones[chosen, at[chosen] + step] for step in range(size)]
                    np.add.at(table, (letter[chosen], *parts), 1.0)
                at += np.maximum(sizes, 0)
        return cls(none, one, two)

    @staticmethod
    def _empty() -> tuple[NDArray, NDArray, NDArray]:
        letters, phones = len(LETTERS), len(PHONES)
        return np.full(letters, 0.1), np.full((letters, phones), 0.01), np.full((letters, phones, phones), 1e-5)

    def best_path(self, letters: NDArray[np.int64], phones: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many phones each letter yields, (B, L); -1 in rows that cannot be aligned."""
        rows, size = letters.shape
        count = phones.shape[1]
        score = np.full((rows, count + 1), _FORBIDDEN)
        score[:, 0] = 0.0
        choices = np.zeros((size, rows, count + 1), dtype=np.int8)
        for index in range(size):
            letter = letters[:, index, None]
            options = np.full((3, rows, count + 1), _FORBIDDEN)
            options[0] = score + self.none[letter]
            options[1, :, 1:] = score[:, :-1] + self.one[letter, phones]
            options[2, :, 2:] = score[:, :-2] + self.two[letter, phones[:, :-1], phones[:, 1:]]
            choices[index] = options.argmax(0)
            score = options.max(0)
        path = np.zeros((rows, size), dtype=np.int64)
        at = np.full(rows, count)
        for index in reversed(range(size)):
            path[:, index] = choices[index][np.arange(rows), at]
            at = at - path[:, index]
        path[score[:, -1] < _FORBIDDEN / 2] = -1
        return path


log = logging.getLogger(__name__)
UNKNOWN = -100  # a target that no loss looks at


class SpellingRecipe(Config):
    """How to train the grapheme-to-phoneme model."""

    seed: int = Field(default=0, description="of the first weights, the order of batches and dropout")
    steps: int = Field(default=5500, gt=0, description="optimizer steps")
    batch: int = Field(default=256, gt=0, description="words in a batch, all of one length")
    rate: float = Field(default=2e-3, gt=0, description="peak learning rate")
    warmup: int = Field(default=200, ge=0, description="steps until the peak; a cosine leads to zero after it")
    decay: float = Field(default=0.01, ge=0, description="weight decay of AdamW")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="after every sublayer")
    threads: int = Field(
        default=1, gt=0, description="CPU threads; the same number on the same machine gives the same weights"
    )
    judged: int = Field(default=20000, gt=0, description="most held-out words of a source that are judged at the end")
    width: int = Field(default=160, description="D, the width of every layer")
    heads: int = Field(default=5, description="attention heads")
    feed: int = Field(default=480, description="width inside the feed-forward sublayers")
    encoder: int = Field(default=3, description="bidirectional layers over the letters")
    decoder: int = Field(default=1, description="causal layers over letters and chosen chunks")


@dataclass(frozen=True)
class Batch:
    """Words of one length L: letters, chunks, stresses (B, L) and where each word comes from (B,)."""

    letters: Tensor
    chunks: Tensor
    stresses: Tensor
    sources: Tensor


class Block(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, width: int, heads: int, feed: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, feed), nn.Linear(feed, width)

    def forward(self, states: Tensor, causal: bool) -> Tensor:
        """Map (B, L, D) to (B, L, D)."""
        rows, size, width = states.shape
        mixed = self.mix(self.norm_attention(states)).view(rows, size, 3, self.heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        # plain products: on CPU the fused attention takes twice as long for words of ten letters
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        if causal:
            scores = scores.masked_fill(torch.ones(size, size, dtype=torch.bool).triu(1), -math.inf)
        joined = scores.softmax(-1).to(value.dtype) @ value
        states = states + self.dropout(self.out(joined.transpose(1, 2).reshape(rows, size, width)))
        inner = functional.relu(self.up(self.norm_feed(states))).square()
        return states + self.dropout(self.down(inner))


class SpellingNetwork(nn.Module):
    """The torch twin of `SpellingModel`."""

    def __init__(self, recipe: SpellingRecipe, chunks: int) -> None:
        super().__init__()
        width = recipe.width
        self.letters, self.sources = nn.Embedding(len(LETTERS), width), nn.Embedding(2, width)
        self.starts, self.ends = nn.Embedding(MAX_LETTERS, width), nn.Embedding(MAX_LETTERS, width)
        self.chunks = nn.Embedding(chunks + 1, width)  # the last one stands before the first letter
        self.stresses = nn.Embedding(NO_STRESS + 1, width)
        shape = (width, recipe.heads, recipe.feed, recipe.dropout)
        self.encoder = nn.ModuleList(Block(*shape) for _ in range(recipe.encoder))
        self.decoder = nn.ModuleList(Block(*shape) for _ in range(recipe.decoder))
        self.norm, self.chunk_head = nn.LayerNorm(width), nn.Linear(width, chunks)
        self.stress_hidden, self.stress_chunks = nn.Linear(width, width // 2), nn.Embedding(chunks, width // 2)
        self.stress_head = nn.Linear(width // 2, len(STRESSES))
        for table in (m for m in self.modules() if isinstance(m, nn.Embedding)):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits of the chunks (B, L, C) and, given the true chunk, of the stresses (B, L, 3)."""
        places = torch.arange(batch.letters.shape[1])
        states = self.letters(batch.letters) + self.sources(batch.sources)[:, None]
        states = states + self.starts(places) + self.ends(places.flip(0))
        for block in self.encoder:
            states = block(states, causal=False)
        given = functional.pad(batch.stresses, (1, -1), value=NO_STRESS)
        given = given.masked_fill(given == UNKNOWN, NO_STRESS)
        before = functional.pad(batch.chunks, (1, -1), value=self.chunks.num_embeddings - 1)
        states = states + self.chunks(before) + self.stresses(given)
        for block in self.decoder:
            states = block(states, causal=True)
        features = self.norm(states)
        hidden = self.stress_hidden(features) + self.stress_chunks(batch.chunks)
        return self.chunk_head(features), self.stress_head(functional.relu(hidden).square())

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean negative log likelihood of a letter's chunk and of a known stress."""
        chunks, stresses = self(batch)
        spoken = functional.cross_entropy(chunks.flatten(0, 1).float(), batch.chunks.flatten())
        stressed = functional.cross_entropy(
            stresses.flatten(0, 1).float(), batch.stresses.flatten(), ignore_index=UNKNOWN, reduction="sum"
        )
        return spoken + stressed / batch.letters.numel()


def tensors(
    items: list[Pair], inventory: list[tuple[str, ...]], aligned: dict[str, list[tuple[str, ...]]]
) -> dict[int, Batch]:
    """Return the aligned words as one `Batch` per spelling length."""
    ids = {chunk: index for index, chunk in enumerate(inventory)}
    rows: dict[int, list[tuple[list[int], list[int], list[int], int]]] = defaultdict(list)
    for item in items:
        if item.word not in aligned:
            continue
        chunks = aligned[item.word]
        letters = [LETTERS.index(letter) for letter in item.word]
        marks = iter(
            int(phone[-1]) if item.source == MISAKI else UNKNOWN
            for phone in item.phones
            if phone.rstrip("012") in VOWELS
        )
        stresses = [next(marks) if any(p in VOWELS for p in chunk) else UNKNOWN for chunk in chunks]
        rows[len(item.word)].append((letters, [ids[chunk] for chunk in chunks], stresses, item.source))
    return {size: Batch(*(torch.tensor(part) for part in zip(*group, strict=True))) for size, group in rows.items()}


def batches(groups: dict[int, Batch], size: int, rng: torch.Generator) -> Iterator[Batch]:
    """Yield shuffled batches for ever, each epoch in a new order."""
    while True:
        parts = []
        for length in sorted(groups):
            order = torch.randperm(len(groups[length].letters), generator=rng)
            parts += [(length, part) for part in order.split(size)]
        for index in torch.randperm(len(parts), generator=rng).tolist():
            length, part = parts[index]
            group = groups[length]
            yield Batch(group.letters[part], group.chunks[part], group.stresses[part], group.sources[part])


def fit(recipe: SpellingRecipe, groups: dict[int, Batch], chunks: int) -> SpellingNetwork:
    """Return the network after all steps of the recipe; the same recipe and threads give the same weights."""
    with torch.random.fork_rng(devices=[]), progress_bars() as bar:
        torch.manual_seed(recipe.seed)  # initial weights and dropout draw from torch's own generator
        network = SpellingNetwork(recipe, chunks).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.decay, fused=True)
        shape = OptimConfig(learning_rate=1.0, warmup=recipe.warmup, decay=Decay.COSINE, floor=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(shape, step, step / recipe.steps)
        )
        stream = batches(groups, recipe.batch, torch.Generator().manual_seed(recipe.seed))
        started, running = time.monotonic(), math.nan
        for step in bar.track(range(1, recipe.steps + 1), description="g2p"):
            with multiplying(Precision.AUTO, torch.device("cpu")):
                loss = network.loss(next(stream))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
            if step % 100 == 0:
                log.info("step %d: loss %.4f, %.0f s", step, running, time.monotonic() - started)
        return network.eval()


def save(network: SpellingNetwork, config: SpellingConfig, folder: Path) -> SpellingModel:
    """Write the weights as float16 with their configuration and return the model as users will load it."""
    from safetensors.numpy import save_file

    weights = {name: value.numpy().astype(np.float16) for name, value in network.state_dict().items()}
    with atomic_path(folder / "model.safetensors") as part:
        save_file(weights, part)
    config.save(folder / "config.json")
    return SpellingModel.load(folder)


def evaluate(model: SpellingModel, items: list[Pair]) -> dict[str, float]:
    """Return the share of exact words and of right phones (1 - edits / phones), with and without stress.

    With stress is left out where the source has none.
    """
    words = plain_words = edits = plain_edits = phones = 0
    for item in items:
        found = model(item.word)
        words += found == item.phones
        edits += edit_distance(found, item.phones)
        plain_words += bare(found) == bare(item.phones)
        plain_edits += edit_distance(bare(found), bare(item.phones))
        phones += len(item.phones)
    scores: dict[str, float] = {"words": len(items)}
    if all(item.source == MISAKI for item in items):
        scores |= {"word accuracy": words / len(items), "phone accuracy": 1 - edits / phones}
    plain = {
        "word accuracy without stress": plain_words / len(items),
        "phone accuracy without stress": 1 - plain_edits / phones,
    }
    return scores | plain


def edit_distance(found: tuple[str, ...], wanted: tuple[str, ...]) -> int:
    """Return the fewest insertions, deletions and substitutions between two phone strings."""
    row = list(range(len(wanted) + 1))
    for index, left in enumerate(found, 1):
        above, row[0] = row[0], index
        for at, right in enumerate(wanted, 1):
            above, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, above + (left != right))
    return row[-1]


def train(recipe: SpellingRecipe, folder: Path) -> dict[str, dict[str, float]]:
    """Train on all words but the held-out 5 %, write the model into `folder` and return its scores by source."""
    torch.set_num_threads(recipe.threads)
    items = pairs()
    inventory, aligned = align([item for item in items if not held_out(item.word)])
    log.info("%d words, %d aligned for training, %d chunks", len(items), len(aligned), len(inventory))
    network = fit(recipe, tensors(items, inventory, aligned), len(inventory))
    shape = {name: getattr(recipe, name) for name in ("width", "heads", "encoder", "decoder")}
    model = save(network, SpellingConfig(**shape, chunks=tuple(inventory)), folder)
    unseen = [item for item in items if held_out(item.word)]
    scores = {
        name: evaluate(model, [item for item in unseen if item.source == source][: recipe.judged])
        for name, source in (("misaki", MISAKI), ("cmudict", CMU))
    }
    write_text(folder / "scores.json", json.dumps(scores, indent=1) + "\n")
    return scores
