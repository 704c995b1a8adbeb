"""A script of several speakers -> one speech, or a track for each of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from openvalle.audio import silence
from openvalle.config import Config, Syntax, parse_data
from openvalle.decode.ar import AROptions
from openvalle.errors import ConfigError, TextError, UserError
from openvalle.files import FreeName, expand_home, final_path
from openvalle.media import sound_file
from openvalle.pipes import read_given_text
from openvalle.synth.plan import LexiconLike, Script, SpeakOptions, parse_script, to_lexicon
from openvalle.synth.speech import Speech
from openvalle.synth.synthesizer import Synthesizer, VoiceLike
from openvalle.synth.voice import Voice, list_builtin_voices
from openvalle.text.language import lower_keys
from openvalle.text.layout import TextFormat
from openvalle.text.markup import Markup, Passage, Places
from openvalle.text.spans import detect_language

TURN_PAUSE = 0.4  # seconds between turns
_SPEAKER = re.compile(r"\[(S\d+)\]")
_FILES = (".yaml", ".yml", ".toml")


class TurnConfig(Config):
    """One turn in a YAML or TOML script."""

    speaker: str = Field(..., min_length=1, description="who speaks")
    text: str = Field(..., min_length=1, description="what is said; markup is allowed")
    pause: float = Field(TURN_PAUSE, ge=0, le=60, description="seconds of silence after it")


class DialogueConfig(Config):
    """A YAML or TOML script."""

    voices: dict[str, str] = Field(default_factory=dict, description="voice of each speaker: a name, clip or file")
    turns: tuple[TurnConfig, ...] = Field(..., min_length=1, description="in the order in which they are spoken")


@dataclass(frozen=True)
class Turn:
    """What one speaker says in one go. `place` is where it stands in the script."""

    speaker: str
    text: str
    pause: float = TURN_PAUSE
    place: str = ""


@dataclass(frozen=True)
class Dialogue:
    """Turns, and the voices that the script itself names."""

    turns: tuple[Turn, ...]
    voices: Mapping[str, str]

    @property
    def speakers(self) -> list[str]:
        """The speakers in the order of their first turn."""
        return list(dict.fromkeys(turn.speaker for turn in self.turns))


def read_dialogue(path: str | Path) -> Dialogue:
    """Read a script: .yaml or .toml with voices and turns, any other file as `[S1] ... [S2] ...`."""
    path = expand_home(path)
    text = read_given_text(path, "the script")
    if path.suffix.lower() not in _FILES:
        return parse_dialogue(text)
    values = parse_data(text, str(path), Syntax.TOML if path.suffix.lower() == ".toml" else Syntax.YAML)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} does not hold voices and turns", "see docs/dialogue.md")
    if isinstance(voices := values.get("voices"), dict):  # those that lie beside the script are found there
        beside = {name: path.parent / str(voice) for name, voice in voices.items()}
        values["voices"] = {
            name: str(beside[name]) if beside[name].is_file() else voice for name, voice in voices.items()
        }
    config = DialogueConfig.parse(values, str(path))
    turns = [Turn(turn.speaker, turn.text, turn.pause, f"turn {n}") for n, turn in enumerate(config.turns, 1)]
    return Dialogue(tuple(turns), config.voices)


def parse_dialogue(text: str) -> Dialogue:
    """Return the turns of `[S1] ... [S2] ...`; `TextError` if words come before the first speaker."""
    found = list(_SPEAKER.finditer(text))
    before = text[: found[0].start()] if found else text
    places = Places(text)
    if before.strip() or not found:
        at = len(before) - len(before.lstrip())
        raise TextError(f"{places.at(at)}: nobody speaks yet", "begin the script with a speaker: [S1] Hello. [S2] Hi.")
    ends = [*(match.start() for match in found[1:]), len(text)]
    turns = [
        Turn(match[1], text[match.end() : end], place=places.at(match.start()))
        for match, end in zip(found, ends, strict=True)
    ]
    silent = next((turn for turn in turns if not turn.text.strip()), None)
    if silent:
        raise TextError(f"{silent.place}: {silent.speaker} says nothing", "write a text after the speaker")
    return Dialogue(tuple(turns), {})


def speak_dialogue(
    synthesizer: Synthesizer,
    dialogue: Dialogue | str,
    voices: Mapping[str, VoiceLike] | None = None,
    seed: int = 0,
    options: AROptions | None = None,
    *,
    lexicon: LexiconLike = None,
    candidates: int = 1,
    duration: float | None = None,
    channel: str = "auto",
    consent: str = "",
    text_format: TextFormat | str = TextFormat.AUTO,
    language: str = "",
) -> Iterator[Speech]:
    """Yield the speech sentence by sentence, each with its `speaker`; joined end to end it is the dialogue.

    `dialogue`: a `Dialogue`, or a text `[S1] ... [S2] ...`; `voices`: of the speakers; `duration`: seconds that all of
    it is to last; `language`: of the text, by default as its script shows; `text_format`: how the turns are
    written (see `to_plain`); `channel`, `consent`: of clips that are voices, see `Synthesizer.voice`. Those without
    a voice take the adapter's and the built-in ones that are left. Raises `TextError` for a speaker without a voice.
    """
    found = parse_dialogue(dialogue) if isinstance(dialogue, str) else dialogue
    cast = {
        name: synthesizer.voice(voice, channel=channel, consent=consent)
        for name, voice in assign_voices(found, voices or {}, synthesizer.own_voice).items()
    }
    first = next(iter(cast.values()))
    how: SpeakOptions = {"cast": cast, "language": language}
    return synthesizer.sentences(
        build_script(found, lexicon, text_format),
        first,
        None,
        seed,
        options,
        candidates=candidates,
        duration=duration,
        **how,
    )


def build_script(
    dialogue: Dialogue, lexicon: LexiconLike = None, text_format: TextFormat | str = TextFormat.AUTO
) -> Script:
    """Return the turns as one script, whose voices are the speakers."""
    passages: list[Passage] = []
    notes: list[str] = []
    lead, lexicon = 0.0, lower_keys(to_lexicon(lexicon))
    for turn in dialogue.turns:
        script = parse_script(turn.text, Markup.AUTO, lexicon, text_format)
        if any(passage.voice for passage in script.passages):
            raise TextError(f"{turn.place}: a turn has one voice, its speaker's", "begin a new turn for another voice")
        if passages and script.lead:
            passages[-1] = replace(passages[-1], pause=(passages[-1].pause or 0.0) + script.lead)
        elif script.lead:
            lead = script.lead
        own = [replace(passage, voice=turn.speaker, place=turn.place) for passage in script.passages]
        if own[-1].pause is None and turn is not dialogue.turns[-1]:
            own[-1] = replace(own[-1], pause=turn.pause)
        passages += own
        notes += script.notes
    return Script(tuple(passages), tuple(notes), lead, lexicon)


def assign_voices(
    dialogue: Dialogue, voices: Mapping[str, VoiceLike], own: Voice | None = None
) -> dict[str, VoiceLike]:
    """Return the voice of every speaker: as given, as the script says, or one that nobody else has: first an adapter's
    `own`, then the built-in ones, those first that speak the language of what is said."""
    for name in voices:
        if name not in dialogue.speakers:
            raise UserError(f"nobody in the script is called {name!r}", f"there are: {', '.join(dialogue.speakers)}")
    cast: dict[str, VoiceLike] = {**dialogue.voices, **voices}
    builtin = [path for path in list_builtin_voices() if path.stem not in [str(voice) for voice in cast.values()]]
    left: list[VoiceLike] = [*([own] if own is not None else []), *builtin]
    for turn in dialogue.turns:
        if turn.speaker in cast:
            continue
        if not left:
            raise TextError(
                f"{turn.place}: the speaker {turn.speaker} has no voice", f"give one: --voice {turn.speaker}=clip.wav"
            )
        cast[turn.speaker] = left.pop(_find_speaker(left, turn.text, own))
    return {name: cast[name] for name in dialogue.speakers}


def _find_speaker(left: Sequence[VoiceLike], text: str, own: Voice | None) -> int:
    """Return the place of the voice that is to speak a text: `own`, the first of its language, or the first."""
    if left[0] is own:
        return 0
    languages = [Voice.load(path).language for path in left if isinstance(path, Path)]
    language = detect_language(text, languages)
    return languages.index(language) if language in languages else 0


@contextmanager
def track_files(
    place: Path | FreeName | None, speakers: list[str], synthesizer: Synthesizer
) -> Iterator[tuple[list[Path | FreeName], Callable[[Speech], None]]]:
    """Yield the places of a track for each speaker (`talk-S1.wav`) and a function that appends a piece to them.

    Where one speaks the others are silent, so that the tracks are of one length and add up to the dialogue. A dialogue
    that gets a free name has to be complete before this ends: its tracks are named after it.
    """
    endings = [re.sub(r"[^A-Za-z0-9_-]", "_", name) for name in speakers]
    if len(set(endings)) < len(endings):
        raise UserError("two speakers' names give one file name", "name them with letters and digits")
    places = [_track(place, ending) for ending in endings if place is not None]
    with ExitStack() as stack:
        rate, tags = synthesizer.rate, synthesizer.provenance.tags()
        tracks = [stack.enter_context(sound_file(track, rate, tags=tags)) for track in places]

        def append(piece: Speech) -> None:
            for name, track in zip(speakers, tracks, strict=True):
                track(piece.audio if name == piece.speaker else silence(piece.seconds, rate))

        yield places, append


def _track(place: Path | FreeName, ending: str) -> Path | FreeName:
    """Return where the track of a speaker goes."""

    def beside(path: Path) -> Path:
        return path.with_name(f"{path.stem}-{ending}{path.suffix}")

    if isinstance(place, FreeName):
        return FreeName(beside(place.first), lambda: beside(final_path(place)))
    return beside(place)
