"""`openvalle evaluate RUN` and `openvalle report`: measure a model as the papers do, and compare two measurements.

`openvalle compare`: the same test list through several systems.

`openvalle spoofing`: an evaluation's speech as a data set for detectors of synthesised speech.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from openvalle.cli import options as opt
from openvalle.errors import UserError, find_choice
from openvalle.parallel import progress

if TYPE_CHECKING:
    from openvalle.evaluate.build_list import ListSource
    from openvalle.evaluate.protocols import Protocol
    from openvalle.evaluate.report import Report
    from openvalle.evaluate.run import EvaluationOptions
    from openvalle.evaluate.systems.config import SystemConfig

JudgeDevice = Annotated[str, Option(help="auto, cpu, cuda or mps, for our models and the recogniser.")]


@dataclass(frozen=True)
class Tests:
    """What is spoken."""

    data: Annotated[Path | None, Option(help="The corpus (default: $OPENVALLE_SPEECH).")] = None
    prompts: Annotated[Path | None, Option(help="The corpus of prompts in another language.")] = None
    split: Annotated[str | None, Option(help="The part of a manifest to use, such as dev-clean.")] = None
    limit: Annotated[int | None, Option(min=1, help="At most this many texts, speakers in turn.")] = None
    items: Annotated[Path | None, Option(help="A test list (items.jsonl) to use instead of drawing one.")] = None
    list_seed: Annotated[int, Option(help="Seed of the test list.")] = 0
    partial: Annotated[bool, Option("--partial", help="Allow an incomplete corpus; the report says so.")] = False

    def source(self) -> ListSource:
        """Return where the test list comes from."""
        from openvalle.evaluate.build_list import ListSource

        given = dict(vars(self))
        return ListSource(seed=given.pop("list_seed"), **given)


@dataclass(frozen=True)
class Judging:
    """Who judges what was spoken, and by which rules."""

    asr: Annotated[str, Option(help="whisper[:MODEL], pocketsphinx, hubert-large, transformers:M.")] = ""
    speaker: Annotated[str, Option(help="campplus[:PATH], resemblyzer, wavlm-sv[:MODEL] or unispeech:PATH.")] = ""
    normalizer: Annotated[
        str, Option(help="Text normaliser, of its language: plain-1, openvalle-en-1, -zh-1, -ja-1 or -ja-kana-1.")
    ] = ""
    utmos: Annotated[str, Option(help="Path of the UTMOS checkpoint.")] = ""

    def read(self, name: str) -> Protocol:
        """Return the protocol called `name`, with the judges that are given."""
        from openvalle.evaluate.protocols import protocol
        from openvalle.synth.normalizers import find_normalizer

        found = protocol(name)
        judges = found.judges.model_copy(update={key: value for key, value in vars(self).items() if value})
        find_normalizer(judges.normalizer)
        return found.model_copy(update={"judges": judges})


@dataclass(frozen=True)
class RunOptions:
    """How often each item is spoken, and by how many processes."""

    seeds: Annotated[str, Option(help="Seeds, as 0,1,2 (default: as many as the protocol asks for).")] = ""
    samples: Annotated[int, Option(min=1, help="Samples of each item and seed; 5 in VALL-E 2.")] = 1
    select: Annotated[str, Option(help="Which sample counts: sorted (VALL-E 2, eq. 23) or metric-wise.")] = ""
    jobs: Annotated[int, Option("--jobs", "-j", min=1, help="Processes that speak and judge.")] = 1
    fresh: Annotated[bool, Option("--fresh", help="Speak again what is there already.")] = False
    quiet: opt.Quiet = False

    def read(self, protocol: Protocol, out: Path, device: str) -> EvaluationOptions:
        """Return the options of a run; `UserError` for no seeds, and for samples without a rule that selects."""
        from openvalle.evaluate.protocols import Selection
        from openvalle.evaluate.run import EvaluationOptions

        try:
            seeds = tuple(dict.fromkeys(int(part) for part in self.seeds.split(",") if part.strip()))
        except ValueError:
            raise UserError(f"{self.seeds!r} are no seeds", "give whole numbers, as 0,1,2") from None
        if bool(self.select) != (self.samples > 1):
            raise UserError("--samples and --select go together", "give for example --samples 5 --select sorted")
        rule = find_choice(Selection, self.select, "rule") if self.select else None
        many: dict[str, Any] = {"workers": self.jobs, "jobs": self.jobs, "samples": self.samples, "select": rule}
        seeds = seeds or tuple(range(protocol.runs))
        return EvaluationOptions(out, seeds, device=device, fresh=self.fresh, quiet=self.quiet, **many)


def evaluate(
    *,
    run: Annotated[str, Argument(help="A model: its name or folder.")] = "builtin",
    protocol: Annotated[str, Option(help="How to measure; `list` shows the protocols.")] = "quick",
    tests: Tests,
    list_only: Annotated[bool, Option("--list-only", help="Write the test list and stop.")] = False,
    running: RunOptions,
    decode: Annotated[
        list[str] | None,
        Option(
            metavar="KEY=VALUE",
            help="Decode otherwise than the protocol: mode, attempts, detectors, windows, as_one, or an option of the "
            "model such as path_temperature or sampling.top_p. Again for more.",
        ),
    ] = None,
    judging: Judging,
    codec: Annotated[str | None, Option(help="A codec's name or folder (default: the model's).")] = None,
    adapter: opt.Adapter = None,
    device: JudgeDevice = "cpu",
    out: Annotated[Path | None, Option("--out", "-o", help="Folder (default: out/evaluate/PROTOCOL).")] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Measure a model: words, voice, quality, prosody, acoustics, cost, beside the recordings and the papers' figures.

    Writes rows, Markdown, JSON and a page with players. The same command goes on after any stop.
    """
    if protocol == "list":
        from openvalle.evaluate.protocols import protocols

        print("\n".join(f"{name:18} {entry.title}" for name, entry in protocols().items()))
        return
    from openvalle.evaluate.build_list import find_list

    chosen = judging.read(protocol)
    chosen = chosen.model_copy(update={"decoding": chosen.decoding.with_settings(decode or [])})
    folder = out or Path("out/evaluate") / protocol
    options = running.read(chosen, folder, device)
    source = tests.source()
    found = find_list(chosen, source, folder / "items.jsonl")
    if list_only:
        print(found.write(folder / "items.jsonl"))
        return
    from openvalle.engines.torch import choose_device
    from openvalle.evaluate.report_pages import save_report
    from openvalle.evaluate.run import evaluate as measure
    from openvalle.evaluate.systems.ours import build_model_candidate, load_model_codec

    device = str(choose_device(device))
    options = replace(options, device=device)
    ours = build_model_candidate(run, codec, device=device, decoding=chosen.decoding, adapter=adapter)
    report = measure(found, chosen, [ours], source.folders(), options, load_model_codec(run, codec))
    show_report(report, save_report(report, folder), as_json)


