"""Whatever a person or an earlier run gives to read ends soon, in what was meant or in one line: pipes that nobody
writes into, rows that would grow or cannot be kept, records that were damaged, and any text at all."""

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openvalle import pipes
from openvalle.config import override, parse_data
from openvalle.errors import ConfigError, ModelError, UserError
from openvalle.evaluate.results import read_results
from openvalle.hub import find_damaged
from openvalle.media import read, write
from openvalle.synth.plan import parse_script
from openvalle.text.chapters import split_chapters
from openvalle.train.checkpoints import load_checkpoint
from openvalle.train.loop import LoopConfig, _same_run
from openvalle.train.state import TrainState
from test_damaged import refused

ROWS = {
    "nested": "[" * 100_000 + "]" * 100_000,
    "groups": '{"a":' * 60 + "1" + "}" * 60,
    "number": "7" * 5_000,
    "large number": "7" * 30,
    "large fraction": "1e999",
    "nan": "NaN",
    "open": '{"a": ',
}


def doors(file: Path, folder: Path, model: Path) -> dict[str, tuple[str, ...]]:
    """Return the commands that read `file`, by the ending that its name must have."""
    out = ("-o", str(folder / "out"))
    wav = ("-m", str(model), "-o", str(folder / "x.wav"))
    name = {ending: str(file.with_suffix(ending)) for ending in (".txt", ".yaml", ".toml", ".csv", ".tsv", ".jsonl")}
    return {
        "say .txt": ("say", "-f", name[".txt"], *wav),
        "book .txt": ("book", name[".txt"], *out),
        "script .txt": ("dialogue", name[".txt"], *wav),
        "script .yaml": ("dialogue", name[".yaml"], *wav),
        "script .toml": ("dialogue", name[".toml"], *wav),
        "lexicon .tsv": ("say", "Hi.", "--lexicon", name[".tsv"], *wav),
        "batch .csv": ("batch", name[".csv"], *out, "-m", str(model)),
        "batch .tsv": ("batch", name[".tsv"], *out, "-m", str(model)),
        "batch .jsonl": ("batch", name[".jsonl"], *out, "-m", str(model)),
        "recipe .yaml": ("train", "ar", name[".yaml"]),
        "system .yaml": ("model", "describe", name[".yaml"]),
        "systems .yaml": ("compare", name[".yaml"], "--data", str(folder), *out),
        "design .yaml": ("listen", "new", str(folder / "s"), "-s", f"a={folder}", "-c", name[".yaml"]),
        "texts .jsonl": (
            "listen",
            "new",
            str(folder / "s"),
            "-k",
            "mos",
            "-s",
            f"a={folder}",
            "--texts",
            name[".jsonl"],
        ),
        "list .jsonl": ("evaluate", "builtin", "--items", name[".jsonl"], "--data", str(folder), *out),
        "manifest .jsonl": ("prepare", name[".jsonl"], str(folder / "prepared")),
        "settings .toml": ("--config", name[".toml"], "say", "Hi.", *wav),
        "symbols .json": ("prepare", str(folder), str(folder / "p"), "--symbols", str(file.with_suffix(".json"))),
    }


