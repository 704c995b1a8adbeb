"""Every layout of a corpus is recognised and read as the same clips."""

import gzip
import json
from pathlib import Path

import pytest

from openvalle.errors import UserError
from openvalle.prepare.clips import UNKNOWN_SPEAKER, CorpusClip
from openvalle.prepare.formats import Format, detect, read_clips


def _jsonl(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_manifest(tmp_path):
    rows = [
        {"audio": "a/x.opus", "text": "one"},
        {"id": "7", "audio": "/b.wav", "text": "two", "speaker": "s", "language": "ja", "split": "dev", "rate": 1},
    ]
    path = _jsonl(tmp_path / "manifest.jsonl", *rows)
    wanted = [
        CorpusClip("a/x", tmp_path / "a/x.opus", "one"),
        CorpusClip("7", Path("/b.wav"), "two", "s", "ja", "dev"),
    ]
    assert list(read_clips(path)) == list(read_clips(tmp_path)) == wanted


def test_manifest_line_without_text_is_named(tmp_path):
    path = _jsonl(tmp_path / "m.jsonl", {"audio": "a", "text": "t"}, {"audio": "a"})
    with pytest.raises(UserError, match="line 2 has no text"):
        list(read_clips(path))


def test_lists(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a.wav|Hello, you.\n\nb.wav|ben|EN|Good bye.\n", encoding="utf-8-sig")
    assert list(read_clips(path)) == [
        CorpusClip("a", tmp_path / "a.wav", "Hello, you."),
        CorpusClip("b", tmp_path / "b.wav", "Good bye.", "ben", "en"),
    ]
    path.write_text("a.wav|b|c\n")
    with pytest.raises(UserError, match="line 1 has 3 fields"):
        list(read_clips(path))


def test_seed_tts(tmp_path):
    folder = tmp_path / "zh"
    folder.mkdir()
    path = folder / "meta.lst"
    path.write_text("1|Said.|prompt-wavs/a.wav|To say.\n2|Said.|prompt-wavs/a.wav|More.|wavs/2.wav\n\n")
    assert detect(folder) == (Format.SEED_TTS, path)
    assert list(read_clips(folder)) == [
        CorpusClip("prompt-wavs/a", folder / "prompt-wavs/a.wav", "Said.", "a", "zh", "test"),
        CorpusClip("wavs/2", folder / "wavs/2.wav", "More.", "a", "zh", "test"),
    ]
    path.write_text("1|Said.|a.wav\n")
    with pytest.raises(UserError, match="line 1 has 3 fields"):
        list(read_clips(path))


def test_ljspeech(tmp_path, write_sound):
    sound = write_sound(tmp_path / "wavs" / "LJ1.flac")
    (tmp_path / "metadata.csv").write_text("LJ1|Dr. A|Doctor A\nLJ2|Plain|\n")
    assert detect(tmp_path)[0] is Format.LJSPEECH
    assert list(read_clips(tmp_path)) == [
        CorpusClip("LJ1", sound, "Doctor A", "ljspeech"),
        CorpusClip("LJ2", tmp_path / "wavs" / "LJ2.wav", "Plain", "ljspeech"),
    ]


def test_librispeech(tmp_path, write_sound):
    for subset, split in (("train-clean-100", "train"), ("dev-clean", "dev-clean")):
        chapter = tmp_path / subset / "84" / "121"
        sound = write_sound(chapter / "84-121-0.flac")
        (chapter / "84-121.trans.txt").write_text("84-121-0 GO ON\n")
        for source in (tmp_path / subset, tmp_path / subset / "84"):
            assert list(read_clips(source)) == [CorpusClip("84-121-0", sound, "GO ON", "84", split=split)]
    assert detect(tmp_path)[0] is Format.LIBRISPEECH
    assert len(list(read_clips(tmp_path))) == 2


def test_libritts(tmp_path, write_sound):
    chapter = tmp_path / "test-other" / "84" / "121"
    sound = write_sound(chapter / "84_121_0.wav")
    (chapter / "84_121_0.normalized.txt").write_text("Go on.\n")
    (chapter / "84_121_0.original.txt").write_text("Go on...\n")
    assert list(read_clips(tmp_path)) == [CorpusClip("84_121_0", sound, "Go on.", "84", split="test-other")]


def test_vctk(tmp_path, write_sound):
    (tmp_path / "txt" / "p225").mkdir(parents=True)
    (tmp_path / "txt" / "p225" / "p225_001.txt").write_text("Please call Stella.\n")
    folder = tmp_path / "wav48_silence_trimmed" / "p225"
    sound = write_sound(folder / "p225_001_mic1.flac")
    write_sound(folder / "p225_001_mic2.flac")
    assert list(read_clips(tmp_path)) == [CorpusClip("p225_001", sound, "Please call Stella.", "p225")]


def test_sidecars(tmp_path, write_sound):
    one = write_sound(tmp_path / "anna" / "1.wav")
    two = write_sound(tmp_path / "2.flac")
    one.with_suffix(".lab").write_text("hello")
    assert list(read_clips(tmp_path)) == [
        CorpusClip("2", two, "", UNKNOWN_SPEAKER),
        CorpusClip("anna/1", one, "hello", "anna"),
    ]


LHOTSE = """\
{"id": "c", "start": 3.0, "duration": 5.0, "channel": 1, "supervisions": [{"id": "s0", "recording_id": "call", \
"start": 0.5, "duration": 1.0, "channel": 1, "text": "one", "language": "English", "speaker": "ben"}, {"id": "s1", \
"recording_id": "call", "start": 2.0, "duration": 1.5, "channel": 1, "text": "two", "language": "English", \
"speaker": "ben"}], "recording": {"id": "call", "sources": [{"type": "file", "channels": [0, 1], \
"source": "call.wav"}], "sampling_rate": 8000, "num_samples": 80000, "duration": 10.0, "channel_ids": [0, 1]}, \
"custom": {"split": "dev"}, "type": "MonoCut"}
"""  # written by lhotse 1.33


def test_lhotse_cuts_of_parts_and_channels(tmp_path):
    (tmp_path / "cuts.jsonl.gz").write_bytes(gzip.compress(LHOTSE.encode()))
    common = {"speaker": "ben", "split": "dev", "channels": (1,)}
    assert list(read_clips(tmp_path)) == [
        CorpusClip("s0", tmp_path / "call.wav", "one", start=3.5, seconds=1.0, **common),
        CorpusClip("s1", tmp_path / "call.wav", "two", start=5.0, seconds=1.5, **common),
    ]


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="there is nothing at"):
        list(read_clips(tmp_path / "missing"))
    assert list(read_clips(tmp_path)) == []


def write_all(root: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


LAYOUTS = {  # corpora of other languages: their files, and the clips that are in them
    Format.AISHELL1: (
        {
            "transcript/aishell_transcript_v0.8.txt": "BAC009S0002W0122 而 对 楼市\nBAC009S0764W0121 甚至\n",
            "wav/train/S0002/BAC009S0002W0122.wav": "",
            "wav/test/S0764/BAC009S0764W0121.wav": "",
        },
        [
            ("BAC009S0002W0122", "wav/train/S0002/BAC009S0002W0122.wav", "而对楼市", "S0002", "zh", "train"),
            ("BAC009S0764W0121", "wav/test/S0764/BAC009S0764W0121.wav", "甚至", "S0764", "zh", "test"),
        ],
    ),
    Format.AISHELL3: (
        {
            "train/content.txt": "SSB00050001.wav\t广 guang3 州 zhou1 女 nv3\n",
            "test/content.txt": "SSB00730005.wav\t你 ni3\n",
        },
        [
            ("SSB00730005", "test/wav/SSB0073/SSB00730005.wav", "你", "SSB0073", "zh", "test"),
            ("SSB00050001", "train/wav/SSB0005/SSB00050001.wav", "广州女", "SSB0005", "zh", "train"),
        ],
    ),
    Format.JVS: (
        {
            "jvs001/parallel100/transcripts_utf8.txt": "VOICEACTRESS100_001:また、東寺の。\n",
            "jvs001/parallel100/wav24kHz16bit/VOICEACTRESS100_001.wav": "",
        },
        [
            (
                "jvs001/parallel100/VOICEACTRESS100_001",
                "jvs001/parallel100/wav24kHz16bit/VOICEACTRESS100_001.wav",
                "また、東寺の。",
                "jvs001",
                "ja",
                None,
            )
        ],
    ),
}


@pytest.mark.parametrize("found", LAYOUTS)
def test_corpora_of_other_languages(tmp_path: Path, found: Format) -> None:
    files, clips = LAYOUTS[found]
    write_all(tmp_path, files)
    assert detect(tmp_path)[0] is found
    wanted = [CorpusClip(name, tmp_path / sound, *rest) for name, sound, *rest in clips]
    assert list(read_clips(tmp_path)) == wanted


def test_wenetspeech(tmp_path: Path) -> None:
    segment = {"sid": "Y1_S1", "begin_time": 1.5, "end_time": 4.0, "text": "你好", "subsets": ["L"]}
    audio = {"aid": "Y1", "path": "audio/train/Y1.opus", "segments": [segment, {**segment, "subsets": ["TEST_NET"]}]}
    (tmp_path / "WenetSpeech.json").write_text(json.dumps({"audios": [audio]}))
    known = ("Y1_S1", tmp_path / "audio/train/Y1.opus", "你好", "Y1", "zh")
    assert detect(tmp_path)[0] is Format.WENETSPEECH
    assert list(read_clips(tmp_path)) == [CorpusClip(*known, None, 1.5, 2.5), CorpusClip(*known, "test", 1.5, 2.5)]
    (tmp_path / "WenetSpeech.json").write_text(json.dumps({"audios": [{"aid": "Y1"}]}))
    with pytest.raises(UserError, match="no list of WenetSpeech"):
        list(read_clips(tmp_path))
