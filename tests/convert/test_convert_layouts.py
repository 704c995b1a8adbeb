"""Files that are not whole: whatever weight is missing, or of another shape, is told by name, and nothing fails."""

from __future__ import annotations

import re

import pytest
import torch
from test_convert_parity import Tensor, table

import checkpoint_layouts as layouts
from openvalle.convert.base import Given, first_match
from openvalle.convert.convert import LIKE, SOURCES, find_source
from openvalle.convert.weights import StoredWeights
from openvalle.errors import ModelError

KINDS = {
    "lifeiteng": lambda: [layouts.valle_weights()],
    "icefall": lambda: [layouts.valle_weights(text_rows=5000)],
    "amphion": lambda: [layouts.valle_weights(prenet=True)],
    "plachtaa": lambda: [layouts.valle_weights(text_rows=2048, bos=True, languages=3)],
    "amphion-v2": lambda: [layouts.llama_weights("ar"), layouts.llama_weights("nar")],
    "enhuiz": lambda: [layouts.enhuiz_weights("ar"), layouts.enhuiz_weights("nar")],
}
# Shared weights, of which a file may hold one name, and what nothing uses.
NEEDLESS = re.compile(r"nar_predict_layers\.[0-5]\.|nar_audio_embeddings\.[2-7]\.|.*rotary_emb\.inv_freq")


@pytest.mark.parametrize("name", KINDS)
def test_whatever_is_missing_or_empty_is_named(name, tmp_path):
    source, files = find_source(name), KINDS[name]()
    symbols = None if name in ("plachtaa", "amphion-v2") else table(tmp_path, 19)
    if name == "enhuiz":
        symbols.write_text("".join(f"s{number} {number}\n" for number in range(1, 20)), encoding="utf-8")
    heads = {"amphion-v2": {"heads": 2}, "enhuiz": {"n_heads": 2}}.get(name, {"nhead": 2})

    def attempt(number, key, value):
        changed = [dict(weights) for weights in files]
        changed[number].pop(key)
        changed[number] |= {} if value is None else {key: value}
        given = [
            StoredWeights(f"file{at}", {own: Tensor(weight) for own, weight in weights.items()})
            for at, weights in enumerate(changed)
        ]
        assert {first_match(SOURCES, weights) for weights in given} <= ({source} | (LIKE if source in LIKE else set()))
        source.convert(Given(tuple(given), symbols, settings=heads))

    for number, weights in enumerate(files):
        for key in weights:
            if NEEDLESS.match(key):
                attempt(number, key, None)
            else:
                with pytest.raises(ModelError, match=re.escape(key)):
                    attempt(number, key, None)
            if "inv_freq" not in key:
                with pytest.raises(ModelError) as caught:
                    attempt(number, key, torch.zeros(0))
                assert "\n" not in str(caught.value)
                assert f"{key} of shape (0,)" in str(caught.value)
