"""Readers of the ways speech corpora lie on disk: each yields `CorpusClip`s and decides nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from openvalle.config import Syntax, read_data
from openvalle.errors import UserError
from openvalle.media import FORMATS
from openvalle.prepare import corpora
from openvalle.prepare.clips import UNKNOWN_SPEAKER, CorpusClip, json_rows, read_lines
from openvalle.prepare.tars import find_tars, read_webdataset
from openvalle.text.sentences import join_words

RECORDINGS, SUPERVISIONS = "recordings", "supervisions"  # in the names that lhotse's recipes give
GIGA = "GigaSpeech.json"
META = "meta.lst"  # of the Seed-TTS test sets, whose folders are named after the language
AUDIO_ENDINGS = frozenset({*FORMATS, ".oga", ".aif", ".aiff", ".au", ".w64", ".caf", ".sph"} - {".pcm"})


class Format(StrEnum):
    """How a corpus lies on disk."""

    MANIFEST = "manifest"  # JSON lines {audio, text, speaker?, language?, split?, id?}
    CUTS = "cuts"  # lhotse cuts, JSON lines, may be gzipped
    LIST = "list"  # audio|text or audio|speaker|language|text lines
    SEED_TTS = "seed-tts"  # meta.lst: id|prompt text|prompt sound|text[|sound] lines
    LJSPEECH = "ljspeech"  # metadata.csv beside wavs/
    LIBRISPEECH = "librispeech"  # subset/speaker/chapter/*.trans.txt
    LIBRITTS = "libritts"  # subset/speaker/chapter/*.normalized.txt
    VCTK = "vctk"  # txt/speaker/*.txt and wav48*/speaker/*
    LIBRILIGHT = "librilight"  # size/speaker/book/*.flac with a .json each, and no words
    MLS = "mls"  # mls_LANGUAGE/SPLIT/transcripts.txt
    COMMON_VOICE = "common-voice"  # LANGUAGE/train.tsv ... and clips/
    KALDI = "kaldi"  # wav.scp, text, utt2spk, segments
    GIGASPEECH = "gigaspeech"  # GigaSpeech.json
    NEMO = "nemo"  # JSON lines {audio_filepath, text, speaker?, duration?}: HiFiTTS-2
    EMILIA = "emilia"  # a .json with text, speaker and dnsmos beside every sound
    AISHELL1 = "aishell-1"  # transcript/aishell_transcript_v0.8.txt and wav/split/speaker/*
    AISHELL3 = "aishell-3"  # split/content.txt and split/wav/speaker/*
    JVS = "jvs"  # speaker/style/transcripts_utf8.txt and wav24kHz16bit/*
    WENETSPEECH = "wenetspeech"  # WenetSpeech.json, segments of long recordings
    WEBDATASET = "webdataset"  # tars: a sound and its .txt or .json under one name
    LHOTSE = "lhotse"  # recordings and supervisions, JSON lines, may be gzipped
    SIDECARS = "sidecars"  # every sound has a .txt or .lab beside it


_BY_NAME = (  # files that only one corpus has
    (corpora.AISHELL1, Format.AISHELL1),
    (corpora.AISHELL3, Format.AISHELL3),
    (corpora.JVS, Format.JVS),
)


def detect(source: Path) -> tuple[Format, Path]:
    """Return the format of a file or folder and the path that the reader wants; `UserError` if there is none."""
    if source.is_file():
        return _detect_file(source), source
    if not source.is_dir():
        raise UserError(f"there is nothing at {source}", "give a manifest or a folder of speech and text")
    if (source / "wav.scp").is_file() and (source / "text").is_file():
        return Format.KALDI, source
    for name in ("manifest.jsonl", "cuts.jsonl.gz", "cuts.jsonl", "metadata.csv", META, GIGA):
        if (source / name).is_file():
            return _detect_file(source / name), source / name
    if any(source.glob(f"*{RECORDINGS}*.jsonl*")) and any(source.glob(f"*{SUPERVISIONS}*.jsonl*")):
        return Format.LHOTSE, source
    if (source / corpora.WENET).is_file():
        return Format.WENETSPEECH, source / corpora.WENET
    if (source / "txt").is_dir() and any(source.glob("wav48*")):
        return Format.VCTK, source
    for pattern, found in (("*.trans.txt", Format.LIBRISPEECH), ("*.normalized.txt", Format.LIBRITTS), *_BY_NAME):
        if next(source.rglob(pattern), None):
            return found, source
    if next(source.rglob("transcripts.txt"), None):
        return Format.MLS, source
    if any((table.parent / "clips").is_dir() for table in source.rglob("train.tsv")):
        return Format.COMMON_VOICE, source
    if (about := next(source.rglob("*.json"), None)) and corpora.is_emilia(about):
        return Format.EMILIA, source
    if _is_librilight(source):
        return Format.LIBRILIGHT, source
    if find_tars(source):
        return Format.WEBDATASET, source
    return Format.SIDECARS, source


def _is_librilight(source: Path) -> bool:
    """Whether the first sound has its facts beside it as LibriLight writes them, and no words."""
    sound = next(source.rglob("*.flac"), None)
    if sound is None or not sound.with_suffix(".json").is_file() or sound.with_suffix(".txt").is_file():
        return False
    try:
        facts = read_data(sound.with_suffix(".json"), Syntax.JSON)
    except UserError:
        return False
    return isinstance(facts, dict) and {"speaker", "voice_activity"} <= facts.keys()


def _detect_file(path: Path) -> Format:
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        first = next(iter(json_rows(path)), {})
        if "audio_filepath" in first:
            return Format.NEMO
        return Format.CUTS if {"recording", "tracks"} & first.keys() else Format.MANIFEST
    if path.suffix == ".tar":
        return Format.WEBDATASET
    if path.name == META:
        return Format.SEED_TTS
    if path.name == GIGA:
        return Format.GIGASPEECH
    if path.name == corpora.WENET:
        return Format.WENETSPEECH
    return Format.LJSPEECH if path.suffix == ".csv" else Format.LIST


def read_clips(source: Path) -> Iterator[CorpusClip]:
    """Yield the clips of a corpus of any known format, in a fixed order."""
    found, path = detect(source)
    return READERS[found](path)


def _fields(path: Path, counts: tuple[int, int], form: str) -> Iterator[list[str]]:
    """Yield what stands between the bars of each line that is not blank; `UserError` for another number of fields."""
    for number, line in enumerate(read_lines(path), 1):
        fields = [field.strip() for field in line.split("|")]
        if line.strip() and len(fields) not in counts:
            raise UserError(f"{path} line {number} has {len(fields)} fields", form)
        if line.strip():
            yield fields


def _manifest(path: Path) -> Iterator[CorpusClip]:
    for number, row in enumerate(json_rows(path), 1):
        missing = [key for key in ("audio", "text") if not isinstance(row.get(key), str)]
        if missing:
            raise UserError(f"{path} line {number} has no {' and no '.join(missing)}", "each needs both")
        yield CorpusClip(
            id=str(row.get("id") or Path(row["audio"]).with_suffix("").as_posix()),
            audio=path.parent / row["audio"],
            text=row["text"],
            speaker=str(row.get("speaker") or UNKNOWN_SPEAKER),
            language=str(row.get("language") or "en"),
            split=row.get("split"),
        )


def _cuts(path: Path) -> Iterator[CorpusClip]:
    for cut in json_rows(path):
        yield from _read_cut(path.parent, cut)


def _read_cut(folder: Path, cut: dict[str, Any]) -> Iterator[CorpusClip]:
    """Yield what is said in a cut, whose file is named as seen from a folder."""
    recording = cut.get("recording")
    sources = [item for item in (recording or {}).get("sources", ()) if item.get("type") == "file"]
    if not recording or len(sources) != 1:
        raise UserError(f"cut {cut.get('id')} does not point to one sound file", "store cuts with files")
    channel = cut.get("channel", 0)
    several = len(sources[0].get("channels", [0])) > 1
    clip = CorpusClip(
        id=str(cut["id"]),
        audio=folder / sources[0]["source"],
        text="",
        split=(cut.get("custom") or {}).get("split"),
        inside=tuple((cut.get("custom") or {}).get("inside") or ()) or None,
        channels=(tuple(channel) if isinstance(channel, list) else (channel,)) if several else None,
    )
    supervisions = cut.get("supervisions", [])
    for said in supervisions:
        yield replace(
            clip,
            id=clip.id if len(supervisions) == 1 else str(said["id"]),
            text=said.get("text") or _first_text(said.get("custom") or {}),
            speaker=str(said.get("speaker") or UNKNOWN_SPEAKER),
            language=_language(said.get("language")),
            start=float(cut["start"]) + max(0.0, float(said["start"])),
            seconds=min(float(said["duration"]), float(cut["duration"])),
        )


def _lhotse(root: Path) -> Iterator[CorpusClip]:
    """Yield the supervisions of a folder with the recordings of the file beside, as lhotse's recipes write both."""
    for path in sorted(root.glob(f"*{SUPERVISIONS}*.jsonl*")):
        beside = path.with_name(path.name.replace(SUPERVISIONS, RECORDINGS))
        if not beside.is_file():
            raise UserError(f"there is no {beside.name} beside {path}", "put it there")
        recordings = {str(row["id"]): row for row in json_rows(beside)}
        name = path.name.partition(".")[0]
        split = next((part for part in reversed(name.split("_")) if corpora.split_named(part)), None)
        for said in json_rows(path):
            if str(said.get("recording_id")) not in recordings:
                raise UserError(f"{path}: the recording of {said.get('id')} is not in {beside.name}", "mend the lists")
            cut = {"id": said["id"], "recording": recordings[str(said["recording_id"])], "start": 0.0}
            cut |= {"duration": float("inf"), "supervisions": [said], "channel": said.get("channel", 0)}
            yield from _read_cut(root, cut | {"custom": {"split": split and corpora.split_named(split)}})


