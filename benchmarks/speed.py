"""How fast each engine speaks here: from a cold start, warm, to the first block, many at once, at the papers' size.

Run: make bench-speed (ARGS="--python INTERPRETER --peer plachtaa=FOLDER" for other projects' code, see converted.py).
Takes about six minutes. Everything computes on one thread, in processes of its own; every figure is the least of some
runs. It says how busy the machine was: on one that others use, only ratios of this run mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from command import run
from openvalle.engines.choose import choose_engine, name_processor
from openvalle.hub import assets
from openvalle.model.bundle import read_description
from peers import peers
from report import Report
from speed_paper import PRECISIONS, PROMPT, SHAPE, SYMBOLS
from threads import used_by_others

SHORT = "Hello there."
LINE = "The quick brown fox jumps over the lazy dog, and the judge said nothing at all about it."
LINES = tuple(f"{number}, {LINE}" for number in ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight"))
ENGINES = ("torch", "onnx-fp32", "onnx-int8")
PAPER, GRAPHS = (Path(__file__).with_name(name) for name in ("speed_paper.py", "speed_graphs.py"))
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
WANTED = {  # the figures of the engine that `auto` takes
    "cold say, CPU s": 1.2,
    "cold say, memory MB": 250.0,
    "CPU s per s of sound": 0.12,
    "of which the watermark": 0.03,
    "first block of stream, s": 0.25,
}


def timed(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float, float]:
    """Return seconds of wall time and of CPU, and the most memory in MB, of a command."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, env={**os.environ, **ONE_THREAD, **environment}, stdout=subprocess.DEVNULL
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"this failed: {' '.join(command)}")
    most = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, most


def measure_cold(engine: str, repeats: int) -> dict[str, float]:
    """Return what `say` of two words takes from its start to its file, and how much memory.

    Modules are compiled once, as pip does when it installs them, wherever Python may not write that.
    """
    with tempfile.TemporaryDirectory() as folder:
        compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder}
        command = [sys.executable, "-m", "openvalle", "say", SHORT, "--quiet", "-o", f"{folder}/x.wav"]
        found = [timed([*command, "--engine", engine], compiled) for _ in range(repeats + 1)][1:]
    return {"wall": min(each[0] for each in found), "cpu": min(each[1] for each in found), "mb": found[0][2]}


def speak(engine: str, repeats: int) -> None:
    """The child: print what a loaded synthesizer takes, as JSON."""
    from openvalle import Synthesizer

    tts = Synthesizer.load(engine=engine)
    tts.say(SHORT)
    assert tts.marker is not None
    found: dict[str, Any] = {"engine": engine, "cpu": [], "mark": [], "first": [], "ar": [], "nar": [], "codec": []}
    parts = {"ar": (tts.generator.ar, ("prefill", "step")), "nar": (tts.generator.nar, ("predict",))}
    for seed in range(repeats):
        spent = {name: count_seconds(part, names) for name, (part, names) in parts.items()}
        spent["mark"] = count_seconds(tts.marker, ("mark",))
        before = time.process_time()
        speech = tts.say(LINE, seed=seed)
        found["cpu"].append((time.process_time() - before) / speech.seconds)
        for name, restore in spent.items():
            found[name].append(restore() / speech.seconds)
        before = time.process_time()
        tts.generator.decode(speech.codes)
        found["codec"].append((time.process_time() - before) / speech.seconds)
        started = time.perf_counter()
        block = next(tts.stream(LINE, seed=seed))
        found["first"].append(time.perf_counter() - started)
        found["first seconds"] = block.audio.seconds
    before = time.process_time()
    alone = [tts.say(line, seed=1) for line in LINES]
    between = time.process_time()
    together = tts.say_batch(LINES, seed=1)
    after = time.process_time()
    found["same"] = all(np.array_equal(a.codes, b.codes) for a, b in zip(alone, together, strict=True))
    found["gain"] = (between - before) / (after - between)
    print(json.dumps(found))


def count_seconds(part: Any, names: Sequence[str]) -> Callable[[], float]:
    """Count the CPU seconds that methods of an object take; return what gives the sum and takes the count away."""
    spent, kind = [0.0], type(part)
    own = {name: getattr(kind, name) for name in names}

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            before = time.process_time()
            try:
                return method(*given)
            finally:
                spent[0] += time.process_time() - before

        return call

    for name, method in own.items():
        setattr(kind, name, counted(method))

    def restore() -> float:
        for name, method in own.items():
            setattr(kind, name, method)
        return spent[0]

    return restore


