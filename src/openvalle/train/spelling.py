"""Training pairs for the grapheme-to-phoneme model: merged lexicons, held-out words, letter-phone alignment."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openvalle.text.english import DEFAULT, Phones, cmu_lexicon, lexicon
from openvalle.text.g2p import LETTERS, MAX_LETTERS
from openvalle.text.phones import CONSONANTS, VOWELS

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
