"""Readers of corpora of Mandarin and Japanese, as they are unpacked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openvalle.errors import UserError
from openvalle.pipes import read_text
from openvalle.prepare.clips import CorpusClip, read_lines

AISHELL1 = "aishell_transcript_v0.8.txt"
AISHELL3 = "content.txt"
JVS = "transcripts_utf8.txt"
WENET = "WenetSpeech.json"


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
