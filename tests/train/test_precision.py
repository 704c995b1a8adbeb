"""What training multiplies in: what is said, or what the machine is fast at."""

from __future__ import annotations

import pytest
import torch

from openvalle.errors import ConfigError
from openvalle.train.loop import LoopConfig
from openvalle.train.state import TrainingPrecision, autocast, is_bf16

CPU = torch.device("cpu")


def product(precision: TrainingPrecision) -> torch.Tensor:
    with autocast(precision, CPU):
        return torch.ones(2, 2) @ torch.ones(2, 2)


def test_what_is_said_is_done() -> None:
    assert product(TrainingPrecision.FLOAT32).dtype == torch.float32
    assert product(TrainingPrecision.BF16).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("able", "wanted"),
    [
        ({"avx2": True}, False),
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({}, False),
    ],
)
def test_auto_takes_bf16_only_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], wanted: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert is_bf16(TrainingPrecision.AUTO, CPU) is wanted
    assert product(TrainingPrecision.AUTO).dtype == (torch.bfloat16 if wanted else torch.float32)
    assert product(TrainingPrecision.FLOAT32).dtype == torch.float32  # auto only decides when nothing else is said


def test_an_older_torch_that_does_not_tell_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not is_bf16(TrainingPrecision.AUTO, CPU)


def test_precision_is_read_from_a_recipe() -> None:
    assert LoopConfig.parse({"steps": 1}, "loop").precision is TrainingPrecision.AUTO
    assert LoopConfig.parse({"steps": 1, "precision": "float32"}, "loop").precision is TrainingPrecision.FLOAT32
    with pytest.raises(ConfigError, match=r"precision.*'auto', 'float32' or 'bf16'"):
        LoopConfig.parse({"steps": 1, "precision": "double"}, "loop")
