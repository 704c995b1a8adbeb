"""The forced aligner learns from words alone when each phone is said; `prepare` takes what was learnt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from openvalle.audio import RATE, Audio
from openvalle.cli.main import app
from openvalle.config import json_lines
from openvalle.errors import ConfigError, ModelError, TextError
from openvalle.media import write
from openvalle.speech_models.aligners import load_aligner
from openvalle.speech_models.ctc import CTCAligner
from openvalle.text.nearest import find_segments
from openvalle.train.aligner import find_occupancy

TONES = {"s": 5200, "ʃ": 3100, "i": 640, "u": 1100, "ɔ": 1700, "m": 240}  # hertz: one for each phone
WORDS = {"see": "s i", "saw": "s ɔ", "sue": "s u", "me": "m i", "moo": "m u", "she": "ʃ i", "shoe": "ʃ u"}


def speak(rng: np.random.Generator, words: list[str]) -> tuple[Audio, list[float]]:
    """Return the words in tones, and when each of their phones begins."""
    parts, starts, now = [], [], 0.0

    def add(seconds: float, hertz: float, level: float) -> None:
        nonlocal now
        times = np.arange(round(seconds * RATE)) / RATE
        parts.append(level * np.sin(2 * np.pi * hertz * times) + 0.002 * rng.standard_normal(len(times)))
        now += len(times) / RATE

    for word in words:
        add(rng.uniform(0.1, 0.3), 50, 0.0)
        for phone in WORDS[word].split():
            starts.append(now)
            add(rng.uniform(0.07, 0.24), TONES[phone], 0.2)
    add(0.2, 50, 0.0)
    return Audio(np.concatenate(parts).astype(np.float32)), starts


def write_corpus(folder: Path, count: int, seed: int) -> dict[str, list[float]]:
    """Write utterances of four words; return when the phones of each begin."""
    rng, rows, times = np.random.default_rng(seed), [], {}
    for number in range(count):
        words = [str(word) for word in rng.choice(list(WORDS), 4)]
        audio, times[f"{number}"] = speak(rng, words)
        write(folder / f"{number}.wav", audio)
        rows.append({"id": str(number), "audio": f"{number}.wav", "text": " ".join(words), "speaker": f"s{number % 5}"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return times


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an aligner that heard 30 utterances of tones."""
    folder = tmp_path_factory.mktemp("aligner")
    (folder / "speech").mkdir()
    write_corpus(folder / "speech", 30, seed=0)
    run("prepare", folder / "speech", folder / "data", "--last", "audio", "--quiet")
    small = ["width=24", "depth=3", "reach=2", "bands=32", "seconds=16", "rare=5", "loop.validate_every=1000"]
    small += ["loop.steps=120", "loop.optim.learning_rate=0.01", "loop.optim.warmup=20", "loop.optim.ema=0.9"]
    out = run("train", "aligner", "aligner", f"data={folder / 'data'}", *small, "--out", folder / "run")
    return Path(out.strip().splitlines()[-1])


@pytest.mark.long
def test_phones_begin_where_they_were_put(trained, tmp_path):
    times = write_corpus(tmp_path, 12, seed=9)
    run("prepare", tmp_path, tmp_path / "out", "--last", "align", "--aligner", f"ctc:{trained}", "--quiet")
    audio = {row["id"]: row for _, row in json_lines((tmp_path / "out/audio/index.jsonl").read_text())}
    rows = [row for _, row in json_lines((tmp_path / "out/align/index.jsonl").read_text())]
    assert len(rows) == 12
    errors = []
    for row in rows:
        begins = [start for symbol, start, _, _ in row["spans"] if symbol != "SIL"]
        known = times[row["id"]]
        assert len(begins) == len(known), row
        shift = np.median(np.subtract(known, begins))  # what was trimmed at the beginning
        errors += np.abs(np.subtract(known, begins) - shift).tolist()
        assert row["samples"] == audio[row["id"]]["samples"]
    assert np.median(errors) < 0.02, "half of them within a frame"
    assert np.quantile(errors, 0.9) < 0.06, "nine of ten within three"


def test_words_that_are_not_said_score_less(trained):
    aligner = CTCAligner(trained)
    audio, starts = speak(np.random.default_rng(5), ["see", "moo", "shoe", "me"])

    def align(*words: str):
        return aligner.align_scored(audio, [(word, tuple(WORDS[word].split())) for word in words])

    right = align("see", "moo", "shoe", "me")
    wrong = align("shoe", "see", "saw", "sue")
    assert right.score > aligner.poor_score
    assert right.score > wrong.score + 1.5, "nats a frame"
    begins = [span.start for span in right.spans if span.word >= 0]
    assert np.median(np.abs(np.subtract(begins, starts))) < 0.04
    assert right.spans[0].start == 0 and right.spans[-1].end == audio.seconds
    assert [span.end for span in right.spans[:-1]] == [span.start for span in right.spans[1:]]


def test_what_no_aligner_is_and_what_it_does_not_hear_is_said(trained, tmp_path):
    with pytest.raises(ConfigError, match="no aligner 'mfa'"):
        load_aligner("mfa")
    with pytest.raises(ModelError, match="holds no aligner"):
        load_aligner(f"ctc:{tmp_path}")
    assert "holds no aligner" in run("prepare", tmp_path, tmp_path / "o", "--aligner", f"ctc:{tmp_path}", code=2)
    aligner = load_aligner(f"ctc:{trained}")
    with pytest.raises(TextError, match="does not hear 'q'"):
        aligner.align_scored(speak(np.random.default_rng(0), ["see"])[0], [("q", ("q",))])


def test_unknown_sounds_are_heard_as_their_neighbours():
    known = ("s", "i", "ʃ", "ə", "t")
    assert find_segments("tone3 i", known) == ("i",)
    assert find_segments("ɕ", known) == ("ʃ",)
    assert find_segments("tsʰ", known) == ("t", "s")
    assert find_segments("AH0", known) == ("ə",)
    assert find_segments("ɕ") == ("ɕ",)
    with pytest.raises(TextError, match="nothing near the sound 'm'"):
        find_segments("m", known)


def test_occupancy_is_a_share_of_each_frame_and_the_gradient_of_the_loss():
    torch.manual_seed(0)
    scores = torch.randn(2, 7, 4).mul(2)  # no probabilities
    frames, classes, counts = torch.tensor([7, 5]), torch.tensor([[1, 2, 3], [2, 1, 0]]), torch.tensor([3, 2])
    _, occupancy = find_occupancy(scores, frames, classes, counts)
    assert torch.allclose(occupancy.sum(-1)[0], torch.ones(7), atol=1e-4)
    assert torch.allclose(occupancy.sum(-1)[1], torch.tensor([1.0] * 5 + [0.0] * 2), atol=1e-4)
    nudge = torch.zeros_like(scores)
    nudge[0, 3, 2] = 1e-2
    more, less = (find_occupancy(scores + sign * nudge, frames, classes, counts)[0][0] for sign in (1, -1))
    assert float((more - less) / 2e-2) == pytest.approx(-float(occupancy[0, 3, 2]), abs=1e-2)
