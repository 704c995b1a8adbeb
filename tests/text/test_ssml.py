"""SSML: the subset that is honoured, what is noted, and documents that are refused."""

from __future__ import annotations

import pytest

from openvalle.errors import TextError
from openvalle.text.language import Word
from openvalle.text.ssml import parse_ssml

BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><speak>&b;</speak>'


def said(body: str) -> list[tuple[str, str | None, float, float | None]]:
    marked = parse_ssml(f"<speak>{body}</speak>")
    return [(" ".join(each.text.split()), each.voice, each.speed, each.pause) for each in marked.passages]


def test_breaks_and_sentences_are_pauses() -> None:
    assert said('One <break time="500ms"/> two.<break strength="strong"/>') == [
        ("One", None, 1.0, 0.5),
        ("two.", None, 1.0, 0.7),
    ]
    assert said("<p><s>One.</s><s>Two.</s></p>three") == [
        ("One.", None, 1.0, 0.4),
        ("Two.", None, 1.0, 0.7),
        ("three", None, 1.0, None),
    ]


def test_words_are_replaced() -> None:
    assert said('<sub alias="World Wide Web">WWW</sub> &amp; more')[0][0] == "World Wide Web & more"
    assert said('<say-as interpret-as="characters">FBI 2</say-as>')[0][0] == "F B I, 2"
    assert said('<say-as interpret-as="ordinal">23</say-as>')[0][0] == "23rd"
    marked = parse_ssml('<speak>a <phoneme alphabet="ipa" ph="təˈmeɪtoʊ">tomato</phoneme></speak>')
    assert marked.passages[0].given == (Word("tomato", ("T", "AH0", "M", "EY1", "T", "OW0")),)


def test_rates_and_voices_end_with_their_element() -> None:
    body = '<prosody rate="slow">a <prosody rate="-20%">b</prosody> c</prosody> d <voice name="ben">e</voice> f'
    assert said(body) == [
        ("a", None, 0.75, None),
        ("b", None, pytest.approx(0.6), None),
        ("c", None, 0.75, None),
        ("d", None, 1.0, None),
        ("e", "ben", 1.0, None),
        ("f", None, 1.0, None),
    ]


def test_what_cannot_be_honoured_is_noted() -> None:
    marked = parse_ssml('<speak>\n<prosody pitch="+2st">a</prosody><emphasis>b</emphasis><desc>no</desc></speak>')
    assert "".join(passage.text for passage in marked.passages).split() == ["ab"]
    assert [note.partition(":")[0] for note in marked.notes] == ["line 2, column 1", "line 2, column 34"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<speak>a\n <b></speak>", "SSML, line 2, column .*mismatched tag"),
        ("<speak>a", "no element found"),
        ("<speak>&nothing;</speak>", "SSML, line 1, column .*undefined entity"),
        ('<speak>a <break time="soon"/></speak>', r"SSML, line 1, column 10: <break time=\"soon\"> cannot be read"),
        ('<speak><prosody rate="900%">a</prosody></speak>', "0.5 to 2.0"),
        ("<speak><sub>a</sub></speak>", "give it alias="),
        ('<speak><phoneme ph="%">a</phoneme></speak>', "stands for no English sound"),
        ("<speak>" + "<p>" * 60, "nested more than 50 deep"),
    ],
)
def test_malformed_documents_show_their_place(text: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        parse_ssml(text)


def test_no_entities_and_no_dtd() -> None:
    with pytest.raises(TextError, match="DOCTYPE is not read"):
        parse_ssml(BOMB)


def test_a_declaration_may_stand_first() -> None:
    marked = parse_ssml(
        '<?xml version="1.0" encoding="latin-1"?>\n<speak xmlns="http://www.w3.org/2001/10/synthesis">é</speak>'
    )
    assert marked.passages[0].text == "é"
