"""Quoted speech is found by its marks; what is said stays the same, whoever says it."""

from __future__ import annotations

import pytest

from openvalle.apps.quotes import QUOTED, split_quotes
from openvalle.synth.plan import parse_script


def split(text: str) -> list[tuple[str, bool]]:
    script = split_quotes(parse_script(text))
    assert "".join(passage.text for passage in script.passages) == "".join(p.text for p in parse_script(text).passages)
    return [(passage.text.strip(), passage.voice == QUOTED) for passage in script.passages]


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ('"Hi," she said. "Go."', ['"Hi,"', '"Go."']),
        ("\u201cHi,\u201d she said.", ["\u201cHi,\u201d"]),
        ("\u201cOne.\n\n\u201cTwo.\u201d He left.", ["\u201cOne.\n\n\u201cTwo.\u201d"]),
        ('He had a 6" nail. "Oh."', ['"Oh."']),
        ("\u2018It\u2019s the boys\u2019 turn,\u2019 he said, \u2018or mine.\u2019", None),
        ("It\u2019s the boys\u2019 turn.", []),
        ("\u00abHi\u00bb, he said.", ["\u00abHi\u00bb"]),
        ('An open "quote.\n\nThe next paragraph.', ['"quote.']),
        ("No quotes.", []),
        ('"..." he said.', ['"..."']),
    ],
)
def test_quotes(text: str, quoted: list[str] | None) -> None:
    found = [part for part, is_quoted in split(text) if is_quoted]
    expected = ["\u2018It\u2019s the boys\u2019 turn,\u2019", "\u2018or mine.\u2019"] if quoted is None else quoted
    assert found == expected


def test_pauses_and_given_words_stay_where_they_are() -> None:
    script = parse_script('He said "[Foo](/fu/) is here."[pause:2s] [voice:anna] "[Bar](/bɑr/)."')
    parts = split_quotes(script).passages
    assert [part.voice for part in parts] == [None, QUOTED, "anna"]
    assert [[word.text for word in part.given] for part in parts] == [[], ["Foo"], ["Bar"]]
    assert parts[1].pause == 2.0 and parts[0].pause is None
