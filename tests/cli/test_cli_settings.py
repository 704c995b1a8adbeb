"""Defaults of options: option, environment, ./openvalle.toml, the user's own file, built in, in this order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openvalle.cli.settings import SETTINGS, find_setting, variable

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture
def seed(openvalle, tiny_model: Path, voice_path: Path):
    """Runner of `openvalle say`; returns the seed that was used."""

    def run(*arguments: object, before: tuple[object, ...] = ()) -> int:
        given = ("say", "Hi.", "-o", "hi.wav", "--json", "-m", tiny_model, "-v", voice_path, *arguments)
        done = openvalle(*before, *given)
        assert done.code == 0, done.err
        return json.loads(done.out)["seed"]

    return run


def test_the_nearest_setting_holds(seed, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seed() == 0
    own_home.mkdir(exist_ok=True)
    (own_home / "openvalle.toml").write_text("seed = 1\n")
    assert seed() == 1
    Path("openvalle.toml").write_text("seed = 2\n[say]\nspeed = 1.5\n")
    assert seed() == 2
    Path("openvalle.toml").write_text("seed = 2\n[say]\nseed = 3\n[book]\nseed = 9\n")
    assert seed() == 3
    Path("other.toml").write_text("seed = 4\n")
    monkeypatch.setenv("OPENVALLE_CONFIG", "other.toml")
    assert seed() == 4
    Path("given.toml").write_text("seed = 5\n")
    assert seed(before=("--config", "given.toml")) == 5
    monkeypatch.setenv("OPENVALLE_SEED", "6")
    assert seed(before=("--config", "given.toml")) == 6
    assert seed("--seed", 7, before=("--config", "given.toml")) == 7


def test_a_file_in_the_folder_names_model_voice_and_format(
    openvalle, tiny_model: Path, tiny_voice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sets").mkdir()
    tiny_voice.save(tmp_path / "sets" / "me.safetensors")
    (tmp_path / "sets" / "mine.toml").write_text(
        f'model = "{tiny_model.as_posix()}"\nvoice = "me.safetensors"\nformat = "flac"\n'
    )
    config = ("--config", tmp_path / "sets" / "mine.toml")  # paths are relative to the file
    assert openvalle(*config, "say", "Hi.").out == "speech.flac\n"
    assert openvalle(*config, "say", "Hi.", "-o", "hi.ogg").out == "hi.ogg\n", "the name says more than the setting"
    assert Path("hi.ogg").read_bytes()[:4] == b"OggS"
    monkeypatch.setenv("OPENVALLE_MODEL", "nobody")
    done = openvalle(*config, "say", "Hi.")
    assert done.code == 2
    assert "nobody" in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('modle = "x"', "did you mean model?"),
        ("output = 'x'", "no setting output"),
        ("consent = 'x'", "no setting consent"),
        ('[say]\nplot = "x"', "no setting say.plot"),
        ("[sya]\nseed = 1", "did you mean say?"),
        ('seed = "x"', "a whole number"),
        ("seed = 1.5", "a whole number"),
        ("seed = true", "a whole number"),
        ("seed = -1", "seed"),
        ("speed = 99", "speed"),
        ("model = 1", "a text in quotes"),
        ("voice = {a = 1}", "a text in quotes"),
        ('model = "hf://somebody/model"', "address"),
        ("seed = ", "not valid TOML"),
        ("seed = " + "9" * 5000, "not valid TOML"),
        ("a = " + "[" * 20000, "nested more than 40 deep"),
        ("# " + "x" * 70000, "no file of settings"),
        ("\xff", "not valid TOML"),
    ],
)
def test_a_bad_file_is_one_line(openvalle, text: str, said: str) -> None:
    Path("openvalle.toml").write_bytes(text.encode("latin-1"))
    run = openvalle("say", "Hi.")
    assert (run.code, run.out) == (2, "")
    assert len(run.err.splitlines()) == 1
    assert "openvalle.toml" in run.err
    assert said in run.err
    assert openvalle("say", "--help").code == 0, "help is there all the same"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_file_of_settings(openvalle) -> None:
    os.mkfifo("openvalle.toml")
    assert openvalle("say", "Hi.").code == 2


def test_a_file_that_is_asked_for_must_be_there(openvalle) -> None:
    run = openvalle("--config", "gone.toml", "say", "Hi.")
    assert (run.code, len(run.err.splitlines())) == (2, 1)
    assert "gone.toml" in run.err


def test_a_bad_value_in_the_environment_is_one_line(openvalle, seed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENVALLE_SEED", "many")
    run = openvalle("say", "Hi.")
    assert (run.code, len(run.err.splitlines())) == (2, 1)
    assert "OPENVALLE_SEED" in run.err
    assert seed("--seed", 3) == 3, "what is not used does no harm"


def test_the_page_names_every_setting() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for key in SETTINGS:
        assert f"`{key}`" in page, key
        assert f"`{variable(key)}`" in page, key


def test_every_setting_is_an_option_of_some_command() -> None:
    from typer.main import get_command

    from openvalle.cli.main import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    found = {find_setting(param) for command in commands.values() for param in command.params}
    assert found - {None} == set(SETTINGS)


@pytest.mark.slow
def test_threads_are_chosen_before_torch_is_loaded() -> None:
    code = (
        "import os, sys\n"
        "from openvalle.cli.main import app\n"
        "try: app(['say', '-', '-v', 'gone.wav'])\n"
        "except SystemExit: pass\n"
        "import torch\n"
        "print(torch.get_num_threads(), os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))\n"
    )

    def threads(**given: str) -> list[str]:
        waiting = ("OMP_", "MKL_", "GOMP_", "KMP_")
        plain = {name: value for name, value in os.environ.items() if not name.startswith(waiting)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=plain | given, capture_output=True, text=True, input="Hi.", check=True)
        return done.stdout.split()

    assert threads(OPENVALLE_THREADS="1")[0] == "1"
    assert threads(OMP_NUM_THREADS="1")[0] == "1", "what the user chose stays"
    assert threads(OMP_WAIT_POLICY="ACTIVE")[1:] == ["None", "ACTIVE"]
    assert threads(GOMP_SPINCOUNT="7")[1] == "7"
