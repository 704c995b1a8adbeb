"""Evaluate: a test list and systems -> a report. The one place where lists, systems, judges and reports meet."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvalle import __version__
from openvalle.audio import Audio
from openvalle.errors import UserError
from openvalle.evaluate.metrics import References, cost, diversity, errors_of_failure, measure
from openvalle.evaluate.outputs import OutputRequest, load_prompt, produce_all
from openvalle.evaluate.protocols import Judges, Protocol, Reference, Scored, Selection
from openvalle.evaluate.report import Report
from openvalle.evaluate.results import ORIGINAL, RECONSTRUCTED, Result, split_finite
from openvalle.evaluate.scorers import OF_PROMPTS, Judgement, ScoreRequest, require_judges, score_all
from openvalle.evaluate.selection import Sample, describe_rule, select
from openvalle.evaluate.systems.base import Output, System, reconstruct
from openvalle.evaluate.test_list import Folders, TestItem, TestList, check_files
from openvalle.files import lock_folder
from openvalle.media import write
from openvalle.synth.voice import now

if TYPE_CHECKING:
    from openvalle.codec.base import Codec

LIST = "items.jsonl"
SCORED = {Scored.GENERATED: "what the system made", Scored.WHOLE: "the prompt as recorded and what the system made"}
SIMILAR = {Reference.ORIGINAL: "to the prompt as recorded", Reference.CODEC: "to the prompt after the codec"}
PACKAGES = (
    "torch",
    "numpy",
    "jiwer",
    "transformers",
    "faster-whisper",
    "ctranslate2",
    "onnxruntime",
    "pocketsphinx",
    "soxr",
)


@dataclass(frozen=True)
class Candidate:
    """A system to be measured: how to build it, and its identity without building it."""

    name: str
    digest: str  # of it and all its settings: answers are used again as long as it stays the same
    build: Callable[[], System]
    facts: dict[str, Any] = field(default_factory=dict)  # for the record: model, sampling ...


@dataclass(frozen=True)
class EvaluationOptions:
    """How an evaluation is run; nothing here changes the figures but seeds and samples."""

    out: Path
    seeds: tuple[int, ...] = (0,)
    samples: int = 1  # of each item and seed, drawn with different seeds
    select: Selection | None = None  # which of them counts; needed where there are several
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
    answers: dict[tuple[str, int, int], list[Output | str]]  # by system, seed and sample


def evaluate(
    tests: TestList,
    protocol: Protocol,
    candidates: Sequence[Candidate],
    folders: Folders,
    options: EvaluationOptions,
    codec: Codec | None = None,
) -> Report:
    """Return the report of all candidates on one list, beside the recordings and what the codec leaves of them.

    Goes on where an earlier run with the same `options.out` stopped. Without `codec` there is no reconstructed row and
    no SIM-r. `UserError` if another process is at the same folder.
    """
    if not tests.items:
        raise UserError("the list holds no items", "make it from a larger corpus or raise the limit")
    if (options.samples > 1) != (options.select is not None):
        raise UserError("several samples and the rule that selects go together", "give --samples 5 --select sorted")
    check_files(tests.items, folders)
    with lock_folder(options.out):
        sounds = _sounds(tests, protocol.judges, candidates, folders, options, codec)
        judged = _judge(tests.items, sounds, protocol.judges, options)
    rows = _rows(tests.items, sounds, judged, protocol, options)
    record = _record(tests, protocol, candidates, options, judged)
    notes = list(tests.notes)
    if options.jobs > 1:
        notes.append(f"{options.jobs} processes spoke at a time: real-time factors are larger than of one alone")
    return Report(protocol, tuple(rows), record, tuple(notes))


def _sounds(
    tests: TestList,
    judges: Judges,
    candidates: Sequence[Candidate],
    folders: Folders,
    options: EvaluationOptions,
    codec: Codec | None,
) -> Sounds:
    """Return everything that is judged; what is not there yet is spoken, once it is known that it can be judged."""
    items = tests.items
    requests = {
        (one.name, seed, sample): [_request(options.out, one.name, item, seed, sample) for item in items]
        for one in candidates
        for seed in options.seeds
        for sample in range(options.samples)
    }
    flat = {
        one.name: [request for key, own in requests.items() if key[0] == one.name for request in own]
        for one in candidates
    }
    if any(options.fresh or not request.is_done(one.digest) for one in candidates for request in flat[one.name]):
        require_judges(judges, options.device)
    begin = partial(tests.write, options.out / LIST)
    for one in candidates:
        how: dict[str, Any] = {"jobs": options.jobs, "fresh": options.fresh, "quiet": options.quiet}
        produce_all(one.build, one.digest, flat[one.name], folders, begin=begin, **how)
    begin()
    prompts = [load_prompt(item, folders) for item in items]
    originals = [item.reference.load(folders) for item in items]
    coded = None if codec is None else [reconstruct(codec, audio) for audio in originals]
    for place, item in enumerate(items[: options.players]):
        write(options.out / "audio" / "prompt" / f"{item.id}.wav", prompts[place])
        write(options.out / "audio" / ORIGINAL / f"{item.id}.wav", originals[place])
        if coded:
            write(options.out / "audio" / RECONSTRUCTED / f"{item.id}.wav", coded[place])
    return Sounds(
        prompts=prompts,
        coded_prompts=None if codec is None else [reconstruct(codec, audio) for audio in prompts],
        others=[item.other.load(folders) if item.other else None for item in items],
        originals=originals,
        reconstructed=coded,
        answers={key: [request.result() for request in own] for key, own in requests.items()},
    )


def _request(out: Path, system: str, item: TestItem, seed: int, sample: int) -> OutputRequest:
    folder = str(seed) if not sample else f"{seed}-sample-{sample}"
    return OutputRequest(item, seed, out / "audio" / system / folder / f"{item.id}.wav", sample)


def _judge(
    items: Sequence[TestItem], sounds: Sounds, judges: Judges, options: EvaluationOptions
) -> dict[Any, list[Judgement | None]]:
    """Return the judgements of every kind of sound; None where there is no sound."""
    wanted: dict[Any, list[ScoreRequest | None]] = {
        "prompt": [ScoreRequest(audio, wants=OF_PROMPTS) for audio in sounds.prompts],
        "other": [ScoreRequest(audio, wants=OF_PROMPTS) if audio else None for audio in sounds.others],
        ORIGINAL: [ScoreRequest(audio) for audio in sounds.originals],
    }
    if sounds.coded_prompts is not None:
        wanted["coded prompt"] = [ScoreRequest(audio, wants=OF_PROMPTS) for audio in sounds.coded_prompts]
    if sounds.reconstructed is not None:
        wanted[RECONSTRUCTED] = [ScoreRequest(audio) for audio in sounds.reconstructed]
    for key, answers in sounds.answers.items():
        wanted[key] = [
            ScoreRequest(item.judged_audio(found.audio, prompt)) if isinstance(found, Output) else None
            for item, found, prompt in zip(items, answers, sounds.prompts, strict=True)
        ]
    clips = [clip for own in wanted.values() for clip in own if clip]
    folder = options.out / "judged"
    found = iter(score_all(clips, judges, folder, options.workers, options.device, options.quiet))
    return {key: [next(found) if clip else None for clip in own] for key, own in wanted.items()}


def _rows(
    items: Sequence[TestItem],
    sounds: Sounds,
    judged: dict[Any, list[Judgement | None]],
    protocol: Protocol,
    options: EvaluationOptions,
) -> list[Result]:
    rows, judges = [], protocol.judges
    fixed = [(ORIGINAL, judged[ORIGINAL])]
    fixed += [(RECONSTRUCTED, judged[RECONSTRUCTED])] if RECONSTRUCTED in judged else []
    for name, own in fixed:
        for place, item in enumerate(items):
            references = _references(judged, place, is_recording=name == ORIGINAL)
            row = _row(item, name, options.seeds[0], own[place], references, judges)
            rows.append(_with_sounds(row, item, f"audio/{name}/{item.id}.wav", options))
    for name in dict.fromkeys(name for name, _, _ in sounds.answers):
        taken = {  # by seed, the sample of each item that counts
            seed: [
                _selected(place, name, seed, items, sounds, judged, protocol, options) for place in range(len(items))
            ]
            for seed in options.seeds
        }
        for samples in taken.values():
            for place, (item, sample) in enumerate(zip(items, samples, strict=True)):
                row = sample.row
                if not row.failed:
                    extra, bad = split_finite(diversity([taken[other][place].judgement for other in options.seeds]))
                    row = replace(row, metrics=row.metrics | extra, notes=(*row.notes, *bad))
                rows.append(_with_sounds(row, item, sample.path, options))
    return rows


def _selected(
    place: int,
    name: str,
    seed: int,
    items: Sequence[TestItem],
    sounds: Sounds,
    judged: dict[Any, list[Judgement | None]],
    protocol: Protocol,
    options: EvaluationOptions,
) -> Sample:
    """Return the sample of an item that counts."""
    item, references = items[place], _references(judged, place)
    samples = []
    for number in range(options.samples):
        spoken, found = sounds.answers[name, seed, number][place], judged[name, seed, number][place]
        row = _row(item, name, seed, found, references, protocol.judges)
        if isinstance(spoken, str):
            samples.append(Sample(replace(row, status="failed", error=spoken), None, ""))
            continue
        extra, bad = split_finite(cost(spoken))
        row = replace(row, metrics=row.metrics | extra, notes=(*row.notes, *spoken.flags, *bad))
        path = _request(Path(), name, item, seed, number).path
        if item.scores_prompt:  # what was judged is more than what was spoken
            path = path.with_name(f"{path.stem}-judged{path.suffix}")
            write(options.out / path, item.judged_audio(spoken.audio, sounds.prompts[place]))
        samples.append(Sample(row, found, path.as_posix()))
    similarity = "sim_r" if protocol.similarity is Reference.CODEC and references.coded_prompt else "sim_o"
    encoder = next((found.by["speaker"] for own in judged.values() for found in own if found), "")
    return select(samples, options.select, similarity, encoder)


def _references(judged: dict[Any, list[Judgement | None]], place: int, is_recording: bool = False) -> References:
    prompt = judged["prompt"][place]
    assert prompt is not None
    coded = judged.get("coded prompt")
    recording = None if is_recording else judged[ORIGINAL][place]
    return References(prompt, coded[place] if coded else None, judged["other"][place], recording)


def _row(
    item: TestItem, name: str, seed: int, found: Judgement | None, references: References, judges: Judges
) -> Result:
    notes: tuple[str, ...] = ()
    if found is None:
        values = errors_of_failure(item, judges.normalizer)
    else:
        values, notes = measure(item, found, references, judges.normalizer)
    heard = found.heard or "" if found else ""
    metrics, bad = split_finite(values)
    common = {"text": item.judged_text, "condition": item.condition, "speaker": item.prompt.speaker}
    return Result(name, item.id, seed, **common, heard=heard, metrics=metrics, notes=(*notes, *bad))


def _with_sounds(row: Result, item: TestItem, kept: str, options: EvaluationOptions) -> Result:
    prompt = f"audio/prompt/{item.id}.wav"
    there = [path if path and (options.out / path).is_file() else "" for path in (kept, prompt)]
    return replace(row, audio=there[0], prompt_audio=there[1])


def _record(
    tests: TestList,
    protocol: Protocol,
    candidates: Sequence[Candidate],
    options: EvaluationOptions,
    judged: dict[Any, list[Judgement | None]],
) -> dict[str, Any]:
    """Return everything that shaped the figures, and so what somebody needs to do the same again."""
    by: dict[str, str] = {}
    for judgement in (one for own in judged.values() for one in own if one):
        by |= judgement.by
    judges = protocol.judges
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
        "prompt": protocol.prompt.model_dump(mode="json"),
        "scored": SCORED[protocol.scored],
        "similarity": SIMILAR[protocol.similarity],
        "judges": {**by, "normalizer": judges.normalizer, "DNSMOS every, s": judges.step, "device": options.device},
        "seeds": list(options.seeds),
        "samples": options.samples,
        "select": describe_rule(options.select, by.get("speaker", "")),
        "systems": {item.name: {"digest": item.digest, **item.facts} for item in candidates},
        "processes": {"speak": options.jobs, "judge": options.workers},
        "intervals": "95 % bootstrap over readers and their items, all seeds of an item together",
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
