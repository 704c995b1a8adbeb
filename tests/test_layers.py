"""The house keeps its floors: imports only go down, and parts never import each other (ARCHITECTURE.md, section 1)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import openvalle

ROOT = Path(openvalle.__file__).parent
BASE = {"errors", "stop", "files", "config", "media", "audio", "hub", "number_words", "threads"}
PARTS = {"text", "codec", "data", "model", "speech_models", "safety"}
JOBS = {"apps", "synth", "decode", "prepare", "train", "evaluate", "listening_test"}
SURFACES = {"cli"}
FLOORS = (BASE, PARTS, JOBS, SURFACES)
WITHIN = {
    ("apps", "synth"),
    ("apps", "decode"),
    ("synth", "decode"),
    ("train", "decode"),
    ("evaluate", "synth"),
    ("evaluate", "prepare"),
}  # allowed between rooms of one floor
LIGHT = BASE | {"text", "cli"}  # may not import torch at the top of a file
FILES = sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    """The first folder below the package, or the file's own name."""
    inside = path.relative_to(ROOT)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def floor_of(room: str) -> int:
    return next(index for index, rooms in enumerate(FLOORS) if room in rooms)


def imported(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Yield every imported module and whether only type checkers see the import."""
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in hidden) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield node.module or "", id(node) in hidden


def test_imports_only_go_down() -> None:
    wrong = []
    for path in FILES:
        room = room_of(path)
        if room in ("__init__", "__main__"):
            continue  # the package's own door
        own = floor_of(room)
        for module, _ in imported(ast.parse(path.read_text(encoding="utf-8"))):
            parts = module.split(".")
            if parts[0] != "openvalle" or len(parts) == 1 or parts[1] == room:
                continue
            is_above = floor_of(parts[1]) > own
            is_beside = own > 0 and floor_of(parts[1]) == own and (room, parts[1]) not in WITHIN
            if is_above or is_beside:
                where = "above it" if is_above else "on its floor"
                wrong.append(f"{path.relative_to(ROOT)} imports {module}, which is {where}")
    assert not wrong


def test_light_rooms_import_nothing_heavy_at_the_top() -> None:
    heavy = {"torch", "matplotlib", "pocketsphinx", "transformers", "soundfile", "soxr"}
    for path in (path for path in FILES if room_of(path) in LIGHT):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                found = heavy & {module.split(".")[0] for module, _ in imported(node)}
                assert not found, f"{found} at the top of {path.relative_to(ROOT)}"


def test_every_room_has_its_floor() -> None:
    for path in FILES:
        room = room_of(path)
        assert room in ("__init__", "__main__") or any(room in rooms for rooms in FLOORS), room
