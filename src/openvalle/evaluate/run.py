"""Evaluate: a test list and systems -> a report. The one place where lists, systems, judges and reports meet."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openvalle import __version__
from openvalle.audio import Audio, resample
from openvalle.errors import UserError
from openvalle.evaluate.judges import JUDGES
from openvalle.evaluate.metrics import MetricInput, Needs, References, explain, measure
from openvalle.evaluate.outputs import OutputRequest, load_prompt, produce_all
from openvalle.evaluate.protocols import Judges, Protocol, Reference, Scored, Selection
from openvalle.evaluate.report import Report
from openvalle.evaluate.results import ORIGINAL, RECONSTRUCTED, Result, split_finite
from openvalle.evaluate.scorers import Judgement, ScoreRequest, require_judges, score_all
from openvalle.evaluate.selection import Sample, describe_rule, select
from openvalle.evaluate.systems.base import Candidate, Output, commit
from openvalle.evaluate.test_list import Folders, TestItem, TestList, check_files
from openvalle.files import lock_folder
from openvalle.media import write
from openvalle.synth.normalizers import choose_normalizer
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
    "sacrebleu",
    "soxr",
)


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
    outputs: dict[tuple[str, int, int], list[Output | str]]  # by system, seed and sample; why there is none


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
    results = _Measurement(tests.items, sounds, judged, protocol, options).results()
    record = _record(tests, protocol, candidates, options, judged)
    notes = list(tests.notes)
    if options.jobs > 1:
        notes.append(f"{options.jobs} processes spoke at a time: real-time factors are larger than of one alone")
    return Report(protocol, tuple(results), record, tuple(notes))


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
        require_judges(judges, options.device, tuple(dict.fromkeys(item.language for item in items)))
    begin = partial(tests.write, options.out / LIST)
    for one in candidates:
        how: dict[str, Any] = {"jobs": options.jobs, "fresh": options.fresh, "quiet": options.quiet}
        produce_all(one.build, one.digest, flat[one.name], folders, begin=begin, **how)
    begin()
    prompts = [load_prompt(item, folders) for item in items]
    originals = [item.reference.load(folders) for item in items]
    coded = None if codec is None else [_reconstruct(codec, audio) for audio in originals]
    for place, item in enumerate(items[: options.players]):
        write(options.out / "audio" / "prompt" / f"{item.id}.wav", prompts[place])
        write(options.out / "audio" / ORIGINAL / f"{item.id}.wav", originals[place])
        if coded:
            write(options.out / "audio" / RECONSTRUCTED / f"{item.id}.wav", coded[place])
    return Sounds(
        prompts=prompts,
        coded_prompts=None if codec is None else [_reconstruct(codec, audio) for audio in prompts],
        others=[item.other.load(folders) if item.other else None for item in items],
        originals=originals,
        reconstructed=coded,
        outputs={key: [request.result() for request in own] for key, own in requests.items()},
    )


def _reconstruct(codec: Codec, audio: Audio) -> Audio:
    """Return the sound after the codec."""
    import torch

    heard = resample(audio, codec.spec.rate).samples
    decoded = codec.decode(codec.encode(torch.from_numpy(heard)[None]))[0].float().cpu().numpy()
    return resample(Audio(decoded[: len(heard)].astype(np.float32), codec.spec.rate), audio.rate)


def _request(out: Path, system: str, item: TestItem, seed: int, sample: int) -> OutputRequest:
    folder = str(seed) if not sample else f"{seed}-sample-{sample}"
    return OutputRequest(item, seed, out / "audio" / system / folder / f"{item.id}.wav", sample)


def _judge(
    items: Sequence[TestItem], sounds: Sounds, judges: Judges, options: EvaluationOptions
) -> dict[Any, list[Judgement | None]]:
    """Return the judgements of every kind of sound; None where there is no sound."""
    of_prompts = tuple(name for name, judge in JUDGES.items() if judge.hears_prompts)

    def ask(audio: Audio, item: TestItem) -> ScoreRequest:
        return ScoreRequest(audio, language=item.language)

    wanted: dict[Any, list[ScoreRequest | None]] = {
        "prompt": [ScoreRequest(audio, wants=of_prompts) for audio in sounds.prompts],
        "other": [ScoreRequest(audio, wants=of_prompts) if audio else None for audio in sounds.others],
        ORIGINAL: [ask(audio, item) for audio, item in zip(sounds.originals, items, strict=True)],
    }
    if sounds.coded_prompts is not None:
        wanted["coded prompt"] = [ScoreRequest(audio, wants=of_prompts) for audio in sounds.coded_prompts]
    if sounds.reconstructed is not None:
        wanted[RECONSTRUCTED] = [ask(audio, item) for audio, item in zip(sounds.reconstructed, items, strict=True)]
    for key, outputs in sounds.outputs.items():
        wanted[key] = [
            ask(item.judged_audio(found.audio, prompt), item) if isinstance(found, Output) else None
            for item, found, prompt in zip(items, outputs, sounds.prompts, strict=True)
        ]
    clips = [clip for own in wanted.values() for clip in own if clip]
    folder = options.out / "judged"
    found = iter(score_all(clips, judges, folder, options.workers, options.device, options.quiet))
    return {key: [next(found) if clip else None for clip in own] for key, own in wanted.items()}


@dataclass(frozen=True)
class _Measurement:
    """From judgements to results. `judged`: by the kind of sound, one judgement an item; None without a sound."""

    items: Sequence[TestItem]
    sounds: Sounds
    judged: dict[Any, list[Judgement | None]]
    protocol: Protocol
    options: EvaluationOptions

    def results(self) -> list[Result]:
        """Return the results of the recordings, then of each system."""
        found = []
        for name in (ORIGINAL, RECONSTRUCTED):
            for place, item in enumerate(self.items) if name in self.judged else ():
                result = self._measure(place, name, self.options.seeds[0], self.judged[name][place])
                found.append(self._with_sounds(result, item, f"audio/{name}/{item.id}.wav"))
        for name in dict.fromkeys(name for name, _, _ in self.sounds.outputs):
            by_seed = [
                [self._select(place, name, seed) for place in range(len(self.items))] for seed in self.options.seeds
            ]
            for samples in by_seed:
                for place, (item, sample) in enumerate(zip(self.items, samples, strict=True)):
                    result = self._compare_seeds(place, sample, [own[place] for own in by_seed])
                    found.append(self._with_sounds(result, item, sample.path))
        return found

    def _select(self, place: int, name: str, seed: int) -> Sample:
        """Return the sample of an item that counts."""
        item, samples = self.items[place], []
        for number in range(self.options.samples):
            output, found = self.sounds.outputs[name, seed, number][place], self.judged[name, seed, number][place]
            result = self._measure(place, name, seed, found, None if isinstance(output, str) else output)
            if isinstance(output, str):
                samples.append(Sample(replace(result, status="failed", error=output), None, ""))
                continue
            path = _request(Path(), name, item, seed, number).path
            if item.scores_prompt:  # what was judged is more than what was spoken
                path = path.with_name(f"{path.stem}-judged{path.suffix}")
                write(self.options.out / path, item.judged_audio(output.audio, self.sounds.prompts[place]))
            samples.append(Sample(replace(result, notes=(*result.notes, *output.flags)), found, path.as_posix()))
        is_coded = self.protocol.similarity is Reference.CODEC and "coded prompt" in self.judged
        encoder = next((found.by["speaker"] for own in self.judged.values() for found in own if found), "")
        return select(samples, self.options.select, "sim_r" if is_coded else "sim_o", encoder)

    def _measure(
        self, place: int, name: str, seed: int, found: Judgement | None, output: Output | None = None
    ) -> Result:
        """Return the result of an output or a recording; where there is none (`found` None), all words are missing."""
        item, given = self.items[place], self._given(place, found or Judgement(), output)
        if name == ORIGINAL:
            given = replace(given, references=replace(given.references, recording=None))
        values = measure(given, Needs.NOTHING, *((Needs.SOUND,) if found else ()))
        metrics, bad = split_finite(values)
        return Result(
            name,
            item.id,
            seed,
            item.judged_text,
            item.condition,
            item.prompt.speaker,
            language=item.language,
            heard=given.judgement["words"] or "",
            metrics=metrics,
            notes=(*(explain(found) if found else ()), *bad),
        )

    def _compare_seeds(self, place: int, sample: Sample, seeds: Sequence[Sample]) -> Result:
        """Return the result of a sample with what is measured over the samples of all seeds."""
        if sample.judgement is None:
            return sample.result
        given = replace(
            self._given(place, sample.judgement), seeds=[one.judgement for one in seeds if one.judgement is not None]
        )
        metrics, bad = split_finite(measure(given, Needs.SEEDS))
        return replace(sample.result, metrics=sample.result.metrics | metrics, notes=(*sample.result.notes, *bad))

    def _given(self, place: int, judgement: Judgement, output: Output | None = None) -> MetricInput:
        prompt = self.judged["prompt"][place]
        assert prompt is not None
        coded = self.judged.get("coded prompt")
        references = References(
            prompt, coded[place] if coded else None, self.judged["other"][place], self.judged[ORIGINAL][place]
        )
        normalizer = choose_normalizer(self.protocol.judges.normalizer, self.items[place].language)
        return MetricInput(self.items[place], judgement, references, normalizer, output)

    def _with_sounds(self, result: Result, item: TestItem, kept: str) -> Result:
        """Return the result with the paths of its sound and its prompt, where they were kept."""
        paths = (kept, f"audio/prompt/{item.id}.wav")
        there = [path if path and (self.options.out / path).is_file() else "" for path in paths]
        return replace(result, audio=there[0], prompt_audio=there[1])


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
    judges, languages = protocol.judges, dict.fromkeys(item.language for item in tests.items)
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
        "judges": {
            **by,
            "normalizer": ", ".join(dict.fromkeys(choose_normalizer(judges.normalizer, one) for one in languages)),
            "DNSMOS every, s": judges.step,
            "device": options.device,
        },
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


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
