"""Words that are written alike and said in two ways, told apart by the words around them.

The readings of most of them go by the part of speech (a *record*, to *record*), and what tells a noun from a verb is
the same for all of these; some go by what is meant (*bass*, *lead*). A logistic regression over features of the
context weighs both: features that all words of a kind share, and features of the one word. It was trained by
tools/train_homographs.py; its weights are in the package's assets.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np

from openvalle.hub import assets
from openvalle.text.lexicon import DEFAULT
from openvalle.text.phones import Phones
from openvalle.text.rules import word_set

BUCKETS = 1 << 18  # weights; features are hashed into them
PAUSE, BEGIN, END = "|", "^", "$"
_BAG = 8  # words before and after whose mere presence counts

# fmt: off
_EXTRA: dict[str, tuple[str, Phones]] = {  # readings that the lexicons lack: their tag and phones
    "lead": ("METAL", ("L", "EH1", "D")), "row": ("QUARREL", ("R", "AW1")),
    "rows": ("QUARREL", ("R", "AW1", "Z")), "protest": ("VERB", ("P", "R", "AH0", "T", "EH1", "S", "T")),
    "protests": ("VERB", ("P", "R", "AH0", "T", "EH1", "S", "T", "S")),
    "export": ("VERB", ("EH0", "K", "S", "P", "AO1", "R", "T")),
    "exports": ("VERB", ("EH0", "K", "S", "P", "AO1", "R", "T", "S")),
    "aged": ("ADJ", ("EY1", "JH", "IH0", "D")), "blessed": ("ADJ", ("B", "L", "EH1", "S", "IH0", "D")),
    "resume": ("NOUN", ("R", "EH1", "Z", "AH0", "M", "EY2")),
    "resumes": ("NOUN", ("R", "EH1", "Z", "AH0", "M", "EY2", "Z")),
    "reread": (DEFAULT, ("R", "IY0", "R", "IY1", "D")),
}
_MEANING = {  # words whose two readings are no matter of noun and verb: the tag of the second
    "bass": "ADJ", "bow": "VERB", "bows": "VERB", "content": "NOUN", "contents": "NOUN", "invalid": "NOUN",
    "lead": "METAL", "minute": "ADJ", "row": "QUARREL", "rows": "QUARREL",
}
_ONE_READING = ("closer", "minutes", "used")  # the other is rare, or told by a rule
_CLASSES = {
    "D": (
        "a an the this these those my your his its our their no every each some any another whose both many much "
        "several all her such"
    ),
    "M": (
        "to will would can could shall should may might must do does did don't doesn't didn't won't wouldn't "
        "can't cannot couldn't shouldn't let's please i'll you'll he'll she'll it'll we'll they'll i'd you'd he'd "
        "she'd we'd they'd help let lets gonna wanna"
    ),
    "H": "have has had having i've you've we've they've haven't hasn't hadn't",
    "B": (
        "am is are was were be been being i'm you're he's she's it's we're they're isn't aren't wasn't weren't "
        "get gets got getting become becomes became seem seems seemed stay stayed"
    ),
    "G": "very too so quite most more rather less",
    "S": "i you he she it we they who which people there",
    "P": (
        "of in on at by for with from into about after before under over without through between against during "
        "near like than as up out off down around across along behind beside above below"
    ),
    "O": "them him me us himself herself themselves itself myself yourself",
    "C": "and or but",
    "W": "that when while if because where how what why",
    "N": "not never n't",
    "1": "one two three four five six seven eight nine ten first second last next",
}
# fmt: on
_CLASS = {word: sign for sign, words in _CLASSES.items() for word in word_set(words)}
_ADVERBS = word_set("not never also always often just still now ever even both all usually sometimes again soon then")


def find_readings(word: str, listed: Mapping[str, Phones]) -> tuple[str, Phones, Phones] | None:
    """Return what the two readings of a word differ in, and both: noun before verb, present before past.

    None if it has but one, or is no homograph.
    """
    if word in _ONE_READING:
        return None
    extra = _EXTRA.get(word)
    readings = {**listed, extra[0]: extra[1]} if extra else listed
    if len(readings) < 2 or "None" in readings or "DT" in readings:
        return None
    default = readings[DEFAULT]
    if word in _MEANING:
        kind, first, second = word, default, readings.get(_MEANING[word], default)
    elif "VBD" in readings:
        kind, first, second = "past", default, readings["VBD"]
    elif "VERB" in readings:
        kind, first, second = "verb", default, readings["VERB"]
    elif word.endswith("ed"):
        kind, first, second = "adjective", default, readings.get("ADJ", default)
    else:
        kind, first, second = "verb", readings.get("NOUN") or readings.get("ADJ") or default, default
    if word.endswith("s") and not word.endswith("ss") and kind == "verb":
        kind = "verbs"
    return None if first == second else (kind, first, second)


def extract_features(kind: str, words: Sequence[str], at: int, is_loud: bool) -> Iterator[int]:
    """Yield the weights that count for the word `at` in a sentence of small letters, in which `PAUSE` is punctuation.

    `is_loud`: it is written with a capital.
    """
    word = words[at]
    near = [words[place] if 0 <= place < len(words) else BEGIN if place < 0 else END for place in range(at - 3, at + 4)]
    _, before2, before, _, after, after2, after3 = near
    head = next((other for other in reversed(near[:3]) if not _is_adverb(other)), before)
    c = [_classify(other) for other in near]
    local = (
        f"-1{before}", f"+1{after}", f"-2{before2} {before}", f"+2{after} {after2}", f"b{before} {after}",
        f"c-{c[2]}", f"c+{c[4]}", f"c-2{c[1]}{c[2]}", f"c+2{c[4]}{c[5]}", f"cb{c[2]}{c[4]}", f"cc{c[1]}{c[2]}{c[4]}",
        f"cd{c[2]}{c[4]}{c[5]}", f"h{head}", f"ch{_classify(head)}{c[4]}", f"ce{c[1]}{c[2]}{c[4]}{c[5]}",
        f"s-{before[-3:]}", f"s+{after[-3:]}", f"f{before2}", f"n{after2}", f"n3{c[4]}{c[5]}{_classify(after3)}",
        f"C{is_loud}{before == BEGIN}", "bias",
    )  # fmt: skip
    for feature in local:
        yield _hash(f"{kind}\t{feature}")
        yield _hash(f"{word}\t{feature}\t")
    for other in {*words[max(0, at - _BAG) : at], *words[at + 1 : at + 1 + _BAG]}:
        yield _hash(f"{word}\t{other}")
        if kind == "past":
            yield _hash(f"{kind}\tbag{other}")


def _is_adverb(word: str) -> bool:
    return word in _ADVERBS or (word.endswith("ly") and len(word) > 4)


def _classify(word: str) -> str:
    """Return what kind of word it seems to be: a sign of `_CLASSES`, or by its ending."""
    if word in _CLASS:
        return _CLASS[word]
    if word in (PAUSE, BEGIN, END):
        return word
    if word.endswith(("'s", "s'")):
        return "D"
    if word.endswith("ly") and len(word) > 4:
        return "y"
    if word.endswith("ing") and len(word) > 4:
        return "g"
    if word.endswith("ed") and len(word) > 3:
        return "e"
    return "s" if word.endswith("s") and not word.endswith(("ss", "us", "is", "ous")) else "x"


def _hash(feature: str) -> int:
    return zlib.crc32(feature.encode("utf-8", "surrogatepass")) % BUCKETS


@cache
def _load() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    from safetensors.numpy import load_file

    return load_file(assets() / "homographs" / "model.safetensors")["weights"].astype(np.float32)


def choose_second(kind: str, words: Sequence[str], at: int, is_loud: bool) -> bool:
    """Whether the second reading of the word `at` fits the sentence better (see `find_readings`)."""
    weights = _load()
    return float(sum(weights[feature] for feature in extract_features(kind, words, at, is_loud))) > 0
