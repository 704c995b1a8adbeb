"""A row is what it is alone, however many come with it; and the layer is the usual one."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from openvalle.model.linear import MOST_ROWS, Linear

PROMISED = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="promised where oneDNN sums")


@PROMISED
@pytest.mark.parametrize(("inputs", "outputs"), [(32, 96), (448, 1344), (1536, 448), (30, 7), (448, 1025)])
def test_rows_do_not_depend_on_each_other(inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    layer, x = Linear(inputs, outputs), torch.randn(20, 1, inputs)
    with torch.inference_mode():
        whole = layer(x)
        for count in range(1, 20):
            assert torch.equal(layer(x[:count]), whole[:count])
            assert torch.equal(layer(x[count:]), whole[count:])
        torch.testing.assert_close(whole, F.linear(x, layer.weight, layer.bias))


def test_it_is_a_linear_layer() -> None:
    """For any number of rows, with weights that change under it, in copies of it and while it learns."""
    torch.manual_seed(0)
    layer = Linear(8, 5)

    def check(layer: Linear) -> None:
        with torch.inference_mode():
            for shape in ((8,), (1, 8), (2, 3, 8), (MOST_ROWS, 8), (MOST_ROWS + 1, 8), (0, 8)):
                x = torch.randn(shape)
                torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))

    check(layer)
    with torch.no_grad():
        layer.weight.mul_(2)
    check(layer)
    layer.load_state_dict(Linear(8, 5).state_dict())
    check(layer)
    layer.weight.data = torch.randn(5, 8)
    check(layer)
    check(copy.deepcopy(layer))
    check(pickle.loads(pickle.dumps(layer)))  # noqa: S301 - our own, as processes hand it over
    assert layer.state_dict().keys() == {"weight", "bias"}
    layer(torch.randn(3, 8)).sum().backward()
    assert layer.weight.grad is not None
