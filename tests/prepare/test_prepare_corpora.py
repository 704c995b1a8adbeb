"""Published corpora are recognised by their true layouts, of which each test makes a tiny copy."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from openvalle.data.shards import AudioShards
from openvalle.errors import UserError
from openvalle.prepare.clips import UNKNOWN_SPEAKER, CorpusClip
from openvalle.prepare.formats import Format, detect, read_clips
from openvalle.prepare.run import prepare
from openvalle.prepare.steps import Step


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_multilingual_librispeech(tmp_path: Path) -> None:
    root = tmp_path / "mls_german"
    write(root / "train" / "transcripts.txt", "10148_10119_000005\tdie ihm gegebene\n")
    write(root / "dev" / "transcripts.txt", "7_8_000000\tein wort\n")
    sound = write(root / "train" / "audio" / "10148" / "10119" / "10148_10119_000005.opus", "")
    missing = root / "dev" / "audio" / "7" / "8" / "7_8_000000.flac"
    assert detect(root)[0] is Format.MLS
    assert sorted(read_clips(root), key=lambda clip: clip.id) == [
        CorpusClip("10148_10119_000005", sound, "die ihm gegebene", "10148", "de", "train"),
        CorpusClip("7_8_000000", missing, "ein wort", "7", "de", "dev"),
    ]


def test_common_voice(tmp_path: Path) -> None:
    head = "client_id\tpath\tsentence\tup_votes\tlocale\n"
    write(tmp_path / "cs" / "train.tsv", head + 'abc\tcommon_voice_cs_1.mp3\tŘekl "ano".\t2\tcs\n')
    write(tmp_path / "cs" / "validated.tsv", head + "abc\tcommon_voice_cs_1.mp3\tŘekl ano.\t2\tcs\n")
    sound = write(tmp_path / "cs" / "clips" / "common_voice_cs_1.mp3", "")
    assert detect(tmp_path)[0] is Format.COMMON_VOICE
    assert list(read_clips(tmp_path)) == [
        CorpusClip("cs/common_voice_cs_1", sound, 'Řekl "ano".', "abc", "cs", "train")
    ]
    write(tmp_path / "cs" / "dev.tsv", "client_id\tpath\nabc\tx.mp3\n")
    with pytest.raises(UserError, match="line 2 has no path or no sentence"):
        list(read_clips(tmp_path))


def test_kaldi(tmp_path: Path) -> None:
    root = tmp_path / "dev"
    write(root / "wav.scp", "rec1 sounds/rec1.wav\nrec2 /data/rec2.flac\n")
    write(root / "text", "utt1 HELLO THERE\nutt2 GOOD BYE\n")
    write(root / "utt2spk", "utt1 anna\nutt2 ben\n")
    write(root / "segments", "utt1 rec1 1.5 3.0\nutt2 rec2 0.0 2.25\n")
    assert detect(root)[0] is Format.KALDI
    assert list(read_clips(root)) == [
        CorpusClip("utt1", root / "sounds" / "rec1.wav", "HELLO THERE", "anna", "en", "dev", 1.5, 1.5),
        CorpusClip("utt2", Path("/data/rec2.flac"), "GOOD BYE", "ben", "en", "dev", 0.0, 2.25),
    ]
    write(root / "segments", "utt1 rec1 1.5\n")
    with pytest.raises(UserError, match="does not say where utt1 is"):
        list(read_clips(root))
    write(root / "wav.scp", "utt1 sph2pipe -f wav a.sph |\n")
    with pytest.raises(UserError, match="comes from a command"):
        list(read_clips(root))


def test_gigaspeech(tmp_path: Path) -> None:
    segments = [
        {"sid": "POD1_S1", "begin_time": 1.0, "end_time": 3.5, "subsets": ["{XL}", "{M}"], "speaker": "N/A"}
        | {"text_tts": "AS THEY'RE LEAVING <COMMA> CAN KASH PULL <QUESTIONMARK>"},
        {"sid": "POD1_S2", "begin_time": 4.0, "end_time": 5.0, "subsets": ["{DEV}"], "speaker": "N/A"}
        | {"text_tts": "<MUSIC>"},
    ]
    audio = {"aid": "POD1", "path": "audio/podcast/POD1.opus", "segments": segments}
    path = write(tmp_path / "GigaSpeech.json", json.dumps({"dataset": "GigaSpeech", "audios": [audio]}))
    sound = tmp_path / "audio" / "podcast" / "POD1.opus"
    assert detect(tmp_path) == (Format.GIGASPEECH, path)
    assert list(read_clips(tmp_path)) == [
        CorpusClip("POD1_S1", sound, "AS THEY'RE LEAVING, CAN KASH PULL?", "POD1", "en", "train", 1.0, 2.5),
        CorpusClip("POD1_S2", sound, "", "POD1", "en", "dev", 4.0, 1.0),
    ]


def test_hifitts_2(tmp_path: Path) -> None:
    rows = [
        {"audio_filepath": "1/2/a.flac", "speaker": "|Name:x_1", "duration": 2.5, "text": "Mr. A", "set": "train"}
        | {"normalized_text": "Mister A"}
    ]
    path = write(tmp_path / "train_manifest.json.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert detect(path)[0] is Format.NEMO
    assert list(read_clips(path)) == [
        CorpusClip("1/2/a", tmp_path / "1/2/a.flac", "Mister A", "|Name:x_1", "en", "train", 0.0, 2.5)
    ]


def test_emilia(tmp_path: Path) -> None:
    values = {"id": "EN_B00000_S00000_W000000", "wav": "x.mp3", "text": " You can help.", "duration": 9.0}
    values |= {"speaker": "EN_B00000_S00000", "language": "en", "dnsmos": 3.2}
    about = write(tmp_path / "EN" / "EN_B00000" / "EN_B00000_S00000_W000000.json", json.dumps(values))
    sound = write(about.with_suffix(".mp3"), "")
    assert detect(tmp_path)[0] is Format.EMILIA
    assert list(read_clips(tmp_path)) == [
        CorpusClip("EN_B00000_S00000_W000000", sound, " You can help.", "EN_B00000_S00000", "en")
    ]


def test_libriheavy_has_its_words_among_several_forms(tmp_path: Path) -> None:
    said = {"id": "small/100/a_0", "recording_id": "small/100/a", "start": 0, "duration": 5.0, "channel": 0}
    said |= {"language": "English", "speaker": "100"}
    said |= {"custom": {"texts": ["When he came, she went.", "WHEN HE CAME SHE WENT"], "pre_texts": ["", ""]}}
    source = {"type": "file", "channels": [0], "source": "download/librilight/small/100/a.flac"}
    cut = {"id": "small/100/a_0", "start": 243.9, "duration": 5.0, "channel": 0, "supervisions": [said]}
    cut |= {"recording": {"id": "small/100/a", "sources": [source], "sampling_rate": 16000}, "type": "MonoCut"}
    with gzip.open(tmp_path / "libriheavy_cuts_small.jsonl.gz", "wt") as file:
        file.write(json.dumps(cut) + "\n")
    (clip,) = read_clips(tmp_path / "libriheavy_cuts_small.jsonl.gz")
    assert clip.text == "When he came, she went."
    assert (clip.start, clip.seconds, clip.speaker, clip.language) == (243.9, 5.0, "100", "en")
    assert clip.audio == tmp_path / "download/librilight/small/100/a.flac"


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_webdataset_tars_are_read_where_they_lie(tmp_path: Path, write_sound) -> None:
    """As Emilia is published: sounds and JSON in tars; as others are: .txt beside .flac, also in folders."""
    sounds = {ending: write_sound(tmp_path / f"s{ending}", 1.0).read_bytes() for ending in (".wav", ".flac")}
    about = {"id": "EN_B00000_S00000_W000000", "text": " Hello there.", "speaker": "EN_B00000_S00000"}
    about |= {"language": "en", "dnsmos": 3.4, "duration": 1.0, "wav": "mp3/EN_B00000_S00000_W000000.mp3"}
    first = {"EN_B00000_S00000_W000000.json": json.dumps(about).encode()}
    first |= {"EN_B00000_S00000_W000000.wav": sounds[".wav"], "note.md": b"no sound"}
    second = {"b/one.txt": b"Seven days.\n", "b/one.flac": sounds[".flac"], "b/cut.flac": sounds[".flac"][:40]}
    write_tar(tmp_path / "in" / "EN" / "EN-B000000.tar", first)
    write_tar(tmp_path / "in" / "x" / "shard-000.tar", second)
    assert detect(tmp_path / "in")[0] is Format.WEBDATASET
    clips = list(read_clips(tmp_path / "in"))
    assert [(clip.id, clip.text.strip(), clip.speaker) for clip in clips] == [
        ("EN_B00000_S00000_W000000", "Hello there.", "EN_B00000_S00000"),
        ("shard-000/b/one", "Seven days.", UNKNOWN_SPEAKER),
        ("shard-000/b/cut", "", UNKNOWN_SPEAKER),
    ]
    prepare(tmp_path / "in", tmp_path / "out", last=Step.AUDIO)
    shards = AudioShards.open(tmp_path / "out")
    assert [row["id"] for row in shards.rows] == [clip.id for clip in clips[:2]]
    assert all(shards[index].seconds > 0.9 for index in range(2))
    assert len(list(read_clips(tmp_path / "in" / "x" / "shard-000.tar"))) == 2


def test_a_tar_that_is_compressed_or_cut_off_is_one_clear_line(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"one.txt": b"x"}, "w:gz")
    with pytest.raises(UserError, match="is no tar, or a compressed one"):
        list(read_clips(tmp_path / "a.tar"))
    write_tar(tmp_path / "b.tar", {"one.json": b"{", "one.wav": b"x"})
    with pytest.raises(UserError, match=r"one\.json is no JSON"):
        list(read_clips(tmp_path / "b.tar"))


def test_lhotse_recordings_with_their_supervisions(tmp_path: Path) -> None:
    recording = {"id": "r1", "sources": [{"type": "file", "channels": [0], "source": "a.flac"}], "sampling_rate": 16000}
    said = {"id": "u1", "recording_id": "r1", "start": 1.5, "duration": 2.0, "channel": 0, "text": "hello there"}
    said |= {"language": "English", "speaker": "7"}
    write(tmp_path / "corpus_recordings_dev-clean.jsonl", json.dumps(recording) + "\n")
    with gzip.open(tmp_path / "corpus_supervisions_dev-clean.jsonl.gz", "wt") as file:
        file.write(json.dumps(said) + "\n")
    assert detect(tmp_path)[0] is Format.LHOTSE
    with pytest.raises(UserError, match=r"no corpus_recordings_dev-clean\.jsonl\.gz beside"):
        list(read_clips(tmp_path))
    with gzip.open(tmp_path / "corpus_recordings_dev-clean.jsonl.gz", "wt") as file:
        file.write(json.dumps(recording) + "\n")
    (clip,) = read_clips(tmp_path)
    wanted = CorpusClip("u1", tmp_path / "a.flac", "hello there", "7", "en", "dev-clean", 1.5, 2.0)
    assert clip == wanted
