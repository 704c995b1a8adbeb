"""Speech of made-up speakers in English, Chinese and Japanese for training: spoken, checked, listed with a model card.

    python recipes/teacher/teacher.py OUT --hours 0.1 [--sentences FILE] [--shard 0/2] [--asr whisper:base]
    python recipes/teacher/teacher.py OUT --held-out af_bella,zm_yunxia,jf_gongitsune --last 30 --speak-only

The second is what a trained model is held against: voices that it never heard say a file's last sentences, in turn.
Every step goes on where it stopped. `OUT/manifest.jsonl` is what `openvalle prepare OUT prepared` reads.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from speakers import ALL, HELD_OUT, Speaker, draw_speaker, find_held_out, find_language

from openvalle.audio import Audio, levels
from openvalle.config import BadLine, json_lines, write_json_lines
from openvalle.errors import TextError, UserError
from openvalle.files import lock_folder, write_text
from openvalle.media import read, write
from openvalle.speech_models.asr import load_recognizer, transcribe_in
from openvalle.speech_models.recognizers import Recognizer
from openvalle.synth.normalizers import count_errors
from openvalle.text.language import Word, phonemize

OWN = Path(__file__).with_name("sentences.tsv")
EACH = 6  # sentences of a speaker, in all its languages
SPEEDS = (0.88, 1.12)
LEVEL_DB = -23.0  # of what is spoken, as its loud frames have it
WORST = {"en": 0.1, "zh": 0.15, "ja": 0.15}  # errors by words (en) or signs that a kept clip may have
WORST_SPEAKER = 0.2  # mean errors of a speaker that is kept
SPOKEN, CHECKED, MANIFEST, CARD = "spoken", "checked.jsonl", "manifest.jsonl", "README.md"


class Teacher(Protocol):
    """What speaks."""

    rate: int
    voices: dict[str, np.ndarray]

    def speak(self, words: Sequence[Word], language: str, style: np.ndarray, speed: float) -> np.ndarray | None:
        """Return the samples (N,) of words in a style (lengths, 256); None if they are too few or too many."""
        ...


@dataclass(frozen=True)
class Sentences:
    """Texts by language; each is spoken once before any is spoken again."""

    texts: dict[str, list[str]]

    @classmethod
    def read(cls, path: Path) -> Sentences:
        """Read lines of a language, a tab and a sentence; `UserError` for a file without any."""
        texts: dict[str, list[str]] = defaultdict(list)
        for line in path.read_text(encoding="utf-8").splitlines():
            language, _, text = line.partition("\t")
            if text.strip() and language in ALL:
                texts[language].append(text.strip())
        if not texts:
            raise UserError(f"{path} holds no sentences", "write lines of en, zh or ja, a tab and a sentence")
        return cls(dict(texts))

    def last(self, most: int) -> Sentences:
        """Return the last `most` of each language."""
        return Sentences({language: own[-most:] for language, own in self.texts.items()})

    def choose(self, speaker: Speaker, seed: int, number: int) -> Iterator[tuple[str, str]]:
        """Yield (language, text) for speaker `number`, its languages in turn."""
        spoken = [language for language in speaker.languages if language in self.texts]
        for place in range(EACH if spoken else 0):
            language = spoken[(number + place) % len(spoken)]
            own = self.texts[language]
            at = number * EACH + place
            order = np.random.default_rng([seed, len(own), at // len(own)]).permutation(len(own))
            yield language, own[int(order[at % len(own)])]


def level(samples: np.ndarray, rate: int) -> Audio:
    """Return the sound with its speech at `LEVEL_DB`: voices of the teacher differ by 8 dB."""
    audio = Audio(samples.astype(np.float32), rate)
    loud = levels(audio, 0.02)
    gain = LEVEL_DB - float(np.mean(loud[loud > loud.max() - 25]))
    return Audio(np.clip(audio.samples * 10 ** (gain / 20), -0.99, 0.99).astype(np.float32), rate)


def read_known(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a file by their sound; a last line that was cut off is forgotten."""
    found: dict[str, dict[str, Any]] = {}
    try:
        for _, row in json_lines(path.read_text(encoding="utf-8")):
            found[row["audio"]] = row
    except (FileNotFoundError, BadLine):
        pass
    return found


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Write one more line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Line:
    """A sentence that a speaker says at a speed; `name`: the path of its sound inside the folder."""

    name: str
    speaker: Speaker
    language: str
    text: str
    speed: float


