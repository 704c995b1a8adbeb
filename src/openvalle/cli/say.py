"""`openvalle say`: text in, a sound file out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openvalle.cli.settings import is_chosen
from openvalle.errors import TextError, UserError
from openvalle.files import Free, expanded, first_path, is_special, is_stdout, read_bytes, read_stdin, written_path

if TYPE_CHECKING:
    from openvalle.synth.pipeline import Synthesizer
    from openvalle.synth.speech import Speech

Channel = Annotated[str, typer.Option(help="Of a stereo recording: auto, mix, left or right is heard.")]
Asr = Annotated[
    str, typer.Option(help="Who transcribes clips: whisper:base, pocketsphinx ...; default: the best one installed.")
]
PLOT_SECONDS = 20.0  # a picture of more than this shows nothing


def say(
    ctx: typer.Context,
    text: Annotated[str | None, typer.Argument(help="What to say; - reads it from standard input.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the text from a file.")] = None,
    voice: Annotated[
        str | None,
        typer.Option("--voice", "-v", help="A voice's name, a clip of 3 to 15 s, or a .safetensors voice."),
    ] = None,
    prompt_text: Annotated[
        str | None, typer.Option(help="What the clip says; without it the clip is transcribed.")
    ] = None,
    channel: Channel = "auto",
    asr: Asr = "",
    consent: Annotated[str, typer.Option(help="Who agreed to the use of a clip's voice, and when.")] = "",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write (.wav .flac .mp3 .ogg .opus .pcm), or - for standard output. "
            "Default: speech.wav here, or speech-2.wav ... if that is taken.",
        ),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="wav, flac, mp3, ogg, opus or pcm; default: what the file's name says, or wav."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same sound.")] = 0,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="0 takes the likeliest, and draws where that repeats.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Sample from this likeliest mass.")] = None,
    window: Annotated[int | None, typer.Option(min=1, help="Codes within which a repeat is drawn again.")] = None,
    speed: Annotated[float | None, typer.Option(min=0.5, max=2.0, help="2 is twice as fast.")] = None,
    duration: Annotated[float | None, typer.Option(min=0.1, help="Seconds that all of it is to last.")] = None,
    attempts: Annotated[
        int | None, typer.Option(min=1, max=10, help="Times a line is spoken at most, if it goes wrong.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other decoding option as name=value (path_temperature=0.5); repeatable."),
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=1, max=20, help="Speak each sentence so often and keep the best by words and voice.")
    ] = 1,
    markup: Annotated[str, typer.Option(help="auto, tags such as [pause:1s], ssml, or none.")] = "auto",
    lexicon: Annotated[Path | None, typer.Option(help="Pronunciations: a TSV file of word<TAB>phones.")] = None,
    prompt_mode: Annotated[str, typer.Option(help="zero-shot, continual or cross-lingual.")] = "zero-shot",
    timestamps: Annotated[
        Path | None, typer.Option(help="Write word and phone times: .json, .srt, .vtt or .TextGrid.")
    ] = None,
    prosody: Annotated[
        Path | None, typer.Option(help="A recording of TEXT whose timing is taken over, in the voice asked for.")
    ] = None,
    play: Annotated[bool, typer.Option("--play", help="Play it, too.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Write a picture beside the sound file.")] = False,
    model: Annotated[str, typer.Option("--model", "-m", help="A model's name or folder.")] = "builtin",
    codec: Annotated[str | None, typer.Option(help="A codec's name or folder; default: the model's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, with word times.")] = False,
) -> None:
    """Say TEXT and print the path of the sound file.

    \b
    openvalle say "Hello there."                            the built-in voice
    openvalle say "Hello there." --voice clip.wav --plot    the voice of a clip
    openvalle say - -o book.mp3 < book.txt                  a long text
    """
    words = chosen_text(text, file)
    if output is not None and Path(output).suffix and not is_chosen(ctx, "file_format"):
        file_format = None  # a name says more than a setting for all files
    place = chosen_output(output, file_format)
    if place is None and (plot or as_json or play):
        raise UserError("--plot, --play and --json need a sound file", "give -o a file name instead of -")
    if place is not None and (plot or play) and is_special(first_path(place)):
        raise UserError("--plot and --play need a sound file", f"{output} is none; give another name")
    if play and (file_format == "pcm" or str(output).endswith(".pcm")):
        raise UserError("raw PCM cannot be played: it does not tell its rate", "take another --format")
    check_timestamps(timestamps)
    if plot:
        from openvalle.synth.plot import need_matplotlib

        need_matplotlib()
    started = time.monotonic()
    with progress(quiet) as show:
        show("loading the model")
        from openvalle.synth.pipeline import Synthesizer

        synthesizer = Synthesizer.load(model, codec=codec, device=device, asr=asr)
        options = synthesizer.sampling(
            temperature, top_p, window=window, speed=speed, attempts=attempts, settings=settings or ()
        )
        show("reading the voice")
        speaker = synthesizer.voice(voice, prompt_text, consent=consent, channel=channel)
        manner = {
            "markup": markup,
            "lexicon": lexicon,
            "candidates": candidates,
            "mode": prompt_mode,
            "duration": duration,
        }
        if prosody is not None:
            if duration is not None:
                raise UserError("a recording's prosody has its own duration", "leave --duration away")
            from openvalle.synth.prosody import speak_like

            pieces = iter([speak_like(synthesizer, prosody, words, speaker, seed, options, channel)])
        else:
            pieces = synthesizer.sentences(words, speaker, seed=seed, options=options, **manner)  # type: ignore[arg-type]
        summary, shown = spoken(pieces, place, file_format, synthesizer, show, timestamps)
    summary |= {"elapsed": round(time.monotonic() - started, 3), "seed": seed, "voice": speaker.name}
    if place is None:
        return
    path = written_path(place)
    if plot:
        from openvalle.synth.plot import plot_speech

        summary["plot"] = str(plot_speech(shown, path.with_suffix(".png")))
    announce(summary, as_json)
    if play:
        from openvalle.synth.play import play_file

        play_file(path)


def chosen_text(text: str | None, file: Path | None) -> str:
    """Return the text from the argument, the file or standard input."""
    if text is not None and file is not None:
        raise UserError("there is a text and a --file", "give one of them")
    if text is None and file is None:
        raise UserError("there is no text to say", 'run: openvalle say "Hello there."  (or - to read stdin)')
    if text is not None and text != "-":
        return text
    try:
        raw = read_stdin() if file is None or str(file) == "-" else read_bytes(file)
    except OSError as error:
        raise TextError(f"cannot read {file}: {error.strerror}", "check the path") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TextError("the text is not UTF-8", "save it as UTF-8 first") from None


def chosen_output(output: str | None, file_format: str | None = None) -> Path | Free | None:
    """Return the file to write (None: standard output); without a choice, one that is not there when it is complete."""
    from openvalle.audio import format_ending

    path = None if output is None or is_stdout(output) else expanded(output)
    ending = format_ending(path, file_format)
    if output is None:
        return Free(Path(f"speech{ending}"))
    if path is None:
        return None
    if path.is_dir():
        raise UserError(f"{path} is a folder", "give the name of a file in it")
    return path


def spoken(
    pieces: Iterable[Speech],
    place: Path | Free | None,
    file_format: str | None,
    synthesizer: Synthesizer,
    show: Callable[[str], None],
    timestamps: Path | None = None,
) -> tuple[dict[str, Any], Speech]:
    """Write the speech sentence by sentence; return a summary and the speech of the first seconds."""
    from openvalle.synth.file import sound_file
    from openvalle.synth.speech import join_speech
    from openvalle.synth.timestamps import Timeline, with_times

    first: list[Speech] = []
    timeline = Timeline()
    quality: list[dict[str, Any]] = []
    with sound_file(place, synthesizer.rate, file_format, synthesizer.provenance.tags()) as append:
        for piece in pieces:
            append(piece.audio)
            if timeline.seconds < PLOT_SECONDS:
                first.append(piece)
            quality.append(piece.quality.as_dict())
            timeline.add(with_times(piece) if timestamps else piece)
            show(f"{timeline.seconds:.1f} s of speech")
    words = [word.as_dict() for word in timeline.words]
    path = None if place is None else str(written_path(place))
    summary = {"path": path, "seconds": round(timeline.seconds, 3), "words": words, "quality": quality}
    if timestamps:
        summary["timestamps"] = str(timeline.write(timestamps))
    return summary, join_speech(first)


def announce(summary: dict[str, Any], as_json: bool) -> None:
    """Print the result to stdout: the paths, or everything as JSON."""
    if as_json:
        print(json.dumps(summary))
        return
    for key in ("path", "timestamps", "plot"):
        if key in summary:
            print(summary[key])


def check_timestamps(path: Path | None) -> None:
    """Refuse a file of timestamps of unknown format before anything is spoken."""
    if path is not None:
        from openvalle.synth.timestamps import check_ending

        check_ending(path)


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows what is going on, on stderr and only on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda message: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("starting") as status:
        yield lambda message: status.update(message)
