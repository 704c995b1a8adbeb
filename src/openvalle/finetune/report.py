"""Before and after: held-out sentences spoken by both models in the same voice, judged by machines, drawn and kept.

Figures have intervals over the sentences, which are drawn again; what changed is judged sentence by sentence, so that
hard ones, which both models meet, do not hide it.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.apps.plot import mel_spectrogram
from openvalle.audio import Audio
from openvalle.errors import AudioError, UserError
from openvalle.files import atomic_path, write_text
from openvalle.finetune.material import HELD_OUT, Material
from openvalle.media import write
from openvalle.speech_models.asr import best_available, transcribe_in
from openvalle.speech_models.recognizers import Recognizer
from openvalle.speech_models.speaker import load_encoder, similarity
from openvalle.statistics import LEVEL, Estimate, draw, estimate, quotients
from openvalle.synth.normalizers import count_errors
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.types import ENGLISH

log = logging.getLogger(__name__)

ENCODERS = ("campplus", "resemblyzer")  # the first of these that is on this machine judges the voice
REFERENCES = 12  # training clips that together are what the voice sounds like
FEW = 3  # sentences under which nothing is said of other ones
WORDS, VOICE, CHANGE = "word error rate", "similarity", "change"


@dataclass(frozen=True)
class Judged:
    """What is spoken for the report, and by whom it is heard."""

    material: Material
    voice: Voice
    count: int
    seed: int
    asr: str


@dataclass(frozen=True)
class ReportRow:
    """One of the three: what its words and its voice are worth; None where nobody could judge."""

    name: str
    word_error_rate: Estimate | None
    similarity: Estimate | None  # mean cosine to what the voice sounds like


@dataclass(frozen=True)
class Comparison:
    """The recordings, the model before and after, and what validation found for each network on the way.

    `changes`: what is after less what was before, of the word error rate and the similarity.
    """

    rows: tuple[ReportRow, ...]
    changes: dict[str, Estimate]
    losses: dict[str, list[tuple[int, float]]]
    notes: tuple[str, ...]


def compare(before: Synthesizer | None, after: Synthesizer, judged: Judged, out: Path) -> Comparison:
    """Speak held-out sentences with both models and write report.md, report.json, report.png and sounds to `out`.

    Without `before` (it does not speak their language) what is after stands beside the recordings alone.
    """
    rows = judged.material.of(HELD_OUT)[: judged.count]
    recorded = judged.material.sounds(rows)
    spoken = {
        name: [
            model.say(row["text"], judged.voice, seed=judged.seed + number, markup="none", language=row["language"])
            for number, row in enumerate(rows)
        ]
        for name, model in (("before", before), ("after", after))
        if model is not None
    }
    sounds = {"recorded": recorded} | {name: [speech.audio for speech in found] for name, found in spoken.items()}
    notes: list[str] = []
    errors = _judge(notes, "words", lambda: _word_errors(sounds, rows, judged.asr, notes))
    voices = _judge(notes, "the voice", lambda: _similarities(sounds, judged.material, notes))
    rates, alike = compare_sums(errors, judged.seed), compare_sums(voices, judged.seed)
    found = tuple(ReportRow(name, rates.get(name), alike.get(name)) for name in sounds)
    changes = {key: each[CHANGE] for key, each in ((WORDS, rates), (VOICE, alike)) if CHANGE in each}
    losses = _read_losses(out)
    _draw(losses, {name: clips[0] for name, clips in sounds.items()}, out / "report.png", notes)
    comparison = Comparison(found, changes, losses, tuple(notes))
    write(out / "recorded.wav", recorded[0])
    for name, speeches in spoken.items():
        speeches[0].save(out / f"{name}.wav")
    write_text(out / "report.json", json.dumps(_plain(asdict(comparison)), indent=1) + "\n")
    write_text(out / "report.md", _page(comparison, judged, rows[0]["text"]))
    return comparison


def compare_sums(sums: dict[str, np.ndarray], seed: int) -> dict[str, Estimate]:
    """Return the ratio of each one's sums (N, 2) over N sentences, and the change from before to after."""
    if not sums:
        return {}
    count = len(sums["after"])
    drawn = draw(count, np.random.default_rng(seed))
    found = {name: estimate(each, drawn @ each) for name, each in sums.items()}
    if "before" in sums:
        before, after = (quotients(drawn @ sums[name]) for name in ("before", "after"))
        low, high = np.quantile(after - before, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        found[CHANGE] = Estimate(found["after"].value - found["before"].value, low, high, count)
    if count < FEW:
        found = {name: Estimate(each.value, math.nan, math.nan, count) for name, each in found.items()}
    return found


def _plain(value: Any) -> Any:
    """Return what JSON can hold: nothing in place of an interval that is not known."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _judge(notes: list[str], what: str, judge: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    try:
        return judge()
    except UserError as error:
        notes.append(f"{what}: not judged, {error.what}")
        return {}


def _word_errors(
    sounds: dict[str, list[Audio]], rows: Sequence[dict[str, Any]], asr: str, notes: list[str]
) -> dict[str, np.ndarray]:
    """Return errors and words of each sentence, (N, 2)."""
    recognizer = find_recognizer(asr, [row["language"] for row in rows])
    notes.append(f"words: heard by {recognizer.name}")
    found = {}
    for name, clips in sounds.items():
        counted = [
            count_errors(row["text"], hear(recognizer, clip, row["language"]), row["language"])
            for row, clip in zip(rows, clips, strict=True)
        ]
        found[name] = np.array([(each.errors, each.words) for each in counted], float)
    return found


def find_recognizer(asr: str, languages: Iterable[str]) -> Recognizer:
    """Return who hears all of these languages; `UserError` if nothing here does."""
    return best_available(asr, next((language for language in languages if language != ENGLISH), ENGLISH))


def hear(recognizer: Recognizer, clip: Audio, language: str) -> str:
    """Return the words that a recogniser hears; none where it cannot use the clip."""
    try:
        return transcribe_in(recognizer, clip, language).text
    except AudioError:
        return ""


def _similarities(sounds: dict[str, list[Audio]], material: Material, notes: list[str]) -> dict[str, np.ndarray]:
    """Return how alike each sentence is, and 1, (N, 2)."""
    name, encoder = find_encoder()
    notes.append(f"the voice: compared by {name} with {REFERENCES} training clips at most")
    wanted = np.mean([encoder.embed(clip) for clip in material.sounds(material.prompts()[:REFERENCES])], axis=0)
    found = {}
    for kind, clips in sounds.items():
        found[kind] = np.array([(similarity(wanted, encoder.embed(clip)), 1.0) for clip in clips])
    return found


def find_encoder() -> tuple[str, Any]:
    """Return the first speaker encoder of `ENCODERS` on this machine, with its name; `UserError` if there is none."""
    missing: UserError | None = None
    for name in ENCODERS:
        try:
            return name, load_encoder(name)
        except UserError as error:
            missing = error
    assert missing is not None
    raise missing


def _read_losses(out: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (step, held-out loss) of each network's run."""
    found = {}
    for part in ("ar", "nar"):
        lines = (out / part / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if row["group"] == "valid" and "loss" in row]
        found[part] = [(int(row["step"]), float(row["loss"])) for row in rows]
    return found


def _page(comparison: Comparison, judged: Judged, text: str) -> str:
    minutes, held = judged.material.seconds / 60, len(judged.material.of(HELD_OUT))
    changes, names = comparison.changes, [row.name for row in comparison.rows]
    by = "by the model as it was and as it is now, both with the same prompt"
    if "before" not in names:
        by = "by the model as it is now; as it was, it does not speak this language"
    lines = [
        "# Before and after",
        "",
        f"{minutes:.1f} min of speech; {min(judged.count, held)} of {held} held-out sentences, which training never "
        f"saw, spoken {by}.",
        "",
        "| | WER % | similarity of the voice |",
        "|---|---:|---:|",
        *(f"| {row.name} | {_show(row.word_error_rate, True)} | {_show(row.similarity)} |" for row in comparison.rows),
        *(
            [f"| after less before | {_show(changes.get(WORDS), True)} | {_show(changes.get(VOICE))} |"]
            if changes
            else []
        ),
        "",
        f"- in brackets: 95 % intervals over the sentences, from {FEW} on"
        + ("; the last line is of pairs" if changes else ""),
        *(f"- {note}" for note in comparison.notes),
    ]
    for part, losses in comparison.losses.items():
        if losses:
            best = min(losses, key=lambda each: each[1])
            lines.append(
                f"- held-out loss of {part.upper()}: {losses[0][1]:.3f} before, {best[1]:.3f} at step {best[0]}"
            )
    files = ", ".join(f"{name}.wav" for name in names)
    return "\n".join([*lines, "", f"Sounds ({files}) say: {text}", "", "![](report.png)", ""])


def _show(found: Estimate | None, percent: bool = False) -> str:
    if found is None:
        return "-"
    shown = found.text(percent, digits=3)
    return shown.partition(" ")[0] if math.isnan(found.low) else shown


def _draw(losses: dict[str, list[tuple[int, float]]], sounds: dict[str, Audio], path: Path, notes: list[str]) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        notes.append("nothing drawn: pip install 'openvalle[plot]'")
        return
    figure = Figure(figsize=(12, 9), layout="constrained")
    FigureCanvasAgg(figure)
    *upper, lower = figure.subplots(len(sounds) + 1, 1)
    for axes, (name, clip) in zip(upper, sounds.items(), strict=True):
        mel = mel_spectrogram(clip)
        axes.imshow(mel, origin="lower", aspect="auto", cmap="magma", extent=(0, clip.seconds, 0, len(mel)))
        axes.set_title(name, loc="left")
        axes.set_ylabel("mel band")
    upper[-1].set_xlabel("seconds")
    for part, found in losses.items():
        base = found[0][1] if found else 1.0
        lower.plot([step for step, _ in found], [loss / base for _, loss in found], label=part.upper())
    lower.set_title("held-out loss, of what it was before", loc="left")
    lower.set_xlabel("step")
    lower.legend()
    with atomic_path(path) as part_file:
        figure.savefig(part_file, dpi=100, format="png")
