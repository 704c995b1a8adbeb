"""Speech of one language -> the same in another, in the same voice: recognised, translated, spoken again.

The cascade that VALL-E X compares itself with (4.2), up to its last step, which is the paper's own (3.4): each segment
of the recording is the prompt of its translation, its phones before the translation's, its codes before those that are
spoken. The paper's joint model of recognition and translation was never published: Whisper and opus-mt stand for it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.apps.narration import digest_voice
from openvalle.apps.segments import MOST_SECONDS, SourceSegment, cut_segments, place_words, recognize
from openvalle.apps.subtitles import Timeline
from openvalle.apps.translation_parts import Segments, TranslationParts
from openvalle.audio import RATE, Audio, Channel, fade, normalize
from openvalle.decode.ar import AROptions
from openvalle.errors import AudioError, ModelError, TextError, UserError
from openvalle.model.kinds import Alignment
from openvalle.safety.consent import require_consent
from openvalle.synth.enrol import read_clip
from openvalle.synth.joints import FADE_SECONDS, DurationError
from openvalle.synth.plan import PromptMode
from openvalle.synth.recording import make_prompt, record
from openvalle.synth.speech import Speech, join_speech
from openvalle.synth.synthesizer import Synthesizer, VoiceLike
from openvalle.synth.voice import Voice
from openvalle.text.language import find_language, phonemize
from openvalle.text.sentences import join_words
from openvalle.text.spans import detect_language
from openvalle.text.translator import Translators

log = logging.getLogger(__name__)

MAX_SECONDS = 3600.0  # longest recording that is translated
GIVEN_SECONDS = 120.0  # and longest one whose words are given: they are aligned in one go
LEAST_SECONDS = 1.0  # of a recording that can be a prompt
PROMPT_SECONDS = 3.0  # shorter segments have their neighbours in their prompt, too
NEAR_SECONDS = 2.0  # a neighbour after a longer pause is none


@dataclass(frozen=True, eq=False)
class TranslatedSource:
    """A recording in segments, with the translation of each."""

    audio: Audio  # 24 kHz mono
    language: str
    target: str
    segments: tuple[SourceSegment, ...]
    translations: tuple[str, ...]  # "": nothing that can be spoken

    def timeline(self) -> Timeline:
        """Return the recording's own words in time, for subtitles."""
        found = Timeline()
        for segment in self.segments:
            found.append(segment.text, segment.words)
        found.seconds = self.audio.seconds
        return found


