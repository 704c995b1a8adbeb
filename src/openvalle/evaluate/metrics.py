"""What is measured of one answer: its judgement against those of the prompt, the recording and another speaker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from openvalle.evaluate.scorers import Judgement
from openvalle.evaluate.systems.base import Output
from openvalle.evaluate.test_list import TestItem
from openvalle.speech_models.prosody import contour_distance
from openvalle.speech_models.wer import character_errors, word_errors

DOUBTFUL_WER = 0.8  # of the recording itself: its transcript is probably not what is said


@dataclass(frozen=True)
class Metric:
    """How a figure is shown. `better`: 1 if higher is better, -1 if lower is, 0 if neither."""

    name: str
    title: str
    better: int = 0
    percent: bool = False
    digits: int = 2


METRICS = {
    metric.name: metric
    for metric in (
        Metric("wer", "WER %", -1, percent=True),
        Metric("cer", "CER %", -1, percent=True),
        Metric("sim_o", "SIM-o", 1),
        Metric("sim_r", "SIM-r", 1),
        Metric("sim_other", "similarity, other speaker"),
        Metric("right_above_wrong", "nearer to the right speaker %", 1, percent=True),
        Metric("dnsmos", "DNSMOS OVRL", 1),
        Metric("dnsmos_signal", "DNSMOS SIG", 1),
        Metric("dnsmos_background", "DNSMOS BAK", 1),
        Metric("dnsmos_p808", "DNSMOS P.808", 1),
        Metric("utmos", "UTMOS", 1),
        Metric("pitch_distance", "pitch to prompt, semitones", -1),
        Metric("pitch_range_distance", "pitch range to prompt, semitones", -1),
        Metric("tilt_distance", "vocal effort to prompt, dB of tilt", -1, digits=1),
        Metric("energy_distance", "energy range to prompt, dB", -1),
        Metric("contour_distance", "pitch contour to recording, semitones", -1),
        Metric("duration_distance", "length to recording, octaves", -1),
        Metric("words_per_second", "words a second"),
        Metric("seed_contour", "pitch contour between seeds, semitones"),
        Metric("seed_duration", "length between seeds, octaves"),
        Metric("reverberation", "reverberation time, s"),
        Metric("noise", "speech over noise, dB", digits=1),
        Metric("bandwidth", "bandwidth, Hz", digits=0),
        Metric("seconds", "seconds", digits=1),
        Metric("ended", "ended properly %", 1, percent=True),
        Metric("rtf", "real-time factor", -1, digits=3),
        Metric("processor_per_second", "processor s per s", -1, digits=3),
        Metric("memory_mb", "peak memory, MB", -1, digits=0),
    )
}


@dataclass(frozen=True)
class References:
    """What an answer is compared with."""

    prompt: Judgement
    coded_prompt: Judgement | None  # after the codec; None without one
    other: Judgement | None
    recording: Judgement | None  # None for the recording itself


def measure(
    item: TestItem, found: Judgement, references: References, normalizer: str
) -> tuple[dict[str, float | None], tuple[str, ...]]:
    """Return the metrics of an answer and notes for people."""
    values: dict[str, float | None] = {}
    notes: list[str] = []
    values |= _words(item, found.heard or "", normalizer)
    if not found.heard:
        notes.append("nothing was heard")
    if found.voice is None:
        notes.append("nobody was heard to speak: similarity counts as 0")
    values |= _voice(found, references)
    if found.quality:
        quality = found.quality
        values |= {"dnsmos": quality.overall, "dnsmos_signal": quality.signal, "dnsmos_p808": quality.p808}
        values["dnsmos_background"] = quality.background
    values["utmos"] = found.utmos
    values |= _prosody(item, found, references)
    return values, tuple(notes)


def errors_of_failure(item: TestItem, normalizer: str) -> dict[str, float | None]:
    """Return the metrics of an item that a system gave no sound for: every word is missing."""
    return _words(item, "", normalizer)


def _words(item: TestItem, heard: str, normalizer: str) -> dict[str, float | None]:
    words = word_errors(item.judged_text, heard, normalizer)
    characters = character_errors(item.judged_text, heard, normalizer)
    return {
        "words": words.words,
        "word_errors": words.errors,
        "characters": characters.words,
        "character_errors": characters.errors,
    }


def _voice(found: Judgement, references: References) -> dict[str, float | None]:
    right = found.likeness(references.prompt)
    values: dict[str, float | None] = {"sim_o": right}
    if references.coded_prompt:
        values["sim_r"] = found.likeness(references.coded_prompt)
    if references.other:
        wrong = found.likeness(references.other)
        values |= {"sim_other": wrong, "right_above_wrong": float(right > wrong)}
    return values


def _prosody(item: TestItem, found: Judgement, references: References) -> dict[str, float | None]:
    """Return how it was said and where, against the prompt and against the recording of the same words.

    Without a voiced sound there is no pitch, and its distances are left out rather than not a number.
    """
    if not found.prosody or not found.acoustics or not references.prompt.prosody:
        return {}
    own, prompt, place = found.prosody, references.prompt.prosody, found.acoustics
    values: dict[str, float | None] = {
        "seconds": own.seconds,
        "words_per_second": len(item.judged_text.split()) / max(own.active_seconds, 0.01),
        "pitch_distance": _known(abs(own.pitch - prompt.pitch)),
        "pitch_range_distance": _known(abs(own.pitch_range - prompt.pitch_range)),
        "tilt_distance": abs(own.tilt - prompt.tilt),
        "energy_distance": abs(own.energy_range - prompt.energy_range),
        "reverberation": _known(place.reverberation),
        "noise": place.noise,
        "bandwidth": place.bandwidth,
    }
    if references.prompt.acoustics:
        heard = references.prompt.acoustics
        values |= {"prompt_reverberation": _known(heard.reverberation), "prompt_noise": heard.noise}
        values["prompt_bandwidth"] = heard.bandwidth
    if references.recording and references.recording.prosody:
        like = references.recording.prosody
        values["contour_distance"] = _known(contour_distance(own, like))
        values["duration_distance"] = abs(float(np.log2(max(own.seconds, 0.01) / max(like.seconds, 0.01))))
    return values


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def cost(spoken: Output) -> dict[str, float | None]:
    """Return what the answer took."""
    seconds = max(spoken.audio.seconds, 0.01)
    if np.isnan(spoken.seconds):  # made elsewhere: nobody knows
        return {"spoken_seconds": spoken.audio.seconds}
    return {
        "spoken_seconds": spoken.audio.seconds,
        "wall_seconds": spoken.seconds,
        "rtf": spoken.seconds / seconds,
        "processor_seconds": spoken.processor or None,  # another process or machine may have done the work
        "processor_per_second": spoken.processor / seconds or None,
        "memory_mb": spoken.memory / 2**20 if spoken.memory else None,
        "ended": None if spoken.ended is None else float(spoken.ended),
    }


def diversity(found: Sequence[Judgement | None]) -> dict[str, float | None]:
    """Return how far the answers of several seeds to one item lie apart, on average over their pairs."""
    said = [item.prosody for item in found if item and item.prosody]
    if len(said) < 2:
        return {}
    pairs = list(combinations(said, 2))
    contours = [value for a, b in pairs if not np.isnan(value := contour_distance(a, b))]
    lengths = [abs(float(np.log2(max(a.seconds, 0.01) / max(b.seconds, 0.01)))) for a, b in pairs]
    return {
        "seed_contour": float(np.mean(contours)) if contours else None,
        "seed_duration": float(np.mean(lengths)),
    }
