"""Speech editing on unseen speakers: a word of a recording replaced, beside the same text synthesised whole.

Run: make bench-edit (ARGS="--data FOLDER"). By Whisper base and CAM++ where they are installed. Prints tables, writes
JSON, Markdown and the edited clips to --out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from command import parser, run
from judged import Clip, JudgedClip, error_rate, judge, judges_here, mean
from openvalle.audio import Audio
from openvalle.errors import AudioError, UserError
from openvalle.evaluate.corpus import CorpusUtterance, choose, read_corpus
from openvalle.statistics import Estimate
from openvalle.synth.edit import Edit, EditedRecording, EditKind, edit
from report import Report

if TYPE_CHECKING:
    from openvalle.synth.synthesizer import Synthesizer

SECONDS = (4.0, 10.0)  # of the recordings
LEAST_LETTERS = 4  # of a word that is replaced and of the one that replaces it
WITHIN = 0.05  # of the word error rate of the same text synthesised whole
ROWS = ("original", "edited", "synthesised whole")
COLUMNS = ["", "WER %", "new word heard %", "similarity", "OVRL", "seconds"]


@dataclass(frozen=True)
class Replacement:
    """A recording and the word to replace in it."""

    source: CorpusUtterance
    old: str
    new: str


@dataclass(frozen=True)
class Done:
    """An edited recording, the same text spoken whole, and whether every other sample stayed."""

    request: Replacement
    edited: EditedRecording
    whole: Audio
    untouched: bool
    took: float


def make_tasks(utterances: Sequence[CorpusUtterance], count: int, seed: int) -> list[Replacement]:
    """Return up to `count` recordings, each with a word inside it that occurs once, and another speaker's word."""
    low, high = SECONDS
    chosen = choose([item for item in utterances if low <= item.seconds <= high], len(utterances), seed)
    rng = np.random.default_rng(seed)
    pool = sorted({word for item in chosen for word in item.text.lower().split() if usable(word)})
    requests: list[Replacement] = []
    for source in chosen:
        words = source.text.lower().split()
        inner = [word for word in words[1:-1] if usable(word) and words.count(word) == 1]
        if len(requests) == count or not inner:
            continue
        old = inner[rng.integers(len(inner))]
        alike = [word for word in pool if word not in words and abs(len(word) - len(old)) <= 1]
        if alike:
            requests.append(Replacement(source, old, alike[rng.integers(len(alike))]))
    return requests


def usable(word: str) -> bool:
    """Return True for a word of letters that is long enough to be heard."""
    return word.isalpha() and len(word) >= LEAST_LETTERS


def work(synthesizer: Synthesizer, requests: Sequence[Replacement], options: Any) -> list[Done]:
    """Edit every recording and speak its new text whole, with the recording as the voice."""
    done = []
    for number, request in enumerate(track(requests, "editing", console=Console(stderr=True))):
        audio, text = request.source.audio(), request.source.text.lower()
        started = time.perf_counter()
        try:
            change = Edit(EditKind.REPLACE, request.old, request.new)
            best = edit(synthesizer, audio, [change], text, options.seed + number, candidates=options.candidates)[0]
        except AudioError as error:
            logging.getLogger("bench").warning("%s is left out: %s", request.source.id, error)
            continue
        took = time.perf_counter() - started
        voice = synthesizer.voice(audio, text)
        whole = synthesizer.say(best.text, voice, seed=options.seed + number, candidates=options.candidates)
        best.clip.save(options.out / f"{request.source.id}-edited.wav")
        whole.save(options.out / f"{request.source.id}-whole.wav")
        done.append(Done(request, best, whole.audio, is_untouched(audio, best), took))
    return done


def is_untouched(before: Audio, after: EditedRecording) -> bool:
    """Return True if every sample outside the splices is the recording's own."""
    frames, old = after.clip.frames[:, 0], before.samples
    (splice,) = after.splices
    first = np.array_equal(frames[: splice.new_start], old[: splice.start])
    return first and np.array_equal(frames[splice.new_end :], old[splice.end :])


