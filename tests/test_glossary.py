"""The words of docs/glossary.md are those of the code, and old private words do not come back as public names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import openvalle

SOURCE = Path(openvalle.__file__).parent
PAGE = (SOURCE.parents[1] / "docs" / "glossary.md").read_text(encoding="utf-8")
ROOMS = (SOURCE.parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
# Words that stood for things that have a name in the papers or in the field.
PRIVATE = {"manner", "utter", "utterer", "heap", "badness", "enduring", "watchful", "hush", "ballot", "seat"}
# The engines without torch compute what a class of `model` does, under its name.
TWINS = {"KVCache", "LanguageEmbedding", "TextEmbedding", "TextVectors"}
TREES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
    for path in SOURCE.rglob("*.py")
}


def public_names(module: str) -> Iterator[str]:
    """Yield the module's own name, its classes and functions."""
    yield module.rpartition(".")[2]
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name


def words(name: str) -> set[str]:
    """`NARDecoder` and `nar_decoder` are nar and decoder."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)}


def test_every_word_of_the_glossary_is_where_it_says() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.*?) ?\| `([\w.]+)` \|$", PAGE, re.M)
    assert len(rows) == PAGE.count("\n| ") - PAGE.count("\n| word |"), "a row that is not understood"
    for word, *_, where in rows:
        module, _, name = where.rpartition(".")
        assert where in TREES or name in set(public_names(module)), f"{word}: there is no {where}"


def test_each_word_stands_once() -> None:
    found = re.findall(r"^\| (.+?) \|", PAGE, re.M)
    entries = [word for entry in found if entry != "word" for word in entry.split(", ")]
    assert len(entries) == len(set(entries)) > 60


def stem(word: str) -> str:
    """`samples` and `sampling` are one word."""
    return re.sub(r"(?:e|ed|er|or|ing)?s?$", "", word.lower())


def test_every_public_class_is_called_by_a_word_of_the_pages() -> None:
    """Of this page or of that of the rooms: a reader who meets the name finds what it means."""
    known = {stem(word) for word in re.findall(r"[A-Za-z]+", PAGE + ROOMS)}
    classes = {
        node.name: module
        for module, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }
    assert {name: module for name, module in classes.items() if not known & set(map(stem, [name, *words(name)]))} == {}


def test_no_private_word_is_a_public_name() -> None:
    old = {f"{module}: {name}" for module in TREES for name in public_names(module) if PRIVATE & words(name)}
    assert not old


def test_functions_are_verbs_or_nouns_and_never_of_something_or_a_participle() -> None:
    """`build_`, `to_` or `read_` say what is done, `symbols_of` and `published` do not."""
    verbs = {"embed", "sampling", "spoofing", "seed"}  # or nouns, of the papers
    found = {
        f"{module}: {node.name}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and (node.name.endswith("_of") or (re.fullmatch(r"[a-z]+(ed|ing)|found|kept|held|said|heard", node.name)))
        and node.name not in verbs
        and not any("property" in ast.unparse(maker) for maker in node.decorator_list)
    }
    assert not found


def test_no_two_public_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    assert {name: where for name, where in places.items() if len(where) > 1 and name not in TWINS} == {}
    for name in TWINS:
        assert sorted(module.partition(".")[0] for module in places[name]) == ["engines", "model"]
