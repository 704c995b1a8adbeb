"""A text that is to last a given time: its sentences are drawn, stretched alike, and the silences make it exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from openvalle.decode.ar import AROptions
from openvalle.errors import ConfigError
from openvalle.synth.generate import SpeechGenerator
from openvalle.synth.joints import join_sentences
from openvalle.synth.plan import SpeechPlan, scale_pauses
from openvalle.synth.speech import Speech


def fit_duration(generator: SpeechGenerator, plan: SpeechPlan, options: AROptions, seconds: float) -> SpeechPlan:
    """Return the plan with sentences and silences that last so many seconds together, all stretched alike.

    Inside the text a sentence's own silent edges do not count: they become the pauses. Raises `ConfigError` for options
    with a speed and for a duration of less than half or more than twice what the text takes, `ModelError` for a model
    without alignment.
    """
    if options.speed != 1:
        raise ConfigError("a speed and a duration contradict each other", "give one of them")
    segments, merge = list(plan.segments), generator.ar.config.merge
    attempts = generator.sample_natural([generator.encode(segment) for segment in segments], options)
    natural = plan.lead + plan.tail + sum(segment.sentence.pause for segment in segments)
    for number, (segment, attempt) in enumerate(zip(segments, attempts, strict=True)):
        edges = attempt.count_edges(is_first=number == 0, is_last=number == len(segments) - 1)
        natural += (len(attempt.result.codes) - edges) * merge / generator.spec.frame_rate / segment.sentence.rate
    rate = natural / seconds if seconds > 0 else np.inf
    if not 0.5 <= rate <= 2:
        raise ConfigError(
            f"{seconds:g} s do not fit a text that takes {natural:.1f} s",
            f"give a duration from {natural / 2:.1f} to {natural * 2:.1f} s",
        )
    fitted = [
        generator.fit(attempt, len(attempt.result.codes) * merge / segment.sentence.rate / rate)
        for segment, attempt in zip(segments, attempts, strict=True)
    ]
    sentences = scale_pauses([segment.sentence for segment in fitted], rate)
    paused = (replace(segment, sentence=sentence) for segment, sentence in zip(fitted, sentences, strict=True))
    return SpeechPlan(paused, plan.lead / rate, plan.tail / rate)


def fit_pauses(
    pieces: list[tuple[Speech, float]], plan: SpeechPlan, seconds: float
) -> tuple[Iterator[tuple[Speech, float]], SpeechPlan]:
    """Return sentences spoken to last about so long, with the silences between and around them that make it exact."""
    silences = plan.lead + plan.tail + sum(pause for _, pause in pieces)
    if not silences:
        return iter(pieces), plan
    said = sum(piece.seconds for piece in join_sentences(pieces)) - silences + plan.lead + plan.tail
    factor = min(2.0, max(0.0, (seconds - said) / silences))
    timed = [(speech, pause * factor) for speech, pause in pieces]
    return iter(timed), replace(plan, lead=plan.lead * factor, tail=plan.tail * factor)
