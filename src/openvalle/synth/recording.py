"""A recording as its file holds it (`Clip`) and as the models read it (`Recording`), and speech put into it (`splice`).

Speech is decoded together with the recording's codes around it and crossfaded at its joins.

`speak_like` takes a recording's prosody into another voice: its sounds, each as long as it was there (VALL-E R 3.2.3).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.audio import (
    RATE,
    Audio,
    Channel,
    check_length,
    check_samples,
    choose_channel,
    mono,
    normalize,
    remove_offset,
    resample,
)
from openvalle.decode.ar import AROptions
from openvalle.errors import ModelError, UserError
from openvalle.files import Place, atomic_path, expand_home, final_path, likely_path
from openvalle.media import format_ending, open_sound, read_frames
from openvalle.model.alignment import to_step_alignment
from openvalle.model.kinds import Alignment
from openvalle.synth.clip_quality import check_noise, check_speech
from openvalle.synth.enrol import align_transcript, read_clip, transcribe, trim_clip
from openvalle.synth.generate import SpeechGenerator
from openvalle.synth.plan import Segment, Sentence, build_sentence, place_in_time
from openvalle.synth.speech import Speech, Timed
from openvalle.synth.synthesizer import Synthesizer, VoiceLike
from openvalle.synth.voice import PromptExcerpt, Voice
from openvalle.text.language import Word, phonemize
from openvalle.text.sentences import join_words
from openvalle.text.spans import detect_language
from openvalle.types import ENGLISH, MERGE, CodecSpec

log = logging.getLogger(__name__)

MAX_SECONDS = 120.0  # longest recording that is worked on
FADE_SECONDS = 0.01  # of a join: both sides are heard for so long


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording with its own rate, channels and sample format. `frames`: (samples, channels) float32."""

    frames: np.ndarray
    rate: int
    subtype: str = "PCM_16"
    channel: int | None = None  # the one that is heard; None: the mix of all

    @classmethod
    def read(cls, source: str | Path | Audio, channel: Channel | str = Channel.AUTO) -> Clip:
        """Read a file as it is; `AudioError` if it is missing, unreadable, empty, without speech or too long."""
        if isinstance(source, Audio):
            return cls(source.samples[:, None], source.rate, "FLOAT").check("the recording")
        path = expand_home(source)
        frames, rate, subtype = read_frames(path, MAX_SECONDS)
        return cls(frames, rate, subtype, choose_channel(frames, rate, channel, str(path))).check(str(path))

    def check(self, label: str) -> Clip:
        """Return the clip if it holds speech."""
        check_samples(self.frames, label)
        check_length(self.seconds, MAX_SECONDS, label)
        check_speech(self.mono(), label)
        return self

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.frames) / self.rate

    def mono(self) -> Audio:
        """Return what is heard of the clip, at its own rate, without an offset."""
        return remove_offset(Audio(mono(self.frames, self.channel), self.rate))

    def match_channels(self, audio: Audio) -> np.ndarray:
        """Return a mono sound as (samples, channels) at the clip's rate, as loud in each channel as what is heard of
        the clip, and around the same offset."""
        heard = self.mono().samples
        power = float(np.dot(heard, heard))
        offsets = self.frames.mean(axis=0, dtype=np.float64)
        gains = (heard @ (self.frames - offsets.astype(np.float32))) / power if power else np.ones(len(offsets))
        samples = resample(audio, self.rate).samples
        return (samples[:, None] * gains[None] + offsets[None]).astype(np.float32)

    def save(self, path: Place, tags: Mapping[str, str] | None = None) -> Path:
        """Write the file, in the clip's own sample format where the container has it, atomically; return its path.

        `tags`: see `openvalle.media.open_sound`.
        """
        ending = format_ending(likely_path(path))
        with (
            atomic_path(path) as part,
            open_sound(part, self.rate, ending, tags, self.frames.shape[1], self.subtype) as file,
        ):
            file.write(np.clip(self.frames, -1, 1))
        return final_path(path)


Source = str | Path | Audio | Clip | Speech


@dataclass(frozen=True, eq=False)
class Recording:
    """A clip as the models read it: `codes` (T, Q) uint16; `owners`: the word of each symbol, -1 for a pause."""

    clip: Clip
    gain: float  # from the clip's level to the models'
    codes: np.ndarray
    symbols: tuple[str, ...]
    durations: tuple[int, ...]
    owners: tuple[int, ...]
    words: tuple[Word, ...]
    text: str
    frame_rate: float  # of the codes
    language: str = ENGLISH

    @property
    def edges(self) -> np.ndarray:
        """Frame where each symbol begins, and the end, (S + 1,)."""
        return np.cumsum([0, *self.durations])

    def words_in_time(self) -> tuple[Timed, ...]:
        """Return the words and when they are said, in seconds from the clip's start."""
        sentence = Sentence(self.text, tuple(word.text for word in self.words), self.symbols, self.owners)
        return place_in_time(sentence, self.durations, self.frame_rate, self.clip.seconds)[0]

    def excerpt(self, start: int, end: int) -> PromptExcerpt:
        """Return the symbols [start, end) with their codes."""
        words = dict.fromkeys(owner for owner in self.owners[start:end] if owner >= 0)
        text = join_words(self.words[word].text for word in words)
        return PromptExcerpt(self.codes, self.symbols, self.durations, text).cut(start, end)

    def sample(self, frame: int) -> int:
        """Return the clip's sample at the beginning of a frame."""
        return round(frame * self.clip.rate / self.frame_rate)


