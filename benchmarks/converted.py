"""Models of other projects: their code against ours, the same weights and inputs, greedy, one thread, one run.

Run: python benchmarks/converted.py --python INTERPRETER lifeiteng=FOLDER icefall=FOLDER plachtaa=FOLDER

FOLDER is a copy of the project's repository, INTERPRETER a Python with NumPy and torch that its code may use; neither
is part of this package. Weights are random, of the published sizes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import checkpoint_layouts as layouts
from openvalle.convert.base import Converted, Given
from openvalle.convert.convert import find_source
from openvalle.convert.weights import read_weights
from openvalle.decode.ar import AROptions, Draw, generate
from openvalle.decode.nar import fill
from openvalle.decode.prompt import Accent, SpeechPrompt
from openvalle.engines.torch import TorchAR, TorchNAR
from openvalle.model.ar import AR
from openvalle.model.nar import NAR
from report import Report

ROWS = {"lifeiteng": 512, "icefall": 5000, "plachtaa": 2048}
SYMBOLS, ENROLLED, PROMPT = 4, 2, 225  # their text of N symbols ends after 16 N frames at most; 3 s of prompt


def make_weights(source: str, given: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Return weights of the published sizes."""
    layouts.DEPTH = given.depth
    is_vallex = source == "plachtaa"
    return layouts.valle_weights(
        width=given.width, text_rows=ROWS[source], entries=1024, bos=is_vallex, languages=3 * is_vallex, eos=-1.0
    )


def convert(source: str, weights: Path, heads: int, folder: Path) -> Converted:
    """Return the same weights as a model here."""
    symbols = None
    if source != "plachtaa":
        symbols = folder / "symbols"
        symbols.write_text("".join(f"s{number:04} {number}\n" for number in range(ROWS[source] - 3)), encoding="utf-8")
    return find_source(source).convert(Given((read_weights(weights),), symbols, settings={"nhead": heads}))


def speak(converted: Converted, ids: np.ndarray, prompt: np.ndarray, frames: int) -> tuple[np.ndarray, float]:
    """Return codes (T, Q) and the seconds of CPU time."""
    ar, nar = AR(converted.ar), NAR(converted.nar)
    ar.load_state_dict(converted.ar_state)
    nar.load_state_dict(converted.nar_state)
    engines = TorchAR(ar.eval()), TorchNAR(nar.eval())
    edge = int(converted.ar.text_bos)
    language = 1 if converted.ar.languages else 0
    spoken = SpeechPrompt(ids[edge : len(ids) - edge], ENROLLED - edge, prompt, None, language, language)
    options = AROptions.parse(
        {**converted.generation, "most_frames": 999.0, "watch": {"ends": False, "loop_frames": 0}}
    )
    sampling = options.sampling.model_copy(update={"temperature": 0.0})
    options = options.model_copy(update={"sampling": sampling, "limit_frames": frames})
    started = time.process_time()
    first = generate(engines[0], [Draw(spoken.ar(converted.ar), options, 0)])[0].codes
    codes = fill(engines[1], [spoken.nar(converted.ar, Accent.NATIVE, first)])[0]
    return codes, time.process_time() - started


def compare(source: str, code: Path, given: argparse.Namespace) -> list[str]:
    """Return a row of the table."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        torch.save({"model": make_weights(source, given)}, folder / "weights.pt")
        rng = np.random.RandomState(0)
        ids = rng.randint(5, 60, SYMBOLS)
        if source != "plachtaa":
            ids[0], ids[-1] = 1, 2  # <bos>, <eos>
        prompt = rng.randint(0, 1024, (PROMPT, 8))
        sizes = {"width": given.width, "heads": given.heads, "depth": given.depth}
        np.savez(folder / "inputs.npz", ids=ids, prompt=prompt, enrolled=ENROLLED, **sizes)
        files = [folder / name for name in ("weights.pt", "inputs.npz", "outputs.npz")]
        script = Path(__file__).with_name("converted_theirs.py")
        subprocess.run([given.python, script, source, code.resolve(), *files], check=True)
        theirs = np.load(files[2])
        codes, seconds = speak(convert(source, files[0], given.heads, folder), ids, prompt, len(theirs["codes"]))
    equal = "equal" if np.array_equal(codes, theirs["codes"]) else "NOT EQUAL"
    before = float(theirs["seconds"])
    return [source, str(len(codes)), f"{before:.1f}", f"{seconds:.1f}", f"{before / seconds:.1f}", equal]


def main() -> None:
    """Compare all sources that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("code", nargs="+", help="SOURCE=FOLDER: a copy of the project's repository")
    parser.add_argument("--python", default=sys.executable, help="interpreter that its code runs in")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    report = Report("converted", {"width": given.width, "depth": given.depth, "prompt frames": PROMPT})
    named = [(source, Path(folder)) for source, _, folder in (pair.partition("=") for pair in given.code)]
    rows = [compare(source, folder, given) for source, folder in named]
    report.table("Seconds of CPU time", ["weights", "frames", "their code", "here", "times as fast", "codes"], rows)
    report.values["rows"] = rows
    report.write(given.out)


if __name__ == "__main__":
    main()
