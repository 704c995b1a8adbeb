"""`openvalle say`: text in, a sound file out.

`openvalle dialogue`: a script of several speakers in, one sound file out, or one for each of them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openvalle.cli import options as opt
from openvalle.cli.settings import is_chosen
from openvalle.errors import UserError, import_extra
from openvalle.files import FreeName, final_path, likely_path
from openvalle.parallel import status
from openvalle.pipes import is_special

if TYPE_CHECKING:
    from openvalle.decode.ar import AROptions
    from openvalle.synth.speech import Speech
    from openvalle.synth.synthesizer import Synthesizer
    from openvalle.synth.voice import Voice


PLOT_SECONDS = 20.0  # a picture of more than this shows nothing


@dataclass(frozen=True)
class Delivery:
    """How the text is read."""

    duration: opt.Duration = None
    candidates: opt.Candidates = 1
    markup: opt.Markup = "auto"
    text_format: opt.TextFormat = "auto"
    lexicon: opt.Lexicon = None
    language: opt.Language = ""
    prompt_mode: Annotated[str, typer.Option(help="zero-shot, continual or cross-lingual.")] = "zero-shot"
    prosody: Annotated[
        Path | None, typer.Option(help="A recording of TEXT whose timing is taken over, in the voice asked for.")
    ] = None

    def speak(
        self, synthesizer: Synthesizer, text: str, voice: Voice, seed: int, options: AROptions, channel: str
    ) -> Iterator[Speech]:
        """Return the sentences as they are spoken; `channel`: of the recording whose prosody is taken over."""
        if self.prosody is not None:
            from openvalle.synth.recording import speak_like

            return iter([speak_like(synthesizer, self.prosody, text, voice, seed, options, channel)])
        how = {
            name: value for name, value in vars(self).items() if name not in ("prompt_mode", "prosody", "text_format")
        }
        return synthesizer.sentences(text, voice, None, seed, options, mode=self.prompt_mode, **how)


@dataclass(frozen=True)
class Destination:
    """What is made of the speech."""

    output: opt.Output = None
    file_format: opt.Format = None
    timestamps: opt.Timestamps = None
    play: Annotated[bool, typer.Option("--play", help="Play it, too.")] = False
    plot: Annotated[bool, typer.Option("--plot", help="Write a picture beside the sound file.")] = False

    def find_place(self, as_json: bool) -> Path | FreeName | None:
        """Return where the sound goes; what cannot be written or played there is refused."""
        place = opt.find_place(self.output, self.file_format)
        check_outputs(place, self.timestamps, {"--plot": self.plot, "--play": self.play}, as_json)
        if self.play and (self.file_format == "pcm" or str(self.output).endswith(".pcm")):
            raise UserError("raw PCM cannot be played: it does not tell its rate", "take another --format")
        return place

    def present(self, summary: dict[str, Any], beginning: Speech, path: Path, as_json: bool) -> None:
        """Draw the speech, print where the files are, and play it, as far as is asked for."""
        if self.plot:
            from openvalle.apps.plot import plot_speech

            summary = summary | {"plot": str(plot_speech(beginning, path.with_suffix(".png")))}
        opt.print_result(summary, as_json)
        if self.play:
            play_file(path)


def say(
    ctx: typer.Context,
    *,
    text: Annotated[str | None, typer.Argument(help="What to say; - reads it from standard input.")] = None,
    file: opt.File = None,
    speaker: opt.Speaker,
    output: Destination,
    seed: opt.Seed = 0,
    sampling: opt.Sampling,
    delivery: Delivery,
    model: opt.Model,
    server: opt.ServerURL = None,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Say TEXT and print the path of the sound file.

    \b
    openvalle say "Hello there."                            the built-in voice
    openvalle say "Hello there." --voice clip.wav --plot    the voice of a clip
    openvalle say - -o book.mp3 < book.txt                  a long text
    openvalle say "Hello." --server http://127.0.0.1:8000   spoken by `openvalle serve`
    """
    words = opt.read_text(text, file, delivery.text_format)
    if Path(output.output or "").suffix and not is_chosen(ctx, "file_format"):
        output = replace(output, file_format=None)  # a name says more than a setting for all files
    place = output.find_place(as_json)
    if delivery.prosody is not None and delivery.duration is not None:
        raise UserError("a recording's prosody has its own duration", "leave --duration away")
    started = time.monotonic()
    if server is not None:
        facts = say_remotely(ctx, server, words, speaker, place, output.file_format, seed, sampling, delivery)
        if place is not None:
            opt.print_result(facts | {"elapsed": round(time.monotonic() - started, 3)}, as_json)
            if output.play:
                play_file(final_path(place))
        return
    with status(quiet) as show:
        synthesizer = model.load(speaker.asr)
        options, voice = sampling.read(synthesizer), speaker.read(synthesizer)
        pieces = delivery.speak(synthesizer, words, voice, seed, options, speaker.channel)
        summary, beginning = write_speech(pieces, place, output.file_format, synthesizer, show, output.timestamps)
    if place is not None:
        summary |= {"elapsed": round(time.monotonic() - started, 3), "seed": seed, "voice": voice.name}
        output.present(summary, beginning, final_path(place), as_json)


