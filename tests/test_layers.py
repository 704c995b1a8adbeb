"""The floors that ARCHITECTURE.md draws: the page is read here, so that it and the code change together."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openvalle

ROOT = Path(openvalle.__file__).parent
PAGE = (Path(__file__).parent.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
DIAGRAM = re.search(r"^```\n( surfaces.*?)^```", PAGE, re.M | re.S)[1]  # type: ignore[index]


@dataclass(frozen=True)
class Import:
    """One imported module: the line, whether it is at the top of the file, whether only type checkers see it."""

    module: str
    line: int
    at_top: bool
    is_for_types: bool


def read_diagram() -> tuple[dict[str, int], dict[str, set[str]], set[str]]:
    """Return the floor of each room, the rooms each may import on its own floor, and the rooms to come."""
    floors: dict[str, int] = {}
    arrows: dict[str, set[str]] = {}
    to_come = {name for names in re.findall(r"\(to come: (.*?)\)", DIAGRAM) for name in names.split(", ")}
    lines = [line.split(maxsplit=1) for line in re.sub(r"\(.*?\)", "", DIAGRAM).splitlines() if "│" not in line]
    for number, (_, rooms) in enumerate(reversed(lines)):
        for chain in re.split(r" {2,}", rooms.strip()):
            left: list[str] = []
            for link in chain.split(" ► "):
                names = link.split(", ")
                for room in names:
                    floors[room] = number
                for room in left:
                    arrows.setdefault(room, set()).update(names)
                left += names
    return floors, arrows, to_come


def read_rooms() -> set[str]:
    """Return the modules that the table of rooms names, as `text.phones`; those of the base as `audio`."""
    table = PAGE.partition("\n## 2.")[2].partition("\n## 3.")[0]
    named: list[str] = []
    for room, modules in re.findall(r"^\| ([\w/]+) \| (.*) \|$", table, re.M):
        prefix = "" if room == "base" else room.replace("/", ".") + "."
        named += [prefix + module for module in re.findall(r"`(\w+)`", modules)]
    assert len(named) == len(set(named)), "a module stands twice on the page"
    return set(named)


def read_names(sentence: str) -> set[str]:
    """Return what stands in backticks after `sentence` on the page, to the full stop."""
    return set(re.findall(r"`(\w+)`", PAGE.partition(sentence)[2].partition(".\n")[0]))


def find_imports(path: Path) -> Iterator[Import]:
    """Yield what a file imports, also inside functions; `from openvalle import stop` as the module it is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    hidden = {id(inner) for node in types for inner in ast.walk(node)}
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            inner = {f"{node.module}.{alias.name}".removeprefix("openvalle.") for alias in node.names} & set(MODULES)
            names = [f"openvalle.{name}" for name in inner] or [node.module or ""]
        for name in names:
            yield Import(name, node.lineno, id(node) in top, id(node) in hidden)  # type: ignore[attr-defined]


def is_room(path: Path) -> bool:
    return path.name not in ("__init__.py", "__main__.py")


MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py") if is_room(path)}
IMPORTS = {name: list(find_imports(path)) for name, path in MODULES.items()}
FLOORS, ARROWS, TO_COME = read_diagram()


def test_the_page_names_every_module_and_no_other() -> None:
    named = read_rooms()
    assert sorted(set(MODULES) - named) == [], "modules that ARCHITECTURE.md does not name"
    assert sorted(named - set(MODULES)) == [], "modules of ARCHITECTURE.md that are not there"
    assert {name.partition(".")[0] for name in MODULES} == set(FLOORS), "rooms and diagram differ"
    assert not [name for name in TO_COME if (ROOT / name).exists()]


def test_imports_only_go_down() -> None:
    wrong = []
    torch_at_top = read_names("At the top of a file torch is imported in:")
    torch_inside = torch_at_top | read_names("Inside a function torch is also imported in:")
    heavy = read_names("At the top of no file:")
    assert torch_at_top < torch_inside and len(heavy) > 5, "ARCHITECTURE.md is not understood"
    for name, path in MODULES.items():
        room = name.partition(".")[0]
        for found in IMPORTS[name]:
            package, _, inner = found.module.partition(".")
            where = f"{path.relative_to(ROOT)}:{found.line} imports {found.module}"
            other = inner.partition(".")[0]
            if package == "torch" and room not in (torch_at_top if found.at_top else torch_inside):
                wrong.append(f"{where}: not in this room")
            if package in heavy and found.at_top:
                wrong.append(f"{where} at the top of the file")
            if package == "openvalle" and other and other != room:
                if FLOORS[other] > FLOORS[room]:
                    wrong.append(f"{where}, which is above it")
                if FLOORS[other] == FLOORS[room] > 0 and other not in ARROWS.get(room, ()):
                    wrong.append(f"{where}, which is on its floor")
    assert not wrong, "\n".join(wrong)


def test_no_imports_go_round_in_a_circle() -> None:
    """Neither at the top nor inside functions; names for type checkers alone are never imported and do not count."""
    runtime = {
        name: {
            found.module.removeprefix("openvalle.")
            for found in found_here
            if found.module.startswith("openvalle.") and not found.is_for_types
        }
        & set(MODULES)
        for name, found_here in IMPORTS.items()
    }
    reached = {name: reach(name, runtime) for name in runtime}
    circles = {frozenset(other for other in reached[name] if name in reached[other]) for name in runtime} - {
        frozenset()
    }
    assert not circles


def reach(start: str, edges: dict[str, set[str]]) -> set[str]:
    """Return what `start` imports, and what that imports in turn."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        more = edges[todo.pop()] - seen
        seen |= more
        todo += more
    return seen


def test_no_room_imports_torch_for_nothing() -> None:
    """The page promises no more of torch than there is: a room that needs it no longer leaves the list."""
    for sentence, at_top in (("At the top of a file torch", True), ("Inside a function torch", False)):
        for room in read_names(sentence):
            own = [found for name in MODULES if name.partition(".")[0] == room for found in IMPORTS[name]]
            used = [found for found in own if found.module.partition(".")[0] == "torch" and found.at_top is at_top]
            assert used, f"{room}: torch is named on the page and not imported so"


def test_every_question_is_answered_where_the_page_says() -> None:
    rows = re.findall(r"^\| (.+\?) \| `([\w/]+)\.py` \| `(\w+)` \|$", PAGE.partition("\n## 7.")[2], re.M)
    assert len(rows) >= 20
    for question, file, name in rows:
        held: set[str] = set()
        for node in ast.parse((ROOT / f"{file}.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                held.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                held |= {target.id for target in targets if isinstance(target, ast.Name)}
        assert name in held, f"{question} {file}.py holds no {name}"
