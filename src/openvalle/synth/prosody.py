"""The prosody of a recording in another voice: its sounds, each as long as it was there (VALL-E R 3.2.3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from openvalle.audio import Audio, Channel
from openvalle.decode.ar import AROptions
from openvalle.errors import ModelError, UserError
from openvalle.model.alignment import to_block_alignment
from openvalle.model.config import Alignment
from openvalle.synth.enrol import align_transcript, read_clip, transcribe, trim_clip
from openvalle.synth.plan import Segment, Sentence
from openvalle.synth.speech import Speech
from openvalle.synth.synthesizer import Synthesizer, VoiceLike
from openvalle.synth.voice import Voice


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

    `text`: what is said in it, else it is transcribed; `channel`: the one that is heard.
    Raises `ModelError` for a model without alignment,
    `AudioError` for a recording that is unreadable, silent, longer than 30 s or does not hold the words, `UserError`
    for options with a speed: the recording has its own.
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
    frames = len(audio.samples) // generator.spec.hop // config.block * config.block
    aligned = align_transcript(audio, said, label, frames, generator.spec.frame_rate, config.block)
    alignment = to_block_alignment(np.array(aligned.durations), config.block)
    names = tuple(word.text for word in aligned.words)
    sentence = Sentence(" ".join(said.split()), names, aligned.symbols, aligned.owners)
    return Segment(sentence, voice, seed, alignment=tuple(alignment.tolist()))
