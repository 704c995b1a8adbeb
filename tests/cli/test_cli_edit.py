"""`openvalle edit`, `continue` and `dialogue`: what is printed, what is written, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from openvalle.cli.recordings import BETWEEN, join_pairs
from openvalle.errors import UserError
from openvalle.media import read, read_tags

TEXT = "saw, see, saw, see"


def test_editing_writes_beside_the_clip(openvalle, tiny_model: Path, clip_path: Path) -> None:
    run = openvalle("edit", clip_path, "-t", TEXT, "--replace", "see saw", "oh", "-m", tiny_model, "--json")
    assert run.code == 0, run.err
    result = json.loads(run.out)
    assert Path(result["path"]) == clip_path.with_name("clip-edited.wav")
    assert result["text"] == "saw oh see"
    before, after = read(clip_path), read(result["path"])
    start = round(result["spans"][0]["start"] * before.rate) - 24
    np.testing.assert_array_equal(after.samples[:start], before.samples[:start])
    assert "openvalle" in read_tags(result["path"])["software"]


def test_continuing_and_writing_only_what_is_new(openvalle, tiny_model: Path, clip_path: Path) -> None:
    arguments = ("continue", clip_path, "and so on.", "-t", TEXT, "-m", tiny_model)
    assert openvalle(*arguments, "-o", "all.wav").out == "all.wav\n"
    run = openvalle(*arguments, "--only-new", "-o", "new.wav", "--json")
    new, whole = read("new.wav"), read("all.wav")
    assert json.loads(run.out)["start"] == 0
    np.testing.assert_array_equal(whole.samples[-len(new.samples) :], new.samples)


def test_a_dialogue_with_tracks_and_subtitles(openvalle, tiny_model: Path, voice_path: Path) -> None:
    voices = ("-v", f"S1={voice_path}", "-v", f"S2={voice_path}")
    run = openvalle(
        "dialogue",
        "[S1] Hi. [S2] Oh.",
        *voices,
        "-m",
        tiny_model,
        "-o",
        "a.wav",
        "--per-speaker",
        "--timestamps",
        "a.srt",
    )
    assert run.out.split() == ["a.wav", "a.srt", "a-S1.wav", "a-S2.wav"], run.err
    assert "S2: Oh." in Path("a.srt").read_text()
    assert len({len(read(name).samples) for name in ("a.wav", "a-S1.wav", "a-S2.wav")}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("edit", "clip.wav"), "there is nothing to edit"),
        (("edit", "clip.wav", "--replace", "a"), "--replace needs two values"),
        (("edit", "clip.wav", "--delete", "a", "-o", "clip.xyz"), "unknown format '.xyz'"),
        (("dialogue", "[S1] a", "-v", "S1"), "cannot read --voice 'S1'"),
        (("dialogue", "[S1] a", "-v", "S1=x", "-v", "S1=y"), "--voice S1 is there twice"),
        (("dialogue", "[S1] a", "-o", "-", "--json"), "--per-speaker and --json need a sound file"),
        (("dialogue", "none.txt"), "cannot read the script none.txt"),
        (("say", "a", "--timestamps", "a.doc"), "unknown format '.doc'"),
    ],
)
def test_bad_input_is_one_line(openvalle, arguments: tuple[str, ...], message: str) -> None:
    run = openvalle(*arguments)
    assert run.code == 2
    assert message in run.err
    assert run.err.count("\n") == 1


def test_the_recording_itself_is_not_overwritten(openvalle, clip_path: Path) -> None:
    run = openvalle("edit", clip_path, "--delete", "see saw", "-o", clip_path)
    assert (run.code, "is the recording itself" in run.err) == (2, True)


def test_options_of_two_values_may_be_given_again() -> None:
    assert join_pairs(["c", "--replace", "a", "b", "-q", "--replace", "-x", "d"]) == [
        *("c", "--replace", f"a{BETWEEN}b", "-q", "--replace", f"-x{BETWEEN}d")
    ]
    with pytest.raises(UserError):
        join_pairs(["--insert-after", "a"])
