"""Made-up speakers: style tables of the teacher, shipped ones and what can be made of two of them.

A style table has a row of 256 numbers for each length of a text; the first half carries the timbre, the second the
prosody. Half of one and half of another is a new speaker that keeps its voice in English, Chinese and Japanese;
beyond one table, away from another, is a speaker farther from all others, whose words are clear in English alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from openvalle.errors import UserError

HALF = 128  # the timbre's numbers of a row
ALL = ("en", "zh", "ja")
# These voices are never trained on, nor is anything made of them: of each kind and language one or two.
HELD_OUT = ("af_bella", "am_michael", "bf_emma", "zf_xiaoyi", "zm_yunxia", "jf_gongitsune")
WHISPERS = ("af_nicole",)
SHARES = {"half": 0.55, "beyond": 0.25, "shipped": 0.2}  # of the speakers of training
DEV_EVERY = 12  # so often comes a held-out voice


@dataclass(frozen=True, eq=False)
class Speaker:
    """A name, its table (lengths, 256), the voices it is made of, and what it may speak."""

    name: str
    style: np.ndarray
    sources: tuple[str, ...]
    languages: tuple[str, ...]
    split: str


def list_sources(voices: Mapping[str, np.ndarray]) -> list[str]:
    """Return the voices of English, Chinese and Japanese that training may use."""
    return [name for name in sorted(voices) if name[0] in "abzj" and name not in (*HELD_OUT, *WHISPERS)]


def find_language(name: str) -> str:
    """Return the language that a voice is native in, by the first letter of its name; "" for others than ours."""
    return {"a": "en", "b": "en", "z": "zh", "j": "ja"}.get(name[0], "")


def find_held_out(voices: Mapping[str, np.ndarray], name: str) -> Speaker:
    """Return a voice that is never trained on; `UserError` for another one."""
    if name not in HELD_OUT or name not in voices:
        there = ", ".join(one for one in HELD_OUT if one in voices)
        raise UserError(f"{name!r} is no voice that is held out", f"there are: {there}")
    return Speaker(name, voices[name], (name,), ALL, "dev")


def draw_speaker(voices: Mapping[str, np.ndarray], seed: int, number: int) -> Speaker:
    """Return speaker `number`: the same whenever it is asked for."""
    rng = np.random.default_rng([seed, number])
    held = [name for name in HELD_OUT if name in voices]
    if held and number % DEV_EVERY == DEV_EVERY - 1:
        return find_held_out(voices, held[number // DEV_EVERY % len(held)])
    names = list_sources(voices)
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    if kind == "shipped":
        name = str(rng.choice(names))
        return Speaker(name, voices[name], (name,), ALL, "train")
    if kind == "half":
        timbre, prosody = (str(name) for name in rng.choice(names, 2, replace=False))
        style = np.concatenate([voices[timbre][:, :HALF], voices[prosody][:, HALF:]], axis=1)
        return Speaker(f"half-{timbre}-{prosody}", style, (timbre, prosody), ALL, "train")
    one, other = (str(name) for name in rng.choice([name for name in names if name[0] in "ab"], 2, replace=False))
    far = round(float(rng.uniform(0.25, 0.45)), 2)
    style = voices[one] + far * (voices[one] - voices[other])
    return Speaker(f"beyond-{one}-{other}-{far:.2f}", style, (one, other), ("en",), "train")