def report(
    first: Annotated[Path, Argument(help="Folder of a report.")],
    second: Annotated[Path | None, Argument(help="Another report on the same items, to compare.")] = None,
    system: Annotated[str, Option(help="The system of the first report to compare.")] = "synthesised",
    other: Annotated[str, Option(help="The system of the second report (default: the same).")] = "",
    as_json: opt.AsJson = False,
) -> None:
    """Show a report again, or compare two: differences with intervals and a paired test."""
    from openvalle.evaluate.report import compare_rules, load_report
    from openvalle.evaluate.report_pages import markdown_table
    from openvalle.evaluate.report_tables import comparison_table
    from openvalle.evaluate.results import compare

    one = load_report(first)
    if second is None:
        show_report(one, [], as_json)
        return
    two = load_report(second)
    if others := compare_rules(one, two):
        hint = "compare reports on the same test list (--items), judged by the same rules"
        raise UserError(f"{first} and {second} cannot be compared ({'; '.join(others)})", hint)
    found = compare(one.of(system), two.of(other or system))
    if not found:
        raise UserError(f"{first} and {second} have no item in common", "compare reports on the same test list")
    table = comparison_table(found, f"{first} {system}", f"{second} {other or system}")
    opt.print_result([asdict(item) for item in found], as_json, markdown_table(table))


