"""Converted networks give the numbers that the code they come from gave for the same weights, ids and prompts.

`recorded/*.npz` holds what was put into their code and what came out, and its revision; see `layouts`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import checkpoint_layouts as layouts
from openvalle.convert.base import Given
from openvalle.convert.convert import find_source
from openvalle.convert.weights import StoredWeights
from openvalle.decode.ar import AROptions, Draw, StoppedBy, generate
from openvalle.decode.nar import fill
from openvalle.decode.prompt import Accent, SpeechPrompt, prepare_inputs
from openvalle.engines.torch import TorchAR, TorchNAR
from openvalle.model.ar import AR
from openvalle.model.nar import NAR

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@dataclass(frozen=True)
class Tensor:
    """A weight that is there already."""

    value: torch.Tensor

    @property
    def shape(self):
        return tuple(self.value.shape)

    @property
    def dtype(self):
        return self.value.dtype

    def read(self):
        return self.value


def given(weights, symbols=None, **settings):
    stored = StoredWeights(
        "weights", {name: Tensor(value) for name, value in weights.items()}, {"nhead": layouts.HEADS}
    )
    return Given((stored,), symbols, settings=settings)


def table(folder, rows):
    """Return a file of so many symbols, of which three are put before the others."""
    path = folder / "symbols"
    path.write_text("".join(f"s{number:04} {number}\n" for number in range(rows - 3)), encoding="utf-8")
    return path


def compare(converted, record, name, *, edges=1, accent=Accent.NATIVE, languages=(0, 0), ended=None):
    """Hold both networks against a record: logits of each step, as it was decoded and at once; codes of all stages."""
    ar, nar = AR(converted.ar), NAR(converted.nar)
    ar.load_state_dict(converted.ar_state)
    nar.load_state_dict(converted.nar_state)
    ar, nar = TorchAR(ar.eval()), TorchNAR(nar.eval())
    ids, prompt, codes = (record[f"{name}.{part}"].astype(np.int64) for part in ("ids", "prompt", "codes"))
    enrolled = int(record[f"{name}.enroll"]) - 2 * edges
    text = ids[edges : len(ids) - edges]
    language, before = languages
    spoken = SpeechPrompt(text, enrolled, prompt if len(prompt) else None, None, language, before)
    logits = record[f"{name}.ar"]
    greedy = AROptions.parse(
        {**converted.generation, "most_frames": 99.0, "watch": {"ends": False, "loop_frames": 0}},
    )
    sampling = greedy.sampling.model_copy(update={"temperature": 0.0})
    ended = len(codes) < 16 * len(ids) if ended is None else ended  # theirs go on for so long without <EOS>
    most = len(codes) + 9 * ended
    greedy = greedy.model_copy(update={"sampling": sampling, "limit_frames": most, "accent": accent})
    # at once, and step by step
    start = prepare_inputs(converted.ar, [spoken.ar(converted.ar)], [accent])
    scores, state = ar.prefill(start, len(codes) + 1)
    shown = [scores.codes[0, 0]]
    for code in codes[: len(logits) - 1, 0]:
        scores, state = ar.step(
            np.array([[code]]), None, np.array([spoken.ar(converted.ar).language_spoken(accent)]), state
        )
        shown.append(scores.codes[0, 0])
    np.testing.assert_allclose(np.stack(shown), logits, **CLOSE)
    result = generate(ar, [Draw(spoken.ar(converted.ar), greedy, 0)])[0]
    assert np.array_equal(result.codes, codes[:, 0])
    assert result.stopped_by == (StoppedBy.EOS if ended else StoppedBy.LIMIT)
    seen = {}

    def note(_, inputs, out):
        seen[inputs[1]] = out.numpy()

    nar.network.code_head.register_forward_hook(note)
    filled = fill(nar, [spoken.nar(converted.ar, accent, codes[:, 0])])[0]
    assert np.array_equal(filled, codes)
    expected = record[f"{name}.nar"]
    assert list(seen) == list(range(1, 8))
    np.testing.assert_allclose(np.stack([seen[stage][: expected.shape[1]] for stage in seen]), expected, **CLOSE)


@pytest.mark.parametrize(
    ("name", "sizes", "mode"),
    [
        ("plain", {}, 1),
        ("bos", {"bos": True}, 1),
        ("mode0", {}, 0),
        ("mode2", {}, 2),
        ("mode4", {}, 4),
        ("prenet", {"prenet": True}, 1),
        ("scaled", {"nar_scale": 2.0}, 1),
    ],
)
def test_lifeiteng(name, sizes, mode, tmp_path):
    weights = layouts.valle_weights(**sizes)
    settings = {"prefix_mode": mode, "scale_factor": sizes.get("nar_scale", 1.0)}
    if "nar_scale" in sizes:
        settings["nhead"] = layouts.HEADS
    converted = find_source("lifeiteng").convert(given(weights, table(tmp_path, 24), **settings))
    compare(converted, np.load(layouts.RECORDED / "lifeiteng.npz"), name)


def test_icefall(tmp_path):
    weights = layouts.valle_weights(text_rows=5000)
    converted = find_source("icefall").convert(given(weights, table(tmp_path, 40)))
    assert converted.ar.symbols == 40, "rows that no symbol uses are left out"
    compare(converted, np.load(layouts.RECORDED / "icefall.npz"), "plain")


@pytest.mark.parametrize(("name", "mode"), [("plain", 1), ("mode0", 0)])
def test_amphion(name, mode, tmp_path):
    weights = layouts.valle_weights()
    (tmp_path / "args.json").write_text(
        f'{{ // settings\n "model": {{"nhead": 2, "prefix_mode": {mode}, "nar_scale_factor": 1.0}}}}', encoding="utf-8"
    )
    symbols = table(tmp_path, 24).rename(tmp_path / "symbols.dict")
    once = {key: value for key, value in weights.items() if key != "nar_predict_layers.2.weight"}  # of a shared one
    files = Given(given(once).weights, None, (tmp_path / "args.json", symbols))
    converted = find_source("amphion").convert(files)
    compare(converted, np.load(layouts.RECORDED / "amphion.npz"), name)


@pytest.mark.parametrize(
    ("name", "eos", "accent", "languages"),
    [
        ("en", 0.0, Accent.NATIVE, (1, 1)),
        ("accent", 0.0, Accent.NATIVE, (1, 2)),  # of a Mandarin prompt and English words
        ("alone", 0.05, Accent.NATIVE, (3, 3)),
    ],
)
def test_plachtaa(name, eos, accent, languages, tmp_path):
    weights = layouts.valle_weights(text_rows=2048, bos=True, languages=3, eos=eos)
    converted = find_source("plachtaa").convert(given(weights))
    assert converted.ar.symbols == 70
    record = np.load(layouts.RECORDED / "plachtaa.npz")
    compare(converted, record, name, edges=0, accent=accent, languages=languages)


def test_amphion_v2():
    stored = [given(layouts.llama_weights(part)).weights[0] for part in ("nar", "ar")]
    stored = [StoredWeights(part, found.tensors) for part, found in zip(("nar", "ar"), stored, strict=True)]
    converted = find_source("amphion-v2").convert(Given(tuple(stored), settings={"heads": layouts.HEADS}))
    symbols = converted.vocabulary.symbols
    assert len(symbols) == 220
    fixed = {"!": 0, "<BOS>": 5, "<EOS>": 6, "?": 9, "AO1": 40, "L": 137, "UH1B": 189, "UH2B": 190, "|": 219}
    assert {symbol: symbols.index(symbol) for symbol in fixed} == fixed
    compare(converted, np.load(layouts.RECORDED / "amphion-v2.npz"), "plain", edges=0, ended=False)


def test_enhuiz(tmp_path):
    stored = tuple(given(layouts.enhuiz_weights(part)).weights[0] for part in ("ar", "nar"))
    symbols = tmp_path / "symbols"
    symbols.write_text("".join(f"s{number:02} {number}\n" for number in range(1, 20)), encoding="utf-8")
    stored = tuple(StoredWeights(found.source, found.tensors) for found in stored)
    converted = find_source("enhuiz").convert(Given(stored, symbols, settings={"n_heads": layouts.HEADS}))
    assert converted.vocabulary.symbols[:2] == ("<pad>", "s01")
    compare(converted, np.load(layouts.RECORDED / "enhuiz.npz"), "plain", edges=0, ended=False)
