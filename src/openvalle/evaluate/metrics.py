"""The metrics: what is measured of a system's output, one row of `METRICS` each.

A row says how a figure is computed from one output, how it is summed over outputs and how it is shown; reports,
comparisons and the selection among samples read nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import combinations

import numpy as np

from openvalle.evaluate.scorers import Judgement
from openvalle.evaluate.systems.base import Output
from openvalle.evaluate.test_list import TestItem
from openvalle.speech_models.prosody import Prosody, contour_distance
from openvalle.speech_models.wer import character_errors, word_errors
from openvalle.synth.normalizers import find_normalizer


@dataclass(frozen=True)
class References:
    """The judgements of what an output is compared with."""

    prompt: Judgement
    coded_prompt: Judgement | None = None  # after the codec; None without one
    other: Judgement | None = None  # a prompt by another speaker
    recording: Judgement | None = None  # of the same words; None for the recording itself


@dataclass(frozen=True)
class MetricInput:
    """All that a metric may look at: an item, and what the judges say of an output and of its references."""

    item: TestItem
    judgement: Judgement  # `judgement["prosody"]`: by the names of `openvalle.evaluate.judges.JUDGES`
    references: References
    normalizer: str  # of texts of its language, see `openvalle.synth.normalizers`
    output: Output | None = None  # the sound and what it took; None for a recording
    seeds: Sequence[Judgement] = field(default=())  # of the outputs of all seeds for the item


class Group(StrEnum):
    """The tables of a report that hold metrics, by their titles."""

    QUALITY = "Words, voice, quality"
    PROSODY = "How it is said"
    ACOUSTICS = "Where it is said"
    COST = "What it takes"


class Needs(StrEnum):
    """When a metric can be computed."""

    SOUND = "sound"  # the system gave a sound
    NOTHING = "nothing"  # even if it gave none: then nothing was heard
    SEEDS = "seeds"  # when the outputs of all seeds are there


Value = float | tuple[float | None, float | None] | None


@dataclass(frozen=True)
class Metric:
    """One figure. `better`: 1 if higher is better, -1 if lower is, 0 if neither.

    `compute`: the value of one output; (above, below) of a ratio; None where it cannot be said, never NaN.
    """

    name: str
    title: str
    compute: Callable[[MetricInput], Value]
    better: int = 0
    group: Group = Group.QUALITY
    percent: bool = False
    digits: int = 2
    needs: Needs = Needs.SOUND
    ratio: tuple[str, str] | None = None  # how `above` and `below` are called, which are summed over items; else: mean
    beside: str = ""  # among samples it is taken from the one that is best in this metric
    of_prompt: bool = False  # computed for the prompt as well, as `prompt_NAME`
    is_shown: bool = True  # in the tables; else in the files alone

    def values(self, given: MetricInput) -> dict[str, float | None]:
        """Return what is kept of one output: the value by name, and the parts of a ratio."""
        found = self.compute(given)
        if self.ratio is None:
            assert not isinstance(found, tuple), self.name
            return {self.name: found}
        above, below = found if isinstance(found, tuple) else (None, None)
        quotient = above / below if above is not None and below else None
        return {self.ratio[0]: above, self.ratio[1]: below, self.name: quotient}


def measure(given: MetricInput, *needs: Needs) -> dict[str, float | None]:
    """Return the values of all metrics that need no more than `needs`."""
    values: dict[str, float | None] = {}
    for metric in METRICS.values():
        if metric.needs in needs:
            values |= metric.values(given)
            if metric.of_prompt:
                prompt = replace(given, judgement=given.references.prompt)
                values |= {f"prompt_{name}": value for name, value in metric.values(prompt).items()}
    return values


def explain(judgement: Judgement) -> tuple[str, ...]:
    """Return notes on an output for people."""
    notes = () if judgement["words"] else ("nothing was heard",)
    return notes if judgement["voice"] is not None else (*notes, "nobody was heard to speak: similarity counts as 0")


def _word_errors(given: MetricInput) -> Value:
    normalize = find_normalizer(given.normalizer)
    found = word_errors(given.item.judged_text, given.judgement["words"] or "", normalize)
    return found.errors, found.words


def _character_errors(given: MetricInput) -> Value:
    normalize = find_normalizer(given.normalizer)
    found = character_errors(given.item.judged_text, given.judgement["words"] or "", normalize)
    return found.errors, found.words


def _language_heard(given: MetricInput) -> Value:
    found = given.judgement["language"]
    return None if found is None else found.get(given.item.language.partition("-")[0], 0.0)


def _similarity(to: Callable[[References], Judgement | None]) -> Callable[[MetricInput], Value]:
    """Return the metric of the likeness to one of the references."""

    def compute(given: MetricInput) -> Value:
        other = to(given.references)
        return None if other is None else given.judgement.likeness(other)

    return compute


def _is_nearer(given: MetricInput) -> Value:
    prompt, other = given.references.prompt, given.references.other
    return None if other is None else float(given.judgement.likeness(prompt) > given.judgement.likeness(other))


def _field(judge: str, name: str) -> Callable[[MetricInput], Value]:
    """Return the metric that is a field of what a judge says."""

    def compute(given: MetricInput) -> Value:
        found = given.judgement[judge]
        return None if found is None else _known(getattr(found, name))

    return compute


def _prosody_distance(name: str) -> Callable[[MetricInput], Value]:
    """Return the metric of the distance between a field of the output's and of the prompt's `Prosody`."""

    def compute(given: MetricInput) -> Value:
        own, prompt = given.judgement["prosody"], given.references.prompt["prosody"]
        return None if own is None or prompt is None else _known(abs(getattr(own, name) - getattr(prompt, name)))

    return compute


def _to_recording(distance: Callable[[Prosody, Prosody], float]) -> Callable[[MetricInput], Value]:
    """Return the metric of a distance to the recording of the same words."""

    def compute(given: MetricInput) -> Value:
        recording = given.references.recording
        own, like = given.judgement["prosody"], recording["prosody"] if recording else None
        return None if own is None or like is None else _known(distance(own, like))

    return compute


def _between_seeds(distance: Callable[[Prosody, Prosody], float]) -> Callable[[MetricInput], Value]:
    """Return the metric of the mean distance over the pairs of seeds."""

    def compute(given: MetricInput) -> Value:
        said = [found["prosody"] for found in given.seeds if found["prosody"] is not None]
        known = [value for a, b in combinations(said, 2) if not np.isnan(value := distance(a, b))]
        return float(np.mean(known)) if known else None

    return compute


def _octaves(a: Prosody, b: Prosody) -> float:
    return abs(float(np.log2(max(a.seconds, 0.01) / max(b.seconds, 0.01))))


def _words_per_second(given: MetricInput) -> Value:
    own = given.judgement["prosody"]
    return None if own is None else len(given.item.judged_text.split()) / max(own.active_seconds, 0.01)


def _cost(seconds: Callable[[Output], float]) -> Callable[[MetricInput], Value]:
    """Return the metric of seconds spent for each second spoken; unknown where clips were made elsewhere."""

    def compute(given: MetricInput) -> Value:
        output = given.output
        if output is None:
            return None
        spent = None if np.isnan(output.seconds) else seconds(output) or None  # 0: another machine may have done it
        return spent, output.audio.seconds

    return compute


def _memory(given: MetricInput) -> Value:
    return given.output.memory / 2**20 if given.output and given.output.memory else None


def _ended(given: MetricInput) -> Value:
    return None if given.output is None or given.output.ended is None else float(given.output.ended)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


HOW, WHERE, COST = Group.PROSODY, Group.ACOUSTICS, Group.COST
_ROWS = (
    Metric("wer", "WER %", _word_errors, -1, percent=True, needs=Needs.NOTHING, ratio=("word_errors", "words")),
    Metric(
        "cer",
        "CER %",
        _character_errors,
        -1,
        percent=True,
        needs=Needs.NOTHING,
        ratio=("character_errors", "characters"),
    ),
    Metric("language_heard", "language heard as the text's %", _language_heard, 1, percent=True),
    Metric("sim_o", "SIM-o", _similarity(lambda references: references.prompt), 1),
    Metric("sim_r", "SIM-r", _similarity(lambda references: references.coded_prompt), 1),
    Metric("sim_other", "similarity, other speaker", _similarity(lambda references: references.other), beside="sim_o"),
    Metric("right_above_wrong", "nearer to the right speaker %", _is_nearer, 1, percent=True, beside="sim_o"),
    Metric("dnsmos", "DNSMOS OVRL", _field("quality", "overall"), 1),
    Metric("dnsmos_signal", "DNSMOS SIG", _field("quality", "signal"), 1, is_shown=False),
    Metric("dnsmos_background", "DNSMOS BAK", _field("quality", "background"), 1, is_shown=False),
    Metric("dnsmos_p808", "DNSMOS P.808", _field("quality", "p808"), 1),
    Metric("utmos", "UTMOS", lambda given: given.judgement["utmos"], 1),
    Metric("harmonicity", "harmonics over noise, dB", _field("prosody", "harmonicity"), digits=1),
    Metric("seconds", "seconds", _field("prosody", "seconds"), digits=1),
    Metric("pitch_distance", "pitch to prompt, semitones", _prosody_distance("pitch"), -1, HOW),
    Metric("pitch_range_distance", "pitch range to prompt, semitones", _prosody_distance("pitch_range"), -1, HOW),
    Metric("tilt_distance", "vocal effort to prompt, dB of tilt", _prosody_distance("tilt"), -1, HOW, digits=1),
    Metric("energy_distance", "energy range to prompt, dB", _prosody_distance("energy_range"), -1, HOW),
    Metric("contour_distance", "pitch contour to recording, semitones", _to_recording(contour_distance), -1, HOW),
    Metric("duration_distance", "length to recording, octaves", _to_recording(_octaves), -1, HOW),
    Metric("words_per_second", "words a second", _words_per_second, group=HOW),
    Metric(
        "seed_contour",
        "pitch contour between seeds, semitones",
        _between_seeds(contour_distance),
        group=HOW,
        needs=Needs.SEEDS,
    ),
    Metric("seed_duration", "length between seeds, octaves", _between_seeds(_octaves), group=HOW, needs=Needs.SEEDS),
    Metric("reverberation", "reverberation time, s", _field("acoustics", "reverberation"), group=WHERE, of_prompt=True),
    Metric("noise", "speech over noise, dB", _field("acoustics", "noise"), group=WHERE, digits=1, of_prompt=True),
    Metric("bandwidth", "bandwidth, Hz", _field("acoustics", "bandwidth"), group=WHERE, digits=0, of_prompt=True),
    Metric(
        "rtf",
        "real-time factor",
        _cost(lambda output: output.seconds),
        -1,
        COST,
        digits=3,
        ratio=("wall_seconds", "spoken_seconds"),
    ),
    Metric(
        "processor_per_second",
        "processor s per s",
        _cost(lambda output: output.processor),
        -1,
        COST,
        digits=3,
        ratio=("processor_seconds", "spoken_seconds"),
    ),
    Metric("memory_mb", "peak memory, MB", _memory, -1, COST, digits=0),
    Metric("ended", "ended properly %", _ended, 1, COST, percent=True),
)
METRICS = {metric.name: metric for metric in _ROWS}