def draw_turns(
    voices: dict[str, np.ndarray], sentences: Sentences, seed: int, shard: int, shards: int
) -> Iterator[list[Line]]:
    """Yield without end what speakers `shard`, `shard + shards` ... say, one speaker at a time."""
    for number in count(shard, shards):
        speaker = draw_speaker(voices, seed, number)
        rng = np.random.default_rng([seed, number, 1])
        yield [
            Line(
                f"audio/{number:06d}-{speaker.name}/{place}.opus", speaker, language, text, float(rng.uniform(*SPEEDS))
            )
            for place, (language, text) in enumerate(sentences.choose(speaker, seed, number))
        ]


def list_turns(
    voices: dict[str, np.ndarray], sentences: Sentences, names: Sequence[str], is_native: bool = False
) -> Iterator[list[Line]]:
    """Yield what each of the held-out voices says: every sentence is said once, the voices in turn.

    `is_native`: by the voices of its own language alone.
    """
    speak = {
        language: [name for name in names if not is_native or find_language(name) == language]
        for language in sentences.texts
    }
    if silent := [language for language, own in speak.items() if not own]:
        raise UserError(f"no voice of {', '.join(names)} is of {', '.join(silent)}", "name one, or leave --native away")
    for name in names:
        speaker = find_held_out(voices, name)
        yield [
            Line(f"audio/{name}/{language}-{place:03d}.opus", speaker, language, text, 1.0)
            for language, own in sentences.texts.items()
            for place, text in enumerate(own)
            if speak[language][place % len(speak[language])] == name
        ]


def speak(teacher: Teacher, turns: Iterator[list[Line]], path: Path, seconds: float) -> None:
    """Let speakers speak until there are so many seconds; what is there, listed in `path`, is kept."""
    out, known = path.parent, read_known(path)
    write_json_lines(path, known.values())  # without a line that was cut off
    done, started, new = 0.0, time.process_time(), 0.0
    for turn in turns:
        for line in turn:
            if line.name not in known or not (out / line.name).is_file():
                row = speak_line(teacher, line, out)
                if row is None:
                    continue
                known[line.name] = row
                add_row(path, row)
                new += row["seconds"]
            done += known[line.name]["seconds"]
        pace = (time.process_time() - started) / new if new else 0.0
        print(f"\rspoken: {done:.0f} of {seconds:.0f} s, {pace:.2f} processor s per s", end="", file=sys.stderr)
        if done >= seconds:
            break
    print(file=sys.stderr)


def speak_line(teacher: Teacher, line: Line, out: Path) -> dict[str, Any] | None:
    """Write the sound of a line and return its row; None for a text that cannot be said."""
    try:
        words = phonemize(line.text, line.language)
        samples = teacher.speak(words, line.language, line.speaker.style, line.speed)
    except TextError:
        return None
    if samples is None or not np.abs(samples).max() > 0:
        return None
    audio = level(samples, teacher.rate)
    write(out / line.name, audio)
    phones = " ".join(phone for word in words for phone in word.phones)
    about = {"speaker": line.speaker.name, "sources": list(line.speaker.sources), "split": line.speaker.split}
    row = {"audio": line.name, "text": line.text, "language": line.language, "phones": phones, **about}
    return row | {"seconds": round(audio.seconds, 3), "speed": round(line.speed, 3)}


def check(out: Path, recognizer: Recognizer) -> None:
    """Let a recogniser hear every clip that it has not heard: the errors by words or signs go to `CHECKED`."""
    known = read_known(out / CHECKED)
    write_json_lines(out / CHECKED, known.values())
    rows = [row for row in read_spoken(out) if row["audio"] not in known]
    for place, row in enumerate(rows, 1):
        heard = transcribe_in(recognizer, read(out / row["audio"]), row["language"]).text
        found = count_errors(row["text"], heard, row["language"])
        judged = {"audio": row["audio"], "heard": heard, "errors": found.errors, "of": found.words}
        add_row(out / CHECKED, judged)
        print(f"\rchecked: {place} of {len(rows)}", end="", file=sys.stderr)
    print(file=sys.stderr)


def read_spoken(out: Path) -> list[dict[str, Any]]:
    """Return what all shards spoke and is still there."""
    rows = [row for path in sorted(out.glob(f"{SPOKEN}-*.jsonl")) for row in read_known(path).values()]
    return [row for row in rows if (out / row["audio"]).is_file()]