@dataclass(frozen=True, eq=False)
class SpokenSegment:
    """A segment in the other language. `speech`: with the silence before it, and after it where it is the last;
    `start`, `end`: where it is spoken in the new recording, in seconds."""

    source: SourceSegment
    text: str
    speech: Speech
    start: float
    end: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, times in seconds."""
        was = {"start": round(self.source.start, 3), "end": round(self.source.end, 3)}
        now = {"spoken_start": round(self.start, 3), "spoken_end": round(self.end, 3)}
        return {"text": self.source.text, "translation": self.text, **was, **now}


@dataclass(frozen=True, eq=False)
class Translation:
    """A recording in another language."""

    source: TranslatedSource
    segments: tuple[SpokenSegment, ...]

    @property
    def speech(self) -> Speech:
        """All of it."""
        return join_speech([segment.speech for segment in self.segments])


def translate(
    synthesizer: Synthesizer,
    recording: str | Path | Audio,
    target: str,
    translators: Translators | None = None,
    *,
    seed: int = 0,
    options: AROptions | None = None,
    language: str = "",
    transcript: str | None = None,
    voice: VoiceLike = None,
    is_fitted: bool = False,
    candidates: int = 1,
    channel: Channel | str = Channel.AUTO,
    consent: str = "",
) -> Translation:
    """Return a recording in the language `target`, in its speaker's voice.

    `translators`: by default the user's own; `language`: of the recording, else it is found; `transcript`: what is
    said, else it is recognised; `voice`: another one than the recording's; `is_fitted`: each segment keeps its time;
    `candidates`, `channel`, `consent`: as for `Synthesizer.say` and `voice`. Raises `UserError` where a language, a
    translator or a model's knowledge is missing, `AudioError` for a recording without speech.
    """
    known: dict[str, Any] = {"language": language, "transcript": transcript, "channel": channel}
    source = read_source(synthesizer, recording, target, translators or Translators.find(), **known)
    how: dict[str, Any] = {"voice": voice, "is_fitted": is_fitted, "candidates": candidates, "consent": consent}
    return Translation(source, tuple(speak_translation(synthesizer, source, seed, options, **how)))


def read_source(
    synthesizer: Synthesizer,
    recording: str | Path | Audio,
    target: str,
    translators: Translators,
    *,
    language: str = "",
    transcript: str | None = None,
    channel: Channel | str = Channel.AUTO,
    longest: float = MAX_SECONDS,
    parts: TranslationParts | None = None,
) -> TranslatedSource:
    """Return a recording in segments with their translations; see `translate`. `longest`: seconds; `parts`: where what
    was found before is kept."""
    target = synthesizer.find_languages(target).chosen
    language = find_language(language).code if language else ""
    if language:  # what is missing is told before the work begins
        _check_pair(language, target, translators)
    label = "the recording" if isinstance(recording, Audio) else str(recording)
    if transcript is not None:
        longest = min(longest, GIVEN_SECONDS)
    audio = normalize(read_clip(recording, label, channel, longest))

    def find() -> Segments:
        if transcript is None:
            heard = recognize(audio, label, language, synthesizer.asr)
        else:
            heard = place_words(audio, label, transcript, language or detect_language(transcript, ("zh", "ja")))
        _check_pair(heard.language, target, translators)
        segments = cut_segments(heard, audio.seconds)
        translations = translators.translate([segment.text for segment in segments], heard.language, target)
        pairs = zip(translations, segments, strict=True)
        return heard.language, segments, [_keep_speakable(text, target, segment) for text, segment in pairs]

    facts = [_digest_sound(audio), language, target, transcript, synthesizer.asr]
    spoken, segments, translations = parts.find_segments([*facts, translators.digest], find) if parts else find()
    return TranslatedSource(audio, spoken, target, tuple(segments), tuple(translations))


def _digest_sound(audio: Audio) -> str:
    return hashlib.sha256(audio.samples.tobytes()).hexdigest()


def _keep_speakable(text: str, target: str, segment: SourceSegment) -> str:
    """Return a translation, "" for one in which nothing can be spoken; that is logged."""
    try:
        phonemize(text, target)
    except TextError as error:
        log.warning("at %.1f s: %r is translated as nothing: %s", segment.start, segment.text, error.what)
        return ""
    return text


def _check_pair(language: str, target: str, translators: Translators) -> None:
    if language == target:
        raise UserError(f"the recording speaks {language!r} already", "translate it into another language")
    translators.find_way(language, target)


@dataclass(frozen=True)
class PromptMaker:
    """Makes the prompt of each segment: itself, with its neighbours where it is short (VALL-E X 3.4)."""

    synthesizer: Synthesizer
    source: TranslatedSource
    _made: dict[tuple[int, int], Voice | UserError] = field(default_factory=dict)

    def make(self, number: int) -> Voice:
        """Return the prompt of a segment; that of the nearest other one where its own cannot be one."""
        fault: UserError | None = None
        for other in _go_outwards(number, len(self.source.segments)):
            found = self._record(*self._window(other))
            if isinstance(found, Voice):
                if fault is not None:
                    start = self.source.segments[number].start
                    log.warning("at %.1f s: %s; it is spoken as another part is", start, fault.what)
                return found
            fault = fault or found
        assert fault is not None
        raise fault

    def _window(self, number: int) -> tuple[int, int]:
        """Return the segments [first, last) around one, which last `PROMPT_SECONDS` together where others are near."""
        segments = self.source.segments
        first, last = number, number + 1
        while segments[last - 1].end - segments[first].start < PROMPT_SECONDS:
            wider = [
                (segments[right].start - segments[right - 1].end, span)
                for right, span in ((first, (first - 1, last)), (last, (first, last + 1)))
                if 0 < right < len(segments) and segments[span[1] - 1].end - segments[span[0]].start <= MOST_SECONDS
            ]
            gap, span = min(wider, default=(np.inf, (first, last)))
            if gap > NEAR_SECONDS:
                break
            first, last = span
        return first, last

    def _record(self, first: int, last: int) -> Voice | UserError:
        """Return what the segments [first, last) are as a prompt, or why they cannot be one."""
        if (first, last) not in self._made:
            own, language = self.source.segments[first:last], self.source.language
            start, end = (round(place * RATE) for place in (own[0].start, own[-1].end))
            sound, text = Audio(self.source.audio.samples[start:end], RATE), join_words(each.text for each in own)
            try:
                if sound.seconds < LEAST_SECONDS:
                    raise AudioError(f"{sound.seconds:.1f} s are too little for a voice", "give a longer recording")
                generator = self.synthesizer.generator
                words = [word.shift(-own[0].start).clip(sound.seconds) for each in own for word in each.words]
                found = record(generator, sound, text, is_strict=False, language=language, heard=words)
                self._made[first, last] = make_prompt(generator, found.excerpt(0, len(found.symbols)), language)
            except (AudioError, TextError) as error:
                self._made[first, last] = error
        return self._made[first, last]


def _go_outwards(number: int, count: int) -> Iterator[int]:
    """Yield the numbers under `count`, the nearest to one first."""
    yield number
    for step in range(1, count):
        yield from (other for other in (number - step, number + step) if 0 <= other < count)


def speak_translation(
    synthesizer: Synthesizer,
    source: TranslatedSource,
    seed: int = 0,
    options: AROptions | None = None,
    *,
    voice: VoiceLike = None,
    is_fitted: bool = False,
    candidates: int = 1,
    consent: str = "",
    parts: TranslationParts | None = None,
) -> Iterator[SpokenSegment]:
    """Yield the segments as they are spoken; joined end to end they are the new recording. See `translate`.

    `parts`: where what was spoken before is kept; what comes out of it has 16 bits.
    """
    if is_fitted and synthesizer.generator.ar.config.alignment is Alignment.NONE:
        raise ModelError("a model without alignment cannot keep the segments' times", "leave --fit away")
    chosen = None if voice is None else synthesizer.voice(voice, consent=consent)
    find_prompt = _choose_voice(synthesizer, source, chosen, consent)
    sampled = (options or synthesizer.options).model_dump_json()
    facts = [synthesizer.describe(), synthesizer.provenance.watermark, sampled, source.target, is_fitted, candidates]
    facts += [digest_voice(chosen) if chosen else _digest_sound(source.audio)] if parts else []
    how: dict[str, Any] = {"markup": "none", "language": source.target, "mode": PromptMode.CROSS_LINGUAL}
    say = partial(synthesizer.say, options=options, candidates=candidates, **how)
    said = [number for number, text in enumerate(source.translations) if text]
    if not said:
        raise TextError("the translator found no words for what is said", "give another one with --translator")
    rate, at, before = synthesizer.rate, 0, 0.0  # `at`: samples so far; `before`: where the last segment ended
    for number in said:
        segment, text = source.segments[number], source.translations[number]
        speak = partial(_say_segment, say, segment, text, partial(find_prompt, number), seed + number, is_fitted)
        own = [text, segment.text, segment.start, segment.end, seed + number]
        speech = parts.find_speech([*facts, *own], speak) if parts else speak()
        # fitted: at its own time, or as soon as what came before it is over; else after the pause that was there
        lead = max(0, round(segment.start * rate) - at) if is_fitted else round((segment.start - before) * rate)
        start = at + lead
        end = at = start + len(speech.audio.samples)
        samples = [np.zeros(lead, np.float32), fade(speech.audio, FADE_SECONDS, FADE_SECONDS).samples]
        if number == said[-1]:
            left = source.audio.seconds - (end / rate if is_fitted else segment.end)
            samples.append(np.zeros(max(0, round(left * rate)), np.float32))
        before = segment.end
        yield SpokenSegment(segment, text, speech.with_samples(np.concatenate(samples), lead), start / rate, end / rate)


def _choose_voice(
    synthesizer: Synthesizer, source: TranslatedSource, chosen: Voice | None, consent: str
) -> Callable[[int], Voice]:
    """Return who speaks a segment: the voice that is asked for, else the recording's own."""
    if chosen is not None:
        return lambda number: chosen
    require_consent(consent, "the recording's", synthesizer.policy)
    if source.language not in synthesizer.generator.languages:
        name, spoken = synthesizer.config.name, source.language
        raise ModelError(
            f"the model {name!r} was not trained with {spoken!r}, which the recording speaks",
            "give one that was, or let another --voice speak (docs/languages.md)",
        )
    return PromptMaker(synthesizer, source).make


def _say_segment(
    say: Callable[..., Speech],
    segment: SourceSegment,
    text: str,
    find_prompt: Callable[[], Voice],
    seed: int,
    is_fitted: bool,
) -> Speech:
    asked = partial(say, text, find_prompt(), seed=seed)
    return _say_fitted(asked, segment, text) if is_fitted else asked()


def _say_fitted(say: Callable[..., Speech], segment: SourceSegment, text: str) -> Speech:
    """Return what `say` speaks in the segment's time; if that is less than half of what it takes, or more than twice,
    as near as it comes."""
    try:
        return say(duration=segment.seconds)
    except DurationError as error:
        log.warning("at %.1f s: the translation does not fit into %.1f s: %r", segment.start, segment.seconds, text)
        return say(duration=error.least if segment.seconds < error.least else error.most)
