"""`openvalle convert` of what is no checkpoint: one line, exit 2, nothing written and nothing run."""

from __future__ import annotations

import itertools
import zipfile

import numpy as np
import pytest
import torch

import checkpoint_layouts as layouts
from harmful_pickles import HARMFUL, call, pack


@pytest.fixture
def refuse(openvalle, tmp_path):
    """Convert a file, which must not succeed; return the line that says why."""

    def run(source, *arguments):
        out = tmp_path / "model"
        done = openvalle("convert", source, *arguments, "-o", out)
        assert done.code == 2, done.err
        assert done.out == ""
        assert done.err.count("\n") == 1
        assert done.err.startswith("error: ")
        assert not out.exists()
        return done.err

    return run


def save(path, value):
    torch.save(value, path)
    return path


@pytest.mark.parametrize("kind", HARMFUL)
def test_no_harmful_program_runs(kind, refuse, openvalle, tmp_path):
    mark = tmp_path / "harm"
    path = pack(tmp_path / "vallex-checkpoint.pt", HARMFUL[kind](mark))
    assert " is refused: " in refuse("plachtaa", path)
    told = openvalle("convert", "--detect", path)
    assert (told.code, told.out.count("\n")) == (0, 1)
    assert " is refused: " in told.out
    assert not mark.exists()


def test_a_harmful_file_among_good_ones_is_refused(refuse, tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    save(folder / "ar.pt", layouts.llama_weights("ar"))
    pack(folder / "nar.pt", call("os", "system", f"touch {tmp_path / 'harm'}"))
    assert "it wants to run os.system" in refuse("amphion-v2", folder)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files_that_are_cut_short(share, suffix, refuse, tmp_path):
    path = tmp_path / f"weights{suffix}"
    weights = layouts.valle_weights(text_rows=2048, bos=True, languages=3, tied=False)
    if suffix == ".pt":
        save(path, {"model": weights})
    else:
        from safetensors.torch import save_file

        save_file(weights, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert f"{path} is cut short or damaged" in refuse("plachtaa", path)


def test_a_file_whose_numbers_are_cut_short(refuse, tmp_path):
    """A zip file that is whole, of a tensor that is not."""
    path = save(tmp_path / "whole.pt", {"model": layouts.valle_weights(text_rows=2048, bos=True, languages=3)})
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "cut.pt", "w") as short:
        for info in archive.infolist():
            data = archive.read(info)
            short.writestr(info.filename, data[: len(data) // 2] if "/data/" in info.filename else data)
    assert "is larger than its storage" in refuse("plachtaa", tmp_path / "cut.pt", "--set", "nhead=2")


FOREIGN = {
    "a picture": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(900)),
    "a text": lambda path: path.write_text("hello", encoding="utf-8"),
    "an old pickle": lambda path: torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False),
    "a whole network": lambda path: torch.save(torch.nn.Linear(2, 2), path),
    "an optimiser": lambda path: torch.save({"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}, path),
    "an optimiser beside others": lambda path: torch.save({"optimizer": {"state": {}}, "step": 3}, path),
    "another network": lambda path: torch.save({"conv1.weight": torch.ones(2, 2)}, path),
    "a network of Llama's kind": lambda path: torch.save({"model.embed_tokens.weight": torch.ones(4, 2)}, path),
    "numbers": lambda path: torch.save([1, 2, 3], path),
    "an array": lambda path: torch.save({"model": np.ones(3)}, path),
    "a zip file": lambda path: zipfile.ZipFile(path, "w").writestr("a.txt", "hello"),
    "NumPy's own": lambda path: np.save(path.open("wb"), np.ones(3)),
}


SOURCES = ("lifeiteng", "icefall", "amphion", "amphion-v2", "plachtaa", "enhuiz")


@pytest.mark.parametrize(("kind", "source"), [*zip(FOREIGN, 2 * SOURCES, strict=True)])
def test_a_strangers_file(kind, source, refuse, tmp_path):
    path = tmp_path / "model.pt"
    FOREIGN[kind](path)
    assert str(path) in refuse(source, path)


@pytest.mark.parametrize("source", SOURCES)
def test_another_network_is_of_no_project(source, refuse, tmp_path):
    path = save(tmp_path / "model.pt", {"encoder.weight": torch.ones(2, 2)})
    assert "is of no source that is known (it begins with encoder.weight); see --detect" in refuse(source, path)


MADE = {
    "lifeiteng": [layouts.valle_weights],
    "plachtaa": [lambda: layouts.valle_weights(text_rows=2048, bos=True, languages=3)],
    "amphion-v2": [lambda: layouts.llama_weights("ar"), lambda: layouts.llama_weights("nar")],
    "enhuiz": [lambda: layouts.enhuiz_weights("ar"), lambda: layouts.enhuiz_weights("nar")],
}


@pytest.mark.parametrize(("source", "named"), [*itertools.permutations(MADE, 2)])
def test_the_wrong_project(source, named, refuse, tmp_path):
    paths = [save(tmp_path / f"{at}.pt", make()) for at, make in enumerate(MADE[source])]
    said = refuse(named, *paths)
    assert f"is of the source {source}, not {named}; convert {source}" in said
