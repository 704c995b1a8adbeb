"""Defaults of options from the environment and from openvalle.toml, and the number of threads (docs/settings.md).

The order is: option, environment, openvalle.toml in the current folder, the user's own, built in. The file holds only
what cannot do harm: a file in the current folder may be anybody's. It names no outputs, no consent, no commands, and no
address on the network.
"""

from __future__ import annotations

import difflib
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from openvalle.errors import ConfigError
from openvalle.parallel import set_threads

FILE = "openvalle.toml"
LARGEST_BYTES = 1 << 16
WORDS, WHOLE, NUMBER = (str,), (int,), (int, float)
# What may be set, and as what: the options of the same name, in every command that has them and takes one value.
SETTINGS: dict[str, tuple[type, ...]] = {
    "model": WORDS,
    "voice": WORDS,
    "device": WORDS,
    "threads": WHOLE,
    "seed": WHOLE,
    "format": WORDS,
    "speed": NUMBER,
    "temperature": NUMBER,
    "top-p": NUMBER,
    "window": WHOLE,
    "attempts": WHOLE,
    "candidates": WHOLE,
    "lexicon": WORDS,
    "markup": WORDS,
    "text-format": WORDS,
}
PATHS = ("model", "voice", "lexicon")  # if they are paths, then from the folder of the file
OWN = {("stream", "format")}  # what a setting for all commands leaves alone: `stream` knows two formats only


Given = tuple[Any, Path]  # a value and the file that gives it


class Command(TyperCommand):
    """A command whose options take their defaults from the environment and from openvalle.toml.

    It has the option --threads, which works before torch is loaded: once it is, its threads wait as they will.
    """

    def __init__(self, *args: Any, **rest: Any) -> None:
        super().__init__(*args, **rest)
        maker = typer.Typer(add_completion=False, rich_markup_mode=None)

        @maker.command()
        def made(
            threads: Annotated[
                int | None,
                typer.Option("--threads", min=1, help="Threads of the processor; default: one for each core."),
            ] = None,
        ) -> None: ...

        self.params.append(get_command(maker).params[0])  # the option as Typer makes it
        param: Any
        for param in self.params:
            key = find_setting(param)
            if key and (self.name, key) not in OWN:
                param.envvar = variable(key)
                param.show_envvar = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse with the defaults of the files; a bad one is an error that names its source."""
        given: dict[str, Given] = {}
        options = args[: args.index("--")] if "--" in args else args
        if not ctx.resilient_parsing and not {"-h", "--help"} & set(options):
            root = ctx.find_root()
            first = ctx  # say, or voice for `voice add`: the first word after `openvalle`
            while first.parent is not None and first.parent.parent is not None:
                first = first.parent
            given = defaults(str(first.info_name), frozenset(root.command.commands), root.params.get("config"))
        keys = {param.name: key for param in self.params if (key := find_setting(param)) in given}
        ctx.default_map = {name: given[key][0] for name, key in keys.items()}
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            param: Any = error.param
            source = None if param is None else ctx.get_parameter_source(param.name)
            if source is not None and source.name == "ENVIRONMENT":
                raise ConfigError(f"{param.envvar}: {error.message}", "see docs/settings.md") from None
            if source is not None and source.name == "DEFAULT_MAP":
                key = keys[param.name]
                raise ConfigError(f"{given[key][1]}: {key}: {error.message}", "see docs/settings.md") from None
            raise

    def invoke(self, ctx: Any) -> Any:
        """Choose the threads, then run the command."""
        set_threads(ctx.params.pop("threads"))
        return super().invoke(ctx)


def find_setting(param: Any) -> str | None:
    """Return the setting that is this option's default, if there is one."""
    return next((key for key in SETTINGS if f"--{key}" in param.opts and not getattr(param, "multiple", False)), None)


def variable(key: str) -> str:
    """Return the environment's name of a setting: top-p is OPENVALLE_TOP_P."""
    return f"OPENVALLE_{key.upper().replace('-', '_')}"


