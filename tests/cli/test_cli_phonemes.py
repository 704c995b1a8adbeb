"""`openvalle phonemes` shows what will be said and why."""

from __future__ import annotations

import json
from pathlib import Path


def test_a_word_a_line(openvalle) -> None:
    run = openvalle("phonemes", "Dr. Hill paid $5. I read on.")
    assert run.code == 0, run.err
    lines = run.out.splitlines()
    assert lines[0].split() == ["written", "said", "phones", "why"]
    assert "doctor or drive" in lines[1] and "money" in lines[4] and lines[5].startswith("   ")
    assert any("homograph" in line for line in lines)


def test_as_data_with_given_words(openvalle, tmp_path: Path) -> None:
    words = tmp_path / "words.tsv"
    words.write_text("hill\tHH AO1 L\n", encoding="utf-8")
    text = "[Siobhan](=shi-VAWN), [saw](/s\u0254/) Hill <b>now</b>."
    run = openvalle("phonemes", text, "--lexicon", words, "--json")
    rows = json.loads(run.out)["words"]
    assert [row["phones"] for row in rows][:3] == ["SH IH0 V AO1 N", "S AO1", "HH AO1 L"]
    assert [row["why"] for row in rows] == ["given in the text", "given in the text", "your lexicon", "lexicon"]
    plain = openvalle("phonemes", "a <b> c", "--text-format", "plain")
    assert "less" in plain.out and "greater" in plain.out


def test_what_cannot_be_is_one_line(openvalle) -> None:
    for text, what in (("[x](=q1)", "stands for no English sound"), ("[x](=ab", "does not end"), ("...", "nothing")):
        run = openvalle("phonemes", text)
        assert run.code == 2 and what in run.err, run.err
    assert openvalle("phonemes", "hi", "--text-format", "rtf").code == 2
