"""Readers of published corpora whose layouts are their own: each yields `CorpusClip`s and decides nothing else."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openvalle.config import Syntax, read_data
from openvalle.errors import UserError
from openvalle.pipes import read_text
from openvalle.prepare.clips import UNKNOWN_SPEAKER, CorpusClip, json_rows, read_lines

AISHELL1 = "aishell_transcript_v0.8.txt"
AISHELL3 = "content.txt"
JVS = "transcripts_utf8.txt"
WENET = "WenetSpeech.json"
MARKS = {"<COMMA>": ",", "<PERIOD>": ".", "<QUESTIONMARK>": "?", "<EXCLAMATIONPOINT>": "!"}  # of GigaSpeech
DEV_NAMES = ("dev", "valid", "validation")


def split_named(name: str) -> str | None:
    """Return the split that a file or folder is named after; None if it is none."""
    name = name.lower()
    if name.startswith("train"):
        return "train"
    if name.startswith("test"):
        return name
    return name if name in DEV_NAMES or name.startswith("dev") else None


def read_mls(root: Path) -> Iterator[CorpusClip]:
    """Multilingual LibriSpeech: `mls_LANGUAGE/{train,dev,test}/transcripts.txt` (id, a tab, words) and
    `audio/SPEAKER/BOOK/ID.flac` (or .opus) beside it."""
    for transcript in sorted(root.rglob("transcripts.txt")):
        language = _mls_language(transcript)
        for name, _, text in (line.partition("\t") for line in read_lines(transcript)):
            speaker, book, *_ = name.split("_")
            folder = transcript.parent / "audio" / speaker / book
            sound = next((path for path in (folder / f"{name}.flac", folder / f"{name}.opus") if path.is_file()), None)
            split = split_named(transcript.parent.name)
            yield CorpusClip(name, sound or folder / f"{name}.flac", text.strip(), speaker, language, split)


MLS_LANGUAGES = {
    "english": "en",
    "german": "de",
    "dutch": "nl",
    "french": "fr",
    "spanish": "es",
    "italian": "it",
    "portuguese": "pt",
    "polish": "pl",
}


def _mls_language(transcript: Path) -> str:
    for part in transcript.resolve().parts:
        if part.startswith("mls_"):
            name = part.split("_")[1]
            return MLS_LANGUAGES.get(name, name)
    return "en"


def read_common_voice(root: Path) -> Iterator[CorpusClip]:
    """Common Voice: `LANGUAGE/{train,dev,test}.tsv` with client_id, path and sentence, sounds in `clips/`."""
    for table in sorted(root.rglob("*.tsv")):
        split = split_named(table.stem)
        if split is None or not (table.parent / "clips").is_dir():
            continue  # validated, invalidated and other overlap with the splits
        rows = csv.DictReader(io.StringIO(read_text(table, most=None)), delimiter="\t", quoting=csv.QUOTE_NONE)
        for number, row in enumerate(rows, 2):
            if not row.get("path") or row.get("sentence") is None:
                raise UserError(f"{table} line {number} has no path or no sentence", "restore it from its source")
            language = row.get("locale") or table.parent.name
            sound = table.parent / "clips" / row["path"]
            speaker = row.get("client_id") or UNKNOWN_SPEAKER
            yield CorpusClip(f"{language}/{Path(row['path']).stem}", sound, row["sentence"], speaker, language, split)


def read_kaldi(root: Path) -> Iterator[CorpusClip]:
    """A Kaldi data folder: `wav.scp`, `text`, `utt2spk` and, where utterances are parts of recordings, `segments`."""
    sounds = dict(_pairs(root / "wav.scp"))
    for name, place in sounds.items():
        if place.endswith("|"):
            raise UserError(f"{root / 'wav.scp'}: the sound of {name} comes from a command", "write sound files first")
    speakers = dict(_pairs(root / "utt2spk")) if (root / "utt2spk").is_file() else {}
    segments = dict(_pairs(root / "segments")) if (root / "segments").is_file() else {}
    language = dict(_pairs(root / "utt2lang")) if (root / "utt2lang").is_file() else {}
    for name, text in _pairs(root / "text"):
        recording, start, end = name, 0.0, None
        if segments:
            recording, start, end = _segment(root / "segments", name, segments.get(name, ""))
        yield CorpusClip(
            name,
            root / sounds.get(recording, recording),
            text,
            speakers.get(name, UNKNOWN_SPEAKER),
            language.get(name, "en"),
            split_named(root.resolve().name),
            start,
            None if end is None else end - start,
        )


def _segment(path: Path, name: str, line: str) -> tuple[str, float, float]:
    try:
        recording, start, end = line.split()
        return recording, float(start), float(end)
    except ValueError:
        raise UserError(f"{path} does not say where {name} is", "each line: utterance recording start end") from None


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    for line in read_lines(path):
        name, _, rest = line.partition(" ")
        if name:
            yield name, rest.strip()


def read_gigaspeech(path: Path) -> Iterator[CorpusClip]:
    """GigaSpeech: `GigaSpeech.json` with `audios`, each with its `path` and `segments` (begin_time, end_time,
    text_tts). A segment of music, noise or the like has no words."""
    for audio in read_data(path, Syntax.JSON).get("audios", ()):
        for segment in audio.get("segments", ()):
            text = _giga_text(segment["text_tts"])
            start = float(segment["begin_time"])
            yield CorpusClip(
                segment["sid"],
                path.parent / audio["path"],
                text,
                audio["aid"] if segment.get("speaker") in (None, "N/A") else str(segment["speaker"]),
                "en",
                _giga_split(segment.get("subsets", ())),
                start,
                float(segment["end_time"]) - start,
            )


def _giga_text(text: str) -> str:
    """Return the words with their punctuation; other marks stand for music, noise and the like."""
    words = [word for word in text.split() if word in MARKS or not word.startswith("<")]
    if all(word in MARKS for word in words):
        return ""
    return "".join(MARKS.get(word, f" {word}") for word in words).strip()


def _giga_split(subsets: list[str]) -> str | None:
    names = {name.strip("{}").lower() for name in subsets}
    return "dev" if "dev" in names else "test" if "test" in names else "train" if names else None


def read_emilia(root: Path) -> Iterator[CorpusClip]:
    """Emilia as unpacked: `LANGUAGE/.../ID.json` (id, text, speaker, language) beside `ID.mp3`."""
    for about in sorted(root.rglob("*.json")):
        values = read_data(about, Syntax.JSON)
        sounds = [about.with_suffix(ending) for ending in (".mp3", ".flac", ".wav")]
        sound = next((path for path in sounds if path.is_file()), sounds[0])
        language = str(values.get("language") or "en").lower()
        yield CorpusClip(
            str(values.get("id") or about.stem),
            sound,
            values["text"],
            str(values.get("speaker") or UNKNOWN_SPEAKER),
            language,
        )


def read_nemo(path: Path) -> Iterator[CorpusClip]:
    """Manifests of NeMo, as HiFiTTS-2 has them: JSON lines with audio_filepath, text, and speaker, duration, offset."""
    for number, row in enumerate(json_rows(path), 1):
        if not isinstance(row.get("audio_filepath"), str):
            raise UserError(f"{path} line {number} has no audio_filepath", "each needs one")
        text = row.get("normalized_text") or row.get("text") or ""
        start = float(row.get("offset") or 0.0)
        yield CorpusClip(
            Path(row["audio_filepath"]).with_suffix("").as_posix() + (f"@{start:g}" if start else ""),
            path.parent / row["audio_filepath"],
            str(text),
            str(row.get("speaker") or UNKNOWN_SPEAKER),
            str(row.get("language") or "en"),
            row.get("split") or split_named(path.stem),
            start,
            None if row.get("duration") is None else float(row["duration"]),
        )


def is_emilia(about: Path) -> bool:
    """Whether a JSON file is what Emilia has beside a sound."""
    try:
        values = json.loads(read_text(about, most=None))
    except (ValueError, UserError):
        return False
    return isinstance(values, dict) and {"text", "speaker", "dnsmos"} <= values.keys()


def read_aishell1(root: Path) -> Iterator[CorpusClip]:
    """transcript/aishell_transcript_v0.8.txt and wav/SPLIT/SPEAKER/ID.wav; the words of a text are set apart."""
    sounds = {path.stem: path for path in sorted(root.rglob("wav/**/*.wav"))}
    for line in read_lines(next(root.rglob(AISHELL1))):
        name, _, text = line.partition(" ")
        if not name.strip():
            continue
        sound = sounds.get(name, root / "wav" / f"{name}.wav")
        split = next((part for part in sound.parts[-4:] if part in ("train", "dev", "test")), None)
        yield CorpusClip(name, sound, "".join(text.split()), sound.parent.name, "zh", split)


def read_aishell3(root: Path) -> Iterator[CorpusClip]:
    """SPLIT/content.txt: name, tab, signs with their pinyin between them; SPLIT/wav/SPEAKER/ID.wav."""
    for content in sorted(root.rglob(AISHELL3)):
        split = content.parent.name if content.parent.name in ("train", "test") else None
        for number, line in enumerate(read_lines(content), 1):
            name, tab, text = line.partition("\t")
            if not line.strip():
                continue
            if not tab:
                raise UserError(
                    f"{content} line {number} has no tab", "each line is name, tab, signs with their pinyin"
                )
            stem = Path(name).stem
            signs = "".join(part for part in text.split() if not re.fullmatch(r"[a-z:]+[1-5]", part))
            yield CorpusClip(stem, content.parent / "wav" / stem[:7] / f"{stem}.wav", signs, stem[:7], "zh", split)


def read_jvs(root: Path) -> Iterator[CorpusClip]:
    """SPEAKER/STYLE/transcripts_utf8.txt: `ID:text`, beside wav24kHz16bit/ID.wav; whispered and falsetto ones, too."""
    for transcript in sorted(root.rglob(JVS)):
        speaker, style = transcript.parts[-3], transcript.parts[-2]
        folder = next(iter(sorted(transcript.parent.glob("wav*"))), transcript.parent / "wav24kHz16bit")
        for line in read_lines(transcript):
            name, colon, text = line.partition(":")
            if colon:
                yield CorpusClip(f"{speaker}/{style}/{name}", folder / f"{name}.wav", text.strip(), speaker, "ja")


def read_wenetspeech(path: Path) -> Iterator[CorpusClip]:
    """WenetSpeech.json: recordings with their segments in seconds; the whole file is read at once."""
    try:
        audios: list[dict[str, Any]] = json.loads(read_text(path, most=None))["audios"]
        for audio in audios:
            for segment in audio["segments"]:
                start, end = float(segment["begin_time"]), float(segment["end_time"])
                yield CorpusClip(
                    id=str(segment["sid"]),
                    audio=path.parent / audio["path"],
                    text=str(segment["text"]),
                    speaker=str(segment.get("speaker") or audio["aid"]),  # a recording's speakers are not told apart
                    language="zh",
                    split="test" if any(str(name).startswith("TEST") for name in segment.get("subsets", ())) else None,
                    start=start,
                    seconds=end - start,
                )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no list of WenetSpeech ({error})", "give its WenetSpeech.json") from None
