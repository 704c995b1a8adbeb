"""Sentences spoken one by one -> one continuous speech: the pauses wanted between them, and no clicks.

A joint: the silence that each sentence brings along is cut, or filled up, to half of the pause wanted; an edge that
would step further than the speech itself does is faded. The outer edges of a text are left as they are. Sentences are
never blended into each other, so the length is the sum of the parts, and each edge is made from its own sentence alone:
what comes before or after changes no sample, and a stream need not wait for it.

Of a text that is to last a given time, the sentences are drawn, all stretched alike, and the silences make it exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from openvalle.audio import Audio, concatenate, fade, levels, silence
from openvalle.decode.ar import AROptions
from openvalle.errors import ConfigError
from openvalle.synth.generate import SpeechGenerator
from openvalle.synth.plan import SpeechPlan, scale_pauses
from openvalle.synth.speech import Speech

QUIET_DB = -54.0  # frames of 10 ms under this count as silence; speech is levelled to -24 dBFS
FADE_SECONDS = 0.01
QUIET_STEP = 10 ** (-54 / 20)  # a smaller jump between two samples cannot be heard
STRETCH = 2.0  # times as long, or as short, as it takes by itself a text may be made to last
SLEW_FACTOR = 2.0  # a jump of up to this many times the largest step nearby is masked by the speech


class EdgeTrimmer:
    """Samples of a sentence in, the same between the pauses wanted out; 10 ms, and silence that may be cut, are held
    back."""

    def __init__(self, rate: int, lead: float | None, tail: float = 0.0) -> None:
        """`lead`, `tail`: seconds of the pauses before and after the sentence, of which half is its own; `lead` None:
        an outer edge, left as it is."""
        self.rate = rate
        self.lead = None if lead is None else round(lead / 2 * rate)  # samples, as `tail`
        self.tail = round(tail / 2 * rate)
        self.size = round(rate * 0.01)  # samples of a frame of `levels`
        self.near = round(rate * FADE_SECONDS)
        self.held = np.zeros(0, np.float32)  # received, not yet given out
        self.start = 0  # samples before `held`
        self.measured = 0  # samples whose level is known, whole frames
        self.first_loud: int | None = None  # where the first loud frame begins
        self.loud_end = 0  # where the last one ends
        self.is_open = lead is None  # whether the leading edge is settled
        self.shift = 0  # samples by which the sentence became later; negative: cut

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take samples; return those that are final."""
        self.held = np.concatenate([self.held, samples])
        self._measure(whole=True)
        if not self.is_open:
            if not self.loud_end:
                return self.held[:0]
            self._settle_lead()
        return self._give(min(self._end, self.loud_end + self.tail) - self.near)

    def flush(self, is_last: bool) -> np.ndarray:
        """Return the rest; the last sentence ends with an outer edge, left as it is."""
        self._measure(whole=False)
        if not self.is_open and self.loud_end:
            self._settle_lead()
        if is_last or not self.loud_end:
            return self._give(self._end)
        missing = self.loud_end + self.tail - self._end
        self.held = self.held[: self.loud_end + self.tail - self.start]
        edge = Audio(self.held[-2 * self.near :], self.rate)
        if len(edge.samples) and is_abrupt(edge.samples[::-1], self.near):
            self.held[-len(edge.samples) :] = fade(edge, end_seconds=FADE_SECONDS).samples
        return np.concatenate([self._give(self._end), np.zeros(max(0, missing), np.float32)])

    @property
    def _end(self) -> int:
        """Samples received."""
        return self.start + len(self.held)

    def _measure(self, *, whole: bool) -> None:
        """Find loud frames among those not yet measured; a last part of a frame counts when nothing follows."""
        stop = self._end // self.size * self.size if whole else self._end
        fresh = self.held[self.measured - self.start : stop - self.start]
        if not len(fresh):
            return
        loud = np.flatnonzero(levels(Audio(fresh, self.rate)) > QUIET_DB)
        if len(loud):
            if self.first_loud is None:
                self.first_loud = self.measured + int(loud[0]) * self.size
            self.loud_end = min(stop, self.measured + (int(loud[-1]) + 1) * self.size)
        self.measured = stop

    def _settle_lead(self) -> None:
        """Cut or fill the silence before the first loud frame."""
        assert self.lead is not None and self.first_loud is not None
        extra = self.first_loud - self.lead
        self.held, self.start = self.held[max(0, extra) :], max(0, extra)
        if is_abrupt(self.held, self.near):
            self.held = fade(Audio(self.held, self.rate), start_seconds=FADE_SECONDS).samples
        self.is_open, self.shift = True, -extra
        if extra < 0:
            self.held = np.concatenate([np.zeros(-extra, np.float32), self.held])
            self.start = extra

    def _give(self, end: int) -> np.ndarray:
        """Give out what is held up to `end`."""
        count = max(0, min(end, self._end) - self.start)
        given, self.held = self.held[:count], self.held[count:]
        self.start += count
        return given


