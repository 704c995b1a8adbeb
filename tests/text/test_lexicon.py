"""The lexicons in ARPAbet, the endings English adds, and a user's lexicon, which is read strictly."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from older_tables import arpabet
from openvalle.errors import TextError
from openvalle.hub import assets
from openvalle.text.lexicon import DEFAULT, cmu_lexicon, letter, lexicon, read_lexicon
from openvalle.text.phones import MISAKI, read_ipa

SOURCES = {  # SHA-256 of misaki 0.9.4's two files, pocketsphinx 5.1.1's dictionary and eng_to_ipa 0.0.2's; the record
    "us_gold.json": "dc414872a49a28ae6c141463d502fd945f3b2fde040484fdc47d00cc4612686f",
    "us_silver.json": "de8f67be911bb6c659187b4a65fd966b6a30e56350e0f790d763210b053ac475",
    "cmudict.dict": "20b5c293e1f311fb375fe067e500ec5636f4fc7af5594967263696def9b23bfe",
    "cmudict_stressed.json": "b0609f32b65f4d04466897a37fb55d3d5e877b65f3df46c145c3c2217b1ff55d",
    "g2p_en.json": "079661cacebfae7ebc9322334cffb3aee5a98fbe7dc8042133b0e88c0a8d943a",
}


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("hello", "HH AH0 L OW1"),
        ("butter", "B AH1 T ER0"),
        ("button", "B AH1 T N"),
        ("owls", "AW1 L Z"),
        ("cat's", "K AE1 T S"),
        ("wishes", "W IH1 SH IH0 Z"),
        ("Bill'd", "B IH1 L D"),
        ("vlogged", "V L AA1 G D"),
        ("runnin'", "R AH1 N IH0 N"),
        ("Paris's", "P EH1 R AH0 S IH0 Z"),
    ],
)
def test_pronunciations(word: str, phones: str) -> None:
    readings = lexicon().lookup(word)
    assert readings is not None
    assert " ".join(readings[DEFAULT]) == phones


def test_every_listed_word_uses_symbols_of_the_table() -> None:
    known, words = set(arpabet().symbols), lexicon()
    for word in words.list_words()[::7]:
        readings = words.entry(word)
        assert readings is not None
        assert all(known.issuperset(phones) for phones in readings.values()), word


def test_the_second_source_has_the_same_phones_without_stress() -> None:
    known = {symbol.rstrip("012") for symbol in arpabet().symbols}
    assert len(cmu_lexicon()) > 100_000
    assert all(known.issuperset(phones) for phones in list(cmu_lexicon().values())[::50])


def test_an_unknown_word_is_not_invented() -> None:
    assert lexicon().lookup("xqzptl") is None
    assert lexicon().lookup("") is None
    assert lexicon().lookup("'s") is not None


def test_letters() -> None:
    assert letter("w") == tuple("D AH1 B AH0 L Y UW0".split())  # noqa: SIM905
    assert letter("D's") == ("D", "IY1", "Z")
    assert letter("ab") is letter("é") is letter("1") is None


def test_misakis_alphabet() -> None:
    assert read_ipa("k\u02c8æməɹə", MISAKI, ()) == ("K", "AE1", "M", "ER0", "AH0")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_carried_lexicons_are_byte_for_byte_what_notice_says() -> None:
    """Unpacked they are their sources, so that every word gives what it gives there."""
    folder = assets() / "lexicon"
    unpacked = {path.name.removesuffix(".gz"): gzip.decompress(path.read_bytes()) for path in folder.glob("*.gz")}
    assert set(unpacked) == set(SOURCES)
    for name, data in unpacked.items():
        if name == "cmudict_stressed.json":  # the source has spaces and plain ASCII, the others are indented
            data = json.dumps(json.loads(data)).encode("ascii")
        elif name.startswith("us_"):
            data = json.dumps(json.loads(data), ensure_ascii=False, indent=2).encode("utf-8")
        assert digest(data) == SOURCES[name], name
    notice = Path(__file__).parents[2] / "NOTICE"
    assert all(known in notice.read_text() for known in SOURCES.values())


def test_the_lexicons_are_read_when_a_word_asks_for_them() -> None:
    code = "import openvalle.text.english, openvalle.text.lexicon as e; print(e.lexicon.cache_info().currsize)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "0\n"


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


def test_a_list_finds_in_its_text_what_it_holds_and_nothing_else() -> None:
    listed = lexicon()
    for entries in (listed._lists[0], listed._lists[1]):
        words = list(entries)
        held = json.loads(entries._text)
        assert words == list(held) == sorted(held) and len(entries) == len(held)
        some = [words[0], words[1], words[-2], words[-1], *words[7::997]]
        assert all(entries[word] == held[word] for word in some)
        others = ["", "\ud800", "\n", "zzzz", "~", *(f"{word}q'" for word in some), *(word[:-1] for word in some)]
        assert all((word in entries) == (word in held) for word in others)