def show_report(report: Report, paths: list[Path], as_json: bool) -> None:
    """Print the figures and where the files are."""
    from openvalle.evaluate.report_pages import markdown_table
    from openvalle.evaluate.report_tables import SETTINGS, tables

    if not as_json:
        for warning in report.warnings():
            print(f"warning: {warning}", file=sys.stderr)
    shown = [table for table in tables(report) if table.title != SETTINGS]  # they are in the files
    opt.print_result(report.as_dict(), as_json, [*("\n".join(markdown_table(table)) + "\n" for table in shown), *paths])


def compare(
    *,
    systems: Annotated[Path | None, Argument(help="YAML or JSON file with systems (docs/compare.md).")] = None,
    system: Annotated[
        list[str] | None,
        Option("--system", "-s", metavar="NAME=KIND:VALUE", help="Such as ours=model:builtin, clips=folder:PATH."),
    ] = None,
    protocol: Annotated[str, Option(help="How to measure; `openvalle evaluate --protocol list`.")] = "quick",
    tests: Tests,
    running: RunOptions,
    retry: Annotated[bool, Option("--retry", help="Try again what failed in an earlier run.")] = False,
    judging: Judging,
    accent: Annotated[
        list[str] | None,
        Option(help="Let each model of ours speak once with each accent (native, foreign, none); again for more."),
    ] = None,
    adapter: Annotated[
        list[Path] | None,
        Option(help="Let each model of ours speak once more with what `openvalle finetune` made; again for more."),
    ] = None,
    codec: Annotated[str, Option(help="A codec for the reconstructed row; none leaves it out.")] = "builtin",
    device: JudgeDevice = "cpu",
    out: Annotated[Path, Option("--out", "-o", help="Folder of the report.")] = Path("out/compare"),
    as_json: opt.AsJson = False,
) -> None:
    """Send one test list through every system and measure all with the same judges.

    openvalle compare systems.yaml -s ours=model:builtin --data LibriSpeech --limit 20

    What a system cannot say counts as a failure and is shown. Each system is compared with the first, pair by pair:
    with --accent native --accent foreign the accents of a model, with --adapter anna a model before and after.
    """
    from openvalle.codec.load import load_codec
    from openvalle.evaluate.build_list import find_list
    from openvalle.evaluate.report_pages import markdown_table, save_report
    from openvalle.evaluate.report_tables import comparison_table
    from openvalle.evaluate.results import compare as compare_rows
    from openvalle.evaluate.run import evaluate as measure
    from openvalle.evaluate.systems.config import build_candidate, forget_failures

    chosen = judging.read(protocol)
    options = running.read(chosen, out, device)
    given = with_accents(with_adapters(read_systems(systems, system), adapter or []), accent or [])
    candidates = [build_candidate(name, config, device, chosen.decoding) for name, config in given.items()]
    source = tests.source()
    found = find_list(chosen, source, out / "items.jsonl")
    if retry:
        for candidate in candidates:
            forget_failures(out, candidate.name)
    options = replace(options, players=len(found.items))
    spoken_through = None if codec == "none" else load_codec(codec)
    report = measure(found, chosen, candidates, source.folders(), options, spoken_through)
    show_report(report, save_report(report, out), as_json)
    for name in report.systems:
        if failed := [row for row in report.of(name) if row.failed]:
            some = "; ".join(f"{row.item}: {row.error}" for row in failed[:3])
            print(f"{name} failed on {len(failed)} of {len(report.of(name))}: {some}", file=sys.stderr)
    if not as_json:
        first, *others = [candidate.name for candidate in candidates]
        for name in others:
            if differences := compare_rows(report.of(first), report.of(name)):
                table = comparison_table(differences, first, name)
                print("\n".join(markdown_table(table)), end="\n\n")


