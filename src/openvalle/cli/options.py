"""The options that several commands have, each declared once; `expand` lets a command take a group of them as one.

A group is a dataclass whose fields are options. `def say(*, sampling: Sampling)` has every option of `Sampling`: an
option that is added there reaches all commands that speak.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from typer import Argument, Option

from openvalle.errors import TextError, UserError
from openvalle.files import FreeName, expand_home
from openvalle.pipes import is_stdout, read_given_text, read_stdin

if TYPE_CHECKING:
    from openvalle.decode.ar import AROptions
    from openvalle.synth.synthesizer import Synthesizer
    from openvalle.synth.voice import Voice

Clip = Annotated[Path, Argument(help="The recording: any sound file of up to two minutes.")]
File = Annotated[Path | None, Option("--file", "-f", help="Read the text from a file.")]
Output = Annotated[
    str | None,
    Option(
        "--output",
        "-o",
        help="File to write (.wav .flac .mp3 .ogg .opus .pcm), or - for standard output. "
        "Default: speech.wav here, or speech-2.wav ... if that is taken.",
    ),
]
Format = Annotated[
    str | None, Option("--format", help="wav, flac, mp3, ogg, opus or pcm; by default what a file's name says.")
]
Replace = Annotated[bool, Option("--replace", help="Overwrite what is there under this name.")]
Seed = Annotated[int, Option(min=0, help="Same seed, same sound.")]
Duration = Annotated[float | None, Option(min=0.1, help="Seconds that all of it is to last.")]
Candidates = Annotated[
    int, Option(min=1, max=20, help="Speak each sentence so often and keep the best by words and voice.")
]
Markup = Annotated[str, Option(help="auto, tags such as [pause:1s], ssml, or none.")]
TextFormat = Annotated[
    str,
    Option("--text-format", help="auto, plain (every sign is meant), markdown or html: what is not to be read out."),
]
Lexicon = Annotated[Path | None, Option(help="Pronunciations: a TSV file of word<TAB>phones.")]
Language = Annotated[str, Option(help="Of the text: en, zh, ja ...; by default as its script shows.")]
Timestamps = Annotated[Path | None, Option(help="Write word and phone times: .json, .srt, .vtt or .TextGrid.")]
Transcript = Annotated[
    str | None, Option("--prompt-text", "--transcript", "-t", help="What the clip says; else it is transcribed.")
]
Channel = Annotated[str, Option(help="Of a stereo recording: auto, mix, left or right is heard.")]
Asr = Annotated[
    str, Option(help="Who transcribes clips: whisper:base, pocketsphinx ...; default: the best one installed.")
]
Consent = Annotated[str, Option(help="Who agreed to the use of a clip's voice, and when.")]
Policy = Annotated[
    str | None, Option(help="Without consent: off, warn or require. Default: $OPENVALLE_CONSENT, else warn.")
]
ModelName = Annotated[str, Option("--model", "-m", help="A model's name or folder.")]
ServerURL = Annotated[
    str | None, Option("--server", help="Address of an `openvalle serve`; its key is in $OPENVALLE_API_KEY.")
]
Device = Annotated[str, Option(help="auto, cpu, cuda or mps.")]
Adapter = Annotated[Path | None, Option(help="What `openvalle finetune` made: its folder or its adapter.safetensors.")]
Engine = Annotated[str, Option(help="auto, torch, onnx, onnx-fp32, onnx-int8 or onnx-int4 (docs/speed.md).")]
Jobs = Annotated[int, Option("--jobs", "-j", min=1, help="Processes.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="No progress and no summary.")]
AsJson = Annotated[bool, Option("--json", help="Print the result as JSON.")]
Plot = Annotated[Path | None, Option(help="Draw it into this picture: .png, .pdf or .svg.")]


@dataclass(frozen=True)
class Speaker:
    """Whose voice speaks."""

    voice: Annotated[
        str | None, Option("--voice", "-v", help="A voice's name, a clip of 3 to 15 s, or a .safetensors voice.")
    ] = None
    prompt_text: Transcript = None
    prompt_language: Annotated[str, Option(help="What the clip speaks: en, zh, ja ...")] = "en"
    channel: Channel = "auto"
    asr: Asr = ""
    consent: Consent = ""

    def read(self, synthesizer: Synthesizer) -> Voice:
        """Return the voice; a clip is transcribed if need be, aligned and encoded."""
        about = {"consent": self.consent, "channel": self.channel, "language": self.prompt_language}
        return synthesizer.voice(self.voice, self.prompt_text, **about)


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn."""

    temperature: Annotated[
        float | None, Option(min=0.0, help="0 takes the likeliest, and draws where that repeats.")
    ] = None
    top_p: Annotated[float | None, Option(min=0.0, max=1.0, help="Sample from this likeliest mass.")] = None
    window: Annotated[int | None, Option(min=1, help="Codes within which a repeat is drawn again.")] = None
    speed: Annotated[float | None, Option(min=0.5, max=2.0, help="2 is twice as fast.")] = None
    attempts: Annotated[int | None, Option(min=1, max=10, help="Times a line is spoken at most, if it goes wrong.")] = (
        None
    )
    accent: Annotated[
        str | None,
        Option(help="native, foreign (the voice's own language's) or none; for models with languages."),
    ] = None
    settings: Annotated[
        list[str] | None,
        Option("--set", help="Any other decoding option as name=value (path_temperature=0.5); repeatable."),
    ] = None

    def read(self, synthesizer: Synthesizer) -> AROptions:
        """Return the model's own options with what is given changed."""
        return synthesizer.sampling(**vars(self) | {"settings": self.settings or ()})


