"""Linear layers in which a row is what it is alone, to the bit, however many others come with it.

BLAS libraries choose another order of sums for one row than for four. A score then differs in its last bits, and once
in some thousand sentences a code that is drawn from such scores differs, too: what one listener hears would depend on
who else is served. oneDNN, which torch brings along for x86, sums in one order for any number of rows, and since it
takes the weights laid out beforehand it is quicker for a few rows as well.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_ROWS = 32  # for more (a whole prompt, which is read alone) the usual way is as quick
USUAL_ROWS = 16  # that the layout is made for


class Packed:
    """A weight laid out for the steps of the decoding loop; made when it is first used, and again if it changed."""

    def __init__(self) -> None:
        self._key: tuple[int, ...] = ()
        self._weight: Any = None
        self._least = 1  # rows: fewer are filled up, if one row is summed in another way than two

    def __deepcopy__(self, memo: object) -> Packed:
        return Packed()

    def __getstate__(self) -> dict[str, Any]:
        return vars(Packed())  # a copy makes its own

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x (..., n) times the weight (m, n), plus the bias (m,)."""
        if not self._serves(x, weight):
            return F.linear(x, weight, bias)
        key = (weight.data_ptr(), 0 if weight.is_inference() else weight._version)
        if key != self._key:
            self._pack(weight)
            self._key = key
        rows = x.reshape(-1, x.shape[-1])
        count = len(rows)
        if count < self._least:
            rows = rows.repeat(self._least, 1)
        return self._apply(rows, bias)[:count].view(*x.shape[:-1], -1)

    @staticmethod
    def _serves(x: Tensor, weight: Tensor) -> bool:
        """True for a few rows of numbers on an x86 processor, while nothing is learnt."""
        return (
            torch.is_inference_mode_enabled()
            and x.dtype == weight.dtype == torch.float32
            and x.device.type == weight.device.type == "cpu"
            and 0 < x.numel() <= MOST_ROWS * x.shape[-1]
            and torch.backends.mkl.is_available()
            and torch.backends.mkldnn.is_available()
        )

    def _pack(self, weight: Tensor) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), USUAL_ROWS)
        probe = torch.linspace(-1, 1, weight.shape[1]).expand(2, -1).contiguous()
        one, two = self._apply(probe[:1], None), self._apply(probe, None)
        self._least = 1 if torch.equal(one, two[:1]) else 2

    def _apply(self, rows: Tensor, bias: Tensor | None) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._weight, bias, "none", [], "")
        return product


class Linear(nn.Linear):
    """A linear layer of what is decoded step by step."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self._packed = Packed()

    def forward(self, x: Tensor) -> Tensor:
        return self._packed(x, self.weight, self.bias)
