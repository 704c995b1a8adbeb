"""Weights in 8 bits: rows of whole numbers, with a scale for each.

A file holds such a weight as int8 (N, K), and beside it, under its name and `SCALES`, float32 (N,). What computes in 8
bits takes them as they are; for everything else they are multiplied out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

SCALES = ".scales"
TOP = 127  # the largest whole number
SMALLEST = 1e-20  # is what a row is divided by at least: it may hold zeros
PART = 256  # rows that are rounded at a time: what stays in the processor's cache takes half the time
# What may be stored so: matrices that hidden states are multiplied by, which the engines round as well. Vectors that
# are looked up, and what makes them, stay as they are.
ROUNDED = re.compile(r"transformer\.blocks\.\d+\.(attention\.(qkv|out)|up|down)\.weight")


@dataclass(frozen=True, eq=False)
class RoundedWeight:
    """A weight of the shape (N, K)."""

    values: np.ndarray  # (N, K) int8
    scales: np.ndarray  # (N,) float32: of each row

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, K)."""
        return self.values.shape

    def restore(self) -> np.ndarray:
        """Return the weight multiplied out, (N, K) float32."""
        return self.values.astype(np.float32) * self.scales[:, None]


def round_rows(weight: np.ndarray | RoundedWeight, top: int = TOP) -> RoundedWeight:
    """Return a weight (N, K) in whole numbers up to `top`: of each row the largest value becomes `top`. What is rounded
    to 8 bits already stays as it is."""
    if isinstance(weight, RoundedWeight):
        return weight if top == TOP else round_rows(weight.restore(), top)
    values, scales = np.empty(weight.shape, np.int8), np.empty(len(weight), np.float32)
    for start in range(0, len(weight), PART):
        part = slice(start, start + PART)
        buffer = np.abs(weight[part])
        scales[part] = np.maximum(buffer.max(1), np.float32(SMALLEST)) / np.float32(top)
        np.divide(weight[part], scales[part, None], out=buffer)
        values[part] = np.rint(buffer, out=buffer)
    return RoundedWeight(values, scales)
