"""The front end of text on one core: words a second, homographs, unknown words: python benchmarks/text.py [--json].

The text is what the tests read: figures, dates, markup and homographs are far denser in it than in a book.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from openvalle.hub import assets
from openvalle.text.language import phonemize
from openvalle.text.sentences import split

TESTS = Path(__file__).parent.parent / "tests" / "text"
ROUNDS, WANTED = 5, 2000


def read_rows(name: str) -> list[list[str]]:
    """Return the rows of a test's table."""
    lines = (TESTS / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("# ")]


def measure_speed(text: str) -> float:
    """Return the words a second of processor time, the best of some rounds."""
    best = 0.0
    for _ in range(ROUNDS):
        start = time.process_time()
        words = sum(len(phonemize(chunk.text)) for chunk in split(text, 200))
        best = max(best, words / (time.process_time() - start))
    return best


def main() -> None:
    """Measure, print, fail where the speed is below what is wanted."""
    homographs = read_rows("homographs.tsv")
    phonemize("warm up, read it")
    prose = " ".join(sentence for _, _, sentence in homographs)
    dense = "\n\n".join(written for written, _ in read_rows("readings.tsv"))
    counts: dict[str, Counter[str]] = {}
    right = 0
    for word, phones, sentence in homographs:
        said = next(found for found in phonemize(sentence) if found.text.lower() == word)
        right += " ".join(said.phones) == phones
        counts.setdefault(word, Counter())[phones] += 1
    spelled = json.loads((assets() / "g2p" / "scores.json").read_text(encoding="utf-8"))
    found = {
        "words a second, sentences": round(measure_speed(prose)),
        "words a second, figures and markup": round(measure_speed(dense)),
        "homographs right": round(right / len(homographs), 4),
        "homographs right, the likelier reading of each": round(
            sum(max(readings.values()) for readings in counts.values()) / len(homographs), 4
        ),
        "unknown words right": round(spelled["misaki"]["word accuracy"], 4),
    }
    print(json.dumps(found, indent=1) if "--json" in sys.argv else "\n".join(f"{k}: {v}" for k, v in found.items()))
    slow = [name for name, value in found.items() if name.startswith("words a second") and value < WANTED]
    sys.exit(f"slower than {WANTED} words a second: {', '.join(slow)}" if slow else 0)


if __name__ == "__main__":
    main()