def ask(*command: str) -> dict[str, Any]:
    """Return what a child prints as JSON."""
    done = subprocess.run([sys.executable, *command], env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_builtin(options: argparse.Namespace, report: Report) -> dict[str, float]:
    """Add the tables of the built-in model; return the figures of the engine that `auto` takes."""
    auto = str(choose_engine(read_description(assets() / "model"))).replace("onnx ", "onnx-").removesuffix("-7bit")
    rows, shares = [], []
    figures: dict[str, float] = {}
    for engine in [name for name in ENGINES if name != "torch" or find_spec("torch")]:
        cold, warm = measure_cold(engine, 3), ask(__file__, "--child", engine, "--repeats", str(options.repeats))
        least = {name: min(warm[name]) for name in ("cpu", "mark", "first", "ar", "nar", "codec")}
        own = [cold["cpu"], cold["mb"], least["cpu"], least["mark"], least["first"]]
        cells = [f"{cold['wall']:.2f}", f"{own[0]:.2f}", f"{own[1]:.0f}", f"{own[2]:.3f}", f"{own[4]:.2f}"]
        batch = f"{warm['gain']:.2f}{'' if warm['same'] else ' (OTHER CODES)'}"
        rows.append([f"{engine}{' (auto)' if engine == auto else ''}", *cells, f"{warm['first seconds']:.2f}", batch])
        rest = least["cpu"] - sum(least[name] for name in ("ar", "nar", "codec", "mark"))
        shares.append([engine, *(f"{least[name]:.3f}" for name in ("ar", "nar", "codec", "mark")), f"{rest:.3f}"])
        report.values[engine] = {"cold": cold, "warm": warm}
        if engine == auto:
            figures = dict(zip(WANTED, own, strict=True))
    columns = ["", "cold say, wall s", "CPU s", "memory MB", "CPU s per s of sound", "first block after s"]
    report.table("The built-in model", [*columns, "which lasts s", "8 lines at once / one by one"], rows)
    columns = ["", "AR", "NAR", "codec", "watermark", "the rest"]
    report.table("CPU seconds per second of sound", columns, shares)
    return figures


def measure_paper(options: argparse.Namespace, report: Report) -> None:
    """Add the tables of networks of the papers' size."""
    rows, whole = [], []
    for precision in PRECISIONS:
        steps = ask(str(PAPER), "ar", precision.value, "--steps", str(options.steps))
        cells = [f"{1000 * steps['one']:.1f}", f"{steps['share']:.2f}", f"{1000 * steps['eight']:.1f}"]
        rows.append([precision.value, *cells, f"{steps['gain']:.1f}", f"{steps['bandwidth'] / 1e9:.1f}"])
        parts = ask(str(PAPER), "whole", precision.value, "--steps", str(options.steps))
        whole.append([precision.value, *(f"{parts[name]:.2f}" for name in ("ar", "nar", "codec", "rtf"))])
        report.values[f"paper {precision.value}"] = {"steps": steps, "whole": parts}
    columns = ["", "AR step ms", "share of the memory limit", "8 rows ms", "times tokens/s", "memory GB/s"]
    report.table("12 layers of 1024, random weights, after 161 symbols and 3 s of prompt", columns, rows)
    columns = ["", "AR", "NAR", "codec", "real-time factor"]
    report.table("The same with G = 2, seven NAR passes over 10 s, and the built-in codec", columns, whole)


def measure_graphs(options: argparse.Namespace, report: Report) -> None:
    """Add the tables of a GPU, where torch finds one: as the networks are written against CUDA graphs."""
    if not find_spec("torch"):
        return
    import torch

    if not torch.cuda.is_available():
        print("no table of CUDA graphs: torch finds no GPU", file=sys.stderr)
        return
    found = ask(str(GRAPHS), "cuda", "--steps", str(options.steps), "--repeats", str(options.repeats))
    rows = [
        [str(count), f"{eager:.0f}", f"{static:.0f}", f"{static / eager:.2f}", "yes" if captured else "NO"]
        for count, eager, static, captured in found["steps"]
    ]
    columns = ["rows", "steps a second, eager", "graphs", "times", "captured"]
    report.table(f"12 layers of 1024 on {found['name']}", columns, rows)
    rows = [[way, f"{each['rtf']:.4f}", f"{each['first']:.3f}"] for way, each in found["whole"].items()]
    report.table(f"The built-in model on {found['name']}", ["", "real-time factor", "first block after s"], rows)
    report.values["graphs"] = found


def measure_peers(options: argparse.Namespace, report: Report) -> None:
    """Add the tables of other systems that are installed or given."""
    from openvalle.audio import RATE, Audio
    from openvalle.evaluate.test_list import CorpusExcerpt, TestItem

    found, notes = peers(options.kokoro)
    said = CorpusExcerpt("speed", "", LINE, "")
    item, silence = TestItem("speed", LINE, said, said), Audio(np.zeros(RATE, np.float32), RATE)
    rows = []
    for candidate in found:
        system = candidate.build()
        outputs = [system.say(item, silence, 0) for _ in range(3)]
        rows.append([candidate.name, f"{min(each.seconds / each.audio.seconds for each in outputs):.3f}"])
    if piper := measure_piper(options.piper):
        rows.append(["Piper", f"{piper:.3f}"])
    else:
        notes.append("no row for Piper: install piper-tts and give --piper VOICE.onnx")
    if rows:
        report.table(
            "Other systems, seconds of wall time per second of sound (with their start, programs)", ["", "s"], rows
        )
    report.values["peers"] = rows
    for note in notes:
        print(note, file=sys.stderr)


def measure_piper(voice: Path | None) -> float | None:
    """Return seconds per second of sound of Piper (piper-tts, GPL-3) with a voice's file; None without either."""
    if voice is None or find_spec("piper") is None:
        return None
    from piper import PiperVoice  # type: ignore[import-not-found]

    loaded, found = PiperVoice.load(str(voice)), []
    for _ in range(3):
        started = time.perf_counter()
        chunks = list(loaded.synthesize(LINE))
        seconds = sum(len(chunk.audio_int16_array) / chunk.sample_rate for chunk in chunks)
        found.append((time.perf_counter() - started) / seconds)
    return min(found)


def measure_projects(options: argparse.Namespace, report: Report) -> None:
    """Add codebook 1 of the papers' size by other projects' code, beside each engine here; both after the same text and
    3 s of prompt, on one thread."""
    rows = []
    for name, _, folder in (pair.partition("=") for pair in options.peer):
        with tempfile.TemporaryDirectory() as place:
            inputs, outputs = Path(place, "inputs.npz"), Path(place, "outputs.npz")
            write_inputs(name, inputs)
            script = Path(__file__).with_name("converted_theirs.py")
            command = [options.python, str(script), name, str(Path(folder).resolve()), str(inputs), str(outputs)]
            subprocess.run(command, env=os.environ | ONE_THREAD, check=True)
            theirs = read_seconds(outputs)
        ours = [report.values[f"paper {each.value}"]["steps"]["one"] for each in PRECISIONS]
        rows.append([name, f"{1000 * theirs:.1f}", *(f"{theirs / own:.2f}" for own in ours)])
    if rows:
        columns = ["", "ms a step (CPU)", *(f"/ {each.value} here" for each in PRECISIONS)]
        report.table("The AR model of the papers' size by other projects' code", columns, rows)


def write_inputs(source: str, path: Path) -> None:
    """Write what `converted_theirs.py` reads: as long a text as in `speed_paper.py`, 3 s of prompt, no NAR model."""
    ids = np.random.RandomState(0).randint(5, 60, SYMBOLS // 10)  # their speech ends after 16 frames a symbol at most
    if source != "plachtaa":
        ids[0], ids[-1] = 1, 2  # <bos>, <eos>
    prompt = np.random.RandomState(0).randint(0, 1024, (PROMPT, 8))
    sizes = {"width": SHAPE.width, "heads": SHAPE.heads, "depth": SHAPE.depth, "quantizers": 1}
    arrays: dict[str, Any] = {"ids": ids, "prompt": prompt, "enrolled": len(ids) - 4, **sizes}
    np.savez(path, **arrays)


def read_seconds(path: Path) -> float:
    """Return the seconds of a step in what `converted_theirs.py` wrote."""
    with np.load(path) as found:
        return float(found["seconds"]) / len(found["codes"])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/bench-speed"))
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="steps of the papers' size (default: %(default)s)")
    parser.add_argument("--kokoro", type=Path, help="folder of Kokoro's voices")
    parser.add_argument("--piper", type=Path, help="a voice of Piper, VOICE.onnx")
    parser.add_argument("--peer", nargs="*", default=[], metavar="SOURCE=FOLDER", help="lifeiteng=..., plachtaa=...")
    parser.add_argument("--python", default=sys.executable, help="interpreter that other projects' code runs in")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        speak(options.child, options.repeats)
        return
    others = used_by_others()
    settings = {"processor": name_processor(), "system": platform.platform(), "cores others use": f"{others:.1f}"}
    report = Report("speed", settings)
    figures = measure_builtin(options, report)
    measure_paper(options, report)
    measure_graphs(options, report)
    measure_projects(options, report)
    measure_peers(options, report)
    report.settings["load at the end"] = "{:.1f}, {:.1f}, {:.1f}".format(*os.getloadavg())
    report.targets([(what, figures[what], f"<= {most:g}", figures[what] <= most) for what, most in WANTED.items()])
    if others > 0.2:
        print(f"others use {others:.1f} cores: only ratios of this run mean something", file=sys.stderr)
    print("wrote", *report.write(options.out))


if __name__ == "__main__":
    run(main)
