"""`openvalle say`: text in, a sound file out.

`openvalle stream`: text in as it arrives, sound out while it is being made.

`openvalle dialogue`: a script of several speakers in, one sound file out, or one for each of them.
"""

from __future__ import annotations

import codecs
import io
import json
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from openvalle.cli.settings import is_chosen
from openvalle.errors import TextError, UserError
from openvalle.files import Free, expanded, first_path, is_special, is_stdout, read_bytes, read_stdin, written_path
from openvalle.parallel import status

if TYPE_CHECKING:
    from openvalle.synth.speech import Speech
    from openvalle.synth.synthesizer import Synthesizer


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
        from openvalle.apps.plot import need_matplotlib

        need_matplotlib()
    started = time.monotonic()
    with status(quiet) as show:
        show("loading the model")
        from openvalle.synth.synthesizer import Synthesizer

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
        from openvalle.apps.plot import plot_speech

        summary["plot"] = str(plot_speech(shown, path.with_suffix(".png")))
    announce(summary, as_json)
    if play:
        from openvalle.apps.play import play_file

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
    from openvalle.media import format_ending

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
    from openvalle.apps.subtitles import Timeline, with_times
    from openvalle.media import sound_file
    from openvalle.synth.speech import join_speech

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
        from openvalle.apps.subtitles import check_ending

        check_ending(path)


UNKNOWN = 0xFFFFFFFF  # for sizes that nobody knows yet; players then read to the end, with 0 they read nothing


def stream(
    text: Annotated[str, typer.Argument(help="What to say; - reads standard input while it is being written.")] = "-",
    voice: Annotated[str | None, typer.Option("--voice", "-v", help="A voice's name, a clip or a voice file.")] = None,
    prompt_text: Annotated[str | None, typer.Option(help="What the clip says; else it is transcribed.")] = None,
    asr: Asr = "",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same sound.")] = 0,
    speed: Annotated[float | None, typer.Option(min=0.5, max=2.0, help="2 is twice as fast.")] = None,
    patient: Annotated[
        bool, typer.Option("--patient", help="Hear each line only when it is known to be right: later, but repaired.")
    ] = False,
    whole_lines: Annotated[
        bool, typer.Option("--whole-lines", help="Fill each line in one go, as `say` does: later, but the same sound.")
    ] = False,
    file_format: Annotated[str, typer.Option("--format", help="wav, or pcm: 16 bit, 24 kHz, mono.")] = "wav",
    model: Annotated[str, typer.Option("--model", "-m", help="A model's name or folder.")] = "builtin",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Write sound to standard output while it is being made.

    \b
    openvalle stream "Hello there." | ffplay -nodisp -autoexit -
    language-model | openvalle stream | aplay    sentence by sentence
    """
    if file_format not in ("wav", "pcm"):
        raise UserError(f"cannot stream {file_format!r}", "use wav or pcm")
    if sys.stdout.isatty():
        raise UserError("the sound would go to the terminal", "pipe it into a player or a file")
    from openvalle.synth.synthesizer import WINDOWS, Synthesizer

    synthesizer = Synthesizer.load(model, device=device, asr=asr)
    blocks = synthesizer.stream(
        arriving() if text == "-" else text,
        voice,
        prompt_text,
        seed,
        synthesizer.sampling(speed=speed),
        live=not patient,
        windows=None if whole_lines else WINDOWS,
    )
    out = sys.stdout.buffer
    for number, block in enumerate(blocks):
        if number == 0 and file_format == "wav":  # a text that cannot be spoken writes nothing
            out.write(wav_header(synthesizer.rate))
        out.write(block.audio.pcm())
        out.flush()


def arriving() -> Iterator[str]:
    """Yield standard input as it is written."""
    source = cast(io.BufferedReader, sys.stdin.buffer)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    while True:
        raw = source.read1(4096)
        try:
            yield decoder.decode(raw, final=not raw)
        except UnicodeDecodeError:
            raise TextError("the text is not UTF-8", "save it as UTF-8 first") from None
        if not raw:
            return


def wav_header(rate: int) -> bytes:
    """Return the 44 bytes before 16-bit mono samples of unknown number."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", UNKNOWN, b"WAVE") + form + struct.pack("<4sI", b"data", UNKNOWN)


