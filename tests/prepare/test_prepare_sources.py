"""The scan lists what can be used, says why the rest cannot, and gives every clip a split."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from openvalle.data.shards import read_rows
from openvalle.errors import UserError
from openvalle.prepare.clips import CorpusClip
from openvalle.prepare.formats import Format
from openvalle.prepare.sources import CUTS, LAYOUTS, Splits, read_cuts, scan


def test_unusable_clips_are_listed_with_reasons(tmp_path, write_sound):
    write_sound(tmp_path / "good.wav")
    write_sound(tmp_path / "mute.wav")
    (tmp_path / "noise.wav").write_bytes(b"not a sound" * 100)
    (tmp_path / "empty.wav").touch()
    names = ["good", "gone", "noise", "empty", "good"]
    lines = [f"{name}.wav|hello\n" for name in names] + ["mute.wav| \n"]
    (tmp_path / "list.txt").write_text("".join(lines))
    result = scan(tmp_path / "list.txt", tmp_path / "out")
    reasons = {
        (row["id"], row["reason"].split("(")[0].split(" at ")[0].split(f" {tmp_path}")[0].strip())
        for row in result.list_left_out()
    }
    assert [row["id"] for row in result.rows()] == ["good"]
    assert reasons == {
        ("gone", "no audio file"),
        ("noise", "cannot read"),
        ("empty", "the audio file"),
        ("good", "the id was used before"),
        ("mute", "no text"),
    }
    assert read_rows(tmp_path / "out" / "rejected.jsonl") == list(result.list_left_out())


def test_a_source_without_anything_usable_is_one_clear_error(tmp_path):
    (tmp_path / "list.txt").write_text("gone.wav|hello\n")
    with pytest.raises(UserError, match=r"nothing to prepare \(gone: no audio file"):
        scan(tmp_path / "list.txt", tmp_path / "out")
    with pytest.raises(UserError, match="no sound with text was found"):
        scan(tmp_path / "out", tmp_path / "out2")


LHOTSE = (  # what lhotse 1.33 writes when it has read the scan of this clip: SOURCE stands for the file
    '{"id": "anna/1", "start": 0.0, "duration": 1.5, "channel": 0, "supervisions": [{"id": "anna/1", "recording_id": '
    '"anna/1", "start": 0.0, "duration": 1.5, "channel": 0, "text": "hello there", "language": "en", "speaker": '
    '"anna"}], "recording": {"id": "anna/1", "sources": [{"type": "file", "channels": [0], "source": "SOURCE"}], '
    '"sampling_rate": 16000, "num_samples": 24000, "duration": 1.5, "channel_ids": [0]}, "custom": {"split": '
    '"train"}, "type": "MonoCut"}'
)


def test_the_scan_is_a_lhotse_manifest_that_reads_back_as_itself(tmp_path, write_sound):
    sound = write_sound(tmp_path / "in" / "anna" / "1.wav", 1.5)
    sound.with_suffix(".txt").write_text("hello there")
    rows = list(scan(tmp_path / "in", tmp_path / "scan").rows())
    written = gzip.decompress((tmp_path / "scan" / CUTS).read_bytes()).decode()
    assert json.loads(written) == json.loads(LHOTSE.replace("SOURCE", str(sound.resolve())))
    assert list(scan(tmp_path / "scan" / CUTS, tmp_path / "again").rows()) == rows
    assert [row.items() <= rows[0].items() for row in read_cuts(tmp_path / "scan" / CUTS)] == [True]


def _clips(speakers: int, each: int, split: str | None = None) -> list[CorpusClip]:
    return [CorpusClip(f"{s}-{u}", Path("x"), "t", f"s{s}", split=split) for s in range(speakers) for u in range(each)]


def assign_splits(clips: list[CorpusClip]) -> list[CorpusClip]:
    splits = Splits()
    for clip in clips:
        splits.add(clip)
    splits.choose()
    return [replace(clip, split=splits.of(clip.id, clip.speaker, clip.split)) for clip in clips]


def test_dev_speakers_are_unseen_in_training():
    for speakers in (2, 5, 300):
        clips = assign_splits(_clips(speakers, 3))
        sets = {split: {clip.speaker for clip in clips if clip.split == split} for split in ("train", "dev")}
        assert sets["train"] and sets["dev"]
        assert not sets["train"] & sets["dev"]
        assert speakers < 100 or 0.02 < len(sets["dev"]) / speakers < 0.09


def test_a_speaker_more_moves_no_other():
    before = {clip.id: clip.split for clip in assign_splits(_clips(100, 1))}
    after = {clip.id: clip.split for clip in assign_splits(_clips(101, 1))}
    assert before.items() <= after.items()


def test_one_speaker_is_divided_by_utterance_and_one_utterance_trains():
    assert {clip.split for clip in assign_splits(_clips(1, 200))} == {"train", "dev"}
    assert [clip.split for clip in assign_splits(_clips(1, 1))] == ["train"]


def test_the_sources_own_splits_stand():
    assert {clip.split for clip in assign_splits(_clips(5, 2, "test-other"))} == {"test-other"}


def test_the_page_of_layouts_that_errors_name_shows_every_layout(tmp_path):
    with pytest.raises(UserError, match=LAYOUTS):
        scan(tmp_path, tmp_path / "out")
    page = (Path(__file__).parents[2] / LAYOUTS).read_text(encoding="utf-8").partition("\n## ")[0]  # the first table
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) - 1 == len(Format), "a heading, then a row for each"