def measure(done: Sequence[Done], options: Any) -> tuple[dict[str, dict[str, Estimate]], list[dict[str, Any]]]:
    """Return the figures of each row, and what is known of each recording."""
    originals = [item.request.source.audio() for item in done]
    sounds = {
        ROWS[0]: [Clip(audio, item.request.source.text) for audio, item in zip(originals, done, strict=True)],
        ROWS[1]: [Clip(item.edited.clip.mono(), item.edited.text) for item in done],
        ROWS[2]: [Clip(item.whole, item.edited.text) for item in done],
    }
    judged = judge([clip for clips in sounds.values() for clip in clips], options, judges_here()[0][0])
    found = {name: judged[at * len(done) : (at + 1) * len(done)] for at, name in enumerate(ROWS)}
    figures = {name: summarize(found[name], found[ROWS[0]], sounds[name], done, name) for name in ROWS}
    each = [
        {
            "id": item.request.source.id,
            "old": item.request.old,
            "new": item.request.new,
            "untouched": item.untouched,
            "span_seconds": item.edited.as_dict()["spans"][0],
            "quality": [quality.as_dict() for quality in item.edited.quality],
            "wer": edited.errors.rate,
            "wer_whole": whole.errors.rate,
            "heard": edited["words"],
            "took": item.took,
        }
        for item, edited, whole in zip(done, found[ROWS[1]], found[ROWS[2]], strict=True)
    ]
    return figures, each


def summarize(
    found: Sequence[JudgedClip],
    originals: Sequence[JudgedClip],
    clips: Sequence[Clip],
    done: Sequence[Done],
    name: str,
) -> dict[str, Estimate]:
    """Return the figures of one row."""
    wanted = [item.request.old if name == ROWS[0] else item.request.new for item in done]
    heard = [float(word in item["words"].lower().split()) for word, item in zip(wanted, found, strict=True)]
    return {
        "wer": error_rate([item.errors for item in found]),
        "word": mean(heard),
        "similarity": mean([item.likeness(other) for item, other in zip(found, originals, strict=True)]),
        "overall": mean([item["quality"].overall for item in found]),
        "seconds": mean([clip.audio.seconds for clip in clips]),
    }


def tell(done: Sequence[Done], settings: dict[str, Any], options: Any) -> Report:
    """Judge all clips and return the report."""
    figures, each = measure(done, options)
    report = Report(
        "edit", settings | {"judges": judges_here()[0][0].model_dump(), "intervals": "95 % bootstrap over recordings"}
    )
    keys = (("wer", True), ("word", True), ("similarity", False), ("overall", False))
    rows = [
        [name, *(values[key].text(percent=share) for key, share in keys), f"{values['seconds'].value:.1f}"]
        for name, values in figures.items()
    ]
    report.table(f"{len(done)} recordings, one word replaced in each", COLUMNS, rows)
    report.values |= {
        "rows": {name: {key: vars(figure) for key, figure in values.items()} for name, values in figures.items()},
        "each": each,
    }
    untouched = float(np.mean([item.untouched for item in done]))
    apart = figures[ROWS[1]]["wer"].value - figures[ROWS[2]]["wer"].value
    report.targets(
        [
            ("share of recordings untouched outside span and join", untouched, "= 1", untouched == 1),
            ("WER above that of the same text synthesised whole", apart, f"<= {WITHIN}", apart <= WITHIN),
        ]
    )
    return report


def main() -> None:
    """Run the benchmark."""
    options_parser = parser(__doc__.splitlines()[0], "out/bench-edit")
    options_parser.set_defaults(limit=30)
    options_parser.add_argument("--model", default="builtin", help="a model's name or folder")
    options_parser.add_argument("--candidates", type=int, default=1, help="edits to choose from (default: 1)")
    options = options_parser.parse_args()
    torch.set_num_threads(options.threads)
    corpus = read_corpus(options.data)
    requests = make_tasks([item for item in corpus if item.split == "dev-clean"], options.limit, options.seed)
    if not requests:
        raise UserError("the data hold no dev-clean utterances of 4 to 10 s with words to replace", "check --data")
    from openvalle.synth.synthesizer import Synthesizer

    synthesizer = Synthesizer.load(options.model, device="cpu", consent_policy="off")  # a test corpus
    done = work(synthesizer, requests, options)
    settings = {"model": synthesizer.describe(), "seed": options.seed, "candidates": options.candidates}
    print("wrote", *tell(done, settings, options).write(options.out))


if __name__ == "__main__":
    run(main)
