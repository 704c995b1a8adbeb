"""`openvalle translate`: what is written, what is printed, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from openvalle.audio import Audio
from openvalle.media import read, read_tags, write

TEXT = "saw, see, saw, see"
pytestmark = pytest.mark.usefixtures("esperanto")


def test_sound_and_subtitles_in_both_languages_are_written(
    openvalle, speakers_of_many: dict[str, Path], clip_path: Path, translators: Path
) -> None:
    for package in ("pypinyin", "jieba", "wetext"):
        pytest.importorskip(package)
    given = ("translate", clip_path, "--to", "zh", "--from", "en", "-t", TEXT, "-m", speakers_of_many["aligned"])
    given = (*given, "--translator", translators / "en-zh", "--consent", "nobody's", "-q")
    run = openvalle(*given, "--subtitles", "talk.srt")
    assert run.code == 0, run.err
    sound, heard, said = (Path(line) for line in run.out.splitlines())
    assert (sound, heard, said) == (clip_path.with_name("clip-zh.wav"), Path("talk.en.srt"), Path("talk.zh.srt"))
    assert TEXT in heard.read_text() and "你好我们今天去看大海天气很好。" in said.read_text(encoding="utf-8")
    assert "openvalle" in read_tags(sound)["software"]
    fitted = openvalle(*given, "--fit", "-o", "fit.flac", "--json")
    facts = json.loads(fitted.out)
    assert (facts["from"], facts["to"], facts["path"]) == ("en", "zh", "fit.flac")
    assert facts["segments"][0]["translation"] == "你好我们今天去看大海天气很好。"
    assert facts["seconds"] == pytest.approx(len(read("fit.flac").samples) / 24000, abs=0.001)


@pytest.mark.slow
def test_a_builtin_voice_speaks_what_was_said_in_another_language(openvalle, clip_path: Path, translators) -> None:
    """With what is installed: a translator of few words, the built-in model, which knows English alone."""
    pytest.importorskip("pypinyin")
    run = openvalle("translate", clip_path, "--from", "zh", "--to", "en", "-t", "撒西，撒西。", "-v", "default")
    assert run.code == 2 and "no translator goes from 'zh' to 'en'; run: pip install" in run.err
    given = ("--translator", translators / "zh-en", "-v", "default", "-o", "out.wav", "--attempts", "1")
    run = openvalle("translate", clip_path, "--from", "zh", "--to", "en", "-t", "撒西，撒西。", *given, "--json", "-q")
    assert run.code == 0, run.err
    assert [word["word"] for word in json.loads(run.out)["words"]] == ["One", "two"]


def test_a_recogniser_of_english_asks_for_the_language(openvalle, speakers_of_many: dict[str, Path], clip_path) -> None:
    run = openvalle("translate", clip_path, "--to", "eo", "--asr", "pocketsphinx", "-m", speakers_of_many["aligned"])
    assert run.code == 2 and "finds no language; say what is spoken (--from en)" in run.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "en", "-t", TEXT), "speaks 'en' already"),
        (("--to", "klingon"), "'klingon' cannot be read"),
        (("--to", "zh", "--subtitles", "talk.doc"), "unknown format '.doc'"),
        (("--to", "zh", "--translator", "nowhere"), "no translator called 'nowhere'"),
        (("--to", "zh", "--translator", "."), "holds no model.bin"),
        (("--to", "zh", "-o", "CLIP"), "the output is the recording itself"),
        (("--to", "zh", "--from", "en", "-t", TEXT), "no translator goes from 'en' to 'zh'"),
        (("--to", "fr", "-m", "builtin"), "does not speak 'fr'"),
    ],
)
def test_mistakes_are_one_line(
    openvalle, speakers_of_many: dict[str, Path], clip_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    words = [str(clip_path) if word == "CLIP" else word for word in arguments]
    model = () if "-m" in words else ("-m", speakers_of_many["aligned"])
    run = openvalle("translate", clip_path, *words, *model, "-q")
    assert (run.code, run.out) == (2, "") and said in run.err, run.err
    assert len(run.err.splitlines()) == 1 and "; " in run.err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("sound", ["silence", "tone"])
def test_what_is_no_speech_is_refused(
    openvalle, speakers_of_many: dict[str, Path], translators: Path, tmp_path: Path, sound: str
) -> None:
    times = np.arange(48_000) / 24_000
    samples = np.zeros(48_000) if sound == "silence" else 0.3 * np.sin(2 * np.pi * 440 * times)
    path = write(tmp_path / "none.wav", Audio(samples.astype(np.float32)))
    given = ("--translator", translators / "en-zh", "-m", speakers_of_many["aligned"], "-q")
    run = openvalle("translate", path, "--from", "en", "--to", "zh", *given)
    assert run.code == 2 and ("is silent" in run.err or "no speech can be made out" in run.err)
    assert len(run.err.splitlines()) == 1
