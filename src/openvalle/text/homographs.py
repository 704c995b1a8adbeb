"""Which reading of a word its neighbours ask for: read, live, use, record, close, used to.

The lexicon gives such words one reading per part of speech. Rules over the word before and after guess the
part of speech; they are ordered from the surest to the least sure, and where none applies the lexicon's
default is taken.
"""

from __future__ import annotations

from collections.abc import Mapping

from openvalle.text.lexicon import DEFAULT, Phones

# fmt: off
_ARTICLES = frozenset({
    "a", "an", "the", "this", "these", "those", "my", "your", "his", "its", "our", "their", "no", "every", "each",
    "some", "any", "another", "whose", "both", "many", "much", "more", "most", "few", "several", "all", "her", "such",
})
_MODALS = frozenset({
    "to", "will", "would", "can", "could", "shall", "should", "may", "might", "must", "do", "does", "did", "don't",
    "doesn't", "didn't", "won't", "wouldn't", "can't", "cannot", "couldn't", "shouldn't", "let's", "please",
    "i'll", "you'll", "he'll", "she'll", "it'll", "we'll", "they'll", "i'd", "you'd", "he'd", "she'd", "we'd",
    "they'd", "help", "let", "lets", "gonna", "wanna",
})
_HAVE = frozenset({"have", "has", "had", "having", "i've", "you've", "we've", "they've", "haven't", "hasn't", "hadn't"})
_BE = frozenset({
    "am", "is", "are", "was", "were", "be", "been", "being", "i'm", "you're", "he's", "she's", "it's", "we're",
    "they're", "isn't", "aren't", "wasn't", "weren't", "get", "gets", "got", "getting", "become", "becomes",
    "became", "seem", "seems", "seemed", "stay", "stayed", "very", "too", "so", "quite",
})
_SUBJECTS = frozenset({"i", "you", "he", "she", "it", "we", "they", "who", "which", "people", "there"})
_PREPOSITIONS = frozenset({
    "of", "in", "on", "at", "by", "for", "with", "from", "into", "about", "after", "before", "under", "over",
    "without", "through", "between", "against", "during", "near", "like", "than", "as", "up", "out", "off", "down",
})
_OBJECTS = frozenset({"it", "them", "him", "me", "us", "you", "this", "that", "these", "those", "her", "himself"})
_ADVERBS = frozenset({"not", "never", "also", "always", "often", "just", "still", "now", "ever", "even", "both", "all"})
_CLOSERS = frozenset({  # words after which a phrase is over: what stands before them is no adjective
    "is", "are", "was", "were", "be", "been", "has", "have", "had", "will", "would", "can", "could", "may", "should",
    "and", "or", "but", "that", "which", "who", "to", "when", "while", "if", "because", "where", "then", "does", "did",
})
_METAL = frozenset({
    "pipe", "pipes", "paint", "poisoning", "acid", "bullet", "bullets", "pencil", "pencils", "shot", "ore", "mine",
    "mines", "weights", "weight", "balloon", "roof", "crystal", "oxide", "solder",
})
_USED_TO_AFTER = frozenset({"am", "i'm", "we're", "they're", "get", "gets", "got", "getting", "become", "not"})
_PARTICLES = frozenset({"up", "down", "off", "apart", "away", "open"})
_DEGREE = frozenset({"very", "so", "too", "quite", "most", "more"})
_DEFINITE = frozenset({"a", "an", "the", "its", "their"})
_RARE = {  # readings that need one of these words before them
    "close": ("NOUN", _DEFINITE), "closer": ("NOUN", _DEFINITE), "minute": ("ADJ", _DEGREE),
    "minutes": ("ADJ", frozenset[str]()), "learned": ("ADJ", _DEFINITE | _DEGREE | {"his", "my", "our", "your", "her"}),
}
_NEARBY = frozenset({"to", "by", "at", "together", "behind", "beside", "enough", "upon", "beneath", "under"})
# fmt: on
_LEAD_METAL: Phones = ("L", "EH1", "D")