def is_chosen(ctx: Any, name: str) -> bool:
    """Return True if the parameter called `name` was given on the command line."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def defaults(command: str, commands: frozenset[str], config: Path | None = None) -> dict[str, Given]:
    """Return what the files say for `command`, one of `commands`, the nearest file first.

    `config`, else $OPENVALLE_CONFIG, is read in place of ./openvalle.toml and the user's file. `ConfigError` for a file
    that cannot be read, a setting or command that does not exist, and a value of the wrong kind.
    """
    named = config or (Path(chosen) if (chosen := os.environ.get("OPENVALLE_CONFIG")) else None)
    if named is not None:
        return _settings_in(named.expanduser(), command, commands)
    found: dict[str, Given] = {}
    if (own := user_file()) is not None and os.path.lexists(own):
        found |= _settings_in(own, command, commands)
    if os.path.lexists(FILE):
        found |= _settings_in(Path(FILE), command, commands, is_trusted=False)
    return found


def user_file() -> Path | None:
    """Return where the user's own openvalle.toml would be: $OPENVALLE_HOME, else the system's place for settings."""
    if chosen := os.environ.get("OPENVALLE_HOME"):
        return Path(chosen).expanduser() / FILE
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Application Support"
        else:
            base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError:  # a user without a home
        return None
    return base / "openvalle" / FILE


def _settings_in(file: Path, command: str, commands: frozenset[str], is_trusted: bool = True) -> dict[str, Given]:
    """Return the settings of a file that a command takes: those for all commands, then those of its own table."""
    values = _read(file)
    tables = {name: table for name, table in values.items() if isinstance(table, dict) and name not in SETTINGS}
    common = {key: value for key, value in values.items() if key not in tables}
    _check(file, common, "", is_trusted)
    for name, table in tables.items():
        if name not in commands:
            near = difflib.get_close_matches(name, commands, 1)
            raise ConfigError(f"{file}: there is no command {name}", f"did you mean {near[0]}?" if near else "")
        _check(file, table, f"{name}.", is_trusted)
    chosen = {key: value for key, value in common.items() if (command, key) not in OWN} | tables.get(command, {})
    return {key: (_placed(key, value, file.parent), file) for key, value in chosen.items()}


def _read(file: Path) -> dict[str, Any]:
    from openvalle.config import Syntax, read_data

    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_BYTES:
            raise ConfigError(
                f"{file} is no file of settings", f"see docs/settings.md; it holds at most {LARGEST_BYTES} bytes"
            )
        values: dict[str, Any] = read_data(file, Syntax.TOML)
        return values
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}", "check the path and its permissions") from None
    except ConfigError as error:
        raise ConfigError(error.what, error.hint or "see docs/settings.md") from None


def _check(file: Path, values: Mapping[str, Any], table: str, is_trusted: bool) -> None:
    for key, value in values.items():
        if key not in SETTINGS:
            near = difflib.get_close_matches(key, SETTINGS, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(SETTINGS)}"
            raise ConfigError(f"{file}: there is no setting {table}{key}", hint)
        kinds = SETTINGS[key]
        if not isinstance(value, kinds) or isinstance(value, bool):
            names = {WORDS: "a text in quotes", WHOLE: "a whole number", NUMBER: "a number"}
            raise ConfigError(f"{file}: {table}{key} is {value!r:.60}", f"give {names[kinds]}")
        if not is_trusted and "://" in str(value):
            hint = "give it as an option, or in a file that --config names"
            raise ConfigError(f"{file}: {table}{key} may not be an address in the current folder's file", hint)


def _placed(key: str, value: Any, folder: Path) -> Any:
    """Return a value as an option would hold it: relative paths are relative to the file, names stay names."""
    if key in PATHS and ("/" in value or "\\" in value or "." in value) and "://" not in value:
        return str(folder / Path(value).expanduser())
    return value
