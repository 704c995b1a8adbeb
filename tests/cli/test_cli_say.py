"""`openvalle say`: the path on stdout, the sound in the file, the same for the same seed."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from openvalle.media import read


@pytest.fixture
def say(openvalle, tiny_model: Path, voice_path: Path):
    """Runner of `openvalle say` with the tiny model and voice."""
    return lambda *arguments: openvalle("say", *arguments, "--model", tiny_model, "--voice", voice_path)


def test_prints_the_path_and_nothing_else(say) -> None:
    run = say("Hello.", "-o", "hello.wav")
    assert (run.code, run.out, run.err) == (0, "hello.wav\n", "")
    assert read("hello.wav").seconds > 0.1


def test_default_name_never_overwrites(say) -> None:
    assert [say("Hi.").out.strip() for _ in range(3)] == ["speech.wav", "speech-2.wav", "speech-3.wav"]


def test_same_seed_same_file_other_seed_other_file(say) -> None:
    for name, seed in (("a.wav", 1), ("b.wav", 1), ("c.wav", 2)):
        assert say("Hello there.", "-o", name, "--seed", seed).code == 0
    first, second, third = (Path(name).read_bytes() for name in ("a.wav", "b.wav", "c.wav"))
    assert first == second
    assert first != third


def test_text_from_standard_input_and_file(say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Hello, wörld.".encode())))
    assert say("-", "-o", "a.wav").code == 0
    Path("text.txt").write_text("Hello, wörld.", encoding="utf-8-sig")
    assert say("--file", "text.txt", "-o", "b.wav").code == 0
    assert say("Hello, wörld.", "-o", "c.wav").code == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes() == Path("c.wav").read_bytes()


def test_json_tells_words_and_quality(say) -> None:
    run = say("Hello there. See you.", "-o", "a.flac", "--json", "--seed", 3)
    result = json.loads(run.out)
    assert result["path"] == "a.flac"
    assert result["seconds"] == pytest.approx(read("a.flac").seconds, abs=0.01)
    assert [word["word"] for word in result["words"]] == ["Hello", "there", "See", "you"]
    assert all(0 <= word["start"] <= word["end"] <= result["seconds"] for word in result["words"])
    assert {row["stopped_by"] for row in result["quality"]} <= {"end", "limit"}
    assert result["seed"] == 3


def test_plot_lies_beside_the_sound(say) -> None:
    run = say("Hello there.", "-o", "out/a.wav", "--plot")
    assert run.out.split() == ["out/a.wav", "out/a.png"]
    assert Path("out/a.png").read_bytes().startswith(b"\x89PNG")


def test_wav_to_standard_output(say, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sink(io.StringIO):
        buffer = io.BytesIO()

    say("Hello.", "-o", "a.wav")
    monkeypatch.setattr(sys, "stdout", Sink())
    say("Hello.", "-o", "-")
    assert Sink.buffer.getvalue() == Path("a.wav").read_bytes()


def test_greedy_and_nucleus_can_be_asked_for(say) -> None:
    assert say("Hi.", "-o", "a.wav", "--temperature", "0", "--top-p", "0.5").code == 0


def test_speed_makes_it_shorter(say) -> None:
    seconds = {}
    for speed in (0.5, 1, 2):
        run = say("Hello there, my friend.", "-o", "a.wav", "--speed", speed, "--attempts", 1, "--json")
        seconds[speed] = json.loads(run.out)["seconds"]
    assert seconds[0.5] > 1.2 * seconds[1] > 1.2 * 1.2 * seconds[2], seconds
    assert say("Hi.", "--speed", 3).code == 2


def test_prosody_of_a_recording(say, clip_path: Path) -> None:
    run = say("saw, see, saw, see", "--prosody", clip_path, "-o", "a.wav", "--json")
    assert run.code == 0, run.err
    assert json.loads(run.out)["seconds"] == pytest.approx(read(clip_path).seconds, abs=0.6), "but for its edges"
    assert say("saw", "--prosody", "none.wav").code == 2


def test_window_and_attempts_reach_the_decoder(say) -> None:
    for name, options in (("a.wav", ("--attempts", 1)), ("b.wav", ("--attempts", 1, "--window", 1))):
        assert say("Hello there, my old friend.", "-o", name, "--temperature", 1, *options).code == 0
    assert Path("a.wav").read_bytes() != Path("b.wav").read_bytes()
    assert say("Hello.", "--attempts", 0).code == 2


def test_long_text_comes_sentence_by_sentence(say) -> None:
    run = say("One thing. " * 60, "-o", "a.wav", "--json")
    result = json.loads(run.out)
    assert len(result["quality"]) > 2
    assert len(result["words"]) == 120
    starts = [word["start"] for word in result["words"]]
    assert starts == sorted(starts)


def test_a_duration_is_kept_and_any_option_can_be_set(say) -> None:
    run = say("Hello there, my friend.", "-o", "a.wav", "--duration", 1.2, "--json")
    assert abs(json.loads(run.out)["seconds"] / 1.2 - 1) < 0.03
    refused = say("Hello there, my friend.", "--duration", 90)
    assert refused.code == 2
    assert "give a duration from" in refused.err
    assert say("Hi.", "-o", "b.wav", "--set", "path_temperature=0", "--set", "sampling.top_k=3").code == 0
    unknown = say("Hi.", "--set", "path_temprature=0")
    assert unknown.code == 2
    assert "path_temprature" in unknown.err
