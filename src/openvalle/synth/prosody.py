"""The prosody of a recording in another voice: its sounds, each as long as it was there (VALL-E R 3.2.3)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from openvalle.audio import Audio
from openvalle.errors import ModelError, UserError
from openvalle.model.alignment import merge_path
from openvalle.model.config import Alignment
from openvalle.synth.enrol import cleaned, heard, recorded, spoken_words
from openvalle.synth.jobs import Job
from openvalle.synth.lines import Line

if TYPE_CHECKING:
    from openvalle.decode.ar import AROptions
    from openvalle.synth.manner import VoiceLike
    from openvalle.synth.pipeline import Synthesizer
    from openvalle.synth.speech import Speech
    from openvalle.synth.voice import Voice

log = logging.getLogger(__name__)


def speak_like(
    synthesizer: Synthesizer,
    recording: str | Path | Audio,
    text: str | None = None,
    voice: VoiceLike = None,
    seed: int = 0,
    options: AROptions | None = None,
) -> Speech:
    """Return the words of `recording` spoken by `voice` with the recording's timing.

    `text`: what is said in it, else it is transcribed. Raises `ModelError` for a model without alignment,
    `AudioError` for a recording that is unreadable, silent, longer than 30 s or does not hold the words, `UserError`
    for options with a speed: the recording has its own.
    """
    chosen = options or synthesizer.options
    if chosen.speed != 1:
        raise UserError("a recording's prosody has its own speed", "leave the speed at 1")
    job = job_like(synthesizer, recording, text, synthesizer.voice(voice), seed)
    return next(iter(synthesizer.finished([synthesizer.utterer.speak([job], chosen)[0]])))


def job_like(synthesizer: Synthesizer, recording: str | Path | Audio, text: str | None, voice: Voice, seed: int) -> Job:
    """Return the line of a recording with the path through its symbols."""
    from openvalle.listen.aligner import POOR_SCORE, Aligner, spans_to_durations
    from openvalle.listen.edges import mark_edges

    utterer = synthesizer.utterer
    config = utterer.ar.config
    if config.alignment is Alignment.NONE:
        raise ModelError("a model without alignment cannot take over prosody", "use one with alignment")
    label = "the recording" if isinstance(recording, Audio) else str(recording)
    audio = cleaned(recorded(recording, label), label)
    said = heard(audio, label) if text is None else text
    words = spoken_words(said, label)
    alignment = Aligner().align_scored(audio, [(word.text, word.phones) for word in words])
    if alignment.score < POOR_SCORE:
        log.warning("%s: the words do not fit the sound well; check the text: %r", label, said)
    spans = mark_edges(alignment.spans, audio)
    frames = len(audio.samples) // utterer.spec.hop // config.block * config.block
    symbols, durations = spans_to_durations(spans, frames, utterer.spec.frame_rate, config.block)
    path = merge_path(torch.tensor(durations), config.block)
    line = Line(
        " ".join(said.split()), tuple(word.text for word in words), tuple(symbols), tuple(span.word for span in spans)
    )
    return Job(line, voice, seed, path=tuple(path.tolist()))