def choose_reading(
    word: str, readings: Mapping[str, Phones], before: list[str], after: str | None, ends: bool = False
) -> Phones:
    """Return the reading that fits.

    `before` holds up to two earlier words of the sentence (nearest last), `after` the next one, None at the end of
    the clause; all in small letters. `ends` says that a pause follows.
    """
    if word == "lead" and (after in _METAL or before[-2:] == ["made", "of"] or before[-1:] == ["molten"]):
        return _LEAD_METAL
    if len(readings) == 1:
        return readings[DEFAULT]
    if word == "used":
        return readings.get(_read_used(before, after), readings[DEFAULT])
    if "None" in readings or "DT" in readings:  # a weak word: its strong form stands at the end of a clause
        strong = readings.get("None") or readings["DT"]
        return strong if ends else readings[DEFAULT]
    rare, needed = _RARE.get(word, ("", frozenset()))
    for tag in _tags(word, readings, before, after):
        if tag in readings and (tag != rare or (before[-1:] and before[-1] in needed)):
            return readings[tag]
    return readings[DEFAULT]


def _read_used(before: list[str], after: str | None) -> str:
    passive = before and before[-1] in _BE and before[-1] not in _USED_TO_AFTER
    return "VBD" if after == "to" and not passive else DEFAULT


def _tags(word: str, readings: Mapping[str, Phones], before: list[str], after: str | None) -> tuple[str, ...]:
    """Return the parts of speech to try, likeliest first."""
    previous = _head(before)
    if previous in _MODALS:
        return ("VERB", DEFAULT)
    if word == "close" and after in _NEARBY:
        return (DEFAULT,)  # close to the door
    if word in ("tear", "wind", "bow", "close") and after in _PARTICLES:
        return ("VERB", DEFAULT)
    if previous is None:
        imperative = after in _ARTICLES or after in _OBJECTS
        return ("VERB", DEFAULT) if imperative else ("NOUN",) if after in _CLOSERS else ("ADJ", DEFAULT)
    if previous in _HAVE:
        return ("VBN", "VERB") if after in _ARTICLES or after in _OBJECTS else ("VBN", DEFAULT)
    if previous in _BE:
        return ("VBN", "ADJ", DEFAULT)
    if previous in _SUBJECTS:
        return ("VBD", "VERB", DEFAULT)
    # "that close friend", "Anna's use of it", "in use"
    if previous in _ARTICLES or previous in _PREPOSITIONS or previous == "that" or previous.endswith("'s"):
        return _noun_or_modifier(readings, after)
    return _loose(word, readings, before, after)


def _head(before: list[str]) -> str | None:
    """Return the nearest earlier word that is not an adverb."""
    for word in reversed(before):
        if word not in _ADVERBS and not (word.endswith("ly") and len(word) > 4):
            return word
    return before[0] if before else None


def _noun_or_modifier(readings: Mapping[str, Phones], after: str | None) -> tuple[str, ...]:
    phrase_over = after is None or after in _CLOSERS or after in _PREPOSITIONS or after in _ARTICLES
    if phrase_over or ("ADJ" not in readings and "VERB" not in readings):
        return ("NOUN", DEFAULT)
    return ("ADJ", DEFAULT)


def _loose(word: str, readings: Mapping[str, Phones], before: list[str], after: str | None) -> tuple[str, ...]:
    """Guess from the next word and the shape of the phrase, after a noun, an adjective or an unknown word."""
    previous = before[-1]
    plural = previous.endswith("s") and not previous.endswith(("ss", "us", "is", "ous"))
    if (
        (plural or previous in ("men", "women", "children"))
        and after in _PREPOSITIONS
        and word not in ("present", "close")
    ):
        return ("VERB", DEFAULT)
    if not plural and len(before) > 1 and (before[-2] in _ARTICLES or before[-2] in _PREPOSITIONS):
        return _noun_or_modifier(readings, after)  # the upper house
    if after in _ARTICLES or (after in _OBJECTS and after != "that"):
        return ("VERB", DEFAULT)
    if previous in ("and", "or", "but", "then", "not"):
        return ("VERB", DEFAULT) if word == "live" else (DEFAULT,)
    return ("NOUN", DEFAULT) if after is None or after in _CLOSERS else (DEFAULT,)