@pytest.mark.parametrize("door", doors(Path("x"), Path(), Path()))
def test_pipes_that_nobody_writes_into_are_not_waited_for(door, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(pipes, "PATIENCE", 0.05)
    (tmp_path / "a.wav").touch()
    os.mkfifo(tmp_path / f"x{door.split()[1]}")
    refused(*doors(tmp_path / "x", tmp_path, tiny_model)[door])


@pytest.mark.parametrize("ending", [".txt", ".trans.txt", "manifest.jsonl"])
def test_a_corpus_with_a_pipe_in_it_is_not_waited_for(ending, clip_path, monkeypatch):
    monkeypatch.setattr(pipes, "PATIENCE", 0.05)
    os.mkfifo(clip_path.parent / (ending if ending[0] != "." else f"clip{ending}"))
    refused("prepare", str(clip_path.parent), str(clip_path.parent / "out"))


def test_a_pipe_is_read_when_somebody_writes_into_it(tmp_path):
    """Late, in pieces, and to the end; also the open one of a shell's <(...), whose writer may be done."""
    fifo = tmp_path / "text"
    os.mkfifo(fifo)
    script = f"sleep 0.2; exec > {fifo}; printf 'One. '; sleep 0.2; printf Two.; sleep 0.1; printf '\\r\\n'"
    with subprocess.Popen(["sh", "-c", script]) as writer:
        assert pipes.read_text(fifo) == "One. Two.\n"
    assert not writer.returncode
    for text in (b"Three.", b""):
        mine, others = os.pipe()
        os.write(others, text)
        os.close(others)
        assert pipes.read_bytes(f"/dev/fd/{mine}") == text
        os.close(mine)
    assert pipes.read_bytes(os.devnull) == b""


@pytest.mark.parametrize("source", ["fifo", "fd", "file"])
def test_what_never_ends_is_given_up(source, tmp_path, monkeypatch):
    monkeypatch.setattr(pipes, "MOST_BYTES", 300_000)
    place = tmp_path / "x"
    if source == "file":
        place.write_bytes(bytes(300_001))
        ends = ()
    else:
        os.mkfifo(place)
        ends = os.pipe()
        path = place if source == "fifo" else Path(f"/dev/fd/{ends[0]}")

        def write_on() -> None:
            handle = os.open(place, os.O_WRONLY) if source == "fifo" else ends[1]
            try:
                while True:
                    os.write(handle, bytes(10_000))
            except BrokenPipeError:
                os.close(handle)

        threading.Thread(target=write_on, daemon=True).start()
        place = path
    with pytest.raises(UserError, match="more than"):
        pipes.read_bytes(place, 300_000)
    if ends:
        os.close(ends[0])


def test_devices_are_no_text(tmp_path):
    assert "pipe or a device" in refused("say", "-f", "/dev/zero", "-o", str(tmp_path / "x.wav"))


@pytest.mark.long
def test_a_shells_process_substitution_is_read(tiny_model, tiny_voice, tmp_path):
    voice = tiny_voice.save(tmp_path / "v.safetensors")
    script = (
        '"$0" -m openvalle say -f <(sleep 0.1; echo Hi.) --lexicon <(printf "hi\\tHH AY1\\n") -m "$1" -v "$2" -o "$3"'
    )
    command = ["bash", "-c", script, sys.executable, str(tiny_model), str(voice), str(tmp_path / "x.wav")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "x.wav").seconds > 0


@pytest.mark.parametrize("row", ROWS)
def test_every_door_for_rows_refuses_what_grows_or_cannot_be_kept(row, tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text(f'{{"id": "a", "audio": "a.wav", "text": "Hi.", "more": {ROWS[row]}}}\n')
    (tmp_path / "a.wav").touch()
    every = doors(tmp_path / "x", tmp_path, tmp_path)
    for door in ("batch .jsonl", "texts .jsonl", "list .jsonl", "manifest .jsonl"):
        refused(*every[door])
    report = tmp_path / "report"
    report.mkdir()
    file.rename(report / "rows.jsonl")
    with pytest.raises(UserError, match="line 1"):
        read_results(report / "rows.jsonl")
    refused("spoofing", str(report), str(tmp_path / "spoofing"))


@pytest.mark.parametrize("row", [name for name in ROWS if name != "nan"])  # our own results may hold NaN
def test_reports_tests_and_ballots_are_read_as_carefully(row, tmp_path):
    text = f'{{"format": "openvalle-report", "version": 1, "more": {ROWS[row]}}}\n'
    for name in ("report.json", "study.json"):
        (tmp_path / name).write_text(text)
    refused("report", str(tmp_path))
    refused("listen", "collect", str(tmp_path))


@pytest.mark.parametrize("damage", [*ROWS.values(), "", "[]", '{"step": null}', "\xff"])
def test_records_of_training_are_read_or_one_line(damage, tmp_path):
    (tmp_path / "loop.json").write_bytes(damage.encode("latin-1"))
    if damage != '{"step": null}':
        with pytest.raises(UserError):
            _same_run(LoopConfig(steps=1), tmp_path)
    (tmp_path / "state.json").write_bytes(damage.encode("latin-1"))
    with pytest.raises(ModelError, match="cannot resume"):
        load_checkpoint(TrainState({}, {}, {}), tmp_path)
    (tmp_path / "SHA256SUMS").write_bytes(damage.encode("latin-1"))
    find_damaged(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"files": {"x": {"key": "a", "digest": "b", "samples": -1}}}, {"files": 7}, {"files": {"x": 1}}, {"more": 1}, {}],
)
def test_a_damaged_record_of_a_book_is_one_line(change, tiny_model, tiny_voice, tmp_path):
    book, out = tmp_path / "x.txt", tmp_path / "out"
    book.write_text("# One\n\nHi.\n")
    voice = tiny_voice.save(tmp_path / "v.safetensors")
    out.mkdir()
    (out / "book.json").write_text(json.dumps({"settings": "x"} | change))
    refused("book", str(book), "-o", str(out), "-m", str(tiny_model), "-v", str(voice))


