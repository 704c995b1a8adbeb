"""Timestamps: every format holds every word in order, within the sound; forced alignment where the model has none."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from openvalle.apps import subtitles
from openvalle.apps.subtitles import Timeline, break_lines, fill_gaps, format_time, split_cues, with_times
from openvalle.audio import Audio, silence
from openvalle.errors import UserError
from openvalle.synth.speech import Quality, Speech, Timed
from openvalle.text.language import phonemize


def speech(text: str = 'One "two" <three>.', speaker: str = "") -> Speech:
    words = tuple(Timed(word, at, at + 0.4) for at, word in enumerate(("One", "two", "three")))
    phones = (Timed("SIL", 0.4, 1.0), Timed("T", 1.0, 1.4))
    codes = np.zeros((300, 8), np.uint16)
    return Speech(silence(4.0), text, words, phones, Quality("end", 8.0), codes, (), (), speaker=speaker)


def timeline() -> Timeline:
    result = Timeline()
    result.add(speech(speaker="S1"))
    result.add(speech(speaker="S2"))
    return result


def test_json(tmp_path: Path) -> None:
    values = json.loads(timeline().write(tmp_path / "a.json").read_text())
    assert values["duration"] == 8
    assert values["words"][3] == {"word": "One", "start": 4.0, "end": 4.4, "speaker": "S2"}
    assert values["phones"][0] == {"phone": "SIL", "start": 0.4, "end": 1.0}


def test_subtitles(tmp_path: Path) -> None:
    srt = timeline().write(tmp_path / "a.srt").read_text()
    assert srt.startswith('1\n00:00:00,000 --> 00:00:02,400\nS1: One "two" <three>.\n\n2\n00:00:04,000 --> ')
    vtt = timeline().write(tmp_path / "a.vtt").read_text()
    assert vtt.startswith('WEBVTT\n\n00:00:00.000 --> 00:00:02.400\n<v S1>One "two" &lt;three&gt;.\n')


def test_textgrid_tiles_the_sound(tmp_path: Path) -> None:
    alone = Timeline()
    alone.add(speech())
    text = alone.write(tmp_path / "a.TextGrid").read_text()
    assert text.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 4.000000\n')
    tiers = text.split("    item [")[1:]
    assert [re.search('name = "(.*)"', tier)[1] for tier in tiers] == ["words", "phones"]
    for tier in tiers:
        edges = re.findall(r"xmin = ([\d.]+)\n\s+xmax = ([\d.]+)\n\s+text", tier)
        assert edges[0][0] == "0.000000"
        assert edges[-1][1] == "4.000000"
        assert all(before[1] == after[0] for before, after in pairwise(edges))
        assert int(re.search(r"size = (\d+)", tier)[1]) == len(edges)
    assert fill_gaps([], 1.0) == [Timed("", 0.0, 1.0)]


def test_long_sentences_become_several_subtitles() -> None:
    words = [Timed(f"word{number}", number * 0.5, number * 0.5 + 0.4) for number in range(40)]
    cues = split_cues(" ".join(word.text for word in words), words)
    assert len(cues) > 3
    assert " ".join(cue.text for cue in cues).split() == [word.text for word in words]
    assert all(len(cue.text) <= 84 and cue.end - cue.start <= 6 for cue in cues)
    assert split_cues("x", []) == []


def test_clock_rounds_once() -> None:
    assert format_time(3661.9996, ",") == "01:01:02,000"


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown format '.txt'; end it in .json, .srt"):
        timeline().write(tmp_path / "a.txt")


def test_speech_of_models_without_alignment_is_aligned(spoken: Audio) -> None:
    bare = replace(speech("saw, see, saw, see"), audio=spoken, words=(), phones=())
    found = with_times(bare)
    assert [word.text for word in found.words] == ["saw", "see", "saw", "see"]
    assert found.words[0].end <= found.words[1].start
    assert found.phones[-1].end == pytest.approx(spoken.seconds)
    nothing = replace(bare, audio=silence(1.0))
    assert with_times(nothing) is nothing, "nobody can tell when words are said that are not"


WRITTEN = [
    "Dr. Hill of the FBI drove 40 km on the M25, past the old mill, and then 5 km more, to reach it by 3:45 p.m.",
    'The house was sold for $200,000 in 1998, and "nobody in the whole street", as he said, could pay it (he tried).',
    "**Bold** words & 50% of 1/2 the *marks* at https://example.com/a are shown as they are written, by Mr. Dale & Co.",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_subtitles_show_the_text_as_it_is_written(text: str) -> None:
    words = [Timed(word.text, number * 0.3, number * 0.3 + 0.3) for number, word in enumerate(phonemize(text))]
    cues = split_cues(text, words)
    assert " ".join(cue.text for cue in cues) == text.replace("*", "")
    assert all(len(cue.text) <= 84 and cue.end - cue.start <= 6.01 for cue in cues)
    assert all(before.end <= after.start + 1e-6 for before, after in pairwise(cues))
    assert not [cue.text for cue in cues if cue.text.endswith((' "', " ("))]


def test_texts_are_divided_only_when_subtitles_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes as long as reading them did."""
    asked = []
    split = subtitles.split_cues
    monkeypatch.setattr(subtitles, "split_cues", lambda *given: asked.append(1) or split(*given))
    result = Timeline()
    result.append("Hello there.", [Timed("Hello", 0.0, 0.4), Timed("there", 0.4, 0.8)], "Anna")
    assert (len(result.words), result.speakers, asked) == (2, ["Anna", "Anna"], [])
    assert [(cue.text, cue.speaker) for cue in result.cues] == [("Hello there.", "Anna")]


