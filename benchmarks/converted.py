"""Models of other projects: their code against ours, the same weights and inputs, greedy, one thread, one run.

Run: python benchmarks/converted.py --python INTERPRETER lifeiteng=FOLDER icefall=FOLDER enhuiz=FOLDER ...

FOLDER is a copy of the project's repository, INTERPRETER a Python with NumPy and torch that its code may use, and what
it needs besides: einops for enhuiz; transformers 4.41.2 and easydict for amphion-v2. Neither is part of this package.
Weights are random, of the published sizes. Both sides speak in turns, `--rounds` times: theirs, ours, theirs, ours.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

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

ROWS = {"lifeiteng": 512, "icefall": 5000, "amphion": 512, "plachtaa": 2048}
PAIRS = ("amphion-v2", "enhuiz")  # two networks in two files
DEPTHS = {"amphion-v2": 16}  # of the published models; the others have 12
LAYERS = ("decoder.layers.", "model.layers.", "blocks.", ".norm.project_layer.", ".norm.to_weight.")
SYMBOLS, ENROLLED, PROMPT = 4, 2, 225  # 3 s of prompt
FRAMES = 16 * SYMBOLS + 1  # where the code of lifeiteng/vall-e ends, which has no other limit; it counts a <BOS>, too


def make_weights(source: str, given: argparse.Namespace) -> list[dict[str, torch.Tensor]]:
    """Return weights of the published sizes, a dictionary for each file; none of them ends by itself.

    Layers are as strong as those of the small networks in the tests: stronger ones magnify rounding until it decides.
    """
    files = draw_weights(source, given)
    for weights in files:
        for name, value in weights.items():
            if value.ndim >= 2 and any(part in name for part in LAYERS):
                value *= math.sqrt(layouts.WIDTH / given.width)
    return files


def draw_weights(source: str, given: argparse.Namespace) -> list[dict[str, torch.Tensor]]:
    """Return weights as strong at every width."""
    layouts.DEPTH, layouts.HEADS = given.depth or DEPTHS.get(source, 12), given.heads
    sizes = {"width": given.width, "entries": 1024}
    if source == "amphion-v2":
        return [layouts.llama_weights(part, feedforward=4 * given.width, **sizes) for part in ("ar", "nar")]
    if source == "enhuiz":
        files = [layouts.enhuiz_weights(part, **sizes) for part in ("ar", "nar")]
        files[0]["classifier.bias"][-1] = -1e4
        return files
    is_vallex = source == "plachtaa"
    weights = layouts.valle_weights(text_rows=ROWS[source], bos=is_vallex, languages=3 * is_vallex, eos=-1.0, **sizes)
    return [weights]


def convert(source: str, weights: list[Path], heads: int, folder: Path) -> Converted:
    """Return the same weights as a model here."""
    symbols = folder / "symbols"
    first, last = (1, 60) if source == "enhuiz" else (0, ROWS.get(source, 4) - 4)
    lines = (f"s{number:04} {number}\n" for number in range(first, last + 1))
    symbols.write_text("".join(lines), encoding="utf-8")
    settings: dict[str, Any] = {{"amphion-v2": "heads", "enhuiz": "n_heads"}.get(source, "nhead"): heads}
    if source == "amphion":
        settings["text_extractor"] = "espeak"
    named = None if source in ("plachtaa", "amphion-v2") else symbols
    return find_source(source).convert(Given(tuple(map(read_weights, weights)), named, settings=settings))


def make_prompt(source: str, ids: np.ndarray, prompt: np.ndarray) -> SpeechPrompt:
    """Return the same inputs as our networks take them."""
    if source == "enhuiz":  # what the prompt says is not read there
        return SpeechPrompt(ids, 0, prompt, None, 0, 0)
    edge = int(source in ("lifeiteng", "icefall", "amphion"))  # <bos> and <eos> are among their ids
    language = int(source == "plachtaa")
    return SpeechPrompt(ids[edge : len(ids) - edge], ENROLLED - edge, prompt, None, language, language)


def speak(converted: Converted, spoken: SpeechPrompt, frames: int) -> tuple[np.ndarray, float]:
    """Return codes (T, Q) and the seconds of CPU time."""
    ar, nar = AR(converted.ar), NAR(converted.nar)
    ar.load_state_dict(converted.ar_state)
    nar.load_state_dict(converted.nar_state)
    engines = TorchAR(ar.eval()), TorchNAR(nar.eval())
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
        files = []
        for number, weights in enumerate(make_weights(source, given)):
            files.append(folder / f"weights-{number}.pt")
            torch.save({"model": weights} if len(files) == 1 and source in ROWS else weights, files[-1])
        rng = np.random.RandomState(0)
        ids = rng.randint(5, 60, SYMBOLS)
        if source in ("lifeiteng", "icefall", "amphion"):
            ids[0], ids[-1] = 1, 2  # <bos>, <eos>
        prompt = rng.randint(0, 1024, (PROMPT, 8))
        frames = FRAMES - (source == "plachtaa")
        sizes = {"width": given.width, "heads": given.heads, "depth": layouts.DEPTH, "frames": frames}
        np.savez(folder / "inputs.npz", ids=ids, prompt=prompt, enrolled=ENROLLED, **sizes)
        script = Path(__file__).with_name("converted_theirs.py")
        inside = [folder / "inputs.npz", folder / "outputs.npz", *files]
        converted, spoken = convert(source, files, given.heads, folder), make_prompt(source, ids, prompt)
        before, after = [], []
        for _ in range(given.rounds):
            quiet = {**os.environ, "TQDM_DISABLE": "1", "DOUBLE": "1" if given.double else ""}
            subprocess.run([given.python, script, source, code.resolve(), *inside], check=True, env=quiet)
            theirs = np.load(inside[1])
            before.append(float(theirs["seconds"]))
            codes, seconds = speak(converted, spoken, frames)
            after.append(seconds)
        if given.keep:
            np.savez(given.keep / f"{source}.npz", ids=ids, prompt=prompt, ours=codes, theirs=theirs["codes"])
    equal = compare_codes(codes, theirs["codes"])
    ratios = [f"{one / other:.2f}" for one, other in zip(before, after, strict=True)]
    seconds_of = [f"{np.median(values):.1f}" for values in (before, after)]
    return [
        source,
        str(len(codes)),
        *seconds_of,
        f"{np.median(before) / np.median(after):.1f}",
        " ".join(ratios),
        equal,
    ]


def compare_codes(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Return where two utterances (T, Q) differ first, in the order in which they were decoded."""
    if ours.shape != theirs.shape:
        return f"{theirs.shape[0]} frames there"
    for book in range(ours.shape[1]):
        if len(other := np.flatnonzero(ours[:, book] != theirs[:, book])):
            return f"differ from frame {other[0]} of codebook {book + 1} on"
    return "equal"


