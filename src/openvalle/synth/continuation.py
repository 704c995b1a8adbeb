"""Continuing a recording (VALL-E 5.1, "continual"): the text goes on where the recording ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from openvalle.audio import Audio, Channel
from openvalle.decode.ar import AROptions
from openvalle.errors import TextError
from openvalle.synth.joints import add_silences, join_sentences
from openvalle.synth.plan import LexiconLike, PromptMode, Script, Segment, parse_script
from openvalle.synth.recording import (
    FADE_SECONDS,
    PAD_FRAMES,
    Clip,
    Recording,
    Source,
    context_start,
    crossfade,
    decode_like,
    record,
)
from openvalle.synth.speech import Speech, join_speech
from openvalle.synth.synthesizer import Synthesizer
from openvalle.text.markup import Markup
from openvalle.text.sentences import SENTENCE
from openvalle.types import SIL

PROMPT_SECONDS = 10.0  # of the recording's end that the model hears


@dataclass(frozen=True, eq=False)
class Continued:
    """A recording and what follows: samples before `start` are the recording's own."""

    clip: Clip
    start: int
    text: str
    speech: Speech  # what was added, at the models' rate and level

    @property
    def addition(self) -> Clip:
        """What was added alone."""
        return replace(self.clip, frames=self.clip.frames[self.start :])


def continue_clip(
    synthesizer: Synthesizer,
    clip: Source,
    text: str,
    transcript: str | None = None,
    seed: int = 0,
    options: AROptions | None = None,
    *,
    candidates: int = 1,
    markup: Markup | str = Markup.AUTO,
    lexicon: LexiconLike = None,
    channel: Channel | str = Channel.AUTO,
) -> Continued:
    """Return the recording followed by `text`; it keeps every sample but its last 10 ms, where the two are joined.

    Silence at the recording's end beyond a sentence's pause is left out. `transcript`: what is said in the clip;
    without it, speech recognition finds it; `channel`: of a recording of several, the one that is heard.
    """
    recording = record(synthesizer.generator, clip, transcript, channel, synthesizer.asr)
    end = int(recording.edges[-1])  # the frame at which the recording is left
    if recording.symbols[-1] == SIL:  # a sentence's pause after its last word
        end = min(end, int(recording.edges[-2]) + int(SENTENCE * recording.frame_rate) // 2 * 2)
    script = parse_script(text, markup, lexicon)
    if any(passage.voice for passage in script.passages):
        raise TextError("a recording goes on in its own voice", "leave [voice:...] and [S1] out")
    segments = _continuation_segments(synthesizer, recording, end, script, seed)
    pieces = synthesizer.speak_segments(segments, options or synthesizer.options, candidates)
    first, pause = next(pieces)
    first, lead = _decode_in_context(synthesizer, recording, end, first)
    sentences = synthesizer.mark(join_sentences(chain([(first, pause)], pieces)))
    joined = join_speech(list(add_silences(sentences, script.lead, script.tail)))
    own = recording.clip
    added = own.match_channels(Audio(joined.audio.samples / np.float32(recording.gain), joined.audio.rate))
    stop = min(recording.sample(end), len(own.frames))
    fade = min(round(FADE_SECONDS * own.rate), stop, len(lead))
    join = crossfade(own.frames[stop - fade : stop], lead[len(lead) - fade :])
    frames = np.concatenate([own.frames[: stop - fade], join, added])
    said = f"{recording.text} {joined.text}"
    return Continued(replace(own, frames=frames), stop - fade, said, joined)


def _continuation_segments(
    synthesizer: Synthesizer, recording: Recording, end: int, script: Script, seed: int
) -> Iterator[Segment]:
    """Return the segments to speak: the first goes on from the recording's end, the others have it as their voice."""
    count = len(recording.symbols)
    part = recording.excerpt(context_start(recording, count, PROMPT_SECONDS), count)
    surplus = int(recording.edges[-1]) - end
    part = replace(
        part,
        codes=part.codes[: len(part.codes) - surplus],
        durations=(*part.durations[:-1], part.durations[-1] - surplus),
    )
    voice = part.voice(synthesizer.generator)
    # a sentence that ended without a pause in the recording gets one from the text
    paused = part.symbols[-1] == SIL or recording.text.rstrip()[-1:] not in tuple(".!?;:,")
    for number, sentence in enumerate(script.sentences()):
        if number:
            yield Segment(sentence, voice, seed, number)
        else:
            first = sentence.without_pause() if paused else sentence
            yield Segment(first, voice, seed, number, mode=PromptMode.CONTINUAL)


def _decode_in_context(
    synthesizer: Synthesizer, recording: Recording, end: int, speech: Speech
) -> tuple[Speech, np.ndarray]:
    """Return the first sentence as the codec decodes it after the recording's own codes, and the sound of these
    (samples, channels) at the clip's rate and level, for the join."""
    before = recording.codes[max(0, end - PAD_FRAMES) : end]
    both = np.concatenate([before, speech.codes])
    sound = synthesizer.generator.decode(both)
    cut = len(before) * synthesizer.generator.spec.hop
    lead = decode_like(synthesizer, recording, both)[: round(len(before) * recording.clip.rate / recording.frame_rate)]
    audio = Audio(np.ascontiguousarray(sound.samples[cut:]), sound.rate)
    return replace(speech, audio=audio), lead