def test_a_damaged_mp3_is_read_without_a_word_of_its_decoder(spoken, tmp_path):
    path = write(tmp_path / "x.mp3", spoken)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(200, len(data), 300):
        data[place] = rng.integers(256)
    path.write_bytes(data)
    code = """if True:
        import sys, os
        from openvalle.media import read, read_header
        from openvalle.errors import AudioError
        if len(sys.argv) > 2:
            os.close(2)
        try:
            read(sys.argv[1]), read_header(sys.argv[1])
        except AudioError:
            pass
        if len(sys.argv) == 2:
            os.write(2, b"here again")
        """
    for more in ((), ("closed",)):
        command = [sys.executable, "-c", code, str(path), *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert (done.returncode, done.stderr) == (0, "" if more else "here again")


ANY = st.text(st.characters(exclude_categories=()), max_size=300)
SPEAKABLE = st.text("aZ .,!?-'\"()[]{}<>/\\&;:#$%@*_0123456789\n\t\u00a0\u0301\u4e2d\ud800\U0001f600", max_size=300)
TAGGED = st.lists(
    st.sampled_from(
        ["[pause:", "0.3s]", "[rate:9]", "(/AH0/)", "<speak>", "</speak>", "<p>", "&#", ";", "Hi", " ", "\n"]
    ),
    max_size=40,
).map("".join)
SETTINGS = st.lists(
    st.sampled_from(
        ["a", ": ", "- ", "[", "]", "{", "}", "&x ", "*x", "!!", "'", '"', "\n", "  ", "1", ".", "e", "?", "|"]
    ),
    max_size=60,
).map("".join)
quiet = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))


def says_something_or_why_not(text: str) -> None:
    logging.disable(logging.WARNING)
    try:
        for line in parse_script(text).sentences():
            assert line.symbols
        split_chapters(text)
    except UserError as error:
        assert "\n" not in str(error)
    finally:
        logging.disable(logging.NOTSET)


def is_settings_or_why_not(text: str) -> None:
    for read_it in (
        lambda: parse_data(text, "x"),
        lambda: override({}, (text,)),
        lambda: override({}, (f"a.b={text}",)),
    ):
        try:
            json.dumps(read_it(), allow_nan=False)
        except ConfigError as error:
            assert "\n" not in str(error) and len(str(error)) < 2000


@settings(quiet, max_examples=60)
@given(ANY | SPEAKABLE | TAGGED)
def test_any_text_is_spoken_or_refused(text):
    says_something_or_why_not(text)


@settings(quiet, max_examples=150)
@given(ANY | SETTINGS)
def test_any_settings_are_read_or_refused(text):
    is_settings_or_why_not(text)


@pytest.mark.slow
@settings(quiet, max_examples=3_000)
@given(ANY | SPEAKABLE | TAGGED)
def test_many_texts_are_spoken_or_refused(text):
    says_something_or_why_not(text)


@pytest.mark.slow
@settings(quiet, max_examples=10_000)
@given(ANY | SETTINGS)
def test_many_settings_are_read_or_refused(text):
    is_settings_or_why_not(text)
