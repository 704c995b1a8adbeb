"""One draw from the scores of the next code: temperature, top-k, nucleus, and repetition-aware sampling (VALL-E 2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, field_validator

from openvalle.config import Config

DRAWS = 2  # uniform numbers that one code uses: the nucleus draw and the draw that may replace it

LEAST = 0.001  # temperature: scores divided by less are no finite numbers


def keep_top_p(mass: np.ndarray, top_p: float) -> np.ndarray:
    """Return the smallest set that reaches the mass `top_p`."""
    return (mass.cumsum(-1) - mass < top_p) | (top_p == 1)


def keep_top_k(mass: np.ndarray, top_k: float) -> np.ndarray:
    """Return the `top_k` likeliest, all for 0."""
    return np.broadcast_to(np.arange(mass.shape[-1]) < (top_k or np.inf), mass.shape)


# Rules of what may be drawn: the masses of all codes (B, V), the likeliest first, and the rule's value -> which are
# kept, (B, V). A code is drawn if every rule keeps it; the likeliest always is. docs/extending.md adds one.
TRUNCATIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {"top_p": keep_top_p, "top_k": keep_top_k}


def check_temperature(value: float) -> float:
    """Return a temperature by which scores can be divided, or 0; `ValueError` for one too near to it."""
    if 0 < value < LEAST:
        raise ValueError(f"it should be 0 or at least {LEAST}")
    return value


Temperature = Annotated[float, Field(ge=0, le=100), AfterValidator(check_temperature)]


class SamplingOptions(Config):
    """How a code is drawn."""

    temperature: Temperature = Field(1.0, description="divides the scores; 0 is the likeliest code, as top_p 0")
    top_k: int = Field(0, ge=0, description="keep this many of the likeliest codes; 0 keeps all")
    top_p: float = Field(1.0, ge=0, le=1, description="keep the likeliest mass; 1 keeps all, 0 only the best")
    repetition_aware: bool = Field(True, description="replace a code that repeats by a draw from all codes")
    window: int = Field(10, ge=1, description="K: how many of the last codes are looked at, prompt included")
    threshold: float = Field(
        0.1, ge=0, description="t_r: replace if (1 + occurrences) / K exceeds it; 0.1 means at one occurrence"
    )
    likeliest_eos_ends: bool = Field(
        False, description="the likeliest class decides on <EOS>: where it is that one, no code that was drawn counts"
    )
    truncate: dict[str, float] = Field(default_factory=dict, description="values of more rules, by name (TRUNCATIONS)")

    @field_validator("truncate")
    @classmethod
    def _are_rules(cls, value: dict[str, float]) -> dict[str, float]:
        if unknown := value.keys() - TRUNCATIONS.keys():
            raise ValueError(f"there is no rule {', '.join(sorted(unknown))}; there are: {', '.join(TRUNCATIONS)}")
        return value


def draw(scores: np.ndarray, history: np.ndarray, uniforms: np.ndarray, options: SamplingOptions) -> np.ndarray:
    """Return one class per row, (B,), for scores (B, V), codes so far (B, H; -1 = none) and uniforms (B, 2).

    Algorithm 1 of VALL-E 2: a candidate is drawn from the truncated distribution; if it is too frequent among the
    last K codes it is replaced by a draw from the full one (which may give it again). No score is penalised. At
    temperature 0 the candidate is the likeliest code and the full distribution that of temperature 1 (its v = 0).
    """
    if options.temperature == 0:
        if not options.repetition_aware:
            return scores.argmax(-1)
        options = options.model_copy(update={"temperature": 1.0, "top_p": 0.0})
    classes = np.argsort(-scores, axis=-1, kind="stable")  # the likeliest first
    scaled = np.take_along_axis(scores, classes, -1) / np.float32(options.temperature)
    mass = np.exp(scaled.astype(np.float64) - scaled[:, :1])
    mass /= mass.sum(-1, keepdims=True)
    rules = {"top_p": options.top_p, "top_k": options.top_k, **options.truncate}
    kept = np.logical_and.reduce([TRUNCATIONS[name](mass, value) for name, value in rules.items()])
    kept[:, 0] = True
    candidate = _pick(mass * kept, classes, uniforms[:, 0])
    if not options.repetition_aware:
        return candidate
    count = (history[:, -options.window :] == candidate[:, None]).sum(-1)
    # The paper's sum runs over k = 0..K and so counts the candidate itself.
    repeats = count + 1 > options.window * options.threshold + 1e-9
    return np.where(repeats, _pick(mass, classes, uniforms[:, 1]), candidate)


def _pick(mass: np.ndarray, classes: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return the class where the cumulated mass passes `uniform` of its sum, (B,)."""
    cumulated = mass.cumsum(-1)
    at = (cumulated <= uniform[:, None] * cumulated[:, -1:]).sum(-1)
    last = (mass > 0).sum(-1) - 1  # sorted, so the possible classes come first
    return classes[np.arange(len(classes)), np.minimum(at, last)]


def make_rng(seed: int) -> np.random.RandomState:
    """Return a generator: a Mersenne twister, of whose seed the lowest 32 bits count."""
    return np.random.RandomState(seed & 0xFFFFFFFF)


def draw_uniforms(rngs: Sequence[np.random.RandomState], count: int) -> np.ndarray:
    """Return (B, count) numbers in [0, 1), each row from its own generator, so that rows never influence each other.

    Of each 32-bit word the lowest 24 bits count, as float32 holds them: torch draws the same from the same seed.
    """
    words = np.stack([rng.randint(0, 2**32, count, dtype=np.uint32) for rng in rngs])
    return (words & 0xFFFFFF) / 2.0**24


def advances(difference: float, uniform: float, temperature: float) -> bool:
    """Return whether a row moves to the next symbol: the two-way softmax of its score minus the current one's."""
    if temperature == 0:
        return difference > 0
    return bool(uniform < np.exp(-np.logaddexp(0.0, -float(difference) / temperature)))


def to_steps(frames: float, step_frames: int) -> int:
    """Return how many AR steps of `step_frames` frames cover `frames`, at least one."""
    return max(1, math.ceil(frames / step_frames - 1e-9))
