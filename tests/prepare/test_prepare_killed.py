"""Whatever kills a run, at any moment: the next one goes on, and what it leaves are the bytes of a run never killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from test_prepare_align import EvenAligner
from test_prepare_untranscribed import Clerk, Loudness

from openvalle.audio import RATE, Audio
from openvalle.data.shards import TokenShards, read_rows
from openvalle.errors import UserError
from openvalle.files import lock_folder
from openvalle.media import write
from openvalle.prepare.filter import FilterSettings
from openvalle.prepare.run import PrepareReport, prepare
from openvalle.prepare.steps import STEPS, PrepareOptions, Step, check_columns
from openvalle.prepare.transcribe import TranscribeSettings
from openvalle.text.symbols import TextUnit

OPTIONS = PrepareOptions(unit_seconds=3.0)
CLOCKS = {"cost.json", "perf.json", "index.arrow", "texts.arrow"}  # hold seconds, or the time of a file
CALLS = ("rename", "replace", "link", "fsync", "mkdir", "open", "unlink", "rmdir")  # what changes a disk


def write_corpus(folder: Path, write_sound: Callable[..., Path], clips: int = 3) -> Path:
    for speaker in ("anna", "ben"):
        for number in range(clips):
            path = write_sound(folder / speaker / f"{number}.wav", 1.0 + number / 2)
            path.with_suffix(".txt").write_text("seven days")
    (folder / "ben" / "broken.wav").write_bytes(b"x" * 50)
    return folder


def read_bytes(out: Path) -> dict[str, bytes]:
    """Return the files of a prepared folder but those in which two runs may differ."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in CLOCKS
    }


def die_at_call(number: int) -> None:
    """Kill this process as `kill -9` does, at its n-th call that changes the disk, before the call is made."""
    count = 0

    def counted(call: Callable) -> Callable:
        def instead(*values: object, **names: object) -> object:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*values, **names)

        return instead

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def moments(prepare: Callable[[], object]) -> Iterator[bool]:
    """Run `prepare` in forks that die at their first call, their fourth ...; yield whether the fork got to its end."""
    for number in range(1, 10_000, 3):
        child = os.fork()
        if not child:
            try:
                die_at_call(number)
                prepare()
                os._exit(0)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL), "what a killed run left is an error for the next one"
        yield code == 0


def test_killed_at_every_call_that_changes_the_disk(tmp_path: Path, write_sound) -> None:
    """Every fork goes on from what the one before left, so the run gets on by a call or two at a time."""
    source = write_corpus(tmp_path / "in", write_sound)
    prepare(source, tmp_path / "whole", last=Step.AUDIO, options=OPTIONS)
    wanted = read_bytes(tmp_path / "whole")
    assert len([name for name in wanted if name.endswith("audio.npy")]) >= 3
    killed = 0
    for is_over in moments(lambda: prepare(source, tmp_path / "out", last=Step.AUDIO, options=OPTIONS)):
        if is_over:
            break
        killed += 1
    assert killed > 15
    prepare(source, tmp_path / "out", last=Step.AUDIO, options=OPTIONS)
    assert read_bytes(tmp_path / "out") == wanted
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/??/**/*")}
    prepare(source, tmp_path / "out", last=Step.AUDIO, options=OPTIONS)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/??/**/*")} == files
    assert read_bytes(tmp_path / "out") == wanted