def say_remotely(
    ctx: typer.Context,
    url: str,
    text: str,
    speaker: opt.Speaker,
    place: Path | FreeName | None,
    file_format: str | None,
    seed: int,
    sampling: opt.Sampling,
    delivery: Delivery,
) -> dict[str, Any]:
    """Let a server speak and write what it sends; `UserError` for options that are its own business."""
    from openvalle.cli import remote

    for name in remote.LOCAL:
        if name in ctx.params and is_chosen(ctx, name):
            option = {"settings": "set"}.get(name, name).replace("_", "-")
            raise UserError(f"--{option} has no meaning with --server", "leave it away, or speak without a server")
    body = {"model": "openvalle", "input": text, "seed": seed, "stream": False, "markup": delivery.markup}
    body |= {"response_format": remote.choose_format(place, file_format), "duration": delivery.duration}
    body |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "speed": sampling.speed}
    body |= {"language": delivery.language, "accent": sampling.accent}
    body |= remote.describe_voice(speaker.voice, speaker.prompt_text, speaker.consent)
    count, warning = remote.RemoteServer(url).say(body, place)
    if warning:
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    path = None if place is None else str(final_path(place))
    return {"path": path, "bytes": count, "seed": seed, "voice": speaker.voice, "server": url}


def check_outputs(
    place: Path | FreeName | None, timestamps: Path | None, others: dict[str, bool], as_json: bool
) -> None:
    """Refuse what cannot be written beside the sound, before anything is spoken; `others`: options that need a file."""
    names = " and ".join((*others, "--json") if place is None else others)
    if place is None and (as_json or any(others.values())):
        raise UserError(f"{names} need a sound file", "give -o a file name instead of -")
    if place is not None and any(others.values()) and is_special(likely_path(place)):
        raise UserError(f"{names} need a sound file", f"{likely_path(place)} is none; give another name")
    if timestamps is not None:
        from openvalle.apps.subtitles import check_ending

        check_ending(timestamps)
    if others.get("--plot"):
        import_extra("matplotlib", "matplotlib", "plot")


def write_speech(
    pieces: Iterable[Speech],
    place: Path | FreeName | None,
    file_format: str | None,
    synthesizer: Synthesizer,
    show: Callable[[str], None],
    timestamps: Path | None = None,
) -> tuple[dict[str, Any], Speech]:
    """Write the speech sentence by sentence; return a summary and the speech of the first seconds."""
    from openvalle.apps.subtitles import Timeline, with_times
    from openvalle.media import sound_file
    from openvalle.synth.speech import join_speech

    beginning: list[Speech] = []
    timeline = Timeline()
    quality: list[dict[str, Any]] = []
    with sound_file(place, synthesizer.rate, file_format, synthesizer.provenance.tags()) as append:
        for piece in pieces:
            append(piece.audio)
            if timeline.seconds < PLOT_SECONDS:
                beginning.append(piece)
            quality.append(piece.quality.as_dict())
            timeline.add(with_times(piece) if timestamps else piece)
            show(f"{timeline.seconds:.1f} s of speech")
    words = [word.as_dict() for word in timeline.words]
    path = None if place is None else str(final_path(place))
    summary = {"path": path, "seconds": round(timeline.seconds, 3), "words": words, "quality": quality}
    if timestamps:
        summary["timestamps"] = str(timeline.write(timestamps))
    return summary, join_speech(beginning)


