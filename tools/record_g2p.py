"""Record how g2p_en says English words, for models that were trained on its phones: python tools/record_g2p.py

Run it where g2p_en 2.1.0, NLTK 3.8.1, and NLTK's `cmudict` and `averaged_perceptron_tagger` are; nothing of them is
part of this package. Kept are its answers alone, for

- words of the CMU dictionary 0.7b that it says in another way: its dictionary is 0.7a, and others it guesses
- the same words without their apostrophes, which one of the projects leaves out (`dont`)
- words that it says in two ways
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

ASSETS = Path(__file__).parent.parent / "src" / "openvalle" / "assets" / "lexicon"


def main() -> None:
    """Write `g2p_en.json.gz`."""
    from g2p_en import G2p

    readings = json.loads(gzip.decompress((ASSETS / "cmudict_stressed.json.gz").read_bytes()))
    speaker = G2p()
    words = {word for word in {*readings, *speaker.cmu} if re.fullmatch("[a-z'-]*[a-z][a-z'-]*", word)}
    words |= {word.replace("'", "") for word in words}
    said: dict[str, str] = {}
    for word in sorted(words - {*speaker.homograph2features}):
        phones = " ".join(speaker.cmu[word][0] if word in speaker.cmu else speaker.predict(word))
        if [phones] != [one.upper() for one in readings.get(word, [])[:1]]:
            said[word] = phones
    twice = {
        word: [" ".join(first), " ".join(second)]
        for word, (first, second, _) in sorted(speaker.homograph2features.items())
    }
    data = json.dumps({"words": said, "twice": twice}, separators=(",", ":")).encode("ascii")
    (ASSETS / "g2p_en.json.gz").write_bytes(gzip.compress(data, 9, mtime=0))
    print(f"{len(said)} words that are said otherwise, {len(twice)} that are said in two ways")


if __name__ == "__main__":
    main()