@pytest.mark.long
def test_killed_at_every_call_on_the_way_from_recordings_without_words(
    tmp_path: Path, write_sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the segments, what is written down, the alignment and the filter, with all that they leave out."""
    from openvalle.prepare import steps
    from openvalle.speech_models import aligners

    monkeypatch.setattr(steps, "load_detector", Loudness)
    monkeypatch.setattr(steps, "load_recognizer", lambda name, device: Clerk(name))
    monkeypatch.setattr(aligners, "load_aligner", lambda *_: EvenAligner())
    monkeypatch.setattr(steps, "load_aligner", lambda *_: EvenAligner())
    for chapter, seconds in enumerate((1.3, 3.0, 1.0, 4.0)):
        path = write_sound(tmp_path / "in" / "100" / "book" / f"{chapter}.flac", seconds)
        path.with_suffix(".json").write_text('{"speaker": "100", "voice_activity": []}')
    asked = TranscribeSettings(recognizer="clerk", second="other")
    options = PrepareOptions(unit_seconds=2.0, transcribe=asked, filter=FilterSettings(min_confidence=-1.0))

    def run(out: str) -> PrepareReport:
        return prepare(tmp_path / "in", tmp_path / out, last=Step.FILTER, options=options)

    report = run("whole")
    assert report.kept["filter"] == 2 and report.rejected == 2
    killed = next(number for number, is_over in enumerate(moments(lambda: run("out"))) if is_over)
    assert killed > 25
    run("out")
    assert read_bytes(tmp_path / "out") == read_bytes(tmp_path / "whole")


RUN = """
import sys
from pathlib import Path
from openvalle.prepare.run import prepare
from openvalle.prepare.steps import PrepareOptions
from openvalle.text.symbols import TextUnit

if __name__ == "__main__":
    options = PrepareOptions(unit_seconds=3.0, text_unit=TextUnit.BPE, bpe_size=280)
    prepare(Path(sys.argv[1]), Path(sys.argv[2]), jobs=int(sys.argv[3]), options=options)
"""


@pytest.mark.slow
def test_killed_at_random_moments_down_to_the_tokens(tmp_path: Path, write_sound) -> None:
    """The whole way, in two processes, with everything that belongs to them killed."""
    source = write_corpus(tmp_path / "in", write_sound, clips=3)
    (tmp_path / "run.py").write_text(RUN)

    def start(out: Path, jobs: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(tmp_path / "run.py"), str(source), str(out), str(jobs)]
        return subprocess.Popen(command, start_new_session=True)

    began = time.monotonic()
    assert start(tmp_path / "whole", 1).wait() == 0
    lasts = time.monotonic() - began
    rng = random.Random(0)
    for _ in range(2):
        process = start(tmp_path / "out", 2)
        time.sleep(rng.uniform(0.3, 0.9) * lasts)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "out", 2).wait() == 0
    assert read_bytes(tmp_path / "out") == read_bytes(tmp_path / "whole")
    assert len(TokenShards.open(tmp_path / "out")) == 6


def test_two_at_one_folder_are_told_apart(tmp_path: Path, write_sound) -> None:
    source = write_corpus(tmp_path / "in", write_sound)
    with lock_folder(tmp_path / "out"), pytest.raises(UserError, match="is in use by process"):
        prepare(source, tmp_path / "out", last=Step.AUDIO)
    prepare(source, tmp_path / "out", last=Step.AUDIO)


def test_a_disk_that_fills_up_is_told_and_what_was_done_is_kept(tmp_path: Path, write_sound, monkeypatch) -> None:
    """It fills up after some units; when there is room again, only the others are made."""
    source = write_corpus(tmp_path / "in", write_sound)
    written: list[Path] = []

    def fill(folder: Path, clips: list) -> list[int]:
        written.append(folder)
        if len(written) == 3:
            folder.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        return whole(folder, clips)

    from openvalle.prepare import sources

    whole = sources.write_audio
    with monkeypatch.context() as patch:
        patch.setattr(sources, "write_audio", fill)
        with pytest.raises(UserError, match=r"No space left on device.*what is done is kept"):
            prepare(source, tmp_path / "out", last=Step.AUDIO, options=OPTIONS)
        assert not list((tmp_path / "out" / "audio").glob("index*"))
        done = len(list((tmp_path / "out" / "audio").glob("??/*")))
        assert done == 2
    prepare(source, tmp_path / "out", last=Step.AUDIO, options=OPTIONS)
    prepare(source, tmp_path / "whole", last=Step.AUDIO, options=OPTIONS)
    assert read_bytes(tmp_path / "out") == read_bytes(tmp_path / "whole")


def test_bad_files_of_every_kind_are_left_out_and_the_rest_goes_on(tmp_path: Path, write_sound) -> None:
    """Empty, truncated, longer in its header than it is, without a sample, the same id twice, no sound at all."""
    folder = tmp_path / "in"
    whole = write_sound(folder / "good.wav", 2.0).read_bytes()
    (folder / "empty.wav").touch()
    (folder / "truncated.wav").write_bytes(whole[:30])
    (folder / "wrong.wav").write_bytes(whole[: len(whole) // 2])  # the header promises two seconds
    (folder / "none.wav").write_bytes(write_sound(tmp_path / "none.wav", 0.0).read_bytes())
    (folder / "text.wav").write_text("not a sound")
    names = ["good", "empty", "truncated", "wrong", "none", "text", "good"]
    (folder / "list.txt").write_text("".join(f"{name}.wav|seven days\n" for name in names))
    prepare(folder / "list.txt", tmp_path / "out", last=Step.AUDIO)
    kept = {row["id"]: row["seconds"] for row in read_rows(tmp_path / "out" / "audio" / "index.jsonl")}
    assert kept.keys() <= {"good", "wrong"} and kept["good"] > 1.9
    assert kept.get("wrong", 0.0) < 1.1, "what is not there is not made up"
    rejected = [row["id"] for row in read_rows(tmp_path / "out" / "rejected.jsonl")]
    assert sorted({*rejected} | kept.keys()) == sorted(set(names)) and "good" in rejected


def test_a_huge_file_with_words_is_left_out_unread(tmp_path: Path) -> None:
    """Ten hours that take no room on the disk (a file with holes), beside a header that only claims as much."""
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "good.wav", Audio(np.sin(np.arange(2 * RATE) / 9).astype(np.float32) / 4, RATE))
    with wave.open(str(folder / "huge.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"")
    size = 36_000 * 8000 * 2
    for name, held in (("huge", size), ("claims", 4000)):
        header = bytearray((folder / "huge.wav").read_bytes()[:44])
        header[4:8], header[40:44] = (size + 36).to_bytes(4, "little"), size.to_bytes(4, "little")
        (folder / f"{name}.wav").write_bytes(bytes(header))
        os.truncate(folder / f"{name}.wav", 44 + held)
    (folder / "list.txt").write_text("".join(f"{name}.wav|seven days\n" for name in ("good", "huge", "claims")))
    tracemalloc.start()
    prepare(folder / "list.txt", tmp_path / "out", last=Step.AUDIO)
    assert tracemalloc.get_traced_memory()[1] < 50e6, "576 MB were read"
    tracemalloc.stop()
    assert [row["id"] for row in read_rows(tmp_path / "out" / "audio" / "index.jsonl")] == ["good"]
    reasons = {row["id"]: row["reason"] for row in read_rows(tmp_path / "out" / "rejected.jsonl")}
    assert reasons["huge"].startswith("too long: 36000.0 s") and "claims" in reasons


def test_a_recording_of_hours_without_words_is_several_rows(tmp_path: Path, write_sound, monkeypatch) -> None:
    """So that no unit is longer than an hour or two, however long a file is."""
    from openvalle.prepare import sources

    monkeypatch.setattr(sources, "SECONDS", 2.0)
    path = write_sound(tmp_path / "in" / "1" / "book" / "long.flac", 9.0)
    path.with_suffix(".json").write_text('{"speaker": "1", "voice_activity": []}')
    result = sources.scan(tmp_path / "in", tmp_path / "scan", needs_text=False, seconds=2.0)
    rows = list(result.rows())
    assert [row["start"] for row in rows] == [0, 2, 4, 6, 8] and sum(row["seconds"] for row in rows) == 9.0
    assert len(result.units) > 1


def test_steps_read_what_the_ones_before_write() -> None:
    """And what a unit's rows hold is checked against the declaration while it is made."""
    from openvalle.prepare.transcribe import TranscribeSettings

    for options in (PrepareOptions(), PrepareOptions(transcribe=TranscribeSettings())):
        assert check_columns(options.steps)[Step.TOKENS] >= {"shard", "frames", "symbols", "text", "speaker"}
    check_columns(PrepareOptions(text_unit=TextUnit.BPE).steps)
    with pytest.raises(AssertionError):
        check_columns([Step.SCAN, Step.TRANSCRIBE])
    assert {step for step, declared in STEPS.items() if declared.gpu} == {Step.TRANSCRIBE}
