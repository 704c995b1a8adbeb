"""Train the weights that choose between the readings of homographs: python tools/train_homographs.py FOLDER [OUT].

FOLDER is a copy of the Wikipedia Homograph Data (Gorman and others, LREC 2018; Apache-2.0; sentences of the English
Wikipedia labelled by linguists), https://github.com/google-research-datasets/WikipediaHomographData. Its `train` part
is learned from together with sentences made of homograph_patterns.yaml; its `eval` part is scored, and so is
tests/text/homographs.tsv, none of whose sentences is ever learned from. A minute on one core.
"""

from __future__ import annotations

import csv
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

from openvalle.text import english
from openvalle.text.homographs import BUCKETS, extract_features, find_readings
from openvalle.text.lexicon import lexicon

ROOT = Path(__file__).parent.parent
OUT = ROOT / "src" / "openvalle" / "assets" / "homographs"
TEST = ROOT / "tests" / "text" / "homographs.tsv"
EPOCHS, RATE, DECAY, SEED = 12, 0.3, 1e-6, 0
COPIES = 8  # of each word's made sentences with other words in them
PATTERNS = yaml.safe_load((Path(__file__).parent / "homograph_patterns.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Example:
    """A sentence with a homograph: its features, and whether the second reading is right."""

    word: str
    features: tuple[int, ...]
    is_second: bool


def read_data(folder: Path) -> Iterator[tuple[str, str, int, bool]]:
    """Yield word, sentence, how many of the word stand before it, and whether it has the second reading."""
    for path in sorted(folder.glob("*.tsv")):
        if path.stem in PATTERNS["left_out"]:
            continue
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                before = row["sentence"].encode()[: int(row["start"])].decode("utf-8", "ignore").lower()
                count = len(re.findall(rf"\b{path.stem}\b", before))
                name = row["wordid"]
                yield path.stem, row["sentence"], count, name.endswith("_vrb") or name in PATTERNS["second"]


def make_sentences(chance: random.Random) -> Iterator[tuple[str, str, int, bool]]:
    """Yield sentences from the patterns above, as `read_data` does."""
    entries = sorted(word for word in lexicon().list_words() if word.islower() and word.isalpha())
    kinds = {word: find_readings(word, lexicon().lookup(word) or {}) for word in entries}
    common = [word for word, found in kinds.items() if found and found[0] in ("verb", "verbs")]
    for word in common:
        found = kinds[word]
        assert found is not None
        ending = "_s" if found[0] == "verbs" else ""
        firsts, seconds = PATTERNS[f"nouns{ending}"], PATTERNS[f"verbs{ending}"]
        firsts = firsts + 2 * PATTERNS["adjectives"] if word in PATTERNS["adjectival"] else firsts
        for is_second, patterns in ((False, firsts), (True, seconds)):
            for pattern in chance.sample(patterns, min(COPIES, len(patterns))):
                yield word, _fill(pattern, word, chance), 0, is_second
    for word, pair in PATTERNS["meanings"].items():
        for is_later, patterns in enumerate(pair):
            for pattern in patterns:
                for _ in range(3 if "{" in pattern else 1):
                    yield word, _fill(pattern, word, chance), 0, bool(is_later)


def _fill(pattern: str, word: str, chance: random.Random) -> str:
    def choose(match: re.Match[str]) -> str:
        if match[1] in ("w", "W"):
            return word if match[1] == "w" else word.capitalize()
        return chance.choice(PATTERNS["fill"][match[1]])

    text = re.sub(r"\{(\w+)\}", choose, pattern)
    return text[:1].upper() + text[1:]


def to_examples(rows: Iterator[tuple[str, str, int, bool]]) -> Iterator[Example]:
    """Yield the examples; the front end itself says what the words of a sentence are."""
    for word, sentence, count, is_second in rows:
        if found := english.find_homographs(sentence, word):
            kind, words, at, is_loud = found[min(count, len(found) - 1)]
            yield Example(word, tuple(extract_features(kind, words, at, is_loud)), is_second)


def train(examples: list[Example], chance: random.Random) -> np.ndarray:
    """Return the weights (BUCKETS,): logistic regression by AdaGrad."""
    weights, squares = np.zeros(BUCKETS), np.full(BUCKETS, 1e-2)
    rows = [(np.array(example.features), 1.0 if example.is_second else 0.0, example.word) for example in examples]
    counts = Counter((word, right) for _, right, word in rows)
    for _ in range(EPOCHS):
        chance.shuffle(rows)
        for features, right, word in rows:
            share = counts[word, right] / (counts[word, 0.0] + counts[word, 1.0])
            found = 1 / (1 + np.exp(-weights[features].sum()))
            slope = (found - right) * (0.5 / max(share, 0.02)) ** 0.5 + DECAY * weights[features]
            squares[features] += slope**2
            weights[features] -= RATE * slope / np.sqrt(squares[features])
    return weights


def score(weights: np.ndarray, examples: list[Example]) -> float:
    """Return the share of right readings."""
    return float(np.mean([(weights[list(e.features)].sum() > 0) == e.is_second for e in examples]))


def main(folder: Path, out: Path = OUT) -> None:
    """Train, score, write the weights and the scores."""
    chance = random.Random(SEED)
    tested = [line.split("\t") for line in TEST.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    made = [row for row in make_sentences(chance) if row[1] not in {sentence for _, _, sentence in tested}]
    learned = list(to_examples(iter([*read_data(folder / "data" / "train"), *made])))
    weights = train(learned, chance).astype(np.float16)
    held = list(to_examples(read_data(folder / "data" / "eval")))
    counts = Counter((example.word, example.is_second) for example in learned)
    frequent = [(counts[e.word, True] > counts[e.word, False]) == e.is_second for e in held]
    scores = {
        "examples": len(learned),
        "Wikipedia Homograph Data, eval": {
            "sentences": len(held),
            "accuracy": round(score(weights.astype(np.float32), held), 4),
            "most frequent reading": round(float(np.mean(frequent)), 4),
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file({"weights": weights}, out / "model.safetensors")
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(Path, sys.argv[2:3]))
