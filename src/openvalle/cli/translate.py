"""`openvalle translate`: a recording in another language, in the same voice."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openvalle.cli import options as opt
from openvalle.cli.recordings import Output, free_output
from openvalle.cli.say import write_speech
from openvalle.files import expand_home
from openvalle.parallel import status

if TYPE_CHECKING:
    from openvalle.apps.translate import SpokenSegment
    from openvalle.synth.speech import Speech


def translate(
    *,
    clip: Annotated[Path, typer.Argument(help="The recording: any sound file of up to an hour.")],
    target: Annotated[str, typer.Option("--to", help="The language to speak: en, zh, ja ...")],
    language: Annotated[str, typer.Option("--from", help="The recording's; by default Whisper finds it.")] = "",
    output: Output = None,
    translator: Annotated[
        list[str] | None,
        typer.Option(
            "--translator",
            help="An opus-mt model for CTranslate2: folder, name or hf://owner/name; repeatable. Default: your own.",
        ),
    ] = None,
    transcript: Annotated[
        str | None, typer.Option("--transcript", "-t", help="What the recording says; else it is transcribed.")
    ] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Every sentence lasts as long as it did.")] = False,
    subtitles: Annotated[
        Path | None, typer.Option(help="Write subtitles in both languages: talk.srt is talk.en.srt and talk.zh.srt.")
    ] = None,
    voice: Annotated[
        str | None, typer.Option("--voice", "-v", help="Another voice than the recording's: a name, clip or file.")
    ] = None,
    consent: opt.Consent = "",
    channel: opt.Channel = "auto",
    asr: opt.Asr = "",
    seed: opt.Seed = 0,
    candidates: opt.Candidates = 1,
    resume: Annotated[bool, typer.Option(help="Keep what an interrupted run has heard and spoken already.")] = True,
    sampling: opt.Sampling,
    model: opt.Model,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Speak a recording in another language, in its speaker's voice. Print the paths of the files.

    The same command goes on where an interrupted one stopped: what it heard and spoke is in OUTPUT's .parts until then.

    \b
    openvalle translate talk.wav --to zh -o talk-zh.wav --fit --subtitles talk.srt
    openvalle translate talk.wav --from zh --to en --voice default
    """
    from openvalle.apps.subtitles import check_ending
    from openvalle.apps.translate import read_source, speak_translation
    from openvalle.apps.translation_parts import TranslationParts
    from openvalle.files import lock_folder
    from openvalle.text.translator import Translators

    started = time.monotonic()
    place = free_output(output, clip, target)
    titles = None if subtitles is None else check_ending(subtitles)
    with status(quiet) as show:
        translators = Translators.find(translator or ())
        synthesizer = model.load(asr)
        options = sampling.read(synthesizer)
        show("listening")
        told: list[dict[str, Any]] = []
        folder = (place if isinstance(place, Path) else place.first).with_suffix(".parts")
        with lock_folder(folder):
            parts = TranslationParts(folder, synthesizer.rate, synthesizer.provenance, resume)
            how: dict[str, Any] = {"language": language, "transcript": transcript, "channel": channel}
            source = read_source(synthesizer, expand_home(clip), target, translators, parts=parts, **how)
            how = {"voice": voice, "is_fitted": fit, "candidates": candidates, "consent": consent}
            segments = speak_translation(synthesizer, source, seed, options, parts=parts, **how)
            own = None if titles is None else titles.with_suffix(f".{source.target}{titles.suffix}")
            summary, _ = write_speech(note_segments(segments, told), place, None, synthesizer, show, own)
            parts.remove()
    if titles is not None:
        heard = source.timeline().write(titles.with_suffix(f".{source.language}{titles.suffix}"))
        summary["subtitles"] = [str(heard), summary.pop("timestamps")]
    languages = {"from": source.language, "to": source.target}
    summary |= languages | {"segments": told, "seed": seed, "elapsed": round(time.monotonic() - started, 3)}
    opt.print_result(summary, as_json, [summary["path"], *summary.get("subtitles", ())])


def note_segments(segments: Iterable[SpokenSegment], told: list[dict[str, Any]]) -> Iterator[Speech]:
    """Yield what is spoken and append to `told` what is known of each segment."""
    for segment in segments:
        told.append(segment.as_dict())
        yield segment.speech
