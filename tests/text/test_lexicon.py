"""A user's lexicon is read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from openvalle.errors import TextError
from openvalle.text.language import LANGUAGES, find_language
from openvalle.text.lexicon import read_lexicon


def write(folder: Path, text: str) -> Path:
    path = folder / "words.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_words_comments_and_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "# mine\n\nVall-E\tV AE1 L IY0\nzoë\tz ow1 iy0\n")
    assert read_lexicon(path) == {"Vall-E": ("V", "AE1", "L", "IY0"), "zoë": ("Z", "OW1", "IY0")}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("word W ER1 D", "line 2: not a word"),
        ("word\t", "line 2: not a word"),
        ("\tW ER1 D", "line 2: not a word"),
        ("two words\tW ER1 D", "more than one word"),
        ("word\tW ER D", "vowel ER has no stress"),
        ("word\tW XX1 D", "'XX1' is not an ARPAbet phone"),
        ("first\tF ER1 S", "another pronunciation above"),
        ("hmm\tHH M M M M", "has no vowel"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        read_lexicon(write(tmp_path, f"first\tF ER1 S T\n{line}\n"))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="cannot read"):
        read_lexicon(tmp_path / "absent.tsv")
    (tmp_path / "latin.tsv").write_bytes(b"caf\xe9\tK AE1 F EY0\n")
    with pytest.raises(TextError, match="UTF-8"):
        read_lexicon(tmp_path / "latin.tsv")


def test_languages() -> None:
    assert find_language("en") is find_language("EN_us") is LANGUAGES["en"]
    for name, extra in (("de", "espeak"), ("zh", "zh"), ("ja-JP", "ja"), ("", "espeak")):
        with pytest.raises(TextError, match=f"extra '{extra}'"):
            find_language(name)