def is_abrupt(samples: np.ndarray, near: int) -> bool:
    """Return True if samples that follow on silence begin with more than half of the step that may stay at a joint;
    the other half belongs to the other side. `near`: samples that tell how far the speech itself steps."""
    slew = float(np.abs(np.diff(samples[:near])).max(initial=0.0))
    return len(samples) > 0 and abs(float(samples[0])) > max(QUIET_STEP, SLEW_FACTOR * slew) / 2


def join_sentences(pieces: Iterable[tuple[Speech, float]]) -> Iterator[Speech]:
    """Yield each piece with its edges made for the joints; a single piece comes back as it is.

    `pieces`: speech and the pause wanted after it, in seconds. Holds two pieces at most.
    """
    lead: float | None = None
    held: tuple[Speech, float] | None = None
    for piece, pause in pieces:
        if held is not None:
            yield trim_edges(held[0], lead, held[1])
            lead = held[1]
        held = piece, pause
    if held is not None:
        yield trim_edges(held[0], lead, None)


def trim_edges(speech: Speech, lead: float | None, tail: float | None) -> Speech:
    """Return the speech between pauses of `lead` and `tail` seconds, half of each its own; None: an outer edge."""
    if lead is None and tail is None:
        return speech
    trimmer = EdgeTrimmer(speech.audio.rate, lead, tail or 0.0)
    samples = [trimmer.push(speech.audio.samples), trimmer.flush(is_last=tail is None)]
    return speech.with_samples(np.concatenate(samples), trimmer.shift)


def add_silences(pieces: Iterable[Speech], lead: float, tail: float) -> Iterator[Speech]:
    """Yield the pieces with seconds of silence before the first and after the last of them."""
    held: Speech | None = None
    for piece in pieces:
        if held is not None:
            yield held
        elif lead:
            rate = piece.audio.rate
            samples = np.concatenate([silence(lead, rate).samples, piece.audio.samples])
            piece = piece.with_samples(samples, round(lead * rate))
        held = piece
    if held is not None:
        yield replace(held, audio=concatenate([held.audio, silence(tail, held.audio.rate)])) if tail else held


class DurationError(ConfigError):
    """A text that cannot last so long; it can from `least` to `most` seconds."""

    def __init__(self, seconds: float, natural: float) -> None:
        """`natural`: seconds that the text takes by itself."""
        self.least, self.most = natural / STRETCH, natural * STRETCH
        super().__init__(
            f"{seconds:g} s do not fit a text that takes {natural:.1f} s",
            f"give a duration from {self.least:.1f} to {self.most:.1f} s",
        )


def fit_duration(generator: SpeechGenerator, plan: SpeechPlan, options: AROptions, seconds: float) -> SpeechPlan:
    """Return the plan with sentences and silences that last so many seconds together, all stretched alike.

    Inside the text a sentence's own silent edges do not count: they become the pauses. Raises `ConfigError` for options
    with a speed, `DurationError` for less than half or more than twice what the text takes, `ModelError` for a model
    without alignment.
    """
    if options.speed != 1:
        raise ConfigError("a speed and a duration contradict each other", "give one of them")
    segments, merge = list(plan.segments), generator.ar.config.merge
    attempts = generator.sample_natural([generator.encode(segment) for segment in segments], options)
    natural = plan.lead + plan.tail + sum(segment.sentence.pause for segment in segments)
    for number, (segment, attempt) in enumerate(zip(segments, attempts, strict=True)):
        edges = attempt.count_edges(is_first=number == 0, is_last=number == len(segments) - 1)
        natural += (len(attempt.result.codes) - edges) * merge / generator.spec.frame_rate / segment.sentence.speed
    faster = natural / seconds if seconds > 0 else np.inf
    if not 1 / STRETCH <= faster <= STRETCH:
        raise DurationError(seconds, natural)
    fitted = [
        generator.fit(attempt, len(attempt.result.codes) * merge / segment.sentence.speed / faster)
        for segment, attempt in zip(segments, attempts, strict=True)
    ]
    sentences = scale_pauses([segment.sentence for segment in fitted], faster)
    paused = (replace(segment, sentence=sentence) for segment, sentence in zip(fitted, sentences, strict=True))
    return SpeechPlan(paused, plan.lead / faster, plan.tail / faster)


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
