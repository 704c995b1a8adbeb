"""Networks as ONNX graphs: written down node by node, and run by onnxruntime.

A graph is small: it names its weights, which are given when it is opened (`open_graph`). Only the part of the format
that is used here is written (https://onnx.ai/onnx/repo-docs/IR.html), so that nothing but onnxruntime is needed to
speak. Weights are NumPy arrays.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.errors import ModelError, import_extra

IR_VERSION, OPSET = 9, 20
OURS = "com.microsoft"  # operators that onnxruntime adds to those of ONNX
KINDS = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10}
PAGE = 4096  # bytes
Shape = Sequence[int | str]


class Graph:
    """Nodes that are put together one after the other; values go by their names."""

    def __init__(self) -> None:
        self.weights: dict[str, np.ndarray] = {}
        self._nodes: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._initializers: list[bytes] = []
        self._count = 0
        self._constants: dict[tuple[Any, ...], str] = {}

    def input(self, name: str, shape: Shape, kind: str = "float32") -> str:
        """Declare an input; return its name."""
        self._inputs.append(_value_info(name, shape, kind))
        return name

    def output(self, value: str, name: str, shape: Shape, kind: str = "float32") -> None:
        """Give a value out under a name."""
        self._nodes.append(_node("Identity", [value], [name], {}, ""))
        self._outputs.append(_value_info(name, shape, kind))

    def declare_output(self, name: str, shape: Shape) -> None:
        """Give out a value, float32, that a node already calls `name`."""
        self._outputs.append(_value_info(name, shape, "float32"))

    def weight(self, name: str, values: np.ndarray) -> str:
        """Add an array that is given when the graph is opened; return its name."""
        if name not in self.weights:
            self.weights[name] = np.ascontiguousarray(values)
        return name

    def constant(self, values: Any, kind: str = "int64") -> str:
        """Return the name of a small array that is written into the graph."""
        array = np.asarray(values, kind)
        key = (array.tobytes(), array.shape, kind)
        if key not in self._constants:
            name = self._constants[key] = f"constant_{len(self._constants)}"
            self._initializers.append(_tensor(name, array))
        return self._constants[key]

    def add(self, operator: str, *inputs: str, count: int = 1, ours: bool = False, **attributes: Any) -> Any:
        """Add a node; return the name of its output, or those of its `count` outputs. Inputs may be "": none."""
        self._count += 1
        outputs = [f"{operator}_{self._count}_{index}" for index in range(count)]
        self.put(operator, inputs, outputs, ours=ours, **attributes)
        return outputs[0] if count == 1 else outputs

    def put(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str], *, ours: bool = False, **attributes: Any
    ) -> None:
        """Add a node whose outputs have the given names."""
        self._nodes.append(_node(operator, inputs, outputs, attributes, OURS if ours else ""))

    def branch(self) -> Graph:
        """Return an empty graph that sees the values and weights of this one, for `choose`."""
        inner = Graph()
        inner.weights, inner._constants, inner._initializers = self.weights, self._constants, self._initializers
        inner._count = self._count = self._count + 1000
        return inner

    def choose(self, condition: str, if_true: tuple[Graph, str], if_false: tuple[Graph, str]) -> str:
        """Return the name of one of two branches' values."""
        return self.add("If", condition, then_branch=if_true, else_branch=if_false)

    def to_bytes(self, file: str = "weights") -> bytes:
        """Return the model as ONNX writes it, without its weights, which lie in `file` as `place_weights` says."""
        places = self.place_weights()
        weights = [_outside(name, values, file, places[name]) for name, values in self.weights.items()]
        graph = b"".join(
            [
                *(_bytes(1, node) for node in self._nodes),
                _text(2, "openvalle"),
                *(_bytes(5, tensor) for tensor in [*self._initializers, *weights]),
                *(_bytes(11, value) for value in self._inputs),
                *(_bytes(12, value) for value in self._outputs),
            ]
        )
        opsets = [_text(1, "") + _number(2, OPSET), _text(1, OURS) + _number(2, 1)]
        return b"".join(
            [_number(1, IR_VERSION), _text(2, "openvalle"), _bytes(7, graph), *(_bytes(8, opset) for opset in opsets)]
        )

    def place_weights(self) -> dict[str, int]:
        """Return at which byte of a file each weight begins: pages of their own, so that a reader can map them."""
        places, end = {}, 0
        for name, values in self.weights.items():
            places[name] = end
            end += -(-values.nbytes // PAGE) * PAGE
        return places


def find_graph(folder: Path, name: str) -> Path:
    """Return where the graph called `name` lies in a folder of ONNX files."""
    return folder / f"{name}.onnx"


def save_graph(graph: Graph, path: Path) -> None:
    """Write a graph as an ONNX file, and its weights into a file beside it."""
    weights = path.with_suffix(".weights")
    with weights.open("wb") as file:
        for name, start in graph.place_weights().items():
            file.seek(start)
            file.write(graph.weights[name].tobytes())
    path.write_bytes(graph.to_bytes(weights.name))


def open_graph(graph: Graph | Path, threads: int = 1) -> Any:
    """Return an onnxruntime session of a graph and its weights, or of an ONNX file, on `threads` threads of the CPU.

    `ModelError` for a file that cannot be opened.
    """
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # An arena keeps what the longest sentence took, a plan of the memory all that a run needs, from its start to its
    # end and for every length that was met. Without them it is as quick.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = options.enable_mem_reuse = False
    # A thread that waits for the others' part gives its core away: spinning slows down whatever else runs there.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if isinstance(graph, Path):
        try:
            return runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  those of onnxruntime have no class in common
            what = str(error).splitlines()[0][:120]
            raise ModelError(f"{graph} cannot be opened ({what})", "export the model again") from None
    values = {name: runtime.OrtValue.ortvalue_from_numpy(array) for name, array in graph.weights.items()}
    options.add_external_initializers(list(values), list(values.values()))
    return runtime.InferenceSession(graph.to_bytes(), options, providers=["CPUExecutionProvider"])


def import_runtime() -> Any:
    """Return onnxruntime; `MissingExtra` where it is not installed."""
    return import_extra("onnxruntime", "onnxruntime, which computes the networks", "", "run: pip install onnxruntime")


# Protocol buffers: a field's number and kind, then its value.


_SMALL = tuple(bytes([value]) for value in range(128))  # nearly all that are written


def _varint(value: int) -> bytes:
    if 0 <= value < 128:
        return _SMALL[value]
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _value_info(name: str, shape: Shape, kind: str) -> bytes:
    dims = [_bytes(1, _text(2, size) if isinstance(size, str) else _number(1, size)) for size in shape]
    tensor = _number(1, KINDS[kind]) + _bytes(2, b"".join(dims))
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _tensor(name: str, values: np.ndarray) -> bytes:
    return _header(name, values) + _bytes(9, values.tobytes())


def _outside(name: str, values: np.ndarray, file: str, start: int) -> bytes:
    entries = {"location": file, "offset": str(start), "length": str(values.nbytes)}
    pairs = [_bytes(13, _text(1, key) + _text(2, value)) for key, value in entries.items()]
    return _header(name, values) + b"".join(pairs) + _number(14, 1)


def _header(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_number(1, size) for size in values.shape)
    return dims + _number(2, KINDS[values.dtype.name]) + _text(8, name)


def _node(
    operator: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, Any], domain: str
) -> bytes:
    return b"".join(
        [
            *(_text(1, name) for name in inputs),
            *(_text(2, name) for name in outputs),
            _text(4, operator),
            *(_bytes(5, _attribute(name, value)) for name, value in attributes.items()),
            _text(7, domain),
        ]
    )


def _attribute(name: str, value: Any) -> bytes:
    if isinstance(value, tuple):  # a branch and its value
        inner, result = value
        graph = b"".join([*(_bytes(1, node) for node in inner._nodes), _text(2, name), _bytes(12, _text(1, result))])
        return _text(1, name) + _bytes(6, graph) + _number(20, 5)
    if isinstance(value, float):
        return _text(1, name) + _varint(2 << 3 | 5) + struct.pack("<f", value) + _number(20, 1)
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, 2)
    if isinstance(value, str):
        return _text(1, name) + _text(4, value) + _number(20, 3)
    return _text(1, name) + b"".join(_number(8, each) for each in value) + _number(20, 7)