@dataclass(frozen=True)
class Model:
    """What speaks, and where."""

    model: ModelName = "builtin"
    codec: Annotated[str | None, Option(help="A codec's name or folder; default: the model's.")] = None
    device: Device = "auto"
    adapter: Adapter = None
    engine: Engine = "auto"

    def load(self, asr: str = "", consent_policy: str | None = None) -> Synthesizer:
        """Return the loaded model."""
        from openvalle.synth.synthesizer import Synthesizer

        return Synthesizer.load(
            self.model,
            self.codec,
            self.device,
            asr=asr,
            consent_policy=consent_policy,
            adapter=self.adapter,
            engine=self.engine,
        )


def expand(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes, in place of each group of options, the options themselves.

    All parameters become keywords, which is how Typer calls a command.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        group = groups.get(name)
        own = {name: (hints[name], parameter.default)}
        if group is not None:
            kinds = get_type_hints(group, include_extras=True)
            own = {field.name: (kinds[field.name], field.default) for field in fields(group)}
        for option, (kind, default) in own.items():
            shape = {"default": default, "annotation": kind}
            parameters.append(inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, **shape))

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def read_text(text: str | None, file: Path | None = None, text_format: str = "auto") -> str:
    """Return the text of the argument, of the file or, for `-`, of standard input, without the markup of its format."""
    from openvalle.text.layout import to_plain

    return to_plain(_read_written(text, file), text_format)


def _read_written(text: str | None, file: Path | None) -> str:
    if text is not None and file is not None:
        raise UserError("there is a text and a --file", "give one of them")
    if text is None and file is None:
        raise UserError("there is no text to say", 'run: openvalle say "Hello there."  (or - to read stdin)')
    if text is not None and text != "-":
        return text
    if file is not None and str(file) != "-":
        from openvalle.apps.readers.load import find_format

        if kind := find_format(file):
            raise UserError(f"{file} is {kind}, not a text", f"run: openvalle book {file}")
        return read_given_text(file)
    try:
        return read_stdin().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TextError("the text is not UTF-8", "save it as UTF-8 first") from None


def find_place(output: str | None, file_format: str | None = None) -> Path | FreeName | None:
    """Return the file to write (None: standard output); without a choice, one that is not there when it is complete."""
    from openvalle.media import format_ending

    path = None if output is None or is_stdout(output) else expand_home(output)
    ending = format_ending(path, file_format)
    if output is None:
        return FreeName(Path(f"speech{ending}"))
    if path is not None and path.is_dir():
        raise UserError(f"{path} is a folder", "give the name of a file in it")
    return path


def read_pairs(pairs: list[str] | None, option: str, form: str) -> dict[str, str]:
    """Return what `NAME=VALUE` options say; `form`: how to write them."""
    found: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name or not value:
            raise UserError(f"cannot read {option} {pair!r}", f"write {option} {form}")
        if name in found:
            raise UserError(f"{option} {name} is there twice", "give every name one value")
        found[name] = value
    return found


def print_result(facts: Any, as_json: bool, lines: Iterable[object] | None = None) -> None:
    """Print `facts` as JSON, or else `lines`: by default the files that were written, one a row or a list of rows.

    Where the sound itself went to stdout, nothing follows it.
    """
    rows = facts if isinstance(facts, list) else [facts]
    if any(is_stdout(row.get("path", "")) for row in rows):
        return
    if lines is None:
        lines = [row[key] for row in rows for key in ("path", "timestamps", "plot") if key in row]
    if as_json:
        lines = [json.dumps(facts)]
    for line in lines:
        print(line)