def read_systems(path: Path | None, short: list[str] | None) -> dict[str, SystemConfig]:
    """Return the systems of the file and of the options, by name."""
    from openvalle.evaluate.systems import config

    found = config.read_systems(path) if path else {}
    for name, system in map(config.short_system, short or ()):
        if name in found:
            raise UserError(f"the system {name!r} is there twice", "give every system its own name")
        found[name] = system
    if not found:
        raise UserError("there are no systems to compare", "give a file, or --system NAME=KIND:VALUE")
    return found


def with_adapters(systems: dict[str, SystemConfig], adapters: list[Path]) -> dict[str, SystemConfig]:
    """Return the systems, and each model of ours that has no adapter once more with each of these, called
    `NAME+ADAPTER` by its folder."""
    from openvalle.evaluate.systems.config import parse_system
    from openvalle.evaluate.systems.ours import ModelConfig
    from openvalle.model.adapter import ADAPTER_FILE

    found: dict[str, SystemConfig] = {}
    for name, config in systems.items():
        found[name] = config
        if not isinstance(config, ModelConfig) or config.adapter is not None:
            continue
        for place in adapters:
            folder = place.resolve().parent if place.name == ADAPTER_FILE else place.resolve()
            longer = f"{name}+{folder.stem}"
            if longer in found or longer in systems:
                raise UserError(f"two systems would be called {longer!r}", "give each adapter a folder of its own name")
            found[longer] = parse_system(longer, config.model_dump() | {"adapter": str(place)})
    return found


def with_accents(systems: dict[str, SystemConfig], accents: list[str]) -> dict[str, SystemConfig]:
    """Return each model of ours once for each accent, called `NAME accent`; other systems as they are."""
    from openvalle.evaluate.systems.ours import ModelConfig

    found: dict[str, SystemConfig] = {}
    for name, config in systems.items():
        if not accents or not isinstance(config, ModelConfig):
            found[name] = config
            continue
        for accent in accents:
            chosen = {"decode": (*config.decode, f"accent={accent}")}
            found[f"{name} {accent}"] = config.model_copy(update=chosen)
    return found


def spoofing(
    *,
    report: Annotated[Path, Argument(help="Folder that `openvalle evaluate` or `openvalle compare` wrote.")],
    target: Annotated[Path, Argument(metavar="FOLDER", help="The folder to make.")],
    layout: Annotated[str, Option(help="2019 (ASVspoof 2019 LA) or 5 (ASVspoof 5, track 1).")] = "2019",
    train: Annotated[float, Option(min=0, max=1, help="Share of the speakers for training.")] = 0.0,
    dev: Annotated[float, Option(min=0, max=1, help="Share of the speakers for development.")] = 0.0,
    prefix: Annotated[str, Option(help="What folders and protocol files begin with.")] = "openvalle",
    without: Annotated[list[str] | None, Option(help="A system to leave out; repeat it.")] = None,
    seed: Annotated[int, Option(min=0, help="Of the order and of the parts.")] = 0,
) -> None:
    """Write genuine and synthesised speech with protocol files in ASVspoof's layout, speakers parted.

    Speech of openvalle carries a watermark: a detector may learn the mark and not the synthesis (docs/compare.md).
    """
    from openvalle.evaluate.spoofing import Layout, SplitShares, export_spoofing

    chosen = find_choice(Layout, layout, "layout")
    if not prefix or "/" in prefix or "\\" in prefix or prefix.startswith("."):
        raise UserError(f"{prefix!r} cannot begin a file's name", "use letters and digits")
    parts = SplitShares(train, dev)
    with progress() as show:
        counts = export_spoofing(report, target, chosen, parts, prefix, without or (), seed, progress=show)
    print(target)
    print(", ".join(f"{count} {name}" for name, count in counts.items()), file=sys.stderr)
