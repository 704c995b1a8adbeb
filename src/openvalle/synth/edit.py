"""Speech editing: words of a recording are replaced, inserted or deleted, or it goes on; the rest stays as it is.

Forced alignment finds the span. Only the span is spoken again, with what comes before and after it as prompt and,
where the model is aligned, with the sounds that follow in its text. Outside the span and its joins, `FADE_SECONDS`
long, no sample changes.

`continue_clip` speaks on where a recording ends (VALL-E 5.1, "continual"), which keeps all but the join at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from openvalle.audio import Audio, Channel
from openvalle.decode.ar import AROptions
from openvalle.errors import AudioError, TextError
from openvalle.model.kinds import Alignment
from openvalle.synth.edit_spans import Edit, EditSpan, locate_edits
from openvalle.synth.edit_spans import EditKind as EditKind  # who edits names the kind of the change
from openvalle.synth.joints import add_silences, join_sentences
from openvalle.synth.plan import LexiconLike, PromptMode, Script, Segment, build_sentence, parse_script
from openvalle.synth.recording import (
    FADE_SECONDS,
    PAD_FRAMES,
    Clip,
    Recording,
    Source,
    Splice,
    context_end,
    context_start,
    crossfade,
    decode_like,
    make_prompt,
    record,
    splice,
)
from openvalle.synth.speech import Quality, Speech, join_speech
from openvalle.synth.synthesizer import Synthesizer
from openvalle.text.markup import Markup
from openvalle.text.sentences import SENTENCE, join_words
from openvalle.types import SIL

if TYPE_CHECKING:
    from openvalle.synth.rerank import Reranker

LEFT_SECONDS, RIGHT_SECONDS = 6.0, 4.0  # of what comes before and after that the model hears
PROMPT_SECONDS = 10.0  # of a recording's end that it hears where it goes on
FOLLOWING = 12  # symbols after the span that the model reads


@dataclass(frozen=True, eq=False)
class EditedRecording:
    """A recording after its edits."""

    clip: Clip
    text: str
    splices: tuple[Splice, ...]
    quality: tuple[Quality, ...]  # of each span that was spoken
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, times in seconds."""
        rate = self.clip.rate
        spans = [{key: round(value / rate, 3) for key, value in vars(splice).items()} for splice in self.splices]
        return {
            "seconds": round(self.clip.seconds, 3),
            "text": self.text,
            "spans": spans,
            "quality": [quality.as_dict() for quality in self.quality],
            "seed": self.seed,
        }


def edit(
    synthesizer: Synthesizer,
    clip: Source,
    edits: Sequence[Edit],
    transcript: str | None = None,
    seed: int = 0,
    options: AROptions | None = None,
    candidates: int = 1,
    channel: Channel | str = Channel.AUTO,
    *,
    language: str = "",
) -> list[EditedRecording]:
    """Return the edited recording, `candidates` times with other seeds, the best first.

    `transcript`: what is said in the clip; without it, speech recognition finds it; `channel`: of a clip of several,
    the one whose words these are; `language`: what is spoken, by default what the script shows. Raises
    `TextError` if the words to edit are not in it, are in it twice, or if edits meet; `AudioError` if the clip cannot
    be used.
    """
    if not edits:
        raise TextError("there is nothing to edit", "say which words to replace, to delete or to insert after")
    recording = _record(synthesizer, clip, transcript, channel, language)
    spans = locate_edits(recording, edits)
    if sum(span.last - span.first for span in spans) >= len(recording.words):
        raise AudioError("nothing of the recording would stay", "use `openvalle say` with the recording as the voice")
    reranker = _find_listener(recording, synthesizer.asr) if candidates > 1 else None
    segments = [
        segment
        for candidate in range(candidates)
        for segment in _edit_segments(synthesizer, recording, spans, seed, candidate)
    ]
    spoken = synthesizer.generator.speak(segments, options or synthesizer.options) if segments else []
    count = len(segments) // candidates
    words = [word.text for word in recording.words]
    for span in reversed(spans):
        words[span.first : span.last] = [word.text for word in span.words]
    text = join_words(words)
    results = [
        _assemble(synthesizer, recording, spans, spoken[take * count : (take + 1) * count], text, seed)
        for take in range(candidates if count else 1)
    ]
    return _rank(results, recording, reranker) if reranker and len(results) > 1 else results


def _record(
    synthesizer: Synthesizer, clip: Source, transcript: str | None, channel: Channel | str, language: str
) -> Recording:
    code = synthesizer.find_languages(language).chosen
    return record(synthesizer.generator, clip, transcript, channel, synthesizer.asr, language=code)