def use_double() -> None:
    """Reckon in float64: what asks for float32 gets it of whole numbers alone (positions, as on the other side)."""
    torch.set_default_dtype(torch.float64)
    as_float = torch.Tensor.float

    def keep_double(self: Any) -> Any:
        return self if self.dtype == torch.float64 else as_float(self)

    setattr(torch.Tensor, "float", keep_double)  # noqa: B010


def main() -> None:
    """Compare all sources that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("code", nargs="+", help="SOURCE=FOLDER: a copy of the project's repository")
    parser.add_argument("--python", default=sys.executable, help="interpreter that its code runs in")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--depth", type=int, help="layers; default: as published")
    parser.add_argument(
        "--double", action="store_true", help="in float64: are codes equal where rounding cannot matter?"
    )
    parser.add_argument("--rounds", type=int, default=1, help="how often each side speaks, in turns")
    parser.add_argument("--keep", type=Path, help="folder for the codes of both")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.double:
        use_double()
    report = Report(
        "converted", {"width": given.width, "depth": given.depth or "as published", "prompt frames": PROMPT}
    )
    named = [(source, Path(folder)) for source, _, folder in (pair.partition("=") for pair in given.code)]
    rows = [compare(source, folder, given) for source, folder in named]
    report.table(
        "Seconds of CPU time",
        ["weights", "frames", "their code", "here", "times as fast", "in each round", "codes"],
        rows,
    )
    report.values["rows"] = rows
    report.write(given.out)


if __name__ == "__main__":
    main()
