"""`Synthesizer`: text and a voice -> speech. The one place where text, voice, models and codec meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch

from openvalle import __version__
from openvalle.audio import Audio
from openvalle.codec.load import load_codec
from openvalle.decode.ar import AROptions
from openvalle.decode.windows import Windows
from openvalle.errors import ConfigError, ModelError
from openvalle.hub import BUILTIN, VOICE_SUFFIX, Kind, assets, find, names
from openvalle.model.bundle import BundleConfig, load_bundle, require_same_codec
from openvalle.safety.provenance import GENERATOR, Provenance
from openvalle.safety.watermark import Marker
from openvalle.synth.enrol import enrol
from openvalle.synth.lines import lines_of
from openvalle.synth.long import join_sentences
from openvalle.synth.speech import Speech, join_speech
from openvalle.synth.stream import Block, blocks_of
from openvalle.synth.utter import Job, Utterer, jobs_of
from openvalle.synth.voice import Voice, voice_from_speech
from openvalle.text.symbols import SymbolTable

DEFAULT_VOICE = "default"  # the built-in voice to use when none is asked for; else the first one there is
BATCH = 8  # lines spoken at a time by `say_batch`

Text = str | Iterable[str]  # whole, or in pieces as it arrives
VoiceLike = Voice | Audio | str | Path | None


@dataclass(frozen=True)
class Synthesizer:
    """A loaded model with its codec. Calls leave nothing behind, so threads may share one."""

    config: BundleConfig
    utterer: Utterer
    options: AROptions
    marker: Marker | None  # lays the watermark on all that is spoken; None: none

    @classmethod
    def load(
        cls,
        model: str | Path = BUILTIN,
        codec: str | Path | None = None,
        device: str = "auto",
        *,
        windows: Windows | None = None,
        watermark: bool = True,
    ) -> Synthesizer:
        """Return the model called `model` (a name or a folder), ready to speak.

        `codec`: a name or folder, by default the one in the model's folder (`codec/`) or the built-in one;
        `device`: auto, cpu, cuda or mps; `windows`: in which codebooks 2 to Q are filled, streamed or not;
        `watermark` False leaves the mark out of the sound (docs/protection.md). Raises `ModelError` if a file is
        missing, damaged or does not fit.
        """
        place = chosen_device(device)
        folder = find(Kind.MODEL, model)
        bundle = load_bundle(folder)
        own = folder / "codec"
        spoken = load_codec(codec if codec is not None else own if own.is_dir() else BUILTIN)
        if isinstance(spoken, torch.nn.Module):
            spoken.to(place)
        spec = spoken.spec
        require_same_codec(bundle.config, spec.digest, f"the codec {spec.name}")
        table = SymbolTable(bundle.symbols)
        languages = bundle.config.languages
        utterer = Utterer(
            bundle.ar.to(place), bundle.nar.to(place), spoken, spec, table, languages, windows or Windows()
        )
        options = options_of(bundle.generation, str(folder))
        return cls(bundle.config, utterer, options, Marker() if watermark else None)

    @property
    def rate(self) -> int:
        """Samples per second of what is spoken."""
        return self.utterer.spec.rate

    @property
    def provenance(self) -> Provenance:
        """What the files say about what is spoken."""
        mark = self.marker.name if self.marker else ""
        return Provenance(f"{GENERATOR} {__version__}", self.config.name, mark)

    def describe(self) -> str:
        """Return the model's name, licence and digests on one line."""
        spec, table = self.utterer.spec, self.utterer.table
        return f"{self.config.name} ({self.config.licence}), codec {spec.digest}, symbols {table.digest}"

    def sampling(
        self,
        temperature: float | None = None,
        top_p: float | None = None,
        *,
        window: int | None = None,
        speed: float | None = None,
        attempts: int | None = None,
    ) -> AROptions:
        """Return the model's own options with what is given changed; `ConfigError` for a value out of range.

        `window`: how many of the last codes repetition-aware sampling looks at; `speed`: 2 is twice as fast, for
        models with alignment; `attempts`: times a line is spoken at most, if it goes wrong.
        """
        values = self.options.model_dump()
        values["sampling"] |= _given(temperature=temperature, top_p=top_p, window=window)
        values |= _given(speed=speed, attempts=attempts)
        return AROptions.parse(values, "the sampling options")

    def voice(self, voice: VoiceLike = None, prompt_text: str | None = None, *, consent: str = "") -> Voice:
        """Return `voice` as a `Voice` that fits this model.

        None is the built-in default; a string a voice's name, a clip or a `.safetensors` file; `prompt_text` says
        what is spoken in a clip, which is transcribed otherwise.
        """
        if voice is None:
            voice = default_voice()
        elif isinstance(voice, str | Path):
            path = find(Kind.VOICE, voice)
            voice = Voice.load(path) if path.suffix == VOICE_SUFFIX else self._enrolled(path, prompt_text, consent)
        elif isinstance(voice, Audio):
            voice = self._enrolled(voice, prompt_text, consent)
        return voice.check(self.utterer.spec.digest, self.utterer.table.digest)

    def say(
        self,
        text: Text,
        voice: VoiceLike = None,
        prompt_text: str | None = None,
        seed: int = 0,
        options: AROptions | None = None,
    ) -> Speech:
        """Return `text` spoken by `voice`; the same seed gives the same samples.

        `options`: see `sampling`. Raises `TextError` if nothing in the text can be spoken.
        """
        return join_speech(list(self.sentences(text, voice, prompt_text, seed, options)))

    def sentences(
        self,
        text: Text,
        voice: VoiceLike = None,
        prompt_text: str | None = None,
        seed: int = 0,
        options: AROptions | None = None,
    ) -> Iterator[Speech]:
        """Yield the speech sentence by sentence; joined end to end it is what `say` returns.

        Memory does not grow with the length of the text: every sentence is spoken with the same prompt.
        """
        jobs = self._jobs(text, self.voice(voice, prompt_text), seed)
        return self.finished(join_sentences(self._spoken(jobs, options or self.options)))

    def stream(
        self,
        text: Text,
        voice: VoiceLike = None,
        prompt_text: str | None = None,
        seed: int = 0,
        options: AROptions | None = None,
        *,
        live: bool = True,
    ) -> Iterator[Block]:
        """Yield the sound in blocks while it is being made; joined end to end they are what `say` returns.

        `text` may arrive in pieces. What was heard cannot be taken back, so a `live` line is spoken once: as `say`
        does with `attempts=1` among its options. Else codebook 1 of a line is complete, and spoken again if it went
        wrong, before its first block comes: as `say` does with the same options. Who stops reading (`close`) ends it.
        """
        speaker, chosen = self.voice(voice, prompt_text), options or self.options
        if live:
            chosen = chosen.model_copy(update={"attempts": 1})
        return blocks_of(self.utterer, self._jobs(text, speaker, seed), chosen, self.marker, self.provenance)

    def say_batch(
        self,
        texts: Sequence[str],
        voice: VoiceLike | Sequence[VoiceLike] = None,
        prompt_text: str | None = None,
        seed: int | Sequence[int] = 0,
        options: AROptions | None = None,
    ) -> list[Speech]:
        """Return each text spoken, several lines at a time: what `say` gives for each, sooner.

        `voice`, `seed`: one for all texts, or one for each.
        """
        is_one = voice is None or isinstance(voice, Voice | Audio | str | Path)
        voices = cast(Sequence[VoiceLike], [voice] * len(texts) if is_one else voice)
        seeds = [seed] * len(texts) if isinstance(seed, int) else list(seed)
        known = {id(each): self.voice(each, prompt_text) for each in voices}
        lines = [list(lines_of(text)) for text in texts]
        jobs = [
            job
            for own, each, own_seed in zip(lines, voices, seeds, strict=True)
            for job in jobs_of(own, known[id(each)], own_seed)
        ]
        spoken: list[Speech] = []
        for start in range(0, len(jobs), BATCH):
            spoken += self.utterer.speak(jobs[start : start + BATCH], options or self.options)
        pieces = iter(spoken)
        timed = [
            [(piece, line.pause) for piece, line in zip(islice(pieces, len(own)), own, strict=True)] for own in lines
        ]
        return [join_speech(list(self.finished(join_sentences(own)))) for own in timed]

    def finished(self, pieces: Iterable[Speech]) -> Iterator[Speech]:
        """Yield each piece with its watermark and provenance: all sound leaves the pipeline through here."""
        for piece in pieces:
            audio = self.marker.mark(piece.audio) if self.marker else piece.audio
            yield replace(piece, audio=audio, provenance=self.provenance)

    def invent_voice(self, text: str, seed: int = 0, name: str = "invented") -> Voice:
        """Return a voice that belongs to nobody: the model speaks `text` without a prompt."""
        line = next(lines_of(text))
        speech = self.utterer.speak([Job(line, None, seed)], self.options)[0]
        if not speech.durations:
            raise ModelError("a model without alignment cannot invent voices", "use one with alignment")
        source = f"{self.config.name}, seed {seed}"
        return voice_from_speech(speech, self.utterer.spec.digest, self.utterer.table.digest, name, source)

    def _jobs(self, text: Text, voice: Voice, seed: int) -> Iterator[Job]:
        return jobs_of(lines_of(text), voice, seed)

    def _spoken(self, jobs: Iterable[Job], options: AROptions) -> Iterator[tuple[Speech, float]]:
        for job in jobs:
            yield self.utterer.speak([job], options)[0], job.line.pause

    def _enrolled(self, clip: Path | Audio, prompt_text: str | None, consent: str) -> Voice:
        utterer = self.utterer
        return enrol(clip, utterer.codec, utterer.table.digest, prompt_text, consent=consent)


