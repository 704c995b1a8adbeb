"""Dialogue: turns in order, each in its voice; tracks add up to the whole; bad scripts are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openvalle.apps.dialogue import (
    assign_voices,
    build_script,
    parse_dialogue,
    read_dialogue,
    speak_dialogue,
    track_files,
)
from openvalle.audio import concatenate
from openvalle.errors import ConfigError, TextError, UserError
from openvalle.media import read
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice, list_builtin_voices

SCRIPT = "[S1] Hello there. How are you? [S2] Fine!\n[S1] Good."


@pytest.fixture(scope="module")
def voices(tiny_voice: Voice) -> dict[str, Voice]:
    """Two voices that differ."""
    codes = np.random.default_rng(1).integers(0, 1024, tiny_voice.codes.shape).astype(np.uint16)
    return {"S1": tiny_voice, "S2": replace(tiny_voice, codes=codes)}


def test_turns_in_order() -> None:
    found = parse_dialogue(SCRIPT)
    assert found.speakers == ["S1", "S2"]
    assert [(turn.speaker, turn.text.strip()) for turn in found.turns] == [
        ("S1", "Hello there. How are you?"),
        ("S2", "Fine!"),
        ("S1", "Good."),
    ]
    lines = list(build_script(found).sentences())
    assert [(line.voice, line.pause) for line in lines] == [("S1", 0.4), ("S2", 0.4), ("S1", 0.0)]


def test_markup_works_in_turns() -> None:
    text = "[S1] A [tomato](/təˈmɑːtoʊ/). [pause:1s] [S2] [pause:0.5s] A [tomato](/təˈmeɪtoʊ/)."
    script = build_script(parse_dialogue(text))
    one, two = script.sentences()
    assert one.pause == 1.5
    assert ("AA1" in one.symbols, "EY1" in two.symbols) == (True, True)


def test_turns_may_have_a_format() -> None:
    dialogue = parse_dialogue("[S1] # Hi **you** [S2] <b>Hi</b>")
    said = {
        chosen: [line.words for line in build_script(dialogue, text_format=chosen).sentences()]
        for chosen in ("auto", "plain", "markdown", "html")
    }
    assert said["auto"] == said["markdown"] == [("Hi", "you"), ("Hi",)]
    assert "hash" in said["plain"][0] and "less" in said["plain"][1]
    with pytest.raises(ConfigError, match="text format"):
        build_script(dialogue, text_format="rtf")


def test_yaml_and_toml_scripts(tmp_path: Path) -> None:
    (tmp_path / "anna.wav").touch()
    (tmp_path / "talk.yaml").write_text(
        "voices: {anna: anna.wav}\nturns:\n- {speaker: anna, text: Hello.}\n- {speaker: ben, text: Hi., pause: 0}\n"
    )
    (tmp_path / "talk.toml").write_text(
        '[voices]\nanna = "anna.wav"\n[[turns]]\nspeaker = "anna"\ntext = "Hello."\n'
        '[[turns]]\nspeaker = "ben"\ntext = "Hi."\npause = 0\n'
    )
    for name in ("talk.yaml", "talk.toml"):
        found = read_dialogue(tmp_path / name)
        assert [(turn.speaker, turn.text, turn.pause) for turn in found.turns] == [
            ("anna", "Hello.", 0.4),
            ("ben", "Hi.", 0.0),
        ]
        assert found.voices == {"anna": str(tmp_path / "anna.wav")}


def test_each_speaker_has_a_track_and_they_add_up(synthesizer: Synthesizer, voices, tmp_path: Path) -> None:
    pieces = list(speak_dialogue(synthesizer, SCRIPT, voices, seed=2))
    assert [piece.speaker for piece in pieces] == ["S1", "S2", "S1"]
    with track_files(tmp_path / "talk.wav", ["S1", "S2"], synthesizer) as (paths, append):
        for piece in pieces:
            append(piece)
    assert [path.name for path in paths] == ["talk-S1.wav", "talk-S2.wav"]
    tracks = [read(path).samples for path in paths]
    whole = concatenate([piece.audio for piece in pieces]).samples
    np.testing.assert_allclose(tracks[0] + tracks[1], np.clip(whole, -1, 1), atol=1e-4)
    start = len(pieces[0].audio.samples)
    assert not tracks[1][:start].any()


def test_speakers_without_a_voice_take_the_built_in_ones() -> None:
    cast = assign_voices(parse_dialogue("[S1] a [S2] b"), {"S2": "clip.wav"})
    assert cast["S2"] == "clip.wav"
    assert Path(cast["S1"]).stem == "default"
    voices = len(list_builtin_voices())
    many = parse_dialogue("\n".join(f"[S{number}] a" for number in range(1, voices + 2)))
    last = voices + 1
    with pytest.raises(TextError, match=f"line {last}, column 1: the speaker S{last} has no voice; give one: --voice"):
        assign_voices(many, {})
    with pytest.raises(UserError, match="nobody in the script is called 'S9'; there are: S1"):
        assign_voices(parse_dialogue("[S1] a"), {"S9": "x"})


def test_speakers_take_built_in_voices_of_their_language_first() -> None:
    script = parse_dialogue("[S1] Hello. [S2] 你好。 [S3] こんにちは。 [S4] Hi. [S5] Good morning.")
    cast = assign_voices(script, {})
    spoken = {speaker: Voice.load(str(voice)).language for speaker, voice in cast.items()}
    assert spoken == {"S1": "en", "S2": "zh", "S3": "ja", "S4": "en", "S5": "en"}
    assert len({str(voice) for voice in cast.values()}) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Hello.", "line 1, column 1: nobody speaks yet"),
        ("\n Oh [S1] Hello.", "line 2, column 2: nobody speaks yet"),
        ("[S1] [S2] Hi.", "line 1, column 1: S1 says nothing"),
    ],
)
def test_bad_scripts_show_their_place(text: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        parse_dialogue(text)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="cannot read the script"):
        read_dialogue(tmp_path / "none.txt")
    for name, text, message in (
        ("a.yaml", "turns: [", "is not valid YAML"),
        ("a.toml", "x", "is not valid TOML"),
        ("b.yaml", "- 1", "does not hold voices and turns"),
        ("c.yaml", "turns: []", "turns"),
        ("d.yaml", "turns: [{speaker: a, text: b, tune: c}]", "tune"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_dialogue(tmp_path / name)
    with pytest.raises(TextError, match="a turn has one voice"):
        build_script(parse_dialogue("[S1] a [voice:x] b"))
