"""Evaluate: a test list and systems -> a report. The one place where lists, systems, judges and reports meet."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvalle import __version__
from openvalle.audio import Audio, write
from openvalle.errors import UserError
from openvalle.evaluate.answers import Task, prompt_of, speak_all
from openvalle.evaluate.items import Folders, Item, TestList, check_files
from openvalle.evaluate.judges import OF_PROMPTS, Clip, Judgement, judge_all
from openvalle.evaluate.metrics import Around, cost, diversity, errors_of_failure, measure
from openvalle.evaluate.protocols import Judges, Protocol
from openvalle.evaluate.report import Report
from openvalle.evaluate.rows import ORIGINAL, RECONSTRUCTED, Row, finite
from openvalle.evaluate.systems import Spoken, System, reconstruct
from openvalle.synth.voice import now

if TYPE_CHECKING:
    from openvalle.codec.base import Codec

LIST = "items.jsonl"
PACKAGES = ("torch", "numpy", "jiwer", "transformers", "faster-whisper", "onnxruntime", "pocketsphinx", "soxr")


@dataclass(frozen=True)
class Candidate:
    """A system to be measured: how to build it, and its identity without building it."""

    name: str
    digest: str
    build: Callable[[], System]
    facts: dict[str, Any] = field(default_factory=dict)  # for the record: model, sampling ...


@dataclass(frozen=True)
class Options:
    """How an evaluation is run; nothing here changes the figures but the seeds."""

    out: Path
    seeds: tuple[int, ...] = (0,)
    workers: int = 1  # processes that judge
    jobs: int = 1  # processes that speak; real-time factors are true only with one
    device: str = "cpu"  # of the judges
    fresh: bool = False  # speak again what is there already
    quiet: bool = False
    players: int = 40  # items whose prompts and recordings are kept for the page


@dataclass(frozen=True)
class Sounds:
    """Everything that is judged, item by item."""

    prompts: list[Audio]
    coded_prompts: list[Audio] | None
    others: list[Audio | None]
    originals: list[Audio]
    reconstructed: list[Audio] | None
    answers: dict[tuple[str, int], list[Spoken | str]]  # by system and seed


def evaluate(
    tests: TestList,
    protocol: Protocol,
    candidates: Sequence[Candidate],
    folders: Folders,
    options: Options,
    codec: Codec | None = None,
) -> Report:
    """Return the report of all candidates on one list, beside the recordings and what the codec leaves of them.

    Goes on where an earlier run with the same `options.out` stopped. Without `codec` there is no reconstructed row and
    no SIM-r.
    """
    if not tests.items:
        raise UserError("the list holds no items", "make it from a larger corpus or raise the limit")
    check_files(tests.items, folders)
    tests.write(options.out / LIST)
    sounds = _sounds(tests.items, candidates, folders, options, codec)
    judged = _judge(sounds, protocol.judges, options)
    rows = _rows(tests.items, sounds, judged, protocol.judges, options)
    record = _record(tests, protocol.judges, candidates, options, judged)
    notes = list(tests.notes)
    if options.jobs > 1:
        notes.append(f"{options.jobs} processes spoke at a time: real-time factors are larger than of one alone")
    return Report(protocol, tuple(rows), record, tuple(notes))


def _sounds(
    items: Sequence[Item], candidates: Sequence[Candidate], folders: Folders, options: Options, codec: Codec | None
) -> Sounds:
    answers: dict[tuple[str, int], list[Spoken | str]] = {}
    for candidate in candidates:
        tasks = {seed: [_task(options.out, candidate.name, item, seed) for item in items] for seed in options.seeds}
        flat = [task for own in tasks.values() for task in own]
        speak_all(
            candidate.build,
            candidate.digest,
            flat,
            folders,
            jobs=options.jobs,
            fresh=options.fresh,
            quiet=options.quiet,
        )
        answers |= {(candidate.name, seed): [task.result() for task in own] for seed, own in tasks.items()}
    prompts = [prompt_of(item, folders) for item in items]
    originals = [item.reference.load(folders) for item in items]
    for item, prompt, original in list(zip(items, prompts, originals, strict=True))[: options.players]:
        write(options.out / "audio" / "prompt" / f"{item.id}.wav", prompt)
        write(options.out / "audio" / ORIGINAL / f"{item.id}.wav", original)
    coded = None if codec is None else [reconstruct(codec, audio) for audio in originals]
    for item, audio in list(zip(items, coded or [], strict=False))[: options.players]:
        write(options.out / "audio" / RECONSTRUCTED / f"{item.id}.wav", audio)
    return Sounds(
        prompts=prompts,
        coded_prompts=None if codec is None else [reconstruct(codec, audio) for audio in prompts],
        others=[item.other.load(folders) if item.other else None for item in items],
        originals=originals,
        reconstructed=coded,
        answers=answers,
    )


def _task(out: Path, system: str, item: Item, seed: int) -> Task:
    return Task(item, seed, out / "audio" / system / str(seed) / f"{item.id}.wav")


def _judge(sounds: Sounds, judges: Judges, options: Options) -> dict[Any, list[Judgement | None]]:
    """Return the judgements of every kind of sound; None where there is no sound."""
    wanted: dict[Any, list[Clip | None]] = {
        "prompt": [Clip(audio, wants=OF_PROMPTS) for audio in sounds.prompts],
        "other": [Clip(audio, wants=OF_PROMPTS) if audio else None for audio in sounds.others],
        ORIGINAL: [Clip(audio) for audio in sounds.originals],
    }
    if sounds.coded_prompts is not None:
        wanted["coded prompt"] = [Clip(audio, wants=OF_PROMPTS) for audio in sounds.coded_prompts]
    if sounds.reconstructed is not None:
        wanted[RECONSTRUCTED] = [Clip(audio) for audio in sounds.reconstructed]
    for key, answers in sounds.answers.items():
        wanted[key] = [Clip(found.audio) if isinstance(found, Spoken) else None for found in answers]
    clips = [clip for own in wanted.values() for clip in own if clip]
    folder = options.out / "judged"
    found = iter(judge_all(clips, judges, folder, options.workers, options.device, options.quiet))
    return {key: [next(found) if clip else None for clip in own] for key, own in wanted.items()}


def _rows(
    items: Sequence[Item],
    sounds: Sounds,
    judged: dict[Any, list[Judgement | None]],
    judges: Judges,
    options: Options,
) -> list[Row]:
    rows = []
    seeds = [seed for _, seed in sounds.answers][:1] or [0]
    fixed = [(ORIGINAL, judged[ORIGINAL])]
    fixed += [(RECONSTRUCTED, judged[RECONSTRUCTED])] if RECONSTRUCTED in judged else []
    for name, own in fixed:
        for place, item in enumerate(items):
            around = _around(judged, place, is_recording=name == ORIGINAL)
            row = _row(item, name, seeds[0], own[place], around, judges)
            kept = f"audio/{name}/{item.id}.wav"
            rows.append(_with_sounds(row, item, kept, options))
    systems = list(dict.fromkeys(name for name, _ in sounds.answers))
    for name in systems:
        for seed in options.seeds:
            for place, item in enumerate(items):
                rows.append(_answer_row(item, name, seed, place, sounds, judged, judges, options))
    return rows


def _answer_row(
    item: Item,
    name: str,
    seed: int,
    place: int,
    sounds: Sounds,
    judged: dict[Any, list[Judgement | None]],
    judges: Judges,
    options: Options,
) -> Row:
    spoken = sounds.answers[name, seed][place]
    row = _row(item, name, seed, judged[name, seed][place], _around(judged, place), judges)
    if isinstance(spoken, str):
        return _with_sounds(replace(row, status="failed", error=spoken), item, "", options)
    others = diversity([judged[name, other][place] for other in options.seeds])
    extra, bad = finite(cost(spoken) | others)
    kept = _task(Path(), name, item, seed).path.as_posix()
    row = replace(row, metrics=row.metrics | extra, notes=(*row.notes, *spoken.flags, *bad))
    return _with_sounds(row, item, kept, options)


def _around(judged: dict[Any, list[Judgement | None]], place: int, is_recording: bool = False) -> Around:
    prompt = judged["prompt"][place]
    assert prompt is not None
    coded = judged.get("coded prompt")
    recording = None if is_recording else judged[ORIGINAL][place]
    return Around(prompt, coded[place] if coded else None, judged["other"][place], recording)


def _row(item: Item, name: str, seed: int, found: Judgement | None, around: Around, judges: Judges) -> Row:
    notes: tuple[str, ...] = ()
    if found is None:
        values = errors_of_failure(item, judges.normalizer)
    else:
        values, notes = measure(item, found, around, judges.normalizer)
    heard = found.heard or "" if found else ""
    metrics, bad = finite(values)
    common = {"text": item.judged_text, "condition": item.condition, "speaker": item.prompt.speaker}
    return Row(name, item.id, seed, **common, heard=heard, metrics=metrics, notes=(*notes, *bad))


def _with_sounds(row: Row, item: Item, kept: str, options: Options) -> Row:
    prompt = f"audio/prompt/{item.id}.wav"
    there = [path if path and (options.out / path).is_file() else "" for path in (kept, prompt)]
    return replace(row, audio=there[0], prompt_audio=there[1])


def _record(
    tests: TestList,
    judges: Judges,
    candidates: Sequence[Candidate],
    options: Options,
    judged: dict[Any, list[Judgement | None]],
) -> dict[str, Any]:
    """Return everything that somebody needs to do the same again."""
    by: dict[str, str] = {}
    for judgement in (one for own in judged.values() for one in own if one):
        by |= judgement.by
    return {
        "openvalle": __version__,
        "commit": commit(),
        "made": now(),
        "list": {
            "protocol": tests.protocol,
            "corpus": tests.corpus,
            "items": len(tests.items),
            "seed": tests.seed,
            "digest": tests.digest,
        },
        "judges": {**by, "normalizer": judges.normalizer, "DNSMOS every, s": judges.step},
        "seeds": list(options.seeds),
        "systems": {item.name: {"digest": item.digest, **item.facts} for item in candidates},
        "intervals": "95 % bootstrap over items, all seeds of an item together",
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": {name: found for name in PACKAGES if (found := _installed(name))},
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def commit() -> str:
    """Return the commit of the source that runs, with `+` if it was changed; empty outside a repository."""
    folder = Path(__file__).parent
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
