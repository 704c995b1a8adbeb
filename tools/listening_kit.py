"""Listening tests of the shipped model against an older one, ready to be taken (`make listening-kit`).

python tools/listening_kit.py [--old COMMIT|FOLDER] [--data FOLDER] [--items 20] [--out out/listening-kit]. Both models
say the same texts after the same prompts: those of `--data`, or the built-in voices, which belong to nobody. What
comes out: a test of naturalness (CMOS, old is the baseline) and one of the voices (SMOS), each to be served or, as
plain files, to be sent around. One seed, none chosen; no score is known before people have listened.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from listen_page import TEXTS
from safetensors.numpy import load

from openvalle import Synthesizer
from openvalle.audio import RATE, Audio, normalize
from openvalle.codec.load import load_codec
from openvalle.config import write_json_lines
from openvalle.errors import UserError
from openvalle.evaluate.build_list import ListSource, find_list
from openvalle.evaluate.protocols import protocol
from openvalle.files import atomic_folder
from openvalle.hub import BUILTIN, VOICE_SUFFIX, assets
from openvalle.listening_test.build import Sources, build_study
from openvalle.listening_test.server import export_study
from openvalle.listening_test.study import Design, TestKind
from openvalle.media import write
from openvalle.model.bundle import FILES, OWN
from openvalle.parallel import progress_bars
from openvalle.synth.voice import Voice
from openvalle.types import ENGLISH

ASSETS = "src/openvalle/assets"
WEIGHTS = f"{ASSETS}/model/ar.safetensors"
OLD, NEW = "old", "new"
PURPOSE = "a prompt of a listening test, used for this test only"  # noted as consent
INTRODUCTION = """You will hear short sentences that computers have spoken.

