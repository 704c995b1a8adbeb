"""What a job does: a text or script -> bytes of a sound file, in pieces. It runs in the engine's threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from openvalle.audio import Audio
from openvalle.decode.ar import AROptions
from openvalle.server.formats import encode, make_encoder
from openvalle.server.voices import SentClip
from openvalle.synth.speech import Speech, Timed, join_speech
from openvalle.synth.synthesizer import Synthesizer, Text
from openvalle.synth.voice import Voice


@dataclass(frozen=True, eq=False)
class Order:
    """What is to be spoken, and how."""

    text: Text
    voice: Voice | SentClip
    file_format: str
    seed: int
    options: AROptions
    cast: Mapping[str, Voice] = field(default_factory=dict)  # every voice that the text names
    is_whole: bool = False  # the file comes in one piece, with true sizes
    is_patient: bool = False  # of a stream: a line is heard only when it is known to be right
    has_times: bool = False  # words are placed in time even where the model does not tell
    duration: float | None = None
    gain: float = 1.0
    language: str = ""  # of the text; empty: as its script shows

    def speak(self, synthesizer: Synthesizer) -> Iterator[Piece]:
        """Yield the sound in pieces; the last one completes the file."""
        voice = self.voice.enrol(synthesizer) if isinstance(self.voice, SentClip) else self.voice
        return self._whole(synthesizer, voice) if self.is_whole else self._stream(synthesizer, voice)

    def _whole(self, synthesizer: Synthesizer, voice: Voice) -> Iterator[Piece]:
        how: dict[str, Any] = {"cast": self.cast, "duration": self.duration, "language": self.language}
        spoken = synthesizer.sentences(self.text, voice, None, self.seed, self.options, **how)
        speech = join_speech([self._place(piece) for piece in spoken])
        audio = Audio(speech.audio.samples * self.gain, speech.audio.rate)
        data = encode(audio, self.file_format, synthesizer.provenance.tags())
        yield Piece(data, speech.seconds, speech.text, speech.words, speech)

    def _stream(self, synthesizer: Synthesizer, voice: Voice) -> Iterator[Piece]:
        encoder = make_encoder(self.file_format, synthesizer.rate, synthesizer.provenance.tags())
        begun: dict[int, float] = {}  # sentence -> second
        how: dict[str, Any] = {"cast": self.cast, "live": not self.is_patient, "language": self.language}
        for block in synthesizer.stream(self.text, voice, None, self.seed, self.options, **how):
            words: tuple[Timed, ...] = ()
            if block.text:
                begun.setdefault(block.sentence, block.start)
            if block.speech is not None:
                words = tuple(word.shift(begun[block.sentence]) for word in self._place(block.speech).words)
            data = encoder.push(block.audio.samples * self.gain)
            yield Piece(data, block.audio.seconds, block.text, words, block.speech)
        yield Piece(encoder.finish(), 0.0, "", (), None)

    def _place(self, speech: Speech) -> Speech:
        if not self.has_times:
            return speech
        from openvalle.apps.subtitles import with_times

        return with_times(speech)


@dataclass(frozen=True, eq=False)
class Piece:
    """Some of the file. `speech`: of the sentence that ended here, with its `words` in seconds of the whole sound."""

    data: bytes
    seconds: float  # of sound that went into it
    text: str  # of the sentence
    words: tuple[Timed, ...]
    speech: Speech | None


@dataclass
class Usage:
    """What a request took, in what the models read and write: symbols of text, frames of codes."""

    read: int = 0
    written: int = 0

    def add(self, speech: Speech) -> None:
        """Count a sentence."""
        self.read += len(speech.symbols) or len(speech.text)
        self.written += len(speech.codes)

    @classmethod
    def count(cls, speech: Speech | None) -> Usage:
        """Return what one speech took."""
        usage = cls()
        if speech is not None:
            usage.add(speech)
        return usage

    def shown(self) -> dict[str, int]:
        """Return it as OpenAI's API does."""
        return {"input_tokens": self.read, "output_tokens": self.written, "total_tokens": self.read + self.written}