def _first_text(custom: dict[str, Any]) -> str:
    """Return the words where they are among several forms, as in Libriheavy: those with case and punctuation first."""
    return next((str(text) for text in custom.get("texts") or () if text), "")


def _language(name: str | None) -> str:
    # lhotse's recipes write "English"; everything else here is a two-letter code.
    written = (name or "en").lower()
    return {"english": "en", "chinese": "zh", "mandarin": "zh", "japanese": "ja"}.get(written, written)


def _list(path: Path) -> Iterator[CorpusClip]:
    for fields in _fields(path, (2, 4), "audio|text or audio|speaker|language|text"):
        clip = CorpusClip(Path(fields[0]).with_suffix("").as_posix(), path.parent / fields[0], fields[-1])
        yield clip if len(fields) == 2 else replace(clip, speaker=fields[1], language=fields[2].lower())


def _seed_tts(path: Path) -> Iterator[CorpusClip]:
    """Yield each prompt once and, where a line has one, the recording of its text; all for testing."""
    folder = path.resolve().parent
    language = folder.name if folder.name in ("en", "zh") else "en"
    seen: set[str] = set()
    for fields in _fields(path, (4, 5), "id|prompt text|prompt sound|text[|sound]"):
        # A prompt is the only recording of its speaker that is known to be.
        speaker = Path(fields[2]).stem
        for sound, text in ((fields[2], fields[1]), (fields[4] if len(fields) == 5 else "", fields[3])):
            if sound and sound not in seen:
                seen.add(sound)
                name = Path(sound).with_suffix("").as_posix()
                yield CorpusClip(name, path.parent / sound, text, speaker, language, split="test")