def dialogue(
    *,
    script: Annotated[str, typer.Argument(help="A .yaml or .toml script, a text of [S1] ... [S2] ..., or -.")],
    voice: Annotated[
        list[str] | None,
        typer.Option("--voice", "-v", help="SPEAKER=VOICE: a name, clip or file; once for each speaker."),
    ] = None,
    channel: opt.Channel = "auto",
    asr: opt.Asr = "",
    consent: opt.Consent = "",
    output: opt.Output = None,
    per_speaker: Annotated[
        bool, typer.Option("--per-speaker", help="Write a file for each speaker, too, all of one length.")
    ] = False,
    seed: opt.Seed = 0,
    sampling: opt.Sampling,
    candidates: opt.Candidates = 1,
    duration: opt.Duration = None,
    text_format: opt.TextFormat = "auto",
    lexicon: opt.Lexicon = None,
    language: opt.Language = "",
    timestamps: opt.Timestamps = None,
    model: opt.Model,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Speak a SCRIPT of several speakers and print the paths of the sound files.

    \b
    openvalle dialogue "[S1] Hello. [S2] Hi." -v S1=clip.wav -v S2=default
    openvalle dialogue talk.yaml -o talk.flac --per-speaker
    """
    voices = opt.read_pairs(voice, "--voice", "SPEAKER=VOICE, for example S1=clip.wav")
    place = opt.find_place(output)
    check_outputs(place, timestamps, {"--per-speaker": per_speaker}, as_json)
    with status(quiet) as show:
        from openvalle.apps.dialogue import parse_dialogue, read_dialogue, speak_dialogue, track_files

        is_text = script == "-" or script.lstrip().startswith("[")
        turns = parse_dialogue(opt.read_text(script)) if is_text else read_dialogue(script)
        synthesizer = model.load(asr)
        how: dict[str, Any] = {"lexicon": lexicon, "candidates": candidates, "duration": duration}
        how |= {"channel": channel, "consent": consent, "text_format": text_format, "language": language}
        pieces = speak_dialogue(synthesizer, turns, voices, seed, sampling.read(synthesizer), **how)
        with track_files(place, turns.speakers if per_speaker else [], synthesizer) as (tracks, append):
            summary, _ = write_speech(hand_on(pieces, append), place, None, synthesizer, show, timestamps)
    if place is None:
        return
    paths = [str(final_path(track)) for track in tracks]
    found = summary | {"speakers": turns.speakers, "tracks": paths}
    opt.print_result(found, as_json, [*(found[key] for key in ("path", "timestamps") if key in found), *paths])


def hand_on(pieces: Iterable[Speech], append: Callable[[Speech], None]) -> Iterator[Speech]:
    """Yield the pieces and hand each to `append`."""
    for piece in pieces:
        append(piece)
        yield piece


PLAYERS = (  # the first that is installed is used
    ("afplay",),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
    ("paplay",),
    ("aplay", "-q"),
    ("mpv", "--no-video", "--really-quiet"),
)


def play_file(path: Path) -> None:
    """Play the file to its end; `UserError` if this machine has no player or no sound device."""
    try:
        import sounddevice

        from openvalle.media import read

        audio = read(path, rate=None)
        sounddevice.play(audio.samples, audio.rate, blocking=True)
    except (ImportError, OSError):  # no package, or no PortAudio library
        _play_with_command(path)
    except sounddevice.PortAudioError as error:
        raise UserError(f"{path} is written, but cannot be played here ({error})", "open it in a player") from None


def _play_with_command(path: Path) -> None:
    for command in PLAYERS:
        if shutil.which(command[0]):
            done = subprocess.run([*command, str(path)], check=False, capture_output=True, text=True)
            if done.returncode == 0:
                return
            raise UserError(
                f"{path} is written, but {command[0]} cannot play it ({done.stderr.strip() or done.returncode})",
                "open it in a player",
            )
    raise UserError(
        f"{path} is written, but there is nothing to play it with", "run: pip install sounddevice; or install ffmpeg"
    )
