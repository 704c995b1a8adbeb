"""Steps of an AR model on this machine: what they take, and how far their scores are from the right ones.

The right scores are recorded steps, which lie beside the weights of the built-in model and of what is exported; a model
without them is compared with float32. One that an engine cannot compute at all is left out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from openvalle.engines.base import AREngine, ARRows
from openvalle.engines.layers import Precision
from openvalle.errors import UserError
from openvalle.files import atomic_path, sha256
from openvalle.model.bundle import Description
from openvalle.model.config import ARConfig

log = logging.getLogger(__name__)

STEPS = 24
# How far scores may be from the right ones, as means over the steps.
LARGEST_KL, LEAST_AGREEMENT = 0.02, 0.9
RECORD = "steps.safetensors"  # in a model's folder: the right scores (STEPS + 1, V + 1), and of which weights


@dataclass(frozen=True)
class Probe:
    """What was measured of one precision."""

    step_ms: float  # of the fastest step
    kl: float  # mean divergence of the scores from the right ones, nats
    agreement: float  # share of steps with the same likeliest code

    @property
    def is_close(self) -> bool:
        """Whether the scores are close to the right ones; those that are no numbers are not."""
        return self.kl <= LARGEST_KL and self.agreement >= LEAST_AGREEMENT


def measure(model: Description, precisions: Sequence[Precision]) -> dict[str, Probe]:
    """Return what steps take in each precision that onnxruntime can compute here, and how close their scores are.

    Without recorded steps only float32, the first of the precisions, tells what is right.
    """
    from openvalle.engines.onnx import load_ar

    right, probes = read_steps(model), {}
    for precision in precisions:
        try:
            scores, seconds = take_steps(load_ar(model, precision), right)
        except UserError:  # the model, not what computes it
            raise
        except Exception as error:  # noqa: BLE001  those of onnxruntime have no class in common
            log.warning("onnxruntime cannot compute this model in %s: %s", precision, str(error).splitlines()[0])
            continue
        if right is None and precision is Precision.FP32:
            right = scores
        if right is not None:
            probes[precision.value] = compare(right, scores, seconds)
    return probes


def compare(right: np.ndarray, scores: np.ndarray, seconds: float) -> Probe:
    """Return how far scores (N, V) are from the right ones, for steps of so many seconds."""
    agreement = float((right.argmax(1) == scores.argmax(1)).mean())
    divergence = float(np.mean([_divergence(*pair) for pair in zip(right, scores, strict=True)]))
    return Probe(1000 * seconds, divergence if np.isfinite(divergence) else float("inf"), agreement)


def take_steps(engine: AREngine, guide: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Return the scores (STEPS + 1, V) of steps through a made-up text, and the seconds of the fastest. Each step takes
    the likeliest code of the one before, by the scores of `guide` where they are given."""
    config, rng = engine.config, np.random.RandomState(0)
    symbols = min(40, config.symbols)
    rows = make_rows(config, rng.randint(0, config.symbols, (1, symbols)), rng)
    given, state = engine.prefill(rows, STEPS)
    scores, fastest = [given.codes[0, 0]], np.inf
    for number in range(STEPS):
        best = (scores if guide is None else guide)[number][:-1].argsort()[-config.group :]
        aligned = np.array([min(number * symbols // STEPS, symbols - 1)])
        start = time.perf_counter()
        given, state = engine.step(best[None], aligned, np.zeros(1, np.int64), state)
        fastest = min(fastest, time.perf_counter() - start)
        scores.append(given.codes[0, 0])
    return np.stack(scores), float(fastest)


def record_steps(model: Description, engine: AREngine, folder: Path) -> None:
    """Write the right scores of a model, by an engine that is right, into `folder`."""
    scores, _ = take_steps(engine)
    with atomic_path(folder / RECORD) as part:
        save_file({"scores": scores.astype(np.float16)}, part, {"weights": sha256(model.weights("ar"))})


def read_steps(model: Description) -> np.ndarray | None:
    """Return the recorded scores of a model; None if there are none, or if they are of other weights."""
    path = model.folder / RECORD
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            scores = file.get_tensor("scores").astype(np.float32)
            weights = (file.metadata() or {}).get("weights")
    except (SafetensorError, OSError):
        return None
    is_whole = scores.shape == (STEPS + 1, model.config.ar.codebook_size + 1)
    return scores if is_whole and weights == sha256(model.weights("ar")) else None


def make_rows(config: ARConfig, text: np.ndarray, rng: np.random.RandomState, count: int = 4) -> ARRows:
    """Return a row of a text (1, S) after which `count` groups of any codes were said."""
    groups = rng.randint(0, config.codebook_size, (1, count, config.group))
    prompts = rng.randint(0, config.codebook_size, (1, count, config.prompt_codebooks))
    return ARRows(
        text=text,
        text_lens=np.array([text.shape[1]]),
        groups=groups,
        group_lens=np.array([count]),
        aligned=np.arange(count + 1)[None] % text.shape[1],
        languages=np.zeros((1, 1), np.int64),
        text_languages=np.zeros((1, 1), np.int64),
        prompt=prompts if config.prompt_codebooks else None,
        prompt_lens=np.array([count]) if config.prompt_codebooks else None,
    )


def _divergence(right: np.ndarray, own: np.ndarray) -> float:
    """Return the Kullback-Leibler divergence of scores (V,) from the right ones."""
    right, own = (each - each.max() - np.log(np.exp(each - each.max()).sum()) for each in (right, own))
    return float((np.exp(right) * (right - own)).sum())
