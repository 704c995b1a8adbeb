"""The rules for homographs, apart from the lexicon."""

from __future__ import annotations

from openvalle.text.english import choose_reading

READ = {"DEFAULT": ("R", "IY1", "D"), "VBD": ("R", "EH1", "D"), "VBN": ("R", "EH1", "D")}
WEAK = {"DEFAULT": ("HH", "AE0", "V"), "None": ("HH", "AE1", "V")}


def test_adverbs_do_not_hide_the_word_that_decides() -> None:
    assert choose_reading("read", READ, ["have", "never"], "it") == READ["VBN"]
    assert choose_reading("read", READ, ["will", "quickly"], "it") == READ["DEFAULT"]


def test_a_weak_word_is_strong_at_the_end() -> None:
    assert choose_reading("have", WEAK, ["i"], "it") == WEAK["DEFAULT"]
    assert choose_reading("have", WEAK, ["i"], None, ends=True) == WEAK["None"]


def test_one_reading_needs_no_context() -> None:
    assert choose_reading("cat", {"DEFAULT": ("K", "AE1", "T")}, [], None) == ("K", "AE1", "T")
