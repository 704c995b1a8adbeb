"""Files of torch.save are read without running them: twenty kinds of programs that would do harm do none."""

from __future__ import annotations

import collections
import zipfile
from pathlib import PosixPath, PureWindowsPath

import pytest
import torch

import checkpoint_layouts as layouts
from harmful_pickles import HARMFUL, call, pack, text
from openvalle.convert.unpickle import StoredTensor, read_torch
from openvalle.convert.weights import read_weights
from openvalle.errors import ModelError


@pytest.mark.parametrize("kind", HARMFUL)
def test_no_harmful_program_runs(kind, tmp_path):
    mark = tmp_path / "harm"
    path = pack(tmp_path / "weights.pt", HARMFUL[kind](mark))
    with pytest.raises(ModelError, match="is refused: ") as caught:
        read_torch(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_there_are_at_least_twenty_kinds():
    assert len(HARMFUL) >= 20


def test_what_is_refused_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"it wants to run os\.system; openvalle opens files of tensors"):
        read_torch(pack(tmp_path / "weights.pt", call("os", "system", "true")))


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b".",
        b"K\x01",
        b"0.",
        b"K\x01K\x02t.",
        b"h\x05.",
        b"}" + b"K\x01s.",
        b"\xff\xff.",
        b"I9" + b"9" * 9000 + b"\n.",
    ],
)
def test_programs_that_make_no_sense_are_damaged_files(program, tmp_path):
    with pytest.raises(ModelError, match=r"cut short or damaged|is refused"):
        read_torch(pack(tmp_path / "weights.pt", program))


def test_tensors_of_all_kinds_come_back_as_torch_saved_them(tmp_path):
    kinds = (
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.uint8,
        torch.bool,
    )
    values = {str(kind): (torch.randn(3, 4) * 9).to(kind) for kind in kinds}
    values |= {"turned": torch.randn(5, 6).T, "part": torch.randn(9, 9)[2:4, 3::2], "number": torch.tensor(3.5)}
    values |= {"none": torch.zeros(0, 3), "shared": values["turned"], "parameter": torch.nn.Parameter(torch.ones(2))}
    torch.save(values, tmp_path / "weights.pt")
    found = read_torch(tmp_path / "weights.pt")
    assert list(found) == list(values)
    for name, value in values.items():
        assert isinstance(found[name], StoredTensor)
        assert found[name].read().equal(value.detach()), name


def test_paths_are_texts_on_every_system(tmp_path):
    values = {"posix": PosixPath("a/b"), "root": PosixPath("/x"), "windows": PureWindowsPath("c:/d")}
    torch.save({**values, "order": collections.OrderedDict(a=1), "set": {1, 2}}, tmp_path / "weights.pt")
    found = read_torch(tmp_path / "weights.pt")
    assert found["posix"] == "a/b"
    assert found["root"] == "/x"
    assert found["order"] == {"a": 1}
    assert found["set"] == {1, 2}
    # as a Windows machine writes it, which no other can make
    program = b"cpathlib\nWindowsPath\n(" + text("c:") + text("exp") + b"tR."
    assert read_torch(pack(tmp_path / "windows.pt", program)) == "c:/exp"


def test_a_whole_checkpoint_gives_its_weights_and_plain_settings(tmp_path):
    weights = layouts.valle_weights()
    torch.save(layouts.valle_checkpoint(weights), tmp_path / "checkpoint.pt")
    found = read_weights(tmp_path / "checkpoint.pt")
    assert set(found.tensors) == set(weights)
    assert found.settings["nhead"] == layouts.HEADS
    assert found.settings["exp_dir"] == "exp/valle"
    assert found.read("ar_predict_layer.weight").equal(weights["ar_predict_layer.weight"])
    averaged = read_weights(tmp_path / "checkpoint.pt", average=True)
    assert averaged.read("ar_predict_layer.weight").equal(weights["ar_predict_layer.weight"])


def test_bad_files_get_one_line(tmp_path):
    whole = tmp_path / "whole.pt"
    torch.save({"model": {"weight": torch.randn(400)}}, whole)
    data = whole.read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 10):
        (tmp_path / "cut.pt").write_bytes(data[:size])
        with pytest.raises(ModelError, match="cut short or damaged"):
            read_torch(tmp_path / "cut.pt")
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ModelError, match=r"saved by torch before 1\.6"):
        read_torch(tmp_path / "old.pt")
    torch.save({"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}, tmp_path / "optimizer.pt")
    with pytest.raises(ModelError, match="an optimiser's state and no weights"):
        read_weights(tmp_path / "optimizer.pt")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="holds a list, not weights by name"):
        read_weights(tmp_path / "list.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(ModelError, match=r"it wants to run torch\.nn\.modules\.linear\.Linear"):
        read_weights(tmp_path / "module.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(ModelError, match=r"a zip file, and none of torch\.save"):
        read_torch(tmp_path / "other.zip")
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"}.")
        archive.writestr("archive/data/0", b"\0" * (1 << 20))
    with pytest.raises(ModelError, match=r"is compressed, which torch\.save never does"):
        read_torch(tmp_path / "bomb.pt")
    with pytest.raises(ModelError, match="there is no file"):
        read_torch(tmp_path / "nowhere.pt")


def test_weights_are_checked_before_they_are_read(tmp_path):
    path = tmp_path / "half.pt"
    torch.save({"module.a": torch.ones(2).half(), "module._orig_mod.b": torch.tensor([1.0, float("nan")])}, path)
    found = read_weights(path)
    assert found.read("a").dtype == torch.float32
    with pytest.raises(ModelError, match="b holds values that are no finite numbers"):
        found.read("b")
    with pytest.raises(ModelError, match="lacks c, d; it is not whole"):
        found.check({"a": (2,), "b": (2,), "c": (1,), "d": (1,)})
    with pytest.raises(ModelError, match="has b too"):
        found.check({"a": (2,)})
    with pytest.raises(ModelError, match=r"a of shape \(2,\), where \(3,\) belongs"):
        found.check({"a": (3,), "b": (2,)})
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["half.pt"]