def _ljspeech(path: Path) -> Iterator[CorpusClip]:
    sounds = _sounds(path.parent / "wavs" if (path.parent / "wavs").is_dir() else path.parent)
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split("|")
        if len(fields) < 2:
            raise UserError(f"{path} line {number} is not id|text or id|text|normalised text")
        name = fields[0].strip().removesuffix(".wav")
        sound = sounds.get(Path(name).name, path.parent / "wavs" / f"{name}.wav")
        yield CorpusClip(name, sound, fields[-1].strip() or fields[1].strip(), speaker="ljspeech")


def _librispeech(root: Path) -> Iterator[CorpusClip]:
    for transcript in sorted(root.rglob("*.trans.txt")):
        sounds = _sounds(transcript.parent)
        for line in read_lines(transcript):
            name, _, text = line.partition(" ")
            sound = sounds.get(name, transcript.parent / f"{name}.flac")
            yield CorpusClip(name, sound, text.strip(), name.split("-")[0], split=_subset(root, transcript))


def _libritts(root: Path) -> Iterator[CorpusClip]:
    for transcript in sorted(root.rglob("*.normalized.txt")):
        name = transcript.name.removesuffix(".normalized.txt")
        sound = transcript.parent / f"{name}.wav"
        text = " ".join(read_lines(transcript)).strip()
        yield CorpusClip(name, sound, text, name.split("_")[0], split=_subset(root, transcript))


