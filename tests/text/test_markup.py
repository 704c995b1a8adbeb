"""Markup: plain text stays as it is, tags do what they say, malformed ones are shown where they stand."""

from __future__ import annotations

import pytest

from openvalle.errors import TextError
from openvalle.text.language import phonemize
from openvalle.text.markup import Markup, parse
from openvalle.text.phones import UnknownSound, read_pronunciation

PLAIN = ["Hello there.", "As he [the king] said [sic]: no.", "At [12:30] [note: nothing].", "x [a](b) y", "a [b:"]


@pytest.mark.parametrize("text", PLAIN)
def test_text_without_markup_is_one_passage(text: str) -> None:
    marked = parse(text)
    assert [passage.text for passage in marked.passages] == [text]
    assert not marked.notes


def test_tags_divide_the_text() -> None:
    marked = parse("[pause:1s]Well, [pause:800ms][pause:0.2]no. [voice:anna]Hi. [rate:0.5]Slow. [voice:]Back.")
    assert marked.lead == 1
    assert [(each.text.strip(), each.voice, each.rate, each.pause) for each in marked.passages] == [
        ("Well,", None, 1.0, 1.0),
        ("no.", None, 1.0, None),
        ("Hi.", "anna", 1.0, None),
        ("Slow.", "anna", 0.5, None),
        ("Back.", None, 0.5, None),
    ]
    assert marked.passages[2].place == "line 1, column 45"


def test_escaped_brackets_and_markup_that_is_off_are_text() -> None:
    assert parse(r"\[pause:1s\]").passages[0].text == "[pause:1s]"
    assert parse("[pause:1s]", Markup.NONE).passages[0].text == "[pause:1s]"
    assert parse("<speak>x</speak>", Markup.TAGS).passages[0].text == "<speak>x</speak>"


def test_what_cannot_be_honoured_is_noted_and_not_spoken() -> None:
    marked = parse("Oh [laugh] yes\n[emotion:happy] and [lang:de]so.")
    assert "".join(passage.text for passage in marked.passages) == "Oh  yes\n and so."
    assert [note.partition(":")[0] for note in marked.notes] == [
        "line 1, column 4",
        "line 2, column 1",
        "line 2, column 21",
    ]


def test_a_marked_word_sounds_as_given_and_keeps_its_spelling_and_place() -> None:
    marked = parse("Yes. [Tomato](/təˈmɑːtoʊ/), the [apple](/AE1 P AH0 L/)!")
    words = phonemize(marked.passages[0].text, lexicon=marked.lexicon)
    assert [marked.shown.get(word.text, word.text) for word in words] == ["Yes", "Tomato", "the", "apple"]
    assert words[1].phones == ("T", "AH0", "M", "AA1", "T", "OW0")
    assert words[2].phones == ("DH", "IY0"), "the article knows the vowel that follows"
    assert words[3].phones == ("AE1", "P", "AH0", "L")
    assert [word.pause for word in words] == [True, True, False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[pause:x]", r"line 1, column 1: \[pause:x\] cannot be read"),
        ("a\nbc [pause:1", r"line 2, column 4: the tag \[pause: does not end"),
        ("[pause]", "line 1, column 1: .* no length"),
        ("[pause:]", "line 1, column 1: "),
        ("[pause:99s]", "0 to 60 seconds"),
        ("[rate:9]", "0.5 to 2.0"),
        ("so [word](/abc", "line 1, column 4: the pronunciation of 'word' does not end"),
        ("[word](/f%/)", "'%' in /f%/ stands for no English sound"),
        ("[word](//)", "holds no sound"),
    ],
)
def test_malformed_tags_show_their_place(text: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("ipa", "phones"),
    [
        ("fəˈniːmz", "F AH0 N IY1 M Z"),
        ("ˈhɛloʊ", "HH EH1 L OW0"),
        ("tʃɝtʃ", "CH ER1 CH"),
        ("ˌɪntərˈnæʃənəl", "IH2 N T ER0 N AE1 SH AH0 N AH0 L"),
        ("d͡ʒʌd͡ʒ", "JH AH1 JH"),
        ("ˈbɑt.l̩", "B AA1 T AH0 L"),
        ("P AA S T", "P AA1 S T"),
        ("P AA2 S T", "P AA1 S T"),
    ],
)
def test_ipa_and_arpabet(ipa: str, phones: str) -> None:
    assert read_pronunciation(ipa) == tuple(phones.split())


def test_an_unknown_sound_has_its_place() -> None:
    with pytest.raises(UnknownSound) as raised:
        read_pronunciation("ab§")
    assert (raised.value.sign, raised.value.at) == ("§", 2)
    with pytest.raises(UnknownSound):
        read_pronunciation("XX YY")
