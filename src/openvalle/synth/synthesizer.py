"""`Synthesizer`: text and a voice -> speech. The one place where text, voice, models and codec meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from openvalle import __version__
from openvalle.audio import Audio, Channel
from openvalle.config import override
from openvalle.decode.ar import AROptions
from openvalle.decode.nar import Windows
from openvalle.decode.prompt import Accent
from openvalle.decode.sampling import SamplingOptions
from openvalle.engines.choose import AUTO
from openvalle.errors import ModelError, TextError, UserError, find_choice
from openvalle.hub import BUILTIN, VOICE_SUFFIX, Kind, find
from openvalle.model.kinds import Alignment
from openvalle.safety.consent import ConsentPolicy, choose_policy, require_consent
from openvalle.safety.detector import GENERATOR, Provenance
from openvalle.safety.watermark import Marker
from openvalle.synth.enrol import invent_voice
from openvalle.synth.generate import SpeechGenerator, release_memory
from openvalle.synth.heard import HeardVoices
from openvalle.synth.joints import add_silences, fit_duration, fit_pauses, join_sentences
from openvalle.synth.load import find_languages, load_generator
from openvalle.synth.plan import (
    PromptMode,
    Script,
    Segment,
    SpeakOptions,
    SpeechPlan,
    parse_script,
    plan_segments,
    scale_pauses,
    split_sentences,
    to_lexicon,
)
from openvalle.synth.speech import Speech, join_speech
from openvalle.synth.stream import StreamBlock, pad_blocks, stream_blocks
from openvalle.synth.voice import Voice, default_voice
from openvalle.text.markup import Markup
from openvalle.text.spans import Languages

if TYPE_CHECKING:
    from openvalle.model.bundle import BundleConfig

Text = str | Script | Iterable[str]  # whole, marked up, or in pieces as it arrives
VoiceLike = Voice | Audio | str | Path | None

WINDOWS = Windows()  # of a stream


@dataclass(frozen=True)
class Synthesizer:
    """A loaded model with its codec. Calls leave nothing behind, so threads may share one."""

    config: BundleConfig
    generator: SpeechGenerator
    options: AROptions
    marker: Marker | None  # lays the watermark on all that is spoken; None: none
    policy: ConsentPolicy = ConsentPolicy.WARN  # what happens to voices without a record of consent
    asr: str = ""  # the recogniser of clips without words, by name; empty: the best one that is installed
    own_voice: Voice | None = None  # who speaks where nobody is asked for; None: the built-in voice
    heard: HeardVoices = field(default_factory=HeardVoices)  # the voices of clips that were given before

    @classmethod
    def load(
        cls,
        model: str | Path = BUILTIN,
        codec: str | Path | None = None,
        device: str = "auto",
        *,
        watermark: bool = True,
        consent_policy: str | None = None,
        asr: str = "",
        engine: str = AUTO,
        adapter: str | Path | None = None,
    ) -> Synthesizer:
        """Return the model called `model` (a name or a folder), ready to speak.

        `codec`: a name or folder, by default the one in the model's folder or the one that the model names; `device`:
        auto, cpu, cuda or mps; `watermark` False leaves the mark out of the sound (docs/protection.md);
        `consent_policy`: off, warn or require, by default what $OPENVALLE_CONSENT says, else warn; `asr`: the
        recogniser of clips without words, by default what $OPENVALLE_ASR says, else the best one that is installed;
        `engine`: auto, torch, onnx, onnx-fp32, onnx-int8 or onnx-int4 (docs/speed.md); `adapter`: what `finetune`
        wrote, whose voice is then the default. Raises `ModelError` if a file is missing, damaged or does not fit.
        """
        policy = choose_policy(consent_policy)
        config, generator, options, own = load_generator(model, codec, device, engine, adapter)
        marker = Marker() if watermark else None
        release_memory()  # of what was read: nothing is held while a text is spoken that is not needed for it
        return cls(config, generator, options, marker, policy, asr, own)

    @property
    def rate(self) -> int:
        """Samples per second of what is spoken."""
        return self.generator.spec.rate

    @property
    def provenance(self) -> Provenance:
        """What the files say about what is spoken."""
        mark = self.marker.name if self.marker else ""
        return Provenance(f"{GENERATOR} {__version__}", self.config.name, mark)

    @property
    def knows_languages(self) -> bool:
        """Whether its frames carry the ids of languages (VALL-E X 3.3): without them it has no choice of accents."""
        return self.generator.ar.config.languages > 0

    def describe(self) -> str:
        """Return the model's name, licence and digests on one line."""
        spec, table = self.generator.spec, self.generator.table
        return f"{self.config.name} ({self.config.licence}), codec {spec.digest}, symbols {table.digest}"

    def sampling(
        self,
        temperature: float | None = None,
        top_p: float | None = None,
        *,
        window: int | None = None,
        speed: float | None = None,
        attempts: int | None = None,
        detectors: bool = True,
        settings: Sequence[str] = (),
        **others: Any,
    ) -> AROptions:
        """Return the model's own options with what is given changed; `ConfigError` for a value out of range.

        `window`: how many of the last codes repetition-aware sampling looks at; `speed`: 2 is twice as fast, for
        models with alignment; `attempts`: times a sentence is spoken at most, if decoding fails; `detectors` False:
        loops, silences and runaways go unnoticed; `others`: any field of `AROptions` or `SamplingOptions` by its name
        (`path_temperature=0.5`); `settings`: the same as text, `a.b=value` ("sampling.top_k=5").
        """
        values = self.options.model_dump(mode="json")
        given = dict(temperature=temperature, top_p=top_p, window=window, speed=speed, attempts=attempts, **others)
        for name, value in given.items():
            if value is not None:
                (values["sampling"] if name in SamplingOptions.model_fields else values)[name] = value
        if not detectors:
            values["watch"] |= {"ends": False, "loop_frames": 0, "silence_frames": 0, "runaway_frames": 0}
        options = AROptions.parse(override(values, tuple(settings)), "the sampling options")
        if options.accent is not Accent.NATIVE and not self.knows_languages:
            raise ModelError(
                f"the model {self.config.name!r} was trained without ids of languages: it has no accent to choose",
                "leave --accent away, or give a model of several languages",
            )
        return options

    def voice(
        self,
        voice: VoiceLike = None,
        prompt_text: str | None = None,
        *,
        consent: str = "",
        language: str = "en",
        licence: str = "",
        channel: Channel | str = Channel.AUTO,
    ) -> Voice:
        """Return `voice` as a `Voice` that fits this model.

        None is the adapter's voice, else the built-in one; a string a voice's name, a clip or a file. For a clip,
        `prompt_text` says what is spoken in it (else it is transcribed), `consent` who agreed to its use, and
        `channel` which one is heard of a stereo clip: auto, mix, left or right. A file or clip without
        consent is treated as the policy says (`openvalle.safety.consent`).
        """
        known = {"consent": consent, "language": language, "licence": licence, "channel": channel}
        if isinstance(voice, Voice):
            found, is_new = voice, self.policy is ConsentPolicy.REQUIRE  # others were asked when they were read
        else:
            found, is_new = self._read_voice(voice, prompt_text, known), True
        if is_new:
            require_consent(found.consent, found.name, self.policy)
        spec = self.generator.spec
        return found.check(spec.digest, self.generator.table.known, spec.codebooks, spec.entries)

    def say(
        self,
        text: Text,
        voice: VoiceLike = None,
        prompt_text: str | None = None,
        seed: int = 0,
        options: AROptions | None = None,
        *,
        candidates: int = 1,
        duration: float | None = None,
        **how: Unpack[SpeakOptions],
    ) -> Speech:
        """Return `text` spoken by `voice`; the same seed gives the same samples.

        `options`: see `sampling`; `candidates`: speak every sentence so often and keep the best; `duration`: seconds
        that all of it is to last, for models with alignment; `how`: see `SpeakOptions`. Raises `TextError` if
        nothing in the text can be spoken, or if its markup cannot be read.
        """
        said = self.sentences(text, voice, prompt_text, seed, options, candidates=candidates, duration=duration, **how)
        return join_speech(list(said))

    def sentences(
        self,
        text: Text,
        voice: VoiceLike = None,
        prompt_text: str | None = None,
        seed: int = 0,
        options: AROptions | None = None,
        *,
        candidates: int = 1,
        duration: float | None = None,
        **how: Unpack[SpeakOptions],
    ) -> Iterator[Speech]:
        """Yield the speech sentence by sentence; joined end to end it is what `say` returns.

        Memory does not grow with the length of the text, but where a `duration` is given: every sentence is spoken
        with the same prompt.
        """
        options = options or self.options
        plan = self.plan(text, self.voice(voice, prompt_text), seed, how, options)
        if duration is not None:
            plan = fit_duration(self.generator, plan, options, duration)
        return self._finish(self.speak_segments(plan.segments, options, candidates), plan, duration)

    def stream(
        self,
        text: Text,
        voice: VoiceLike = None,
        prompt_text: str | None = None,
        seed: int = 0,
        options: AROptions | None = None,
        *,
        live: bool = True,
        windows: Windows | None = WINDOWS,
        **how: Unpack[SpeakOptions],
    ) -> Iterator[StreamBlock]:
        """Yield the sound in blocks while it is being made; joined end to end they are one speech.

        `text` may arrive in pieces. What was heard cannot be taken back, so a `live` sentence is spoken once: as `say`
        does with `attempts=1` among its options. Else codebook 1 of a sentence is complete, and spoken again if that
        failed, before its first block comes: as `say` does with the same options. Codebook 1 is that of `say`; the
        others are filled in `windows`, None: sentence by sentence, and then the samples are those of `say`. A model
        whose NAR network is not of the `prefix` kind always fills sentence by sentence. `close` ends it.
        """
        speaker, chosen = self.voice(voice, prompt_text), options or self.options
        if live:
            chosen = chosen.model_copy(update={"attempts": 1})
        plan = self.plan(text, speaker, seed, how, chosen)
        blocks = stream_blocks(self.generator, plan.segments, chosen, self.marker, self.provenance, windows)
        return pad_blocks(blocks, plan.lead, plan.tail, self.rate)

    def say_batch(
        self,
        texts: Sequence[str | Script],
        voice: VoiceLike | Sequence[VoiceLike] = None,
        prompt_text: str | None = None,
        seed: int | Sequence[int] = 0,
        options: AROptions | None = None,
        *,
        duration: Sequence[float | None] | None = None,
        **how: Unpack[SpeakOptions],
    ) -> list[Speech]:
        """Return each text spoken, several sentences at a time: what `say` gives for each, sooner.

        `voice`, `seed`: one for all texts, or one for each; `duration`: of each text, in seconds.
        """
        options = options or self.options
        is_one = voice is None or isinstance(voice, Voice | Audio | str | Path)
        voices = cast(Sequence[VoiceLike], [voice] * len(texts) if is_one else voice)
        seeds = [seed] * len(texts) if isinstance(seed, int) else list(seed)
        durations = duration or [None] * len(texts)
        known = {id(each): self.voice(each, prompt_text) for each in voices}
        plans = []
        for text, each, own_seed, seconds in zip(texts, voices, seeds, durations, strict=True):
            plan = self.plan(text, known[id(each)], own_seed, how, options)
            plans.append(plan if seconds is None else fit_duration(self.generator, plan, options, seconds))
        own = [list(plan.segments) for plan in plans]
        pieces = iter(self.generator.speak([segment for each in own for segment in each], options))
        speeches = []
        for plan, segments, seconds in zip(plans, own, durations, strict=True):
            spoken = [(next(pieces), segment.sentence.pause) for segment in segments]
            speeches.append(join_speech(list(self._finish(spoken, plan, seconds))))
        return speeches

    def mark(self, pieces: Iterable[Speech]) -> Iterator[Speech]:
        """Yield each piece with its watermark and provenance: all speech passes through here."""
        for piece in pieces:
            audio = self.marker.mark(piece.audio) if self.marker else piece.audio
            yield replace(piece, audio=audio, provenance=self.provenance)

    def invent_voice(self, text: str, seed: int = 0, name: str = "invented") -> Voice:
        """Return a voice that is no person's: the model speaks `text` without a prompt."""
        return invent_voice(self.generator, text, self.options, seed, name, self.config.name)

    def find_languages(self, language: str = "", voice: Voice | None = None) -> Languages:
        """Return which languages a text may be in; `ModelError` if the model does not speak `language`."""
        return find_languages(language, voice, self.generator.languages, self.config.name)

    def plan(self, text: Text, voice: Voice, seed: int, how: SpeakOptions, options: AROptions) -> SpeechPlan:
        """Return what is to be spoken; voices are found before the first word is. Silences are as fast as words."""
        mode = find_choice(PromptMode, how.get("mode", PromptMode.ZERO_SHOT), "prompt mode")
        as_one = how.get("as_one", False)
        if isinstance(text, bytes) or not isinstance(text, str | Script | Iterable):
            raise TextError(f"a text cannot be {type(text).__name__}", "give a str, or an iterable of them")
        lexicon, known = how.get("lexicon"), how.get("cast", {})
        languages = self.find_languages(how.get("language", ""), voice)
        if not isinstance(text, str | Script):
            arriving = split_sentences(text, to_lexicon(lexicon), as_one=as_one, languages=languages)
            sentences = scale_pauses(arriving, options.speed)
            return SpeechPlan(plan_segments(sentences, voice, seed, None, mode), 0.0, 0.0)
        script = text if isinstance(text, Script) else parse_script(text, how.get("markup", Markup.AUTO), lexicon)
        if self.generator.ar.config.alignment is Alignment.NONE:
            script = script.without_speeds()
        script = script.in_languages(languages.spoken)
        voices = script.cast(lambda name: known.get(name) or self.voice(name))
        sentences = scale_pauses(script.sentences(as_one=as_one, languages=languages), options.speed)
        segments = plan_segments(sentences, voice, seed, voices, mode)
        return SpeechPlan(segments, script.lead / options.speed, script.tail / options.speed)

    def _finish(
        self, spoken: Iterable[tuple[Speech, float]], plan: SpeechPlan, duration: float | None
    ) -> Iterator[Speech]:
        """Yield sentences, each with the pause after it, joined and marked."""
        if duration is not None:
            spoken, plan = fit_pauses(list(spoken), plan, duration)
        return add_silences(self.mark(join_sentences(spoken)), plan.lead, plan.tail)

    def speak_segments(
        self, segments: Iterable[Segment], options: AROptions, candidates: int = 1
    ) -> Iterator[tuple[Speech, float]]:
        """Yield the speech of each segment, the best of `candidates`, and the pause wanted after it."""
        from openvalle.synth.rerank import Reranker

        reranker = Reranker(self.asr) if candidates > 1 else None
        for segment in segments:
            if reranker is None:
                yield self.generator.speak([segment], options)[0], segment.sentence.pause
            else:
                yield reranker.speak(self.generator, segment, options, candidates), segment.sentence.pause
            release_memory()

    def _read_voice(self, voice: Audio | str | Path | None, prompt_text: str | None, known: Mapping[str, str]) -> Voice:
        """Return the voice of a file or clip; `known`: what is said of a clip, as `enrol` takes it."""
        if voice is None:
            return self.own_voice or default_voice()
        if not isinstance(voice, Audio | str | Path):
            raise UserError(f"a voice cannot be {type(voice).__name__}", "give a name, a path, an Audio or a Voice")
        if not isinstance(voice, Audio):
            voice = find(Kind.VOICE, voice)
            if voice.suffix == VOICE_SUFFIX:
                found = Voice.load(voice)
                return replace(found, consent=known["consent"]) if known["consent"] else found
        return self.heard.enrol(voice, self.generator, prompt_text, self.asr, known)
