"""Before and after: held-out sentences spoken by both models in the same voice, judged by machines, drawn and kept."""

from __future__ import annotations

import json
import logging
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
from openvalle.speech_models.asr import Recognizer, best_available, transcribe_in
from openvalle.speech_models.speaker import load_encoder, similarity
from openvalle.synth.normalizers import count_errors
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.types import ENGLISH

log = logging.getLogger(__name__)

ENCODERS = ("campplus", "resemblyzer")  # the first of these that is on this machine judges the voice
REFERENCES = 12  # training clips that together are what the voice sounds like


@dataclass(frozen=True)
class Judged:
    """What is spoken for the report, and by whom it is heard."""

    material: Material
    voice: Voice
    count: int
    seed: int
    asr: str


@dataclass(frozen=True)
class Row:
    """One of the three: what its words and its voice are worth; None where nobody could judge."""

    name: str
    word_error_rate: float | None
    similarity: float | None  # mean cosine to what the voice sounds like


@dataclass(frozen=True)
class Comparison:
    """The recordings, the model before and after, and what validation found for each network on the way."""

    rows: tuple[Row, ...]
    losses: dict[str, list[tuple[int, float]]]
    notes: tuple[str, ...]


def compare(before: Synthesizer, after: Synthesizer, judged: Judged, out: Path) -> Comparison:
    """Speak held-out sentences with both models and write report.md, report.json, report.png and sounds to `out`."""
    rows = judged.material.of(HELD_OUT)[: judged.count]
    recorded = judged.material.sounds(rows)
    spoken = {
        name: [
            model.say(row["text"], judged.voice, seed=judged.seed + number, markup="none", language=row["language"])
            for number, row in enumerate(rows)
        ]
        for name, model in (("before", before), ("after", after))
    }
    sounds = {"recorded": recorded} | {name: [speech.audio for speech in found] for name, found in spoken.items()}
    notes: list[str] = []
    errors = _judge(notes, "words", lambda: _word_errors(sounds, rows, judged.asr, notes))
    voices = _judge(notes, "the voice", lambda: _similarities(sounds, judged.material, notes))
    found = tuple(Row(name, errors.get(name), voices.get(name)) for name in sounds)
    comparison = Comparison(found, _read_losses(out), tuple(notes))
    write(out / "recorded.wav", recorded[0])
    for name, speeches in spoken.items():
        speeches[0].save(out / f"{name}.wav")
    _draw(comparison, {name: clips[0] for name, clips in sounds.items()}, out / "report.png", notes)
    write_text(out / "report.json", json.dumps(asdict(comparison), indent=1) + "\n")
    write_text(out / "report.md", _page(comparison, judged, rows[0]["text"]))
    return comparison


def _judge(notes: list[str], what: str, judge: Callable[[], dict[str, float]]) -> dict[str, float]:
    try:
        return judge()
    except UserError as error:
        notes.append(f"{what}: not judged, {error.what}")
        return {}


def _word_errors(
    sounds: dict[str, list[Audio]], rows: Sequence[dict[str, Any]], asr: str, notes: list[str]
) -> dict[str, float]:
    recognizer = find_recognizer(asr, [row["language"] for row in rows])
    notes.append(f"words: heard by {recognizer.name}")
    found = {}
    for name, clips in sounds.items():
        counted = [
            count_errors(row["text"], hear(recognizer, clip, row["language"]), row["language"])
            for row, clip in zip(rows, clips, strict=True)
        ]
        found[name] = sum(each.errors for each in counted) / max(1, sum(each.words for each in counted))
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


def _similarities(sounds: dict[str, list[Audio]], material: Material, notes: list[str]) -> dict[str, float]:
    name, encoder = find_encoder()
    notes.append(f"the voice: compared by {name} with {REFERENCES} training clips at most")
    wanted = np.mean([encoder.embed(clip) for clip in material.sounds(material.prompts()[:REFERENCES])], axis=0)
    found = {}
    for kind, clips in sounds.items():
        found[kind] = float(np.mean([similarity(wanted, encoder.embed(clip)) for clip in clips]))
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
    lines = [
        "# Before and after",
        "",
        f"{minutes:.1f} min of speech; {min(judged.count, held)} of {held} held-out sentences, which training never "
        "saw, spoken by the model as it was and as it is now, both with the same prompt.",
        "",
        "| | WER % | similarity of the voice |",
        "|---|---:|---:|",
        *(f"| {row.name} | {_show(row.word_error_rate, 100)} | {_show(row.similarity)} |" for row in comparison.rows),
        "",
        *(f"- {note}" for note in comparison.notes),
    ]
    for part, losses in comparison.losses.items():
        if losses:
            best = min(losses, key=lambda each: each[1])
            lines.append(
                f"- held-out loss of {part.upper()}: {losses[0][1]:.3f} before, {best[1]:.3f} at step {best[0]}"
            )
    return "\n".join(
        [*lines, "", f"Sounds (recorded.wav, before.wav, after.wav) say: {text}", "", "![](report.png)", ""]
    )


def _show(value: float | None, scale: float = 1) -> str:
    return "-" if value is None else f"{scale * value:.{1 if scale > 1 else 3}f}"


def _draw(comparison: Comparison, sounds: dict[str, Audio], path: Path, notes: list[str]) -> None:
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
    for part, losses in comparison.losses.items():
        base = losses[0][1] if losses else 1.0
        lower.plot([step for step, _ in losses], [loss / base for _, loss in losses], label=part.upper())
    lower.set_title("held-out loss, of what it was before", loc="left")
    lower.set_xlabel("step")
    lower.legend()
    with atomic_path(path) as part_file:
        figure.savefig(part_file, dpi=100, format="png")
