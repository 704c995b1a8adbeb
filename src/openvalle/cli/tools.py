"""`openvalle doctor`: what is installed, what is missing, and how to mend it.

`openvalle phonemes`: what will be said for a text, and why.

`openvalle detect` and `openvalle watermark detect|embed`: is a recording synthetic, and marking sound of others.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from openvalle import __version__
from openvalle.cli import options as opt
from openvalle.errors import TextError, UserError
from openvalle.hub import BUILTIN, Kind, NoHomeFolder, assets, find_damaged, home, list_names

watermark = typer.Typer(help="Find or lay the inaudible mark in sound.", no_args_is_help=True, rich_markup_mode="rich")

Files = Annotated[list[Path], typer.Argument(help="Recordings: WAV, FLAC, MP3, Ogg or Opus, any rate.")]


def detect(files: Files, as_json: opt.AsJson = False) -> None:
    """Say what the watermark and the tags of FILES tell about where they come from, and what not."""
    from openvalle.safety.detector import inspect
    from openvalle.safety.watermark import Detector

    detector = Detector()

    def look(path: Path) -> None:
        finding = inspect(path, detector)
        made = finding.provenance
        tags = f"written by {made.generator}, model {made.model}" if made else "nothing about openvalle"
        lines = {
            "watermark": describe(finding.detection.as_dict()),
            "tags": tags,
            "verdict": f"{finding.verdict.value}: {finding.meaning}",
        }
        opt.print_result(finding.as_dict(), as_json, [path, *(f"{key:>11}: {line}" for key, line in lines.items())])

    look_at(files, look)


@watermark.command("detect")
def find(files: Files, as_json: opt.AsJson = False) -> None:
    """Look for the watermark in FILES, wherever they come from."""
    from openvalle.media import read
    from openvalle.safety.watermark import Detector

    detector = Detector()

    def look(path: Path) -> None:
        facts = {"path": str(path)} | detector.detect(read(path)).as_dict()
        opt.print_result(facts, as_json, [f"{path}\t{describe(facts)}"])

    look_at(files, look)


def look_at(files: list[Path], look: Callable[[Path], None]) -> None:
    """Look at every file, also after one that cannot be read; `UserError` at the end if there was any."""
    bad: list[UserError] = []
    for path in files:
        try:
            look(path)
        except UserError as error:
            if len(files) == 1:
                raise
            bad.append(error)
            print(f"error: {error}", file=sys.stderr, flush=True)
    if bad:
        raise UserError(f"{len(bad)} of {len(files)} files could not be looked at", bad[0].hint)


@watermark.command("embed")
def embed(
    source: Annotated[Path, typer.Argument(help="The recording to mark.")],
    output: Annotated[Path, typer.Argument(help="The file to write (.wav .flac .mp3 .ogg .opus), 24 kHz mono.")],
) -> None:
    """Lay the watermark on a recording that another program made."""
    from openvalle.media import format_ending, read, write
    from openvalle.safety.watermark import Marker

    format_ending(output)
    print(write(output, Marker().mark(read(source))))


def describe(facts: dict[str, object]) -> str:
    """Return a detection in words."""
    if not facts["marked"]:
        return f"not found (score {facts['score']}, {facts['threshold']} or more counts)"
    return f"found in {facts['share']:.0%} of the recording (score {facts['score']})"


def phonemes(
    *,
    text: Annotated[str | None, typer.Argument(help="The text; - reads it from standard input.")] = None,
    file: opt.File = None,
    markup: opt.Markup = "auto",
    text_format: opt.TextFormat = "auto",
    lexicon: opt.Lexicon = None,
    language: opt.Language = "",
    as_json: opt.AsJson = False,
) -> None:
    """Show what will be said for TEXT, word by word: what is written, said, its phones, and why.

    \b
    openvalle phonemes "Dr. Hill paid $5."
    openvalle phonemes --language ja "箸と橋"
    A reading is mended by a --lexicon, by [word](/phones/) or by [word](=respelling) in the text.
    """
    from openvalle.synth.plan import MAX_CHARACTERS, parse_script
    from openvalle.text.explain import explain
    from openvalle.text.language import LANGUAGES, PLACEHOLDER, find_language
    from openvalle.text.sentences import split
    from openvalle.text.spans import detect_language

    script = parse_script(opt.read_text(text, file, text_format), markup, lexicon)
    rows: list[dict[str, Any]] = []
    own_language = find_language(language).code if language else ""
    for passage in script.passages:
        given = list(passage.given)
        spoken = passage.language or own_language or detect_language(passage.text, LANGUAGES)
        for chunk in split(passage.text, MAX_CHARACTERS, spoken):
            own = [given.pop(0) for _ in PLACEHOLDER.findall(chunk.text)]
            before = -1
            for word in explain(chunk.text, script.lexicon, own, spoken, LANGUAGES):
                row = {"written": "" if word.start == before else word.written, "said": word.said}
                row |= {"phones": " ".join(word.phones), "why": ", ".join((*word.rules, word.source))}
                rows.append(row | {"pause": word.pause})
                before = word.start
    if not rows:
        raise TextError("the text holds nothing that can be spoken", "write at least one word")
    opt.print_result({"words": rows}, as_json, lay_out(rows))


def lay_out(rows: list[dict[str, Any]]) -> list[str]:
    """Return rows as a table: a bar where a pause follows, columns as wide as they need to be."""
    shown = [("written", "said", "phones", "why")]
    shown += [
        (" ".join(row["written"].split()), row["said"] + " |" * row["pause"], row["phones"], row["why"]) for row in rows
    ]
    widths = [max(len(row[column]) for row in shown) for column in range(3)]
    return [
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3])) for row in shown
    ]


DATA = () if sys.version_info >= (3, 14) else ("pocketsphinx",)  # for its models
CORE = ("numpy", "onnxruntime", "safetensors", "soundfile", "soxr", "pydantic", "typer", *DATA)
EXTRAS = {  # extra -> the modules that work with it
    "torch": ("torch",),
    "plot": ("matplotlib",),
    "espeak": ("espeakng_loader", "phonemizer"),
    "zh": ("pypinyin", "jieba", "wetext"),
    "ja": ("pyopenjtalk",),
    "translate": ("ctranslate2", "sentencepiece"),
    "train": ("torch", "matplotlib", "tensorboard", "pyarrow"),
    "asr": ("faster_whisper",),
    "eval": ("torch", "transformers", "jiwer", "sacrebleu"),
    "eval-offline": ("torch", "jiwer", "sacrebleu", "webrtcvad", "resemblyzer", "speechmos"),
    "encodec": ("torch", "transformers", "huggingface_hub"),
    "bpe": ("tokenizers",),
    "media": ("av",),
    "books": ("av", "pypdf"),
    "server": ("fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart", "websockets"),
    "ray": ("ray",),
}
# extra -> what its judges are read from, installed without the packages that only their own code needs
BARE = {"eval-offline": ("resemblyzer", "speechmos")}


def doctor(server: opt.ServerURL = None, as_json: opt.AsJson = False) -> None:
    """Show versions, device, models and extras, or look at a server; exit code 2 if it cannot speak as it is."""
    if server is not None:
        from openvalle.cli.remote import inspect_server

        found = inspect_server(server)
        opt.print_result(found, as_json, [f"{key:>12}: {_word(value)}" for key, value in found.items() if value != []])
        if found["problems"]:
            raise UserError(f"{len(found['problems'])} things are wrong with {server}", "see above")
        return
    from openvalle.speech_models.recognizers import WEIGHTS
    from openvalle.speech_models.wheels import CAMPPLUS

    judges = {f"whisper:{size}": wheels for size, wheels in WEIGHTS.items()} | {"campplus": CAMPPLUS}
    report: dict[str, Any] = {
        "openvalle": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {
            name: _version(name) for name in (*CORE, *(["torch"] if importlib.util.find_spec("torch") else []))
        },
        "device": _device(),
        "engine": _engine(),
        "data folder": _data_folder(),
        "voices": sorted(list_names(Kind.VOICE)),
        "models": sorted(list_names(Kind.MODEL)),
        "codec": _state("codec"),
        "model": _state("model"),
        "extras": {
            extra: [name for name in modules if importlib.util.find_spec(name) is None]
            for extra, modules in EXTRAS.items()
        },
        "judges": {name: "installed" if wheels.are_here else wheels.install for name, wheels in judges.items()},
    }
    absent = [name for name, version in report["packages"].items() if version is None]
    problems = [f"missing packages {', '.join(absent)} (pip install openvalle)"] if absent else []
    problems += [
        f"the built-in {part}: {report[part]}" for part in ("codec", "model") if not report[part].startswith("good")
    ]
    opt.print_result(report | {"problems": problems}, as_json, _lines(report))
    if problems:
        raise UserError("; ".join(problems), "mend that and run `openvalle doctor` again")


def _word(value: Any) -> str:
    """Return a fact as it is shown."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _data_folder() -> str:
    try:
        return str(home())
    except NoHomeFolder as error:
        return f"none: {error}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _device() -> str:
    try:
        import torch
    except ModuleNotFoundError:
        return "cpu (torch is not installed)"
    except (ImportError, OSError) as error:
        return f"torch cannot be loaded: {error}"
    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name(0)})"
    if torch.backends.mps.is_available():
        return "mps"
    return f"cpu ({torch.get_num_threads()} threads)"