def dialogue(
    script: Annotated[str, typer.Argument(help="A .yaml or .toml script, a text of [S1] ... [S2] ..., or -.")],
    voice: Annotated[
        list[str] | None,
        typer.Option("--voice", "-v", help="SPEAKER=VOICE: a name, clip or file; once for each speaker."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Sound file to write. Default: speech.wav.")
    ] = None,
    per_speaker: Annotated[
        bool, typer.Option("--per-speaker", help="Write a file for each speaker, too, all of one length.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same sound.")] = 0,
    candidates: Annotated[int, typer.Option(min=1, max=20, help="Speak each sentence so often, keep the best.")] = 1,
    speed: Annotated[float | None, typer.Option(min=0.5, max=2.0, help="2 is twice as fast.")] = None,
    duration: Annotated[float | None, typer.Option(min=0.1, help="Seconds that all of it is to last.")] = None,
    lexicon: Annotated[Path | None, typer.Option(help="Pronunciations: a TSV file of word<TAB>phones.")] = None,
    timestamps: Annotated[Path | None, typer.Option(help="Write times: .json, .srt, .vtt or .TextGrid.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A model's name or folder.")] = "builtin",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Speak a SCRIPT of several speakers and print the paths of the sound files.

    \b
    openvalle dialogue "[S1] Hello. [S2] Hi." -v S1=clip.wav -v S2=default
    openvalle dialogue talk.yaml -o talk.flac --per-speaker
    """
    voices = chosen_voices(voice or [])
    place = chosen_output(output)
    if place is None and (as_json or per_speaker):
        raise UserError("--json and --per-speaker need a sound file", "give -o a file name instead of -")
    if per_speaker and place is not None and is_special(first_path(place)):
        raise UserError("--per-speaker needs a sound file", f"{output} is none; give another name")
    check_timestamps(timestamps)
    with status(quiet) as show:
        show("loading the model")
        from openvalle.apps.dialogue import parse_dialogue, read_dialogue, speak_dialogue, track_files
        from openvalle.synth.synthesizer import Synthesizer

        is_text = script == "-" or script.lstrip().startswith("[")
        turns = parse_dialogue(chosen_text(script, None)) if is_text else read_dialogue(script)
        synthesizer = Synthesizer.load(model, device=device)
        how: dict[str, Any] = {"lexicon": lexicon, "candidates": candidates, "duration": duration}
        pieces = speak_dialogue(synthesizer, turns, voices, seed, synthesizer.sampling(speed=speed), **how)
        with track_files(place, turns.speakers if per_speaker else [], synthesizer) as (tracks, append):
            summary, _ = spoken(copied(pieces, append), place, None, synthesizer, show, timestamps)
    if place is None:
        return
    paths = [written_path(track) for track in tracks]
    announce(summary | {"speakers": turns.speakers, "tracks": [str(track) for track in paths]}, as_json)
    if not as_json:
        for track in paths:
            print(track)


def copied(pieces: Iterable[Speech], append: Callable[[Speech], None]) -> Iterator[Speech]:
    """Yield the pieces and hand each to `append`."""
    for piece in pieces:
        append(piece)
        yield piece


def chosen_voices(pairs: list[str]) -> dict[str, Any]:
    """Return the voice of each speaker from `S1=clip.wav`."""
    voices: dict[str, Any] = {}
    for pair in pairs:
        name, equals, voice = pair.partition("=")
        if not equals or not name or not voice:
            raise UserError(f"cannot read the voice {pair!r}", "write SPEAKER=VOICE, for example S1=clip.wav")
        if name in voices:
            raise UserError(f"the speaker {name} has two voices", "give one")
        voices[name] = voice
    return voices
