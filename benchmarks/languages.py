"""A model in several languages: are its words, its language, its voice right, and does the accent do something?

Run: make bench-languages ARGS="--model FOLDER --teacher FOLDER --data FOLDER". Two sets are spoken: sentences in voices
of the teacher that nothing was trained on (docs/languages.md says how the folder is made), with the teacher's own sound
beside; and sentences in the voices of real readers of English, once with the native and once with the foreign accent.
Whisper base hears words and language, CAM++ the voice. Writes languages.md, languages.json, a row for each clip and all
sound to --out; goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command import run
from language_items import (
    OWN,
    READERS,
    REPORT_READERS,
    REPORT_VOICES,
    TEACHER,
    TUNING_READERS,
    TUNING_VOICES,
    VOICES,
    Texts,
    draw_readers,
    draw_voices,
    read_texts,
)
from language_table import ENGLISH_MODEL, FOREIGN_ACCENT, ITSELF, MODEL, Row, compare_accents, compare_english, tell
from openvalle.audio import Audio
from openvalle.config import json_lines
from openvalle.errors import UserError
from openvalle.evaluate.metrics import MetricInput, Needs, References, measure
from openvalle.evaluate.outputs import OutputRequest, load_prompt, produce_all
from openvalle.evaluate.protocols import Decoding, Judges, protocol
from openvalle.evaluate.results import Result, split_finite, write_results
from openvalle.evaluate.scorers import Judgement, ScoreRequest, require_judges, score_all
from openvalle.evaluate.systems.base import Candidate, Output
from openvalle.evaluate.systems.ours import build_model_candidate
from openvalle.evaluate.test_list import TestItem
from openvalle.files import lock_folder
from openvalle.hub import Kind, find
from openvalle.model.bundle import BundleConfig
from openvalle.pipes import read_text
from openvalle.synth.normalizers import choose_normalizer
from openvalle.types import ENGLISH
from report import Report

WANTS = ("words", "language", "voice")


@dataclass(frozen=True)
class Spoken:
    """One system's answers to a set of items, or recordings of them; a text in place of a sound that there is not."""

    set: str  # `VOICES` or `READERS`
    system: str
    items: list[TestItem]
    outputs: list[Output | str]


def speak(candidate: Candidate, kind: str, items: list[TestItem], folders: dict[str, Path], options: Any) -> Spoken:
    """Return what a system says; what is there as it was written is not made again."""
    place = options.out / "audio" / candidate.name / kind
    requests = [OutputRequest(item, options.seed, place / f"{item.id}.wav") for item in items]
    produce_all(candidate.build, candidate.digest, requests, folders, jobs=options.workers)
    return Spoken(kind, candidate.name, items, [request.result() for request in requests])


def load_recordings(items: Sequence[TestItem], folders: dict[str, Path]) -> Spoken:
    """Return the teacher's own sound of the items that it spoke."""
    own = [item for item in items if item.reference.audio]
    return Spoken(VOICES, ITSELF, own, [Output(item.reference.load(folders), float("nan")) for item in own])


def judge(spoken: Sequence[Spoken], judges: Judges, folders: dict[str, Path], options: Any) -> list[Row]:
    """Return the rows of all that was spoken, by system, set and language."""
    answers = [(item, output) for one in spoken for item, output in zip(one.items, one.outputs, strict=True)]
    asked = {f"answer {n}": _ask(o, i.language) for n, (i, o) in enumerate(answers) if isinstance(o, Output)}
    items = {item.id: item for item, _ in answers}
    asked |= {f"prompt {key}": _ask_voice(load_prompt(item, folders)) for key, item in items.items()}
    asked |= {f"other {key}": _ask_voice(item.other.load(folders)) for key, item in items.items() if item.other}
    judged = score_all(list(asked.values()), judges, options.out / "judged", options.workers)
    found = dict(zip(asked, judged, strict=True))
    number, rows = 0, []
    for one in spoken:
        results = []
        for item, output in zip(one.items, one.outputs, strict=True):
            references = References(found[f"prompt {item.id}"], other=found.get(f"other {item.id}"))
            results.append(_to_result(one, item, output, found.get(f"answer {number}"), references, judges.normalizer))
            number += 1
        for language in dict.fromkeys(result.language for result in results):
            own = [result for result in results if result.language == language]
            rows.append(Row(one.set, language, one.system, own))
    return rows


def _ask(output: Output, language: str) -> ScoreRequest:
    return ScoreRequest(output.audio, WANTS, language)


def _ask_voice(audio: Audio) -> ScoreRequest:
    return ScoreRequest(audio, ("voice",))


def _to_result(
    spoken: Spoken, item: TestItem, output: Output | str, heard: Judgement | None, references: References, asked: str
) -> Result:
    """Return the result of an answer; where there is none all its words are missing."""
    normalizer = choose_normalizer(asked, item.language)
    own = output if isinstance(output, Output) else None
    given = MetricInput(item, heard or Judgement(), references, normalizer, own)
    metrics, notes = split_finite(measure(given, Needs.NOTHING, *((Needs.SOUND,) if heard else ())))
    return Result(
        f"{spoken.set}: {spoken.system}",
        item.id,
        0,
        item.text,
        speaker=item.prompt.speaker,
        language=item.language,
        status="ok" if own else "failed",
        error="" if own else str(output),
        heard=given.judgement["words"] or "",
        metrics=metrics,
        notes=notes,
    )


