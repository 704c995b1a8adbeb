"""`openvalle listen new|serve|export|collect`: listening tests with people."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from openvalle import stop
from openvalle.cli import options as opt
from openvalle.config import json_lines
from openvalle.errors import UserError
from openvalle.files import expand_home
from openvalle.parallel import progress
from openvalle.pipes import read_given_text

listen = typer.Typer(
    help="Make listening tests with people, take them in a browser, collect the results.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(metavar="STUDY", help="The folder of the test.")]


@listen.command("new")
def new(
    folder: Annotated[Path, typer.Argument(metavar="STUDY", help="The folder to make.")],
    kind: Annotated[str | None, typer.Option("--kind", "-k", help="cmos, mos, smos or mushra. Default: cmos.")] = None,
    system: Annotated[
        list[str] | None, typer.Option("--system", "-s", metavar="NAME=FOLDER", help="Clips of a system; repeat it.")
    ] = None,
    baseline: Annotated[str, typer.Option(help="cmos: the system the others are compared with.")] = "",
    reference: Annotated[
        Path | None, typer.Option(help="Folder of reference clips: prompts (smos) or originals (mushra).")
    ] = None,
    texts: Annotated[Path | None, typer.Option(help="JSONL with id and text: what the clips say.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML or JSON with more of the design.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting of the design; repeat it.")
    ] = None,
    only_common: Annotated[bool, typer.Option("--only-common", help="Use the items that every folder has.")] = False,
    ending: Annotated[str, typer.Option("--format", help="flac, wav or mp3.")] = "flac",
    rate: Annotated[int, typer.Option(min=0, max=192_000, help="Hertz of every clip; 0 keeps the file's.")] = 0,
    keep_level: Annotated[bool, typer.Option("--keep-level", help="Do not bring clips to one loudness.")] = False,
) -> None:
    """Make a listening test in the folder STUDY from one folder of clips per system.

    openvalle listen new study -k cmos -s ours=out/ours -s theirs=out/theirs --baseline theirs

    Settings of the design: title, question, introduction, consent, code, step, per_rater, training, catches,
    headphones, must_hear, show_text, max_raters, seed (docs/listening-tests.md).
    """
    from openvalle.config import override, read_mapping
    from openvalle.listening_test.build import Sound, Sources, build_study
    from openvalle.listening_test.study import Design

    values: dict[str, Any] = read_mapping(config) if config else {}
    values = {"kind": "cmos"} | values
    values |= {key: value for key, value in (("kind", kind), ("baseline", baseline)) if value}
    design = Design.parse(override(values, tuple(set_ or ())), "the design")
    folders = {name: expand_home(path) for name, path in opt.read_pairs(system, "--system", "NAME=FOLDER").items()}
    sources = Sources(folders, reference, read_texts(texts), only_common)
    sound = Sound(f".{ending.removeprefix('.')}", rate, not keep_level)
    with progress() as show:
        study = build_study(folder, design, sources, sound, show)
    print(folder)
    print(
        f"{len(study.items)} items, {len(study.comparisons)} trials to be judged, {study.per_rater} per rater; "
        f"next: openvalle listen serve {folder}",
        file=sys.stderr,
    )


@listen.command("serve")
def serve(
    folder: Folder,
    host: Annotated[str, typer.Option(help="127.0.0.1: this computer only; 0.0.0.0: everybody who can reach it.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8600,
) -> None:
    """Serve the test to raters' browsers until Ctrl-C; answers go to STUDY/answers.sqlite."""
    from openvalle.listening_test.server import ListeningServer

    with ListeningServer(folder, host, port) as server:
        print(server.url, flush=True)
        if host not in ("127.0.0.1", "localhost", "::1"):
            print("others can reach this test; for the internet put a proxy with TLS before it", file=sys.stderr)
        try:
            with stop.unwind_on_signal():
                server.serve_forever()
        except KeyboardInterrupt:
            print("stopped; every answer is kept", file=sys.stderr)


@listen.command("export")
def export(
    folder: Folder,
    target: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder to make.")],
    raters: Annotated[int, typer.Option(min=1, max=1000, help="Different schedules to include.")] = 24,
) -> None:
    """Write the test as plain files that any web space can hold; raters save a file and send it back."""
    from openvalle.listening_test.server import export_study

    print(export_study(folder, target, raters))


@listen.command("collect")
def collect(
    folder: Folder,
    answers: Annotated[list[Path] | None, typer.Argument(help="Files that raters sent back.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for results.json, results.md, scores.csv.")
    ] = None,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="KEY=VALUE",
            help="An exclusion rule: max_failed_catches, min_headphones, "
            "min_answers, min_seconds, constant, hidden_below, hidden_share; repeat it.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    as_json: opt.AsJson = False,
) -> None:
    """Compute the results of STUDY from served answers and from files, and print the table."""
    from openvalle.config import override
    from openvalle.listening_test.answers import Store, merge, read_submission
    from openvalle.listening_test.results import markdown, results, write_test_results
    from openvalle.listening_test.study import ANSWER_FILE, Exclusion, load_study

    study = load_study(folder)
    exclusion = Exclusion.parse(override({}, tuple(rules or ())), "the exclusion rules")
    submissions = []
    if (folder / ANSWER_FILE).is_file():
        store = Store(study, folder)
        submissions += store.submissions()
        store.close()
    submissions += [read_submission(study, path) for path in answers or []]
    everyone = merge(submissions)
    found = results(study, everyone, exclusion, seed)
    paths = write_test_results(output or folder / "results", study, everyone, found)
    print(json.dumps(found, ensure_ascii=False) if as_json else markdown(found), end="" if not as_json else "\n")
    for path in paths:
        print(path, file=sys.stderr)


def read_texts(path: Path | None) -> dict[str, str]:
    """Return the texts in a JSONL file by their ids."""
    if path is None:
        return {}
    try:
        return {str(row["id"]): str(row["text"]) for _, row in json_lines(read_given_text(path))}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} holds a line without id and text", 'write {"id": "a1", "text": "Hello."}') from None