def _edit_segments(
    synthesizer: Synthesizer, recording: Recording, spans: Sequence[EditSpan], seed: int, candidate: int
) -> Iterator[Segment]:
    """Yield what is to be spoken for the spans that get words: inside an utterance, without a pause before them."""
    is_aligned = synthesizer.generator.ar.config.alignment is Alignment.PHONEME
    for number, span in enumerate(spans):
        if not span.words:
            continue
        left = recording.excerpt(context_start(recording, span.start, LEFT_SECONDS), span.start)
        right = recording.excerpt(span.end, context_end(recording, span.end, RIGHT_SECONDS))
        # what comes after is heard first: the span then goes on from what comes before it
        prompt = make_prompt(synthesizer.generator, right.then(left), recording.language)
        follows = recording.symbols[span.end : span.end + FOLLOWING]
        keeps_pause = span.words[-1].pause and follows[:1] not in ((SIL,), ())
        said = join_words(word.text for word in span.words)
        words = build_sentence(said, span.words, language=recording.language).without_pause()
        if words.symbols[-1] == SIL and not keeps_pause:
            words = replace(words, symbols=words.symbols[:-1], owners=words.owners[:-1])
        segment = Segment(words, prompt, seed, number, candidate=candidate)
        yield replace(segment, mode=PromptMode.CONTINUAL, following=follows if is_aligned else ())


def _assemble(
    synthesizer: Synthesizer,
    recording: Recording,
    spans: Sequence[EditSpan],
    spoken: Sequence[Speech],
    text: str,
    seed: int,
) -> EditedRecording:
    """Return the recording with the spans put in."""
    pieces, splices = [], []
    speeches = iter(spoken)
    at, length = 0, 0
    for span in spans:
        speech = next(speeches) if span.words else None
        piece, start, end = splice(synthesizer, recording, (span.start, span.end), speech)
        pieces += [recording.clip.frames[at:start], piece]
        length += start - at
        splices.append(Splice(start, end, length, length + len(piece)))
        at, length = end, length + len(piece)
    pieces.append(recording.clip.frames[at:])
    clip = replace(recording.clip, frames=np.concatenate(pieces))
    return EditedRecording(clip, text, tuple(splices), tuple(speech.quality for speech in spoken), seed)


def _find_listener(recording: Recording, asr: str) -> Reranker:
    """Return who will judge candidates; `UserError` if nothing hears the recording's language."""
    from openvalle.synth.rerank import Reranker

    reranker = Reranker(asr)
    reranker.find_recognizer(recording.language)
    return reranker


def _rank(results: Sequence[EditedRecording], recording: Recording, reranker: Reranker) -> list[EditedRecording]:
    """Return the candidates, the best first: by the words heard in them and the likeness to the recording's voice."""
    wanted = reranker.embed(recording.clip.mono())
    scored = []
    for take in results:
        agreement, similarity = reranker.listen(take.clip.mono(), take.text, wanted, recording.language)
        quality = tuple(
            replace(each, agreement=agreement, similarity=similarity, candidates=len(results)) for each in take.quality
        )
        scored.append(replace(take, quality=quality))
    return [scored[index] for index in reranker.order([take.quality for take in scored])]


@dataclass(frozen=True, eq=False)
class ContinuedRecording:
    """A recording and what follows: samples before `start` are the recording's own."""

    clip: Clip
    start: int
    text: str
    speech: Speech  # what was added, at the models' rate and level


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
    language: str = "",
) -> ContinuedRecording:
    """Return the recording followed by `text`; it keeps every sample but its last 10 ms, where the two are joined.

    Silence at the recording's end beyond a sentence's pause is left out. `transcript`: what is said in the clip;
    without it, speech recognition finds it; `channel`: of a recording of several, the one that is heard;
    `language`: of both, by default what the script of the recording's words shows.
    """
    recording = _record(synthesizer, clip, transcript, channel, language)
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
    said = join_words([recording.text, joined.text])
    return ContinuedRecording(replace(own, frames=frames), stop - fade, said, joined)


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
    voice = make_prompt(synthesizer.generator, part, recording.language)
    # a sentence that ended without a pause in the recording gets one from the text
    paused = part.symbols[-1] == SIL or recording.text.rstrip()[-1:] not in tuple(".!?;:,。！？；：，、")
    languages = synthesizer.find_languages(recording.language)
    for number, sentence in enumerate(script.sentences(languages=languages)):
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
