"""The only errors meant for people: one line that says what is wrong and one that says what to do."""

from __future__ import annotations

import re
from enum import StrEnum
from importlib import import_module
from typing import Any, TypeVar


class UserError(Exception):
    """A mistake the user can mend. Surfaces show `what` and `hint` as one line (CLI exit 2, HTTP 4xx)."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what}; {hint}" if hint else what)
        self.what = what
        self.hint = hint


class AudioError(UserError):
    """The recording cannot be used as it is (missing, unreadable, silent, too short, too long)."""


class TextError(UserError):
    """The text holds nothing that can be spoken, or markup that cannot be read."""


class ConfigError(UserError):
    """A configuration or recipe that cannot be used: which key, what it was, what it may be."""


class ModelError(UserError):
    """A bundle, codec or voice that is missing, damaged or does not fit the others."""


class MissingExtra(UserError):
    """An optional dependency is not installed. The hint is the line that brings it."""

    def __init__(self, package: str, extra: str, hint: str = "") -> None:
        """`hint`: what to do where the extra of openvalle does not bring the package."""
        super().__init__(
            f"this needs {package}, which is not installed",
            hint or f"run: pip install 'openvalle[{extra}]'",
        )


Choice = TypeVar("Choice", bound=StrEnum)


def find_choice(choices: type[Choice], name: str, what: str) -> Choice:
    """Return the one of some named choices that is called `name`; `ConfigError` says which there are of `what`."""
    try:
        return choices(name)
    except ValueError:
        raise ConfigError(f"there is no {what} {name!r}", f"use one of: {', '.join(choices)}") from None


def import_extra(module: str, package: str, extra: str, hint: str = "") -> Any:
    """Return an optional module; `MissingExtra`, for which the other arguments are, where it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtra(package, extra, hint) from None


_NO_MEMORY = re.compile(r"not enough memory|can't allocate memory|out of memory|tried to allocate", re.I)  # torch's


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is not enough memory, of the machine or of a device."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))
