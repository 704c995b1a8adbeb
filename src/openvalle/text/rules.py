"""Rules that rewrite a text, and the account of what each of them did.

A rule is a pattern and what is said for it. Rules are applied in order, each to the whole text; a text is never read
twice by one rule, so that what a rule wrote cannot set it off again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

_FIGURE = re.compile(r"[\d&]|[^\x00-\x7f]")  # or what may turn out to be one: ¼, &frac12;


def regex(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """Return a pattern that is compiled when it is first used: of hundreds a text needs some."""
    return cast("re.Pattern[str]", _Late(pattern, flags))


class _Late:
    """A pattern before it is used; afterwards its methods are those of the compiled one."""

    def __init__(self, pattern: str, flags: int) -> None:
        self.pattern, self.flags = pattern, flags

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what copies and pickles ask for
            raise AttributeError(name)
        method = getattr(re.compile(self.pattern, self.flags), name)
        setattr(self, name, method)
        return method


@dataclass(frozen=True)
class Rule:
    """What is said for what is written. `name`: as people see it; `read`: a match -> its words.

    `figures`: the rule has nothing to say about a text without a figure.
    """

    name: str
    pattern: re.Pattern[str]
    read: Callable[[re.Match[str]], str]
    figures: bool = False


@dataclass(frozen=True)
class Origin:
    """Where a sign of a rewritten text comes from: a stretch of the text as written, and the rules at work."""

    start: int
    end: int
    rules: tuple[str, ...] = ()


def word_set(words: str) -> frozenset[str]:
    """Return the words of a list that is written as text."""
    return frozenset(words.split())


def rewrite(text: str, rules: Iterable[Rule]) -> str:
    """Return the text as the rules leave it."""
    for rule in _choose(rules, text):
        text = rule.pattern.sub(rule.read, text)
    return text


def _choose(rules: Iterable[Rule], text: str) -> Iterator[Rule]:
    has_figures = _FIGURE.search(text) is not None
    return (rule for rule in rules if has_figures or not rule.figures)


def trace(text: str, rules: Iterable[Rule], origins: Sequence[Origin] | None = None) -> tuple[str, Sequence[Origin]]:
    """Return what `rewrite` returns, with the origin of each of its signs.

    `origins`: those of `text`, if other rules wrote it.
    """
    origins = [Origin(at, at + 1) for at in range(len(text))] if origins is None else origins
    for rule in _choose(rules, text):
        pieces: list[str] = []
        kept: list[Origin] = []
        at = 0
        for match in rule.pattern.finditer(text):
            spoken = rule.read(match)
            if spoken == match[0]:
                continue
            own = origins[match.start() : match.end()] or origins[match.start() : match.start() + 1]
            names = dict.fromkeys([*(name for origin in own for name in origin.rules), rule.name])
            origin = Origin(own[0].start, own[-1].end, tuple(names)) if own else Origin(0, 0, (rule.name,))
            pieces += [text[at : match.start()], spoken]
            kept += [*origins[at : match.start()], *[origin] * len(spoken)]
            at = match.end()
        text, origins = "".join([*pieces, text[at:]]), [*kept, *origins[at:]]
    return text, origins
