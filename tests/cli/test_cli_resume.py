"""Books and batches: killed at any moment, resumed, they are the uninterrupted ones; only what is there counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from openvalle.apps.audiobook import RECORD, SENTENCES
from openvalle.apps.batch import TableJob, TableRow
from openvalle.apps.sentence_store import SentenceStore
from openvalle.media import read
from openvalle.synth.synthesizer import Synthesizer

posix = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
BOOK = "# One\n\nSaw.\n\nSee.\n\nSaw, see.\n\n# Two\n\nSee.\n"
FILES = ("01-one.wav", "02-two.wav")


@pytest.fixture
def book(openvalle, tiny_model: Path, voice_path: Path):
    """Runner of `openvalle book` with the tiny model."""
    Path("book.txt").write_text(BOOK)
    return lambda *more: openvalle(*book_command(tiny_model, voice_path, *more))


def book_command(model: Path, voice: Path, *more: object) -> list[object]:
    return ["book", "book.txt", "-v", voice, "--model", model, "--format", "wav", "-q", *more]


@pytest.fixture
def stopped(book, monkeypatch: pytest.MonkeyPatch):
    """A function that speaks a book into the folder `part` and stops it once so many sentences are on the disk."""

    def run(count: int) -> Path:
        real, added = SentenceStore.add, []

        def add(self: SentenceStore, key: str, samples: np.ndarray) -> None:
            real(self, key, samples)
            added.append(key)
            if len(added) == count:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(SentenceStore, "add", add)
            assert book("-o", "part").code == 130
        return Path("part")

    return run


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    """The files of the uninterrupted book, once it was spoken."""
    return {}


def same_as_whole(book, folder: Path, whole: dict[str, bytes]) -> None:
    names = (*FILES, "playlist.m3u8")
    if not whole:
        assert book("-o", "whole").code == 0
        whole |= {name: Path("whole", name).read_bytes() for name in names}
    for name in names:
        assert (folder / name).read_bytes() == whole[name], name


def changed(record: Path, **values: object) -> None:
    record.write_text(json.dumps(json.loads(record.read_text()) | values))


@pytest.mark.parametrize("damage", ["nothing", "cut", "cut to nothing", "gone", "zeros", "longer", "swapped", "half"])
def test_a_sentence_counts_only_if_its_samples_are_there(book, stopped, whole, damage: str) -> None:
    folder = stopped(2)
    one, other = sorted((folder / SENTENCES).iterdir())
    match damage:
        case "cut":  # as after a power cut
            os.truncate(one, one.stat().st_size - 100)
        case "cut to nothing":
            os.truncate(one, 0)
        case "gone":
            one.unlink()
        case "zeros":
            one.write_bytes(bytes(one.stat().st_size))
        case "longer":
            one.write_bytes(one.read_bytes() + b"more")
        case "swapped":
            data = one.read_bytes()
            one.write_bytes(other.read_bytes())
            other.write_bytes(data)
        case "half":
            (folder / SENTENCES / ".openvalle-0123456789abcdef").write_bytes(b"half a sentence")
    run = book("-o", folder)
    assert run.code == 0, run.err
    same_as_whole(book, folder, whole)


@pytest.mark.parametrize("damage", ["gone", "cut", "changed", "record"])
def test_a_chapter_counts_only_if_its_file_is_there(book, whole, damage: str) -> None:
    assert book("-o", "part").code == 0
    second = Path("part", FILES[1])
    match damage:
        case "gone":
            second.unlink()
        case "cut":
            os.truncate(second, 100)
        case "changed":
            data = bytearray(second.read_bytes())
            data[-1] ^= 1
            second.write_bytes(data)
        case "record":
            known = json.loads(Path("part", RECORD).read_text())["files"]
            changed(
                Path("part", RECORD), files={FILES[0]: known[FILES[0]], FILES[1]: known[FILES[0]], "x": known[FILES[1]]}
            )
    before = Path("part", FILES[0]).stat().st_mtime_ns
    assert book("-o", "part").code == 0
    same_as_whole(book, Path("part"), whole)
    assert Path("part", FILES[0]).stat().st_mtime_ns == before, "what is whole is not spoken again"


@pytest.mark.parametrize("text", ["{", "[]", '{"settings": 5}', '{"settings": "x", "files": 99}', "\xff"])
def test_a_record_that_cannot_be_read_is_one_line(book, text: str) -> None:
    Path("part").mkdir()
    Path("part", RECORD).write_bytes(text.encode("latin-1"))
    run = book("-o", "part")
    assert (run.code, run.err.count("\n")) == (2, 1)
    assert "--no-resume" in run.err
    assert os.listdir("part") == [RECORD]


def test_a_refused_start_leaves_no_folder(book, openvalle) -> None:
    Path("signs.txt").write_text("...\n\n***\n")
    for run in (book("-o", "new", "--format", "xyz"), book("-o", "new", "-v", "nobody")):
        assert (run.code, run.err.count("\n")) == (2, 1)
    assert openvalle("book", "signs.txt", "-o", "new/deeper", "--model", book_command(Path(), Path())[0]).code == 2
    assert not Path("new").exists()
    assert book("-o", "new").code == 0


def test_what_another_process_is_at_is_left_alone(book, openvalle, tiny_model, voice_path, synthesizer) -> None:
    from openvalle.files import lock_folder

    Path("a.csv").write_text("text\nSaw.\n")
    commands = {
        "book": lambda: book("-o", "busy"),
        "batch": lambda: openvalle("batch", "a.csv", "-o", "busy", "--model", tiny_model, "-v", voice_path),
        "prepare": lambda: openvalle("prepare", "a.csv", "busy"),
    }
    for name, command in commands.items():
        with lock_folder(Path("busy")):
            run = command()
            assert (run.code, run.err.count("\n")) == (2, 1), name
            assert f"busy is in use by process {os.getpid()} on " in run.err
            assert os.listdir("busy") == [".openvalle-lock"]
        assert not Path("busy").exists()


@pytest.mark.parametrize("damage", ["gone", "cut", "changed", "no digest", "elsewhere", "no seconds", "no utf-8"])
def test_a_row_counts_only_if_its_file_is_there(openvalle, tiny_model, voice_path, damage: str) -> None:
    Path("a.csv").write_text("text\nSaw.\nSee.\n")
    command = ("batch", "a.csv", "--model", tiny_model, "-v", voice_path, "--json")
    assert json.loads(openvalle(*command).out)["spoken"] == 2
    path, report = Path("batch/00002.wav"), Path("batch/report.jsonl")
    whole = path.read_bytes()
    entries = [json.loads(line) for line in report.read_text().splitlines()]
    match damage:
        case "gone":
            path.unlink()
        case "cut":
            os.truncate(path, 100)
        case "changed":
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        case "no digest":
            del entries[1]["digest"]
        case "elsewhere":
            entries[1]["path"] = "../a.csv"
        case "no seconds":
            entries[1]["seconds"] = "many"
    report.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    if damage == "no utf-8":
        report.write_bytes(report.read_bytes().splitlines(keepends=True)[0] + b'{"id": "\xff"}\n')
    summary = json.loads(openvalle(*command).out)
    assert (summary["spoken"], summary["kept"], summary["failed"]) == (1, 1, 0)
    assert path.read_bytes() == whole


def test_an_interruption_loses_no_more_than_is_spoken_at_a_time(
    synthesizer, tiny_voice, monkeypatch, tmp_path: Path
) -> None:
    groups: list[int] = []
    real = Synthesizer.say_batch

    def speaking(self, texts, *arguments, **named):
        groups.append(sum(sum(1 for _ in text.sentences()) for text in texts))
        if len(groups) == 3:
            raise KeyboardInterrupt
        return real(self, texts, *arguments, **named)

    monkeypatch.setattr(Synthesizer, "say_batch", speaking)
    monkeypatch.setattr("openvalle.apps.batch.BATCH", 2)
    rows = [TableRow(id=str(number), text="Saw, see saw. " * (40 if number == 1 else 1)) for number in range(6)]
    batch = TableJob(synthesizer, tmp_path / "out", Path(), file_format="wav", options=synthesizer.sampling(attempts=1))
    batch._voices[None, None] = tiny_voice
    monkeypatch.setattr("openvalle.apps.batch.find", lambda *arguments: __file__)
    outcomes = []
    with pytest.raises(KeyboardInterrupt):
        outcomes.extend(outcome for outcome in batch.run(rows))
    entries = [json.loads(line) for line in batch.report.read_text().splitlines()]
    assert [entry["id"] for entry in entries] == ["0", "1"]
    assert groups[1] > 2 == groups[2], "a long row is spoken by itself, others as many lines at a time as are allowed"


@posix
def test_killed_at_random_and_resumed_is_the_uninterrupted(
    book, openvalle, whole, tiny_model: Path, voice_path: Path
) -> None:
    """Real processes and kill -9, at moments that differ from run to run."""
    here = Path.cwd()
    Path("a.jsonl").write_text("".join(json.dumps({"text": f"Saw {'see ' * n}."}) + "\n" for n in range(6)))
    batch = ["batch", "a.jsonl", "-v", voice_path, "--model", tiny_model, "-o", "rows"]
    rng = np.random.default_rng()
    commands = {"book": book_command(tiny_model, voice_path, "-o", "part"), "rows": batch}
    seen = {"book": here / "part" / RECORD, "rows": here / "rows" / "report.jsonl"}
    for name, command in commands.items():
        for _ in range(2):
            process = subprocess.Popen(
                [sys.executable, "-m", "openvalle", *map(str, command)], stdout=subprocess.DEVNULL
            )
            try:
                end = time.monotonic() + 60
                while process.poll() is None and not seen[name].exists() and time.monotonic() < end:
                    time.sleep(0.005)
                time.sleep(rng.uniform(0, 0.3))
            finally:
                process.kill()
                process.wait()
    assert openvalle(*commands["book"]).code == 0
    same_as_whole(book, Path("part"), whole)
    assert openvalle(*batch, "--json").code == 0
    assert openvalle(*batch[:-1], "whole-rows").code == 0
    for path in Path("whole-rows").glob("*.wav"):
        assert Path("rows", path.name).read_bytes() == path.read_bytes()
        assert read(path).seconds > 0
    entries = [json.loads(line)["id"] for line in Path("rows/report.jsonl").read_text().splitlines()]
    assert sorted(entries) == [f"{number:05}" for number in range(1, 7)]
    assert not [path for path in here.rglob(".openvalle-*")], "what the killed ones left is gone"
