"""Sentences become words with phones: context, spelling, pauses, and errors that help."""

from __future__ import annotations

import importlib.util
import logging
import time
from itertools import pairwise

import pytest

from older_tables import arpabet
from openvalle.errors import ConfigError, MissingExtra, TextError
from openvalle.text.english import add_stress
from openvalle.text.language import LANGUAGES, Word, find_language, phonemize, to_symbols
from openvalle.types import SIL


def phones(text: str, word: str) -> str:
    return " ".join(next(found.phones for found in phonemize(text) if found.text.lower() == word.lower()))


READINGS = [
    ("I have read the book.", "read", "R EH1 D"), ("I will read it.", "read", "R IY1 D"),
    ("She read it aloud.", "read", "R EH1 D"), ("Read the book!", "read", "R IY1 D"), ("to read", "read", "R IY1 D"),
    ("It was read by many.", "read", "R EH1 D"), ("They live in Rome.", "live", "L IH1 V"),
    ("a live show", "live", "L AY1 V"), ("It is live.", "live", "L AY1 V"), ("to live", "live", "L IH1 V"),
    ("their lives", "lives", "L AY1 V Z"), ("he lives here", "lives", "L IH1 V Z"), ("to use it", "use", "Y UW1 Z"),
    ("the use of it", "use", "Y UW1 S"), ("It is of no use.", "use", "Y UW1 S"), ("Use the key.", "use", "Y UW1 Z"),
    ("a record", "record", "R EH1 K ER0 D"), ("to record it", "record", "R AH0 K AO1 R D"),
    ("the record company", "record", "R EH1 K ER0 D"), ("Record your voice.", "record", "R AH0 K AO1 R D"),
    ("We recorded it.", "recorded", "R AH0 K AO1 R D IH0 D"), ("close the door", "close", "K L OW1 Z"),
    ("It is close to me.", "close", "K L OW1 S"), ("a close friend", "close", "K L OW1 S"),
    ("Please close it.", "close", "K L OW1 Z"), ("I used to know.", "used", "Y UW1 S T"),
    ("She used the key.", "used", "Y UW1 Z D"), ("It was used to open it.", "used", "Y UW1 Z D"),
    ("the wind blew", "wind", "W IH1 N D"), ("to wind the clock", "wind", "W AY1 N D"),
    ("They will present it.", "present", "P R IY0 Z EH1 N T"), ("a present", "present", "P R EH1 Z AH0 N T"),
    ("The children present were quiet.", "present", "P R EH1 Z AH0 N T"),
    ("our house", "house", "HH AW1 S"), ("to house them", "house", "HH AW1 Z"),
    ("separate rooms", "separate", "S EH1 P ER0 AH0 T"), ("to separate them", "separate", "S EH1 P ER0 EY2 T"),
    ("a lead pipe", "lead", "L EH1 D"), ("They lead us.", "lead", "L IY1 D"), ("take the lead", "lead", "L IY1 D"),
    ("the birds live in trees", "live", "L IH1 V"), ("Polish the table.", "polish", "P AA1 L IH0 SH"),
    ("a Polish song", "polish", "P OW1 L IH0 SH"), ("the top", "the", "DH AH0"),
    ("the apple", "the", "DH IY0"), ("the hour", "the", "DH IY0"), ("the, apple", "the", "DH AH0"),
    ("after a few minutes she left", "minutes", "M IH1 N AH0 T S"), ("wait a minute now", "minute", "M IH1 N AH0 T"),
    ("so minute a thing", "minute", "M AY0 N UW1 T"), ("they have learned from it", "learned", "L ER1 N D"),
    ("a learned man", "learned", "L ER1 N IH0 D"), ("of that house", "house", "HH AW1 S"),
    ("in the upper house the lords", "house", "HH AW1 S"), ("they moved closer to us", "closer", "K L OW1 S ER0"),
    ("driven close to the wall", "close", "K L OW1 S"),
    ("the delegates present at the table", "present", "P R EH1 Z AH0 N T"),
    ("Tear down the fence.", "tear", "T EH1 R"), ("he wanted a good excuse for it", "excuse", "IH0 K S K Y UW1 S"),
    ("a man", "a", "AH0"), ("A man came.", "a", "AH0"), ("vitamin A is good", "a", "EY1"), ("plan B", "b", "B IY1"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "word", "expected"), READINGS)
def test_the_reading_follows_the_context(text: str, word: str, expected: str) -> None:
    assert phones(text, word) == expected


def test_words_pauses_and_texts() -> None:
    words = phonemize("Well, the x-ray cost $5. Runnin' home?")
    assert [word.text for word in words] == ["Well", "the", "x-ray", "cost", "five", "dollars", "Runnin'", "home"]
    assert [word.pause for word in words] == [True, False, False, False, False, True, False, True]


