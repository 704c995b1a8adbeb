"""Programs in files of torch.save that would do harm if they were run. Each takes the path of a file
that it would make."""

from __future__ import annotations

import pathlib
import pickle
import struct
import zipfile
from pathlib import Path, PosixPath

import numpy as np
import torch


def pack(path: Path, program: bytes, **entries: bytes) -> Path:
    """Write a file as torch.save does, with any program."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/data/0", entries.get("data", b"\0" * 64))
        archive.writestr("archive/version", b"3\n")
    return path


class Calls:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def call(module: str, name: str, *arguments: str) -> bytes:
    """A program that looks up a function and calls it."""
    return b"c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(map(text, arguments)) + b"tR."


STORAGE = b"ctorch\nFloatStorage\n"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


def tensor(offset: int, shape: bytes, stride: bytes, key: str = "0") -> bytes:
    """A program that builds a tensor of 16 numbers in storage `key`."""
    storage = b"(" + text("storage") + STORAGE + text(key) + text("cpu") + b"K\x10tQ"
    return TENSOR + b"(" + storage + b"J" + struct.pack("<i", offset) + shape + stride + b"\x89}tR."


HARMFUL = {
    "os.system": lambda mark: call("os", "system", f"touch {mark}"),
    "posix.system": lambda mark: call("posix", "system", f"touch {mark}"),
    "eval": lambda mark: call("builtins", "eval", f"open({str(mark)!r}, 'w')"),
    "exec": lambda mark: call("builtins", "exec", f"open({str(mark)!r}, 'w')"),
    "open": lambda mark: call("builtins", "open", str(mark), "w"),
    "__import__": lambda mark: call("builtins", "__import__", "this"),
    "getattr of an allowed module": lambda mark: call("torch", "load", str(mark)),
    "a name with dots": lambda mark: b"\x80\x04" + text("collections") + text("OrderedDict.__init__") + b"\x93)R.",
    "subprocess": lambda mark: pickle.dumps(Calls(__import__("subprocess").check_output, ["touch", str(mark)])),
    "pickle in a pickle": lambda mark: pickle.dumps(Calls(pickle.loads, call("os", "system", f"touch {mark}"))),
    "torch.load": lambda mark: pickle.dumps(Calls(torch.load, str(mark))),
    "a path that opens": lambda mark: pickle.dumps(Calls(pathlib.Path.touch, PosixPath(mark))),
    "the instruction INST": lambda mark: b"(" + text(f"touch {mark}") + b"ios\nsystem\n.",
    "the instruction OBJ": lambda mark: b"(cos\nsystem\n" + text(f"touch {mark}") + b"o.",
    "the instruction NEWOBJ": lambda mark: b"\x80\x02cbuiltins\nobject\n)\x81.",
    "the instruction EXT1": lambda mark: b"\x80\x02\x82\x01.",
    "a class with a state": lambda mark: b"ccollections\nOrderedDict\n}" + text("__class__") + text("x") + b"sb.",
    "a function as a value": lambda mark: b"ctorch._utils\n_rebuild_tensor_v2\n.",
    "a call of a kind of storage": lambda mark: STORAGE + b"K\x10\x85R.",
    "storage of another name": lambda mark: b"(" + text("module") + STORAGE + text("0") + text("cpu") + b"K\x10tQ.",
    "a tensor beyond its storage": lambda mark: tensor(0, b"K\x40\x85", b"K\x01\x85"),
    "a tensor before its storage": lambda mark: tensor(-8, b"K\x04\x85", b"K\x01\x85"),
    "a tensor with steps beyond its storage": lambda mark: tensor(0, b"K\x04\x85", b"K\x7f\x85"),
    "a tensor that is one number a billion times": lambda mark: tensor(0, b"J\x00\xca\x9a\x3b\x85", b"K\x00\x85"),
    "nesting without end": lambda mark: b"]" + b"\x85" * 5000 + b".",
    "numpy's own call": lambda mark: pickle.dumps(np.float64(1.0)),
    "a path made of a call": lambda mark: b"cpathlib\n_os\n)R.",
}  # fmt: skip
