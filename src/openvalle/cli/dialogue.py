"""`openvalle dialogue`: a script of several speakers in, one sound file out, or one for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openvalle.cli.say import announce, check_timestamps, chosen_output, chosen_text, progress, spoken
from openvalle.errors import UserError
from openvalle.files import first_path, is_special, written_path

if TYPE_CHECKING:
    from openvalle.synth.speech import Speech


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
    with progress(quiet) as show:
        show("loading the model")
        from openvalle.synth.dialogue import parse_dialogue, read_dialogue, speak_dialogue, track_files
        from openvalle.synth.pipeline import Synthesizer

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