def _subset(root: Path, transcript: Path) -> str | None:
    """Return the split named by the subset folder (subset/speaker/chapter/file), train-* being train."""
    parts = (root.resolve() / transcript.relative_to(root)).parts
    subset = parts[-4] if len(parts) >= 4 else ""
    if subset.startswith("train"):
        return "train"
    return subset if subset.startswith(("dev", "test")) else None


def _vctk(root: Path) -> Iterator[CorpusClip]:
    folder = sorted(root.glob("wav48*"))[-1]
    for transcript in sorted((root / "txt").rglob("*.txt")):
        speaker = transcript.parent.name
        # The trimmed release has two microphones; the first is the one everybody uses.
        names = [f"{transcript.stem}_mic1.flac", f"{transcript.stem}.flac", f"{transcript.stem}.wav"]
        found = [folder / speaker / name for name in names if (folder / speaker / name).is_file()]
        sound = found[0] if found else folder / speaker / names[0]
        yield CorpusClip(transcript.stem, sound, " ".join(read_lines(transcript)).strip(), speaker)


def _librilight(root: Path) -> Iterator[CorpusClip]:
    """Yield each chapter; its folders are the book and the speaker. The small, medium and large parts are alike."""
    for path in sorted(root.rglob("*.flac")):
        speaker, book = path.parts[-3:-1]
        yield CorpusClip(f"{speaker}/{book}/{path.stem}", path, "", speaker)


def _sidecars(root: Path) -> Iterator[CorpusClip]:
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() not in AUDIO_ENDINGS or not path.is_file():
            continue
        beside = [path.with_suffix(ending) for ending in (".txt", ".lab")]
        text = next((join_words(read_lines(side)).strip() for side in beside if side.is_file()), "")
        inside = path.relative_to(root)
        speaker = inside.parts[0] if len(inside.parts) > 1 else UNKNOWN_SPEAKER
        yield CorpusClip(inside.with_suffix("").as_posix(), path, text, speaker)


def _sounds(folder: Path) -> dict[str, Path]:
    """Return the sound files of a folder by stem."""
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in AUDIO_ENDINGS}


READERS: dict[Format, Callable[[Path], Iterator[CorpusClip]]] = {
    Format.MANIFEST: _manifest,
    Format.CUTS: _cuts,
    Format.LIST: _list,
    Format.SEED_TTS: _seed_tts,
    Format.LJSPEECH: _ljspeech,
    Format.LIBRISPEECH: _librispeech,
    Format.LIBRITTS: _libritts,
    Format.VCTK: _vctk,
    Format.LIBRILIGHT: _librilight,
    Format.MLS: corpora.read_mls,
    Format.COMMON_VOICE: corpora.read_common_voice,
    Format.KALDI: corpora.read_kaldi,
    Format.GIGASPEECH: corpora.read_gigaspeech,
    Format.NEMO: corpora.read_nemo,
    Format.EMILIA: corpora.read_emilia,
    Format.AISHELL1: corpora.read_aishell1,
    Format.AISHELL3: corpora.read_aishell3,
    Format.JVS: corpora.read_jvs,
    Format.WENETSPEECH: corpora.read_wenetspeech,
    Format.WEBDATASET: read_webdataset,
    Format.LHOTSE: _lhotse,
    Format.SIDECARS: _sidecars,
}
