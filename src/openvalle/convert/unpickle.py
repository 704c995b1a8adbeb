"""Files of `torch.save`, read without running what they say.

A pickle is a program: opening one with Python's own reader can do anything. Here the few instructions that build
numbers, texts, containers and tensors are carried out one by one, and nothing else exists: no function of Python is
ever looked up or called. What a file asks for beyond that is named and refused. Paths of `pathlib` become texts.

Tensors are not read yet: a file holds an optimiser, too, and nobody wants that in memory.
"""

from __future__ import annotations

import math
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openvalle.errors import ModelError

MOST_BYTES = 64 << 20  # of the program; those of models have one or two megabytes
MOST_STEPS = 5_000_000
DEEPEST = 60
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how files of torch before 1.6 begin
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath")
HINT = "openvalle opens files of tensors, numbers, texts and containers alone; of a whole network save its state_dict()"


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor in a file, not read yet."""

    path: Path
    entry: str  # of the archive
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def read(self) -> Tensor:
        """Return the tensor; `ModelError` if the file is cut short."""
        size = torch.empty(0, dtype=self.dtype).element_size()
        last = self.offset + sum((length - 1) * step for length, step in zip(self.shape, self.stride, strict=True))
        count = last - self.offset + 1 if math.prod(self.shape) else 0
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.entry) as file:
                file.seek(self.offset * size)
                data = bytearray(file.read(count * size))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise _damaged(self.path, str(error)) from None
        if len(data) != count * size:
            raise _damaged(self.path, f"{self.entry} is shorter than a tensor in it")
        flat = torch.frombuffer(data, dtype=self.dtype) if data else torch.empty(0, dtype=self.dtype)
        return flat.as_strided(self.shape, self.stride).clone()


@dataclass(frozen=True)
class _Global:
    """The name of something that a file asks for, and what stands for it here."""

    name: str
    build: Callable[..., Any]


class _Refused(Exception):
    """What a file may not do."""


def read_torch(path: Path) -> Any:
    """Return what a file of `torch.save` holds, with a `StoredTensor` for each tensor; `ModelError` says why not."""
    try:
        with path.open("rb") as file:
            head = file.read(len(LEGACY))
        if head == LEGACY:
            raise ModelError(
                f"{path} was saved by torch before 1.6, in a form that only running it can read",
                "load it there, where you trust it, and save it again with today's torch",
            )
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            program = next((name for name in entries if name.split("/")[1:] == ["data.pkl"]), None)
            if program is None:
                raise ModelError(f"{path} is a zip file, and none of torch.save", "give a file of weights")
            if entries[program].file_size > MOST_BYTES:
                raise ModelError(f"{path}: its pickle is larger than any model's", HINT)
            for info in entries.values():
                if info.compress_type != zipfile.ZIP_STORED:
                    raise ModelError(f"{path}: {info.filename} is compressed, which torch.save never does", HINT)
            data = archive.read(program)
            order = next((archive.read(name) for name in entries if name.endswith("/byteorder")), b"little")
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError, struct.error) as error:
        if isinstance(error, FileNotFoundError):
            raise ModelError(f"there is no file {path}", "check the path") from None
        raise _damaged(path, str(error)) from None
    if order.strip() != b"little":
        raise ModelError(f"{path} was written on a big-endian machine", "save it again on another")
    sizes = {name.partition("/data/")[2]: info for name, info in entries.items() if "/data/" in name}
    try:
        return _Machine(path, {key: (info.filename, info.file_size) for key, info in sizes.items()}).run(data)
    except _Refused as error:
        raise ModelError(f"{path} is refused: {error}", HINT) from None
    except (ValueError, IndexError, KeyError, TypeError, AssertionError, OverflowError, RecursionError) as error:
        raise _damaged(path, f"its pickle makes no sense: {type(error).__name__}") from None


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(f"{path} is cut short or damaged ({' '.join(why.split())[:120]})", "copy it again")


class _Machine:
    """Carries out the program of one file. `storages`: key -> entry of the archive and its size in bytes."""

    def __init__(self, path: Path, storages: dict[str, tuple[str, int]]) -> None:
        self.path, self.storages = path, storages
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        """Return what the program leaves behind."""
        for number, (opcode, argument, _) in enumerate(pickletools.genops(program)):
            if number > MOST_STEPS:
                raise _Refused("its pickle has more steps than any model's")
            if opcode.name == "STOP":
                return self._check(self.stack.pop(), 0, set())
            self._step(opcode.name, argument)
        raise ValueError("no end")

    def _check(self, value: Any, depth: int, seen: set[int]) -> Any:
        """Return the result, in which nothing is nested without end, and nothing is a name alone."""
        if depth > DEEPEST:
            raise _Refused("what it holds is nested too deep")
        if isinstance(value, _Global):
            raise _Refused(f"it holds {value.name} itself")
        if isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            for inner in (*value.keys(), *value.values()) if isinstance(value, dict) else value:
                self._check(inner, depth + 1, seen)
        return value

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case (
                "BININT" | "BININT1" | "BININT2" | "INT" | "LONG" | "LONG1" | "LONG4" | "BINFLOAT" | "FLOAT"
                | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8" | "UNICODE" | "BINSTRING" | "SHORT_BINSTRING"
                | "STRING" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8"
            ):  # fmt: skip
                stack.append(argument)
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE" | "EMPTY_SET":
                stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}[name]())
            case "MARK":
                self.marks.append(len(stack))
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._take()
            case "DUP":
                stack.append(stack[-1])
            case "TUPLE" | "LIST" | "DICT" | "FROZENSET":
                items = self._take()
                pairs = zip(items[::2], items[1::2], strict=True)
                made: Any = {"TUPLE": tuple, "LIST": list, "FROZENSET": frozenset}.get(name, list)(items)
                stack.append(dict(pairs) if name == "DICT" else made)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
            case "APPEND" | "APPENDS":
                items = self._take() if name == "APPENDS" else [stack.pop()]
                self._top(list).extend(items)
            case "ADDITEMS":
                items = self._take()
                self._top(set).update(items)
            case "SETITEM" | "SETITEMS":
                items = self._take() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                self._top(dict).update(zip(items[::2], items[1::2], strict=True))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[int(argument)] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[int(argument)])
            case "GLOBAL" | "STACK_GLOBAL":
                module, attribute = argument.split(" ", 1) if name == "GLOBAL" else (stack.pop(-2), stack.pop())
                stack.append(self._find(str(module), str(attribute)))
            case "INST":
                raise _Refused(f"it wants to run {str(argument).replace(' ', '.')[:80]}")
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                if not isinstance(function, _Global) or not isinstance(arguments, tuple):
                    raise _Refused("it calls what is no name")
                stack.append(function.build(*arguments))
            case "BUILD":  # the attributes of an ordered dictionary, which is a plain one here
                stack.pop()
                self._top(dict)
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case _:
                raise _Refused(f"its pickle uses the instruction {name}")

    def _take(self) -> list[Any]:
        """Return what lies above the last mark, and take it away."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise _Refused(f"it changes what is no {kind.__name__}")
        return self.stack[-1]

    def _find(self, module: str, name: str) -> _Global:
        """Return what stands for a name here; every other one is refused."""
        full = f"{module}.{name}"
        if module == "collections" and name == "OrderedDict":
            return _Global(full, lambda pairs=(): dict(pairs))
        if module in ("builtins", "__builtin__") and name in ("set", "frozenset"):
            return _Global(full, lambda items=(): set(items))
        if module.partition(".")[0] == "pathlib" and name in PATHS:
            return _Global(full, _join_path)
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _Global(full, self._tensor)
        if module == "torch._utils" and name == "_rebuild_parameter":
            return _Global(full, lambda tensor, requires_grad=False, hooks=None: tensor)
        if module == "torch" and name in DTYPES:
            return _Global(full, _refuse_call)
        if module == "torch" and name == "Size":
            return _Global(full, lambda sizes=(): tuple(sizes))
        raise _Refused(f"it wants to run {full[:80]}")

    def _storage(self, given: Any) -> tuple[str, int, torch.dtype]:
        """Return the entry, size in bytes and kind of the numbers that tensors lie in."""
        kind, numbers, key = given[:3]
        if kind != "storage" or not isinstance(numbers, _Global) or numbers.build is not _refuse_call:
            raise _Refused("it names storage that is no tensor's")
        if str(key) not in self.storages:
            raise ValueError("no such storage")
        return *self.storages[str(key)], DTYPES[numbers.name.removeprefix("torch.")]

    def _tensor(self, storage: Any, offset: int, shape: Any, stride: Any, *_: Any) -> StoredTensor:
        entry, size, dtype = storage
        shape, stride = tuple(map(int, shape)), tuple(map(int, stride))
        if len(shape) != len(stride) or len(shape) > 8 or min((0, offset, *shape, *stride)) < 0:
            raise _Refused("it holds a tensor of no shape")
        entries = size // torch.empty(0, dtype=dtype).element_size()
        last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
        if math.prod(shape) > entries or (math.prod(shape) and last >= entries):
            raise _Refused(f"a tensor of shape {shape} is larger than its storage")
        return StoredTensor(self.path, entry, dtype, shape, stride, offset)


def _join_path(*parts: str) -> str:
    """Return the text of a path of `pathlib`, which is no path here."""
    return "/".join(str(part).rstrip("/\\") or "/" for part in parts).replace("//", "/")


def _refuse_call(*_: Any) -> Any:
    raise _Refused("it calls a kind of storage")