Use headphones in a quiet room. There are no right answers: say what you hear."""


@dataclass(frozen=True)
class Line:
    """A text to be said in the voice of a prompt."""

    id: str
    text: str
    prompt: Audio
    prompt_text: str


def older_model(given: str, folder: Path) -> Path:
    """Return the folder of the older model: `given`, or what git kept of a commit, written into `folder`.

    Without a commit it is the one before the weights became others. Its codec comes along: it sounded otherwise, too.
    """
    if given and Path(given).is_dir():
        return Path(given)
    commit = given or _last_other_model()
    for name in FILES:
        _write(folder / name, _git("show", f"{commit}:{ASSETS}/model/{name}"))
    for name in ("config.json", "model.safetensors"):
        _write(folder / OWN / name, _git("show", f"{commit}:{ASSETS}/codec/{name}"))
    return folder


def _last_other_model() -> str:
    for commit in _git("log", "--format=%H", "--", WEIGHTS).decode().split():
        if not _is_same(*(load(_git("show", f"{one}:{WEIGHTS}")) for one in (f"{commit}^", commit))):
            return f"{commit}^"
    raise UserError("git holds no such model (its weights were never others)", "give --old a model's folder")


def _is_same(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> bool:
    """Return True for weights that were only stored otherwise, such as in fewer bits: those kept as they were agree."""
    kept = [name for name in before.keys() & after.keys() if before[name].dtype == after[name].dtype]
    return bool(kept) and all(np.array_equal(before[name], after[name]) for name in kept)


def _git(*words: str) -> bytes:
    try:
        return subprocess.run(["git", *words], check=True, capture_output=True).stdout
    except FileNotFoundError:
        raise UserError("git is not installed", "give the older model's folder with --old") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(
            f"git holds no such model ({said[-1] if said else 'no commit'})",
            "give --old a commit or a model's folder; a clone of the last commit alone (--depth 1) has no older one",
        ) from None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def lines_of_corpus(data: Path, split: str | None, count: int, seed: int, kept: Path) -> list[Line]:
    """Return pairs of a prompt of 3 s and another text of its reader, readers in turn."""
    source = ListSource(data, split=split, limit=count, seed=seed)
    items = find_list(protocol("quick"), source, kept).items
    folders = source.folders()
    return [Line(item.id, item.text.lower(), item.prompt.load(folders), item.prompt.text) for item in items]


def lines_of_voices(count: int) -> list[Line]:
    """Return the English sentences of docs/listen.md, each in turn in another of the English built-in voices: older
    models know no other language."""
    codec = load_codec(BUILTIN)
    every = [Voice.load(path) for path in sorted((assets() / "voices").glob(f"*{VOICE_SUFFIX}"))]
    voices = [voice for voice in every if voice.language == ENGLISH]
    texts = [TEXTS[voice.name] for voice in voices]
    sounds = [codec.decode(torch.from_numpy(voice.codes.astype(np.int64))[None])[0].numpy() for voice in voices]
    pairs = [(text, (number + turn) % len(voices)) for turn in range(len(voices)) for number, text in enumerate(texts)]
    return [
        Line(f"{number:03d}-{voices[at].name}", text, normalize(Audio(sounds[at], RATE)), voices[at].text)
        for number, (text, at) in enumerate(pairs[:count])
    ]


def speak(synthesizer: Synthesizer, lines: Sequence[Line], folder: Path, seed: int) -> None:
    """Write what the model says of every line, ID.wav each."""
    folder.mkdir(parents=True)
    with progress_bars() as bar:
        for number, line in enumerate(bar.track(lines, description=f"speaking, {folder.name}")):
            voice = synthesizer.voice(line.prompt, line.prompt_text, consent=PURPOSE)
            write(folder / f"{line.id}.wav", synthesizer.say(line.text, voice=voice, seed=seed + number).audio)


def build(options: argparse.Namespace) -> None:
    """Write the kit into `options.out`, whole or not at all."""
    with atomic_folder(options.out) as part:
        old = older_model(options.old, part / "model")
        new = Synthesizer.load(BUILTIN)
        if options.data is None:
            lines = lines_of_voices(options.items)
        else:
            lines = lines_of_corpus(options.data, options.split, options.items, options.seed, part / "pairs.jsonl")
        clips = part / "clips"
        for line in lines:
            write(clips / "prompts" / f"{line.id}.wav", line.prompt)
        speak(new, lines, clips / NEW, options.seed)
        speak(Synthesizer.load(old), lines, clips / OLD, options.seed)
        write_json_lines(part / "texts.jsonl", [{"id": line.id, "text": line.text} for line in lines])
        systems = {name: clips / name for name in (NEW, OLD)}
        for kind, title in ((TestKind.CMOS, "How natural is it?"), (TestKind.SMOS, "Is it the same voice?")):
            design = Design(
                kind=kind,
                title=title,
                introduction=INTRODUCTION,
                baseline=OLD if kind is TestKind.CMOS else "",
                per_rater=options.per_rater,
                seed=options.seed,
            )
            reference = clips / "prompts" if kind is TestKind.SMOS else None
            sources = Sources(systems, reference, {line.id: line.text for line in lines})
            build_study(part / kind.value, design, sources)
            export_study(part / kind.value, part / f"{kind.value}-pages", options.raters)


def main() -> None:
    """Make the kit and say what to do with it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", default="", help="commit or folder of the older model (default: before the last one)")
    parser.add_argument("--data", type=Path, help="transcribed speech that gives prompts (default: built-in voices)")
    parser.add_argument("--split", help="part of --data, such as dev-clean")
    parser.add_argument("--items", type=int, default=20, help="pairs of prompt and text (default: %(default)s)")
    parser.add_argument("--per-rater", type=int, default=0, help="trials of one rater (default: all)")
    parser.add_argument("--raters", type=int, default=24, help="schedules among the plain files (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/listening-kit"), help="folder (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        if options.out.exists():
            raise UserError(f"{options.out} is there already", "remove it, or give another folder with --out")
        build(options)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(options.out)
    for kind in (TestKind.CMOS, TestKind.SMOS):
        folder = options.out / kind.value
        print(f"openvalle listen serve {folder}    # or send {folder}-pages; then: openvalle listen collect {folder}")


if __name__ == "__main__":
    main()
