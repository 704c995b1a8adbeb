"""What a speedrun reached: held-out sentences spoken by the model, in the voices of readers that it never met, and the
numbers of its training.

Recordings are heard as their codes have them: what the model can at best be.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openvalle.audio import Audio
from openvalle.data.batches import crop
from openvalle.data.draws import draw_generator
from openvalle.data.shards import TokenShards
from openvalle.errors import UserError
from openvalle.files import write_text
from openvalle.finetune.report import find_encoder, find_recognizer, hear
from openvalle.media import write
from openvalle.model.checkpoint import Part
from openvalle.speech_models.speaker import similarity
from openvalle.speedrun.plan import Budget, Plan
from openvalle.synth.normalizers import count_errors
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.types import ENGLISH, Utterance

SECONDS = (2.0, 8.0)  # of a sentence that is judged
PROMPT_SECONDS = 5.0
RECORDED, SPOKEN = "recordings, as their codes", "the model"


@dataclass
class JudgedSound:
    """What judges found of one kind of sound, over all sentences."""

    errors: int = 0
    words: int = 0
    similarities: list[float] = field(default_factory=list)

    @property
    def word_error_rate(self) -> float | None:
        """None where nobody heard."""
        return self.errors / self.words if self.words else None

    @property
    def similarity(self) -> float | None:
        """Mean cosine to the prompt's voice; None where nobody judged."""
        return float(np.mean(self.similarities)) if self.similarities else None


@dataclass(frozen=True)
class SpeedrunReport:
    """All that the table shows."""

    plan: Plan
    machine: str
    used: float  # seconds of the budget
    steps: dict[str, int]  # by network
    speeds: dict[str, float]  # frames a second while it trained
    frames: dict[str, float]  # that it learned from, in hours of speech
    losses: dict[str, list[tuple[int, float]]]  # held-out, by step
    heard: dict[str, JudgedSound]
    sentences: int
    judges: tuple[str, ...]
    notes: tuple[str, ...]


def judge(
    model: Path, data: tuple[Path, ...], plan: Plan, budget: Budget, out: Path, most: int, asr: str
) -> SpeedrunReport:
    """Speak and judge up to `most` sentences while the budget lasts, one at least; return all that was reached."""
    synthesizer = Synthesizer.load(model, asr=asr)
    notes: list[str] = []
    languages = synthesizer.generator.languages
    recognizer, encoder = _find(notes, lambda: find_recognizer(asr, languages)), _find(notes, find_encoder)
    heard = {RECORDED: JudgedSound(), SPOKEN: JudgedSound()}
    count, longest = 0, 0.0
    for number, (voice, target) in enumerate(_choose(data, plan.held_out, synthesizer)):
        if number >= most or (number and budget.count_left() < 1.2 * longest):
            break
        begun = budget.gone()
        prompt = _decode(synthesizer, voice.codes)
        try:
            spoken = synthesizer.say(target.text, voice, seed=number, markup="none", language=target.language).audio
        except UserError as error:
            notes.append(f"{target.id} could not be spoken: {error.what}")
            continue
        sounds = {RECORDED: _decode(synthesizer, target.codes), SPOKEN: spoken}
        for name, sound in sounds.items():
            if recognizer is not None:
                found = count_errors(target.text, hear(recognizer, sound, target.language), target.language)
                heard[name].errors += found.errors
                heard[name].words += found.words
            if encoder is not None:
                heard[name].similarities.append(_compare(encoder[1], prompt, sound))
            if not count:
                write(out / f"{'recorded' if name == RECORDED else 'spoken'}.wav", sound)
        count, longest = count + 1, max(longest, budget.gone() - begun)
    names = [] if recognizer is None else [f"words: heard by {recognizer.name}"]
    names += [] if encoder is None else [f"the voice: compared with the prompt by {encoder[0]}"]
    rate = synthesizer.generator.spec.frame_rate
    return _gather(plan, budget, out, rate, heard, count, names, notes)