def build_candidates(options: Any) -> tuple[list[str], dict[str, Candidate], list[str]]:
    """Return the languages that are spoken, the systems by name, and what a reader has to know."""
    config = BundleConfig.load(find(Kind.MODEL, options.model) / "config.json")
    wanted = [name.strip() for name in options.languages.split(",") if name.strip()]
    languages = [name for name in wanted if name in config.languages]
    notes = [f"the model {config.name!r} was not trained with {name}" for name in wanted if name not in languages]
    if not languages:
        raise UserError("; ".join(notes), f"it speaks {', '.join(config.languages)}: choose by --languages")
    threads = options.threads
    found = {MODEL: build_model_candidate(options.model, name=MODEL, threads=threads)}
    if config.ar.languages:
        how = Decoding(settings=("accent=foreign",))
        found[FOREIGN_ACCENT] = build_model_candidate(options.model, name=FOREIGN_ACCENT, threads=threads, decoding=how)
    else:
        notes.append("the model has no ids of languages, and so no accent to choose")
    if options.english and ENGLISH in languages:
        found[ENGLISH_MODEL] = build_model_candidate(options.english, name=ENGLISH_MODEL, threads=threads)
    return languages, found, notes


def read_trained(manifests: Sequence[Path]) -> set[str]:
    """Return the texts that training manifests hold."""
    found = set()
    for path in manifests:
        try:
            found |= {str(row["text"]).strip() for _, row in json_lines(read_text(path, most=None))}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no manifest ({error})", "give JSON lines with `text`") from None
    return found


def read_options() -> argparse.Namespace:
    """Return what is asked for on the command line."""
    options_parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = options_parser.add_argument
    add("--model", default="builtin", help="a model's name or folder (default: %(default)s)")
    add("--english", help="a model of English alone, compared in English")
    add("--teacher", type=Path, required=True, help="folder that teacher.py --held-out wrote")
    add("--data", help="folder of real readers with manifest.jsonl (default: $OPENVALLE_SPEECH)")
    add("--sentences", type=Path, default=OWN, help="lines of a language, a tab, a sentence (default: the teacher's)")
    add("--last", type=int, default=30, help="take the last so many of each language (default: %(default)s)")
    add("--training", type=Path, nargs="*", default=[], help="manifests of training: their sentences are left out")
    add("--languages", default="zh,ja,en", help="(default: %(default)s)")
    add("--voices", default=REPORT_VOICES, help="of the teacher's folder (default: %(default)s)")
    add("--readers", default=REPORT_READERS, help="of --data, or its splits (default: %(default)s)")
    add("--each", type=int, default=3, help="sentences of a reader in each language (default: %(default)s)")
    tuning = f"--voices {TUNING_VOICES} --readers {TUNING_READERS}"
    add("--tuning", action="store_true", help=f"voices and readers to choose a model by: {tuning}")
    add("--limit", type=int, default=10**6, help="at most so many clips of each set and language")
    add("--asr", default="whisper:base", help="who hears words and language (default: %(default)s)")
    add("--speaker", default="campplus", help="who hears voices (default: %(default)s)")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1, help="of each process that speaks (default: %(default)s)")
    add("--workers", type=int, default=2, help="processes that speak, then judge (default: %(default)s)")
    add("--out", type=Path, default=Path("out/bench-languages"), help="folder for results (default: %(default)s)")
    options = options_parser.parse_args()
    if options.tuning:
        options.voices, options.readers = TUNING_VOICES, TUNING_READERS
    return options


def measure_all(
    candidates: dict[str, Candidate], texts: Texts, judges: Judges, options: argparse.Namespace
) -> list[Row]:
    """Let all systems speak, judge them, and keep a row for each clip."""
    voices = draw_voices(options, texts)
    readers, corpus = draw_readers(options, {language: own for language, own in texts.items() if language != ENGLISH})
    folders = {TEACHER: options.teacher, **corpus}
    english = [item for item in voices if item.language == ENGLISH]
    tasks = [(MODEL, VOICES, voices), (ENGLISH_MODEL, VOICES, english)]
    tasks += [(MODEL, READERS, readers), (FOREIGN_ACCENT, READERS, readers)]
    with lock_folder(options.out):
        spoken = [load_recordings(voices, folders)]
        for name, kind, items in tasks:
            if name in candidates and items:
                spoken.append(speak(candidates[name], kind, items, folders, options))
        rows = judge(spoken, judges, folders, options)
        rows.sort(key=lambda row: (row.set != VOICES, list(texts).index(row.language)))
        write_results(options.out / "rows.jsonl", [result for row in rows for result in row.results])
    return rows


def main() -> None:
    """Run the benchmark."""
    options, started = read_options(), time.monotonic()
    languages, candidates, notes = build_candidates(options)
    judges = protocol("cross-lingual").judges
    judges = judges.model_copy(update={"asr": options.asr, "speaker": options.speaker, "quality": "none"})
    require_judges(judges, "cpu", tuple(languages))
    texts = read_texts(options.sentences, languages, options.last, read_trained(options.training))
    rows = measure_all(candidates, texts, judges, options)
    settings = {
        "model": options.model,
        "languages": ", ".join(languages),
        "sentences": f"the last {options.last} of {options.sentences.name}",
        "voices": options.voices,
        "readers": options.readers,
        "judges": f"{judges.asr}, {judges.speaker}",
        "intervals": "95 % bootstrap over voices and their clips",
    }
    report = Report("languages", settings | ({"notes": "; ".join(notes)} if notes else {}))
    tell(rows, [*compare_english(rows), *compare_accents(rows, languages)], report)
    report.values["minutes"] = round((time.monotonic() - started) / 60, 1)
    report.values["systems"] = {name: one.facts for name, one in candidates.items()}
    print("wrote", *report.write(options.out))


if __name__ == "__main__":
    run(main)