def test_acronyms_are_letters_and_letters_have_names() -> None:
    assert [word.text for word in phonemize("The FBI agent")] == ["The", "F", "B", "I", "agent"]
    assert phones("An A-I model", "A") == "EY1"
    assert [word.text for word in phonemize("two CDs")][-1] == "D's"
    assert phonemize("mvp")[0].phones == tuple("EH1 M V IY1 P IY1".split())  # noqa: SIM905


def test_a_transcript_in_capitals_is_read_like_any_text() -> None:
    loud = phonemize("THE CHILDREN'S BOOK IS ON A TABLE IN THE US")
    soft = phonemize("the children's book is on a table in the us")
    assert [word.phones for word in loud] == [word.phones for word in soft]


@pytest.mark.parametrize("word", ["Catherine", "gathercole", "zorblax", "McVeigh", "O'Brien", "d'artagnan", "iPhone"])
def test_unlisted_words_are_spoken_with_one_primary_stress_per_part(word: str) -> None:
    found = phonemize(word)[0].phones
    arpabet().encode(found)
    assert any(phone.endswith("1") for phone in found)


def test_a_possessive_of_an_unlisted_word_is_the_word_with_its_ending() -> None:
    (stem,), (whole,) = phonemize("zorblax"), phonemize("zorblax's")
    assert whole.phones == (*stem.phones, "IH0", "Z")


def test_stress_is_lent_only_where_the_vowels_agree() -> None:
    assert add_stress(("K", "AE", "TH", "ER"), ("K", "AH0", "T", "EH1")) == ("K", "AE0", "TH", "ER1")
    assert add_stress(("AE", "B", "IY"), ("AH1",)) == ("AE1", "B", "IY0")


def test_symbols_begin_and_end_with_silence_and_never_repeat() -> None:
    words = [Word("this", ("DH", "IH0", "S")), Word("song", ("S", "AO1", "NG"), True), Word("a", ("AH0",), True)]
    symbols, owners = to_symbols(words)
    assert list(symbols) == [SIL, "DH", "IH0", "S", "AO1", "NG", SIL, "AH0", SIL]
    assert owners == (-1, 0, 0, 0, 1, 1, -1, 2, -1)
    long, _ = to_symbols(phonemize("Some sick kids, six sisters. Both things that took."))
    assert all(left != right for left, right in pairwise(long))
    assert to_symbols([]) == ((SIL,), (-1,))


def test_the_user_lexicon_beats_everything() -> None:
    mine = {"The": ("Z", "AH0"), "zorblax": ("Z", "AO1")}
    assert [word.phones for word in phonemize("the Zorblax", lexicon=mine)] == [("Z", "AH0"), ("Z", "AO1")]


@pytest.mark.parametrize("text", ["", "  \n", "...!?", "\U0001f600", "你好", "- ' -"])
def test_a_text_without_words_is_refused_with_advice(text: str) -> None:
    with pytest.raises(TextError, match="write at least one"):
        phonemize(text)


def test_other_languages_and_back_ends_are_refused() -> None:
    with pytest.raises(TextError, match="'xx'"):
        phonemize("bonjour", language="xx")
    with pytest.raises(ConfigError, match="builtin, espeak"):
        phonemize("hello", backend="festival")


def test_what_is_left_out_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        phonemize("hello \U0001f600")
    assert "\U0001f600" in caplog.text


def test_twenty_thousand_characters_are_fast() -> None:
    text = "The quick brown fox jumps over the lazy dog, and then it sleeps in the sun. " * 264
    phonemize("warm up")
    started = time.process_time()
    words = phonemize(text)
    assert len(words) / (time.process_time() - started) > 5_000  # about 50,000 on an idle core


def test_espeak_gives_the_same_words_in_the_same_alphabet() -> None:
    if any(importlib.util.find_spec(name) is None for name in ("espeakng_loader", "phonemizer")):
        with pytest.raises(MissingExtra, match=r"openvalle\[espeak\]"):
            phonemize("hello", backend="espeak")
        pytest.skip("espeak-ng is not installed")
    text = "The quick brown fox jumped over nine thirty dogs, measuring the joy of their children's azure machines."
    ours, theirs = phonemize(text), phonemize(text, backend="espeak")
    assert [(word.text, word.pause) for word in ours] == [(word.text, word.pause) for word in theirs]
    same = sum(left.phones == right.phones for left, right in zip(ours, theirs, strict=True))
    assert same >= len(ours) / 2


def test_languages() -> None:
    assert find_language("en") is find_language("EN_us") is LANGUAGES["en"]
    assert [find_language(name).code for name in ("ja-JP", "Chinese", "fr", "de-AT", "pt-BR")] == (
        ["ja", "zh", "fr", "de", "pt-br"]
    )
    for name in ("xx", "", "../en"):
        with pytest.raises(TextError, match="cannot be read"):
            find_language(name)
