"""Markup: plain text stays as it is, tags do what they say, malformed ones are shown where they stand."""

from __future__ import annotations

import pytest

from openvalle.errors import TextError
from openvalle.synth.plan import MAX_CHARACTERS, parse_script
from openvalle.text.language import CAPITAL, MORE, SMALL, fill_in, phonemize
from openvalle.text.markup import ArrivingMarkup, Markup
from openvalle.text.phones import UnknownSound, read_pronunciation

PLAIN = ["Hello there.", "As he [the king] said [sic]: no.", "At [12:30] [note: nothing].", "x [a](b) y", "a [b:"]


@pytest.mark.parametrize("text", PLAIN)
def test_text_without_markup_is_one_passage(text: str) -> None:
    marked = parse_script(text)
    assert [passage.text for passage in marked.passages] == [text]
    assert not marked.notes


def test_tags_divide_the_text() -> None:
    marked = parse_script("[pause:1s]Well, [pause:800ms][pause:0.2]no. [voice:anna]Hi. [rate:0.5]Slow. [voice:]Back.")
    assert marked.lead == 1
    assert [(each.text.strip(), each.voice, each.speed, each.pause) for each in marked.passages] == [
        ("Well,", None, 1.0, 1.0),
        ("no.", None, 1.0, None),
        ("Hi.", "anna", 1.0, None),
        ("Slow.", "anna", 0.5, None),
        ("Back.", None, 0.5, None),
    ]
    assert marked.passages[2].place == "line 1, column 45"


def test_escaped_brackets_and_markup_that_is_off_are_text() -> None:
    assert parse_script(r"\[pause:1s\]").passages[0].text == "[pause:1s]"
    assert parse_script("[pause:1s]", Markup.NONE).passages[0].text == "[pause:1s]"
    assert parse_script("<speak>x</speak>", Markup.TAGS).passages[0].text == "<speak>x</speak>"


def test_what_cannot_be_honoured_is_noted_and_not_spoken() -> None:
    marked = parse_script("Oh [laugh] yes\n[emotion:happy] and [lang:xx]so.")
    assert "".join(passage.text for passage in marked.passages) == "Oh  yes\n and so."
    assert [note.partition(":")[0] for note in marked.notes] == [
        "line 1, column 4",
        "line 2, column 1",
        "line 2, column 21",
    ]


def test_a_marked_word_sounds_as_given_and_keeps_its_spelling_and_place() -> None:
    marked = parse_script("Yes. [Tomato](/təˈmɑːtoʊ/), the [apple](/AE1 P AH0 L/)!")
    words = phonemize(marked.passages[0].text, given=marked.passages[0].given)
    assert [word.text for word in words] == ["Yes", "Tomato", "the", "apple"]
    assert words[1].phones == ("T", "AH0", "M", "AA1", "T", "OW0")
    assert words[2].phones == ("DH", "IY0"), "the article knows the vowel that follows"
    assert words[3].phones == ("AE1", "P", "AH0", "L")
    assert [word.pause for word in words] == [True, True, False, True]


GIVEN = ("tomato", "Tomato", "T", "SQL", "42", "New York", "naïve", "x" * 300)


@pytest.mark.parametrize("word", GIVEN)
@pytest.mark.parametrize(
    "frame",
    [
        "{}",
        "Dr. {}, St. {}; 5 {} and {}/{} at 3 p.m. {}!",
        "see http://{}.com/{} or a@{}.org",
        'RE{}DO-{} "{}" ({}) {}-{}',
        "WE ALL SHOUT {} AS LOUD AS {}",
        "{}{}",
    ],
)
def test_a_word_with_its_phones_is_spoken_so_wherever_it_stands(word: str, frame: str) -> None:
    """Through normalisation, tokens, chunks: as often as it is written, with the phones given, shown as written."""
    phones = ("ZH", "OY1", "HH")
    script = parse_script(frame.replace("{}", f"[{word}](/ZH OY1 HH/)"))
    there = [(each.text, each.phones) for passage in script.passages for each in passage.given]
    assert there == [(word, phones)] * frame.count("{}")
    sentences = list(script.sentences())
    assert [each for sentence in sentences for each in sentence.words if each == word] == [word] * frame.count("{}")
    assert sum("-".join(sentence.symbols).count("ZH-OY1-HH") for sentence in sentences) == frame.count("{}")
    assert "".join(sentence.text for sentence in sentences).count(word) >= frame.count("{}")


def test_a_given_word_takes_an_ending_and_counts_as_long_as_it_takes_to_say() -> None:
    (sentence,) = parse_script("[Foo](/F UW1/)'s house").sentences()
    assert (sentence.words[0], sentence.symbols[1:4]) == ("Foo's", ("F", "UW1", "Z"))
    many = list(parse_script("[supercalifragilistic](/S UW1 P/) " * 100).sentences())
    assert max(len(sentence.words) for sentence in many) <= MAX_CHARACTERS // len("supercalifragilistic")


def test_what_marks_the_places_of_given_words_means_nothing_in_a_text() -> None:
    with pytest.raises(TextError, match="nothing that can be spoken"):
        list(parse_script(SMALL + CAPITAL + MORE).sentences())
    (sentence,) = parse_script(f"so {SMALL}{MORE} [it](/IH1 T/)").sentences()
    assert sentence.words == ("so", "it")


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
        parse_script(text)


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


def test_pronunciations_arrive_in_pieces() -> None:
    text = "Ask [Siobhan](=shi-VAWN) or [Ann](/AE1 N/), not [me]. [The end](=x"
    for size in (1, 3, 8, 100):
        arriving = ArrivingMarkup(text[at : at + size] for at in range(0, len(text), size))
        said = fill_in("".join(arriving), arriving.given)
        assert said == "Ask Siobhan or Ann, not [me]. [The end](=x"
        assert [word.phones for word in arriving.given] == [("SH", "IH0", "V", "AO1", "N"), ("AE1", "N")]