def default_voice() -> Voice:
    """Return the built-in voice; `ModelError` if this installation has none."""
    folder = assets() / "voices"
    built_in = sorted(folder.glob(f"*{VOICE_SUFFIX}"), key=lambda path: (path.stem != DEFAULT_VOICE, path.stem))
    if built_in:
        return Voice.load(built_in[0])
    there = ", ".join(names(Kind.VOICE))
    raise ModelError("there is no built-in voice", f"give one with --voice: a clip{' or ' + there if there else ''}")


def chosen_device(device: str) -> torch.device:
    """Return the device called `device`; `auto` takes the fastest there is."""
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if has[name]))
    if not has.get(device.split(":")[0], False):
        there = ", ".join(name for name, is_there in has.items() if is_there)
        raise ModelError(f"there is no device {device!r} here", f"use auto or one of: {there}")
    return torch.device(device)


def options_of(values: Mapping[str, Any], source: str) -> AROptions:
    """Return a bundle's default options."""
    try:
        return AROptions.parse(dict(values), f"{source}/generation.json")
    except ConfigError as error:
        raise ModelError(error.what, "copy or train the model again") from None


def _given(**values: float | None) -> dict[str, float]:
    """Return the values that are not None."""
    return {key: value for key, value in values.items() if value is not None}
