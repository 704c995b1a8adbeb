"""A book that was interrupted goes on and is the uninterrupted one; what changed is spoken, and nothing else."""

from __future__ import annotations

import errno
import math
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from book_samples import make_epub, make_png
from openvalle.apps.audiobook import RECORD, SENTENCES, file_names, speak_book
from openvalle.apps.narration import HEAD, TAIL, Clock, Reading
from openvalle.apps.readers.book import Book
from openvalle.apps.readers.load import read_book
from openvalle.apps.readers.plain import read_plain
from openvalle.apps.sentence_store import SentenceStore
from openvalle.errors import AudioError, TextError, UserError
from openvalle.media import read
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.text.chapters import Chapter

TEXT = "# One\n\nHi.\n\nI see.\n\nChapter Two: The end\n\nNo."


@pytest.fixture
def reading(synthesizer: Synthesizer, tiny_voice: Voice) -> Reading:
    return Reading(tiny_voice, 3, synthesizer.sampling(attempts=1), "flac", loudness=None)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sentences that were spoken."""
    texts: list[str] = []
    add = Synthesizer.speak_segments

    def speak_segments(self: Synthesizer, segments, *others):
        segments = list(segments)
        texts.extend(segment.sentence.text for segment in segments)
        return add(self, segments, *others)

    monkeypatch.setattr(Synthesizer, "speak_segments", speak_segments)
    return texts


def book_of(text: str = TEXT, title: str = "book") -> Book:
    return read_plain(text, title)


def test_a_chapter_between_its_silences_is_what_say_gives(synthesizer, reading: Reading, tmp_path: Path) -> None:
    book = book_of()
    done = speak_book(synthesizer, book, tmp_path / "book", reading)
    assert [path.name for path in done.files] == ["01-one.flac", "02-chapter-two-the-end.flac"]
    rate = synthesizer.rate
    for chapter, path, length in zip(book.chapters, done.files, done.lengths, strict=True):
        speech = synthesizer.say(chapter.text, reading.voice, seed=3, options=reading.options)
        speech.save(tmp_path / "said.flac")
        samples, expected = read(path, None).samples, read(tmp_path / "said.flac", None).samples
        start, end = round(HEAD * rate), round(HEAD * rate) + len(expected)
        np.testing.assert_array_equal(samples[start:end], expected)
        assert not samples[:start].any() and not samples[end:].any()
        assert 0 <= len(samples) - end - round(TAIL * rate) < rate / 1000, "to the next millisecond"
        assert len(samples) / rate == length
    lines = done.path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#EXTM3U"
    assert lines[2::2] == [path.name for path in done.files]
    assert lines[1].endswith(",One")
    assert {path.name for path in done.path.parent.iterdir()} == {*lines[2::2], done.path.name, RECORD, SENTENCES}


@pytest.mark.parametrize("written", [1, 2, 3])
def test_disk_full_in_the_middle_then_run_again_is_the_same(
    synthesizer, reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    whole = speak_book(synthesizer, book_of(), tmp_path / "whole", reading)
    add, added = SentenceStore.add, []

    def full(self: SentenceStore, key: str, samples: np.ndarray) -> None:
        added.append(key)
        if len(added) == written:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.folder))
        add(self, key, samples)

    monkeypatch.setattr(SentenceStore, "add", full)
    folder = tmp_path / "broken"
    with pytest.raises(AudioError, match=r"disk is full.*run the same command again"):
        speak_book(synthesizer, book_of(), folder, reading)
    assert not list(folder.glob("*.m3u8")), "half a book has no playlist"
    added.clear()
    written = -1
    done = speak_book(synthesizer, book_of(), folder, reading)
    for one, other in zip(whole.files, done.files, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert done.path.read_text() == whole.path.read_text()


def test_what_changed_is_spoken_and_nothing_else(synthesizer, reading: Reading, tmp_path: Path, said) -> None:
    first = speak_book(synthesizer, book_of(), tmp_path, reading)
    before = first.files[0].read_bytes()
    assert len(said) == 5
    said.clear()
    assert speak_book(synthesizer, book_of(), tmp_path, reading) == first
    assert said == []
    changed = book_of(TEXT.replace("No.", "No way."))
    speak_book(synthesizer, changed, tmp_path, reading)
    assert said == ["No way."], "a changed sentence"
    assert first.files[0].read_bytes() == before
    said.clear()
    more = book_of("# Zero\n\nYou.\n\n" + TEXT.replace("No.", "No way."))
    done = speak_book(synthesizer, more, tmp_path, reading)
    assert said == ["Zero", "You."], "a new chapter before the others"
    assert [path.name for path in done.files] == ["01-zero.flac", "02-one.flac", "03-chapter-two-the-end.flac"]
    assert sorted(path.name for path in tmp_path.glob("*.flac")) == [path.name for path in done.files]
    said.clear()
    speak_book(synthesizer, more, tmp_path, replace(reading, lexicon={"way": ("W", "IY1")}))
    assert said == ["No way."], "a word's pronunciation"
    said.clear()
    other = replace(reading, lexicon={"way": ("W", "IY1")}, loudness=-20.0, file_format="mp3")
    speak_book(synthesizer, more, tmp_path, other)
    assert said == [], "loudness and format are none of the speech"


def test_a_book_of_other_settings_is_not_touched(synthesizer, reading: Reading, tmp_path: Path, said) -> None:
    book = book_of("# One\n\nHi.")
    first = speak_book(synthesizer, book, tmp_path, reading)
    for other in (
        replace(reading, seed=4),
        replace(reading, options=synthesizer.sampling(speed=2)),
        replace(reading, voice=replace(reading.voice, codes=reading.voice.codes[::-1].copy())),
    ):
        with pytest.raises(UserError, match="begun with another voice, model or seed"):
            speak_book(synthesizer, book, tmp_path, other)
    assert speak_book(synthesizer, book, tmp_path, reading) == first
    said.clear()
    speak_book(synthesizer, book, tmp_path, replace(reading, seed=4), resume=False)
    assert len(said) == 2
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        speak_book(synthesizer, book, tmp_path, replace(reading, seed=4))


def test_what_was_damaged_is_made_again(synthesizer, reading: Reading, tmp_path: Path, said, caplog) -> None:
    first = speak_book(synthesizer, book_of(), tmp_path, reading)
    before = [path.read_bytes() for path in first.files]
    said.clear()
    first.files[0].write_bytes(b"x")
    first.files[1].unlink()
    kept = sorted((tmp_path / SENTENCES).iterdir())
    kept[0].write_bytes(kept[0].read_bytes()[:-9] + b"123456789")
    kept[1].unlink()
    speak_book(synthesizer, book_of(), tmp_path, reading)
    assert [path.read_bytes() for path in first.files] == before
    assert len(said) == 2
    assert "is missing or was changed" in caplog.text


def test_some_chapters_now_and_others_later(synthesizer, reading: Reading, tmp_path: Path, said) -> None:
    done = speak_book(synthesizer, book_of(), tmp_path, reading, numbers=[2])
    assert [path.name for path in done.files] == ["02-chapter-two-the-end.flac"]
    assert len(done.path.read_text().splitlines()) == 3
    done = speak_book(synthesizer, book_of(), tmp_path, reading, numbers=[1])
    assert len(done.path.read_text().splitlines()) == 5, "the playlist has all chapters that are there"
    assert len(said) == 5
    with pytest.raises(UserError, match="chapters 1 to 2"):
        speak_book(synthesizer, book_of(), tmp_path, reading, numbers=[3])


def test_quoted_speech_has_a_voice_of_its_own(synthesizer, reading: Reading, tmp_path: Path) -> None:
    other = replace(reading.voice, codes=reading.voice.codes[::-1].copy())
    book = book_of('# One\n\n"Hi," she said.')
    alone = speak_book(synthesizer, book, tmp_path / "alone", reading)
    both = speak_book(synthesizer, book, tmp_path / "both", replace(reading, quotes=other))
    assert alone.files[0].read_bytes() != both.files[0].read_bytes()
    kept = [set((tmp_path / name / SENTENCES).iterdir()) for name in ("alone", "both")]
    assert (len(kept[0]), len(kept[1])) == (2, 3)


def test_a_chapter_that_cannot_be_spoken_is_left_out(synthesizer, reading: Reading, tmp_path: Path, caplog) -> None:
    done = speak_book(synthesizer, book_of("# One\n\nHi.\n\n# Б\n\nБ."), tmp_path, reading)
    assert len(done.files) == 1
    assert "holds nothing that can be spoken" in caplog.text
    assert "Cyrillic" in done.doubts.read_text(encoding="utf-8")


def test_file_names_sort_in_order() -> None:
    names = file_names([Chapter("Über: a/b", "x"), Chapter("CON", "x"), *[Chapter("…" * 300, "x")] * 100], ".mp3")
    assert names[:3] == ["001-ber-a-b.mp3", "002-con.mp3", "003.mp3"]
    assert names == sorted(names)


def test_a_book_without_words_is_refused() -> None:
    with pytest.raises(TextError, match="empty"):
        book_of(" \n\n ")


def test_time_left_counts_what_is_kept_as_done() -> None:
    clock = Clock()
    clock.left = 1200
    assert clock.estimate() == ""
    clock.note(100, 60.0)
    assert clock.estimate() == ", about 11 min left"
    clock.finish(1100)
    assert clock.estimate() == ", about 1 min left"
    clock.left = 100 * 130
    assert clock.estimate() == ", about 2 h 10 min left"


# A book whose maker is killed: the real command, in a process of its own.

CHAPTERS = [
    ("One", "I see.</p><p>You see.</p><p>He is.</p><p>We are."),
    ("Two", "He.</p><p>She.</p><p>It."),
    ("Three", "No.</p><p>So.</p><p>Oh.</p><p>Yes."),
]
SPOKEN = 3 + 4 + 3 + 4  # headings and sentences


def read_m4b(path: Path) -> tuple[np.ndarray, list[tuple[int, int, str]], dict[str, str], bytes, float]:
    """Return the samples, chapters (in ms), tags, cover and seconds of an M4B."""
    import av

    with av.open(str(path)) as file:
        chapters = [(each["start"], each["end"], each["metadata"]["title"]) for each in file.chapters()]
        assert all(each["time_base"].denominator == 1000 for each in file.chapters())
        cover = b"".join(bytes(packet) for packet in file.demux(video=0)) if file.streams.video else b""
        tags, seconds = dict(file.metadata), file.duration / 1_000_000
    with av.open(str(path)) as file:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    return samples, chapters, tags, cover, seconds


def start(epub: Path, place: Path, model: Path, voice: Path) -> subprocess.Popen[bytes]:
    arguments = ["book", epub, "-o", place, "--model", model, "--voice", voice, "--seed", "3", "--attempts", "1", "-q"]
    return subprocess.Popen([sys.executable, "-m", "openvalle", *map(str, arguments)])


def test_an_epub_becomes_an_m4b_that_is_read_back_exactly(
    synthesizer, reading: Reading, tmp_path: Path, monkeypatch
) -> None:
    pytest.importorskip("av")
    title = "Thrée: " + "a very long title, " * 20
    epub = make_epub(
        tmp_path / "mill.epub", [("One", "Hi. I see."), ("Two & more", "No."), (title, "You.")], make_png()
    )
    book = read_book(epub).select()
    done = speak_book(synthesizer, book, tmp_path / "mill.m4b", replace(reading, loudness=-20.0))
    samples, chapters, tags, cover, seconds = read_m4b(tmp_path / "mill.m4b")
    assert [name for *_, name in chapters] == [chapter.title for chapter in book.chapters] == list(done.titles)
    ends = np.cumsum([0.0, *done.lengths])
    assert [begin for begin, *_ in chapters] == [round(end * 1000) for end in ends[:-1]]
    assert chapters[-1][1] == round(ends[-1] * 1000)
    assert seconds == pytest.approx(done.seconds, abs=1e-6)
    assert 0 <= len(samples) - round(done.seconds * synthesizer.rate) < 1024, "AAC ends with a whole frame"
    assert (tags["title"], tags["artist"], tags["genre"]) == ("The Mill", "A. Writer", "Audiobook")
    assert cover == make_png()
    again = speak_book(synthesizer, book, tmp_path / "again.m4b", replace(reading, loudness=-20.0))
    np.testing.assert_array_equal(read_m4b(again.path)[0], samples)


def kill_often(tmp_path: Path, model: Path, voice: Path, times: int, seed: int) -> None:
    """Kill a book's maker so often at random moments of its work, and compare what comes out in the end.

    A moment is a number of sentences on the disk and some part of the time that one takes: it lies in the work however
    fast the machine is and however long the command takes to begin.
    """
    pytest.importorskip("av")
    epub = make_epub(tmp_path / "mill.epub", CHAPTERS, make_png())
    whole = tmp_path / "whole.m4b"

    def kept(place: Path) -> int:
        return len(list(place.with_suffix(".parts").glob("sentences/*.flac")))

    def run(place: Path, count: float = math.inf, delay: float = 0.0) -> tuple[bool, float]:
        """Run; kill it `delay` seconds after `count` sentences are there; whether that was in time, and how long a
        sentence took."""
        process = start(epub, place, model, voice)
        began, at = math.nan, 0
        while process.poll() is None and (now := kept(place)) < count:
            if math.isnan(began) and now:
                began, at = time.monotonic(), now
            time.sleep(0.002)
        each = (time.monotonic() - began) / max(1, kept(place) - at)
        with suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        process.kill()
        process.wait()
        assert process.returncode in (0, -signal.SIGKILL)
        return process.returncode != 0, each

    _, each = run(whole)
    expected = read_m4b(whole)
    assert kept(whole) == SPOKEN
    rng = random.Random(seed)
    place, books, kills, unfinished = tmp_path / "book0.m4b", 0, 0, 0
    while kills < times:
        have = kept(place)
        if have == SPOKEN:  # nothing is left that tells a moment: complete it, compare, and begin another
            run(place)
            assert_equal(read_m4b(place), expected)
            books += 1
            assert books < times
            place = tmp_path / f"book{books}.m4b"
            continue
        in_time, _ = run(place, rng.randint(have + 1, min(have + 4, SPOKEN)), rng.uniform(0, each))
        kills += in_time
        unfinished += in_time and kept(place) < SPOKEN
    run(place)
    assert_equal(read_m4b(place), expected)
    assert unfinished, "no kill came in the middle"


def assert_equal(one, other) -> None:
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1:] == other[1:]


@pytest.mark.slow
@pytest.mark.long
def test_killed_three_times_no_sample_differs(tmp_path: Path, tiny_model: Path, tiny_voice: Voice) -> None:
    kill_often(tmp_path, tiny_model, tiny_voice.save(tmp_path / "me.safetensors"), 3, 1)


@pytest.mark.slow
def test_killed_twenty_times_no_sample_differs(tmp_path: Path, tiny_model: Path, tiny_voice: Voice) -> None:
    kill_often(tmp_path, tiny_model, tiny_voice.save(tmp_path / "me.safetensors"), 20, 2)