def _engine() -> str:
    """Return what speaks the built-in model here, and what was measured of it."""
    from openvalle.engines.choose import choose_engine
    from openvalle.model.bundle import read_description

    try:
        choice = choose_engine(read_description(assets() / "model"))
    except UserError as error:
        return str(error)
    probes = [
        f"{name} {probe.step_ms:.1f} ms a step, KL {probe.kl:.4f}, likeliest code {100 * probe.agreement:.0f} % alike"
        for name, probe in (choice.probes or {}).items()
    ]
    return f"{choice}{' (' + '; '.join(probes) + ')' if probes else ''}"


def _state(part: str) -> str:
    """Return "good" or what is wrong with the built-in codec or model, as loading it shows."""
    if bad := find_damaged(assets() / part):
        return f"damaged: {', '.join(bad)}"
    try:
        if part == "codec":
            from openvalle.engines.layers import Precision
            from openvalle.engines.onnx import load_codec

            return f"good, digest {load_codec(assets() / part, Precision.FP32).spec.digest}"
        from openvalle.synth.synthesizer import Synthesizer

        return f"good, {Synthesizer.load(BUILTIN).describe()}"
    except UserError as error:
        return str(error)
    except (ImportError, OSError) as error:
        return f"cannot be loaded: {error}"


def _lines(report: dict[str, Any]) -> list[str]:
    """Return the report as it is shown, a fact a line."""
    facts = {key: value for key, value in report.items() if key not in ("extras", "judges")}
    facts["packages"] = [f"{name} {version or 'MISSING'}" for name, version in report["packages"].items()]
    lines = [
        f"{key:>12}: {', '.join(value) or 'none' if isinstance(value, list) else value}" for key, value in facts.items()
    ]
    for extra, missing in report["extras"].items():
        lines.append(f"{'[' + extra + ']':>14} {f'not installed; run: {mend(extra)}' if missing else 'installed'}")
    for judge, state in report["judges"].items():
        shown = state if state == "installed" else f"(optional weights) not installed; run: {state}"
        lines.append(f"{judge:>14} {shown}")
    return lines


def mend(extra: str) -> str:
    """Return the command that brings all of an extra."""
    install = f"{sys.executable} -m pip install"
    bare = f" && {install} --no-deps {' '.join(BARE[extra])}" if extra in BARE else ""
    return f"{install} 'openvalle[{extra}]'{bare}"
