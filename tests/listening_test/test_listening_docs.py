"""The page about listening tests shows a design that can be used, rules and settings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from openvalle.listening_test.study import Design, Exclusion

PAGE = (Path(__file__).parents[2] / "docs" / "listening-tests.md").read_text(encoding="utf-8")


def test_the_design_shown_is_one() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    design = Design.parse(yaml.safe_load(block))
    assert design.baseline == "theirs"
    assert set(yaml.safe_load(block)) >= set(Design.model_fields) - {"step"}


def test_every_rule_is_described_with_its_default() -> None:
    table = PAGE.split("| `--rule` | default | |")[1]
    for name, field in Exclusion.model_fields.items():
        assert f"`{name}`" in table
        shown = str(field.default).lower().removesuffix(".0")
        assert re.search(rf"`{name}`[^\n]*\| [^|]*\b{re.escape(shown)}\b", table), (name, shown)