def _gather(
    plan: Plan,
    budget: Budget,
    out: Path,
    rate: float,
    heard: dict[str, JudgedSound],
    count: int,
    judges: list[str],
    notes: list[str],
) -> SpeedrunReport:
    """Return what judges found of `count` sentences, with what the trainings wrote; `rate`: frames a second."""
    steps, speeds, frames, losses = {}, {}, {}, {}
    for part in Part:
        lines = (out / part.value / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        train = [row for row in rows if row["group"] == "train"]
        steps[part.value] = int(train[-1]["step"])
        speeds[part.value] = float(np.median([row["frames_per_second"] for row in train]))
        frames[part.value] = speeds[part.value] * plan.training / rate / 3600
        losses[part.value] = [(int(row["step"]), row["loss"]) for row in rows if row["group"] == "valid"]
    return SpeedrunReport(
        plan, _machine(), budget.gone(), steps, speeds, frames, losses, heard, count, tuple(judges), tuple(notes)
    )


@dataclass(frozen=True)
class TargetSentence:
    """A sentence to be spoken, and how its codes are in the recording."""

    id: str
    text: str
    codes: np.ndarray
    language: str


def _choose(
    data: tuple[Path, ...], splits: tuple[str, ...], synthesizer: Synthesizer
) -> Iterator[tuple[Voice, TargetSentence]]:
    """Yield held-out sentences in an order that changes speakers, each with another utterance as the prompt."""
    for folder in data:
        try:
            shards = TokenShards.open(folder, splits)
        except UserError:
            continue  # another folder holds these splits
        rate = shards.codec.frame_rate
        lengths = shards.frames / rate
        rows = [row for row in range(len(shards)) if SECONDS[0] <= lengths[row] <= SECONDS[1]]
        for row in draw_generator(0, 0, 0).permutation(rows or range(len(shards))).tolist():
            other = shards.neighbour(int(row))
            if other is None:
                continue
            piece = crop(other, int(PROMPT_SECONDS * rate), draw_generator(0, 1, int(row)), shards.codec.merge)
            target = shards[int(row)]
            yield (
                _voice(piece, shards),
                TargetSentence(
                    target.id, shards.index.texts[int(row)][1], target.codes, target.language_name or ENGLISH
                ),
            )


def _voice(prompt: Utterance, shards: TokenShards) -> Voice:
    assert prompt.durations is not None  # only aligned data is trained on
    symbols = shards.vocabulary.symbols
    return Voice(
        codes=prompt.codes.astype(np.uint16),
        symbols=tuple(symbols[number] for number in prompt.text),
        durations=tuple(int(each) for each in prompt.durations),
        text="",
        codec_digest=shards.codec.digest,
        symbols_digest=shards.vocabulary.digest,
        name=prompt.id,
        language=prompt.language_name or ENGLISH,
        consent="an utterance of the corpus that the model is judged on",
    )


def _decode(synthesizer: Synthesizer, codes: np.ndarray) -> Audio:
    samples = synthesizer.generator.codec.decode(codes.astype(np.int64))
    return Audio(np.asarray(samples, np.float32), synthesizer.rate)


def _find(notes: list[str], find: Any) -> Any:
    try:
        return find()
    except UserError as error:
        notes.append(f"not judged: {error.what}")
        return None


def _compare(encoder: Any, prompt: Audio, sound: Audio) -> float:
    return float(similarity(encoder.embed(prompt), encoder.embed(sound)))


def _machine() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{os.cpu_count()} threads of {platform.processor() or platform.machine()}, torch {torch.__version__}"


def list_rows(reached: SpeedrunReport) -> list[tuple[str, str]]:
    """Return the table: what, and how much."""
    plan = reached.plan
    rows = [
        ("machine", reached.machine),
        ("seconds, of a budget of", f"{reached.used:.0f} / {plan.seconds:.0f}"),
        ("width x blocks of each network", f"{plan.width} x {plan.depth}"),
        ("parameters of both, M", f"{plan.parameters / 1e6:.1f}"),
    ]
    for part in Part:
        name, upper = part.value, part.value.upper()
        found = reached.losses[name]
        rows.append((f"{upper}: updates of {plan.frames} frames", str(reached.steps[name])))
        rows.append((f"{upper}: frames a second", f"{reached.speeds[name]:.0f}"))
        rows.append((f"{upper}: hours of speech met", f"{reached.frames[name]:.2f}"))
        if found:
            rows.append(
                (f"{upper}: held-out loss, step {found[0][0]} and last", f"{found[0][1]:.3f} / {found[-1][1]:.3f}")
            )
    for name, heard in reached.heard.items():
        rate, alike = heard.word_error_rate, heard.similarity
        rows.append((f"{name}: WER %", "-" if rate is None else f"{100 * rate:.1f}"))
        rows.append((f"{name}: similarity of the voice", "-" if alike is None else f"{alike:.3f}"))
    return [*rows, ("sentences judged", str(reached.sentences))]


def write_report(reached: SpeedrunReport, out: Path) -> None:
    """Write report.md and report.json."""
    lines = ["| | |", "|---|---:|", *(f"| {what} | {value} |" for what, value in list_rows(reached))]
    notes = [f"- {note}" for note in (*reached.judges, *reached.notes)]
    write_text(out / "report.md", "\n".join(["# Speedrun", "", *lines, "", *notes, ""]))
    values = asdict(reached) | {"plan": reached.plan.model_dump(mode="json")}
    write_text(out / "report.json", json.dumps(values, indent=1) + "\n")
