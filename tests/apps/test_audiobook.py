"""A book that was interrupted and resumed is the uninterrupted one; a chapter is what `say` gives for its text."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openvalle.apps import audiobook as book_module
from openvalle.apps.audiobook import PART, RECORD, Progress, Reading, file_names, speak_book
from openvalle.errors import AudioError, TextError, UserError
from openvalle.media import read
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.text.chapters import Chapter, split_chapters

TEXT = "# One\n\nHi.\n\nI see.\n\nChapter Two: The end\n\nNo."


@pytest.fixture
def reading(synthesizer: Synthesizer, tiny_voice: Voice) -> Reading:
    return Reading(tiny_voice, 3, synthesizer.sampling(attempts=1), "wav")


def test_chapters_are_what_say_gives(synthesizer: Synthesizer, reading: Reading, tmp_path: Path) -> None:
    chapters = split_chapters(TEXT)
    done = speak_book(synthesizer, chapters, tmp_path / "book", reading)
    assert [path.name for path in done.chapters] == ["01-one.wav", "02-chapter-two-the-end.wav"]
    for chapter, path in zip(chapters, done.chapters, strict=True):
        said = synthesizer.say(chapter.text, reading.voice, seed=3, options=reading.options)
        assert path.read_bytes() == said.save(tmp_path / "said.wav").read_bytes()
    lines = done.playlist.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#EXTM3U"
    assert lines[2::2] == [path.name for path in done.chapters]
    assert lines[1].endswith(",One")
    assert sorted(path.name for path in done.playlist.parent.iterdir()) == sorted(
        [*lines[2::2], done.playlist.name, RECORD]
    )


@pytest.mark.parametrize("lines", [1, 2, 4])
def test_disk_full_in_the_middle_then_resumed_is_the_same(
    synthesizer: Synthesizer, reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    chapters = split_chapters(TEXT)
    whole = speak_book(synthesizer, chapters, tmp_path / "whole", reading)
    save, saved = Progress.save, []

    def full(self: Progress, path: Path) -> None:
        saved.append(path)
        if len(saved) == 1 + lines + (lines > 3):  # the first is the empty record, one is that of a whole chapter
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(self, path)

    monkeypatch.setattr(Progress, "save", full)
    folder = tmp_path / "broken"
    with pytest.raises(AudioError, match=r"disk is full.*--resume"):
        speak_book(synthesizer, chapters, folder, reading)
    monkeypatch.undo()
    assert not list(folder.glob("*.m3u8")), "half a book has no playlist"
    with pytest.raises(UserError, match="--resume"):
        speak_book(synthesizer, chapters, folder, reading)
    done = speak_book(synthesizer, chapters, folder, reading, resume=True)
    for one, other in zip(whole.chapters, done.chapters, strict=True):
        np.testing.assert_array_equal(read(one).samples, read(other).samples)
    assert done.playlist.read_text() == whole.playlist.read_text()
    assert not (folder / PART).exists()


def test_resumed_with_other_settings_is_refused(synthesizer, reading: Reading, tmp_path: Path) -> None:
    chapters = [Chapter("One", "Hi.")]
    first = speak_book(synthesizer, chapters, tmp_path, reading)
    for other in (
        replace(reading, seed=4),
        replace(reading, file_format="flac"),
        replace(reading, options=synthesizer.sampling(speed=2)),
        replace(reading, voice=replace(reading.voice, codes=reading.voice.codes[::-1].copy())),
    ):
        with pytest.raises(UserError, match="begun with another text, voice, model, seed or format"):
            speak_book(synthesizer, chapters, tmp_path, other, resume=True)
    with pytest.raises(UserError, match="begun with another"):
        speak_book(synthesizer, [Chapter("One", "Ho.")], tmp_path, reading, resume=True)
    assert speak_book(synthesizer, chapters, tmp_path, reading, resume=True) == first, "nothing is left to do"
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        speak_book(synthesizer, chapters, tmp_path, reading, resume=True)


def test_no_more_than_a_block_is_held(synthesizer, reading: Reading, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(book_module, "BLOCK", 1000)
    blocks = []
    found = book_module._read_samples
    monkeypatch.setattr(book_module, "_read_samples", lambda path: (blocks.append(len(b)) or b for b in found(path)))
    speak_book(synthesizer, [Chapter("One", "Hi.")], tmp_path, reading)
    assert max(blocks) == 1000
    assert len(blocks) > 5


def test_chapters_by_their_headings() -> None:
    text = (
        "By nobody.\n\n# The first #\n\nIt was.\n\nPart of it.\n\nCHAPTER IV\n\nMore.\n\n"
        "Chapter five was long.\n\nPrologue\n\nEnd."
    )
    chapters = split_chapters(text, "book")
    assert [chapter.title for chapter in chapters] == ["book", "The first", "CHAPTER IV", "Prologue"]
    assert [chapter.text for chapter in chapters][1:3] == [
        "The first\n\nIt was.\n\nPart of it.",
        "CHAPTER IV\n\nMore.\n\nChapter five was long.",
    ]
    assert split_chapters("Only text.\r\n\r\nMore.", "t") == [Chapter("t", "Only text.\n\nMore.")]
    with pytest.raises(TextError, match="empty"):
        split_chapters(" \n\n ")


def test_file_names_sort_in_order() -> None:
    names = file_names([Chapter("Über: a/b", "x"), *[Chapter("…", "x")] * 100], ".mp3")
    assert names[:2] == ["001-ber-a-b.mp3", "002.mp3"]
    assert names == sorted(names)
