"""The report of readings that are not sure is a lexicon: given back, it has mended them."""

from __future__ import annotations

from pathlib import Path

from openvalle.apps.doubts import Doubts, is_listed
from openvalle.synth.plan import parse_script
from openvalle.text.lexicon import read_lexicon

TEXT = (
    "Prince Znamensky met Znamensky's walking dogs at 12:30 on the 3rd. "
    "They counted 4Q2023x and \u041f\u0440\u0438\u0432\u0435\u0442."
)


def read(text: str, sure: tuple[str, ...] = ()) -> Doubts:
    doubts = Doubts(sure)
    doubts.read_chapter("chapter 1", text)
    script = parse_script(text)
    given = {word.text for passage in script.passages for word in passage.given}
    for sentence in script.sentences():
        doubts.read_sentence("chapter 1", sentence, given)
    return doubts


def test_unknown_words_foreign_scripts_and_odd_numbers(tmp_path: Path) -> None:
    doubts = read(TEXT)
    assert "znamensky" in doubts.words
    assert not {"prince", "walking", "dogs", "twelve"} & set(doubts.words)
    assert list(doubts.foreign) == ["\u041f\u0440\u0438\u0432\u0435\u0442"]
    assert list(doubts.numbers) == ["4Q2023x"]
    path = doubts.write(tmp_path / "unsure.tsv", "The Mill")
    report = path.read_text(encoding="utf-8")
    assert 'in chapter 1: "Prince Znamensky met' in report
    assert "Cyrillic" in report and "4Q2023x" in report
    lexicon = read_lexicon(path)
    assert lexicon["Znamensky"][0] == "Z"
    assert not read(TEXT, tuple(lexicon)).words


def test_words_that_the_text_gives_the_sound_of_are_sure() -> None:
    assert read("[Znamensky](/znæmənski/) came.").words == {}


def test_what_lexicons_list() -> None:
    assert all(is_listed(word) for word in ("cat", "cats", "walking", "don't", "I", "Paris", "'tis"))
    assert not is_listed("znamensky")


def test_usual_numbers_are_sure() -> None:
    usual = (
        "7, 1,234.5, 3rd, 1990s, 12:30, 1/2, 10-12, 5km, 9/11, $5.00, 50%, 2nd. Agent 007 of 1850-1900, a 12-year-old."
    )
    assert list(read(usual).numbers) == []
    assert list(read("v1.2.3, 1,23,456 and 12345678").numbers) == ["v1.2.3", "1,23,456", "12345678"]