def choose_rows(out: Path) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Return the rows that were heard right, with their errors, and how many were left out by reason."""
    heard = read_known(out / CHECKED)
    rows = [row | heard[row["audio"]] for row in read_spoken(out) if row["audio"] in heard]
    rates: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        row["rate"] = row["errors"] / max(1, row["of"])
        rates[row["speaker"]].append(row["rate"])
    left: Counter[str] = Counter()
    kept = []
    for row in rows:
        if np.mean(rates[row["speaker"]]) > WORST_SPEAKER:
            left["of a speaker who slurs"] += 1
        elif row["rate"] > WORST[row["language"]]:
            left["misheard"] += 1
        else:
            kept.append(row)
    return kept, left


def write_list(out: Path, sentences: str) -> dict[str, Any]:
    """Write the manifest and the card; return the figures."""
    kept, left = choose_rows(out)
    if not kept:
        raise UserError(f"{out} holds no clip that was heard right", "let it speak more, or try another recogniser")
    fields = ("audio", "text", "language", "speaker", "split", "seconds", "phones", "sources")
    rows = [
        {"id": row["audio"][len("audio/") :].removesuffix(".opus").replace("/", "-")} | pick(row, fields)
        for row in kept
    ]
    write_json_lines(out / MANIFEST, rows)
    figures: dict[str, Any] = {"kept": len(kept), "left out": dict(left)}
    everything = read_known(out / CHECKED)
    for language in sorted({row["language"] for row in kept}):
        own = [row for row in kept if row["language"] == language]
        heard = [
            everything[row["audio"]]
            for row in read_spoken(out)
            if row["language"] == language and row["audio"] in everything
        ]
        figures[language] = {
            "hours": round(sum(row["seconds"] for row in own) / 3600, 3),
            "clips": len(own),
            "speakers": len({row["speaker"] for row in own}),
            "errors % of all that was spoken": round(
                100 * sum(row["errors"] for row in heard) / sum(row["of"] for row in heard), 2
            ),
        }
    dev = [row for row in kept if row["split"] == "dev"]
    figures["held out"] = {"clips": len(dev), "voices": sorted({row["speaker"] for row in dev})}
    write_text(
        out / CARD, CARD_TEXT.format(figures=json.dumps(figures, indent=1, ensure_ascii=False), sentences=sentences)
    )
    return figures


def pick(row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a part of a row."""
    return {name: row[name] for name in names}


CARD_TEXT = """# Synthetic speech of made-up speakers, in English, Chinese and Japanese

**Nobody spoke this.** Every clip was made by Kokoro-82M v1.0 (hexgrad, Apache-2.0; 54 voices), its style tables as they
are, exchanged by halves, or extrapolated (`recipes/teacher/speakers.py`). A model that is trained on it must say so in
its card: synthetic data, Kokoro-82M v1.0, Apache-2.0, and the hours below.

- Texts: {sentences}. Their licences hold for the transcripts.
- Phones: those that the front ends of openvalle read from the text are what the teacher was given to say.
- Checked by a recogniser: clips that it mishears (English by words, Chinese by signs, Japanese by kana) are left out.
- Levelled; 24 kHz, Opus. Split by the source voice: no clip of training has a held-out voice or a mix of one.

```json
{figures}
```
"""


def main() -> None:
    """Speak, check, list."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("out", type=Path)
    options.add_argument("--hours", type=float, default=0.1, help="of this shard (default: %(default)s)")
    options.add_argument("--sentences", type=Path, default=OWN, help="lines of language, tab, sentence")
    options.add_argument("--credit", default="", help="whose sentences they are, for the card")
    options.add_argument("--last", type=int, help="take the last so many sentences of each language alone")
    options.add_argument(
        "--held-out",
        metavar="NAMES",
        help=f"let these held-out voices say each sentence once, in turn, and nobody else: {', '.join(HELD_OUT)}",
    )
    options.add_argument("--native", action="store_true", help="with --held-out: a voice speaks its own language alone")
    options.add_argument("--voices", type=Path, help="folder of kokoro-js' voices (default: OUT/voices)")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--shard", default="0/1", help="which of several processes this is")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--asr", default="whisper:base")
    options.add_argument("--speak-only", action="store_true", help="check and list in another call")
    given = options.parse_args()
    shard, shards = (int(part) for part in given.shard.split("/"))
    credit = given.credit or ("openvalle's own, Apache-2.0" if given.sentences == OWN else given.sentences.name)
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        from kokoro_model import Kokoro

        teacher = Kokoro(given.voices or given.out / "voices", given.threads)
        with lock_folder(given.out / f"shard-{shard}"):
            sentences = Sentences.read(given.sentences)
            if given.last:
                sentences = sentences.last(given.last)
            seconds, turns = given.hours * 3600, draw_turns(teacher.voices, sentences, given.seed, shard, shards)
            if given.held_out:
                seconds, turns = (
                    math.inf,
                    list_turns(teacher.voices, sentences, given.held_out.split(","), given.native),
                )
            speak(teacher, turns, given.out / f"{SPOKEN}-{shard}.jsonl", seconds)
        if not given.speak_only:
            with lock_folder(given.out):
                check(given.out, load_recognizer(given.asr))
                print(json.dumps(write_list(given.out, credit), indent=1, ensure_ascii=False))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