CHINESE = "“今天天气很好，”他说，“我们去北京大学看2024年的展览。然后在那里等了二十分钟，才吃到非常好吃的饺子。”"
JAPANESE = (
    "「今日はとても天気がいいですね。」と彼は言った。それから２人で東京の大学まで歩いて、長い間、展覧会を見ていました。"
)


def timed(text: str, language: str) -> Timeline:
    """The words of a text, a third of a second each."""
    pytest.importorskip("pypinyin" if language == "zh" else "pyopenjtalk")
    words = [Timed(word.text, 0.3 * at, 0.3 * at + 0.3) for at, word in enumerate(phonemize(text, language))]
    timeline = Timeline(seconds=0.3 * len(words))
    timeline.append(text, words)
    return timeline


@pytest.mark.parametrize(("text", "language"), [(CHINESE, "zh"), (JAPANESE, "ja")])
def test_signs_stand_without_blanks_in_lines_that_end_between_words(tmp_path: Path, text: str, language: str) -> None:
    timeline = timed(text, language)
    assert "".join(cue.text for cue in timeline.cues) == text, "each sign once, in the order in which it is read"
    assert all(one.end <= other.start + 1e-9 for one, other in pairwise(timeline.cues))
    lines = [line for cue in timeline.cues for line in cue.shown.split("\n")]
    assert len(lines) > len(timeline.cues) and max(map(len, lines)) <= 18
    assert not any(line[0] in "，。、）”」』！？ーっょ" or line[-1] in "“「（" for line in lines)
    assert not any("2024" in text and line[-1].isdigit() and other[0].isdigit() for line, other in pairwise(lines))
    for ending in (".srt", ".vtt"):
        written = timeline.write(tmp_path / f"a{ending}").read_text(encoding="utf-8")
        shown = [line for line in written.splitlines() if re.search(r"[\u3040-\u9fff]", line)]
        assert shown == lines
        assert not re.search(r"\n\n(?!\d)", written.removeprefix("WEBVTT").strip()), "a blank line would end a cue"
    words = json.loads(timeline.write(tmp_path / "a.json").read_text(encoding="utf-8"))["words"]
    assert not any(" " in word["word"] for word in words)


def test_a_line_that_is_broken_between_signs_is_joined_without_a_blank() -> None:
    words = [Timed(word, at, at + 1.0) for at, word in enumerate(("今天", "天气", "很", "好"))]
    assert [cue.text for cue in split_cues("今天\n天气 很\n好。", words)] == ["今天天气 很好。"]
    assert break_lines("今天天气很好。", [2, 4]) == (), "it is short"
    assert break_lines("It is a sentence of more than forty-two letters, and has blanks.", [3]) == ()