def make_prompt(generator: SpeechGenerator, part: PromptExcerpt, language: str) -> Voice:
    """Return a part of a recording in a language as a prompt, in the model's text unit."""
    symbols, durations = part.symbols, part.durations
    if generator.table.is_spelt:
        symbols, durations = tuple(generator.table.pieces(part.text, language)), ()
    digests = {"codec_digest": generator.spec.digest, "symbols_digest": generator.table.digest}
    return Voice(part.codes, symbols, durations, part.text, **digests, name="recording", language=language)


def record(
    generator: SpeechGenerator,
    source: Source,
    transcript: str | None = None,
    channel: Channel | str = Channel.AUTO,
    asr: str = "",
    *,
    is_strict: bool = True,
    language: str = "",
    heard: Sequence[Timed] = (),
) -> Recording:
    """Return a recording with its tokens and the time of every word; without `transcript` it is recognised.

    A `Speech` of one sentence, as an aligned model spoke it, knows all that already. Raises `AudioError` for a clip
    that cannot be used, or whose transcript cannot be what is said, `TextError` without words. `is_strict`: also if a
    given transcript fits badly; `language`: what is spoken, by default what the script of its words shows; `heard`: the
    times of the transcript's words, for one that cannot be aligned (see `align_transcript`).
    """
    if isinstance(source, Speech):  # its text is what was to be said, however badly it was
        known: dict[str, Any] = {"is_strict": False, "language": source.language}
        return _from_speech(source, generator.spec) or record(generator, source.audio, source.text, **known)
    label = str(source) if isinstance(source, str | Path) else "the recording"
    clip = source if isinstance(source, Clip) else Clip.read(source, channel)
    sound = resample(clip.mono(), RATE)
    size = MERGE * generator.spec.hop
    sound = Audio(sound.samples[: len(sound.samples) // size * size], RATE)
    levelled = normalize(sound)
    loudest = int(np.abs(sound.samples).argmax())
    if noise := check_noise(sound):
        log.warning("%s: %s", label, noise)
    text = transcribe(levelled, label, asr, language or ENGLISH) if transcript is None else transcript
    samples = resample(levelled, generator.spec.rate).samples
    codes = generator.codec.encode(samples, merge=generator.ar.config.merge).astype(np.uint16)
    is_strict = is_strict and transcript is not None  # a recogniser's mistakes are no reason to refuse
    language = language or detect_language(text, generator.languages)
    rate = generator.spec.frame_rate
    how: dict[str, Any] = {"is_strict": is_strict, "language": language, "heard": heard}
    aligned = align_transcript(levelled, text, label, len(codes), rate, **how)
    gain = float(levelled.samples[loudest] / sound.samples[loudest])
    parts = (aligned.symbols, aligned.durations, aligned.owners, aligned.words, " ".join(text.split()))
    return Recording(clip, gain, codes, *parts, generator.spec.frame_rate, language)


def _from_speech(speech: Speech, spec: CodecSpec) -> Recording | None:
    """Return generated speech as a recording, None if its sound is not exactly its codes."""
    words = phonemize(speech.text, speech.language)
    sentence = build_sentence(speech.text, words)
    if sentence.symbols != speech.symbols or len(speech.codes) * spec.hop != len(speech.audio.samples):
        return None
    clip = Clip(speech.audio.samples[:, None], speech.audio.rate, "FLOAT")
    known = (speech.codes, speech.symbols, speech.durations, sentence.owners, tuple(words), speech.text)
    return Recording(clip, 1.0, *known, spec.frame_rate, speech.language)


def crossfade(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return (samples, channels) that turn from `before` to `after`, which are of one length."""
    count = len(before)
    rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / max(1, count))).astype(np.float32)[:, None]
    return before * (1 - rise) + after * rise


def context_start(recording: Recording, end: int, seconds: float) -> int:
    """Return the first symbol of a word such that the symbols [it, `end`) last at most `seconds`."""
    edges = recording.edges
    limit = edges[end] - seconds * recording.frame_rate
    return next((index for index in word_starts(recording) if index <= end and edges[index] >= limit), end)


def context_end(recording: Recording, start: int, seconds: float) -> int:
    """Return the symbol after a word such that the symbols [`start`, it) last at most `seconds`."""
    edges = recording.edges
    limit = edges[start] + seconds * recording.frame_rate
    ends = [index for index in (*word_starts(recording), len(recording.symbols)) if index >= start]
    return max((index for index in ends if edges[index] <= limit), default=start)


def word_starts(recording: Recording) -> Sequence[int]:
    """Return the symbols with which a word or a pause begins."""
    owners = recording.owners
    return [index for index in range(len(owners)) if index == 0 or owners[index] != owners[index - 1]]


PAD_FRAMES = 32  # of the recording's own codes on either side that the codec decodes along


@dataclass(frozen=True)
class Splice:
    """Samples [start, end) of the recording that became [new_start, new_end); joins included."""

    start: int
    end: int
    new_start: int
    new_end: int


def splice(
    synthesizer: Synthesizer, recording: Recording, span: tuple[int, int], speech: Speech | None
) -> tuple[np.ndarray, int, int]:
    """Return the samples of the symbols `span`, [first, last), with their joins, and the recording's samples
    [start, end) that they stand for. Without `speech` the symbols are left out."""
    clip, edges = recording.clip, recording.edges
    start, end = (recording.sample(int(edges[index])) for index in span)
    half = round(FADE_SECONDS / 2 * clip.rate)
    left, right = min(half, start), min(half, len(clip.frames) - end)
    if speech is None:
        both = min(left, right)
        piece = crossfade(clip.frames[start - both : start + both], clip.frames[end - both : end + both])
        return piece, start - both, end + both
    first, last = (int(edges[index]) for index in span)
    context = recording.codes[max(0, first - PAD_FRAMES) : first], recording.codes[last : last + PAD_FRAMES]
    sound = decode_like(synthesizer, recording, np.concatenate([context[0], speech.codes, context[1]]))
    before, after = (recording.sample(len(codes)) for codes in context)
    spare = len(sound) - before - after
    left, right = min(left, spare // 2), min(right, spare // 2)
    inner = sound[before - left : len(sound) - after + right]
    rise = crossfade(clip.frames[start - left : start + left], inner[: 2 * left])
    fall = crossfade(inner[len(inner) - 2 * right :], clip.frames[end - right : end + right])
    piece = np.concatenate([rise, inner[2 * left : len(inner) - 2 * right], fall])
    return piece, start - left, end + right


def decode_like(synthesizer: Synthesizer, recording: Recording, codes: np.ndarray) -> np.ndarray:
    """Return codes (T, Q) as (samples, channels) at the clip's rate and level."""
    sound = synthesizer.generator.decode(codes)
    marked = synthesizer.marker.mark(sound) if synthesizer.marker else sound
    return recording.clip.match_channels(Audio(marked.samples / np.float32(recording.gain), marked.rate))


def speak_like(
    synthesizer: Synthesizer,
    recording: str | Path | Audio,
    text: str | None = None,
    voice: VoiceLike = None,
    seed: int = 0,
    options: AROptions | None = None,
    channel: Channel | str = Channel.AUTO,
) -> Speech:
    """Return the words of `recording` spoken by `voice` with the recording's timing.

    `text`: what is said in it, else it is transcribed; `channel`: the one that is heard. Raises `ModelError` for a
    model without alignment, `AudioError` for a recording that is unreadable, silent, longer than 30 s or does not hold
    the words, `UserError` for options with a speed: the recording has its own.
    """
    chosen = options or synthesizer.options
    if chosen.speed != 1:
        raise UserError("a recording's prosody has its own speed", "leave the speed at 1")
    segment = plan_recording(synthesizer, recording, text, synthesizer.voice(voice), seed, channel)
    return next(iter(synthesizer.mark([synthesizer.generator.speak([segment], chosen)[0]])))


def plan_recording(
    synthesizer: Synthesizer,
    recording: str | Path | Audio,
    text: str | None,
    voice: Voice,
    seed: int,
    channel: Channel | str = Channel.AUTO,
) -> Segment:
    """Return what is said in a recording as a segment with the recording's alignment."""
    generator = synthesizer.generator
    config = generator.ar.config
    if config.alignment is Alignment.NONE:
        raise ModelError("a model without alignment cannot take over prosody", "use one with alignment")
    label = "the recording" if isinstance(recording, Audio) else str(recording)
    audio = trim_clip(read_clip(recording, label, channel), label)
    said = transcribe(audio, label, synthesizer.asr) if text is None else text
    frames = len(audio.samples) // generator.spec.hop // config.step_frames * config.step_frames
    language = detect_language(said, generator.languages)
    aligned = align_transcript(
        audio, said, label, frames, generator.spec.frame_rate, config.step_frames, language=language
    )
    alignment = to_step_alignment(np.array(aligned.durations), config.step_frames)
    names = tuple(word.text for word in aligned.words)
    sentence = Sentence(" ".join(said.split()), names, aligned.symbols, aligned.owners, language=language)
    return Segment(sentence, voice, seed, alignment=tuple(alignment.tolist()))
