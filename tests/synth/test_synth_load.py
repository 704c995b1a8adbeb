"""How a model is loaded: what it sets for the whole process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from openvalle.engines.load import KEPT_SHAPES

CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
SYNTHESIZER = "Synthesizer.load(engine='torch', device='cpu')"
LOAD = f"import os; from openvalle import Synthesizer; {SYNTHESIZER}; print(os.environ['{CAPACITY}'])"


@pytest.mark.parametrize(("said", "wanted"), [(None, KEPT_SHAPES), ("7", "7")])
def test_few_shapes_are_kept_unless_the_user_says_how_many(said: str | None, wanted: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != CAPACITY}
    environment |= {} if said is None else {CAPACITY: said}
    found = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == wanted
