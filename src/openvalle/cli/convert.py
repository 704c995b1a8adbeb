"""`openvalle convert`: models of other projects. `openvalle export`: ours for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from openvalle.cli import options as opt
from openvalle.errors import UserError, find_choice
from openvalle.files import expand_home
from openvalle.hub import Kind, find


def convert(
    source: Annotated[str, typer.Argument(help="The project: lifeiteng, icefall ...; with --detect, a file.")],
    files: Annotated[
        list[str] | None, typer.Argument(help="Its files: paths, folders, or hf://owner/name[/file].")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the model to write.")] = None,
    symbols: Annotated[
        Path | None, typer.Option(help="The symbol table of its texts, where that is a file of its own.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE: what the files do not say, such as nhead=16.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="The codec it speaks: encodec:FOLDER, or a name. Default: one among the files, or the project's."
        ),
    ] = None,
    average: Annotated[bool, typer.Option("--average", help="Take the averaged weights (model_avg).")] = False,
    name: Annotated[str | None, typer.Option(help="What the model is called; default: its folder.")] = None,
    storage: Annotated[
        str, typer.Option(help="How weights are stored: float32, float16 (half the size) or int8 (a third).")
    ] = "float32",
    asked: Annotated[bool, typer.Option("--detect", help="Only say of what project files are.")] = False,
    replace: opt.Replace = False,
    as_json: opt.AsJson = False,
) -> None:
    """Make a model of another project's checkpoint.

    \b
    openvalle convert --detect checkpoint.pt
    openvalle convert icefall checkpoint.pt --symbols unique_text_tokens.k2symbols -o libritts
    """
    if asked:
        from openvalle.convert.convert import detect

        said = detect([source, *(files or ())])
        rows = [{"file": path, "source": found} for path, found in said.items()]
        opt.print_result(rows, as_json, [f"{row['file']}\t{row['source']}" for row in rows])
        return
    if output is None or not files:
        raise UserError(
            "there is nothing to convert", "give files and a folder: openvalle convert SOURCE FILE -o MODEL"
        )
    from openvalle.config import override
    from openvalle.convert.convert import ConversionOptions, find_source
    from openvalle.convert.convert import convert as run
    from openvalle.convert.plachtaa import VOICE
    from openvalle.model.checkpoint import Storage

    if storage not in tuple(Storage):
        raise UserError(f"weights cannot be stored as {storage!r}", f"use {', '.join(Storage)}")
    out = expand_home(output)
    adds_voices = all(place.endswith(VOICE) for place in files)
    if out.exists() and not replace and not adds_voices:
        raise UserError(f"there is something at {out}", "add --replace, or take another folder")
    values: dict[str, Any] = override({}, tuple(settings or ()))
    wishes = ConversionOptions(symbols, values, codec, average, name, Storage(storage))
    converted = run(find_source(source), files, out, wishes)
    notes = [] if converted is None else list(converted.notes)
    opt.print_result({"path": str(out), "notes": notes}, as_json, [*notes, out])


def export(
    model: Annotated[str, typer.Argument(help="A model's name or folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="safetensors: one file of both networks, and what each weight is; onnx: graphs that any runtime of "
            "ONNX opens, and that `say --model` speaks.",
        ),
    ] = "safetensors",
    precision: Annotated[
        str, typer.Option(help="Of ONNX files: fp32, int8, int8-7bit (for processors without VNNI) or int4.")
    ] = "fp32",
    adapter: opt.Adapter = None,
    replace: opt.Replace = False,
) -> None:
    """Write a model for other programs: weights by documented names, settings and symbols as JSON, or ONNX files."""
    if to not in ("safetensors", "onnx"):
        raise UserError(f"a model cannot be exported to {to!r}", "use safetensors or onnx")
    from openvalle.model.adapter import Adapter

    out = expand_home(output)
    if out.exists() and not replace:
        raise UserError(f"there is something at {out}", "add --replace, or take another folder")
    added = None if adapter is None else Adapter.load(adapter)
    if to == "onnx":
        from openvalle.engines.export import export_onnx
        from openvalle.engines.layers import Precision

        print(export_onnx(find(Kind.MODEL, model), out, find_choice(Precision, precision, "precision"), added))
        return
    from openvalle.convert.export import export as run

    print(run(find(Kind.MODEL, model), out, added))
