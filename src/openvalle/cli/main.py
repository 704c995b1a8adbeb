"""The command `openvalle`: the groups of commands, and the one place where errors become exit codes.

A command's module is read when the command is asked for: a start pays for one of them.

Exit codes: 0 done, 2 something the user can mend (one line on stderr), 130 stopped by Ctrl-C, 143 by SIGTERM, 1 any
other failure.
Results go to stdout, progress and messages to stderr.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from openvalle import __version__, stop
from openvalle.cli.options import expand
from openvalle.cli.settings import Command
from openvalle.errors import UserError, is_out_of_memory

DONE, FAILED, MENDABLE, INTERRUPTED = 0, 1, 2, 130
# operating-system errors that a person mends, and how
ADVICE = {
    errno.ENOSPC: "free some space or write to another disk",
    errno.EDQUOT: "free some of your quota or write to another disk",
    errno.EACCES: "check the permissions or choose another folder",
    errno.EPERM: "check the permissions or choose another folder",
    errno.EROFS: "choose a folder that can be written",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "give a file, not a folder",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "a link leads back to itself; check the path",
    errno.ENXIO: "nobody listens there; give a file",
    errno.EEXIST: "give another name",
    errno.EFBIG: "the system allows no larger file; check `ulimit -f`",
    errno.EMFILE: "allow more open files, with `ulimit -n`",
    errno.EIO: "check the disk",
}


class Commands(MutableMapping[str, Any]):
    """The commands by name, each made when it is asked for: those of `SECTIONS`, and others that were added."""

    def __init__(self, added: Mapping[str, Any]) -> None:
        self._made = dict(added)
        self._names = {name: None for names in SECTIONS.values() for name in names} | dict.fromkeys(added)

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._made:
            places = next(names[name] for names in SECTIONS.values() if name in names)
            self._made[name] = make_command(name, *map(_find, places.split()))
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._names[name], self._made[name] = None, command

    def __delitem__(self, name: str) -> None:
        del self._names[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _find(place: str) -> Any:
    module, name = place.split(".")
    return getattr(import_module(f"openvalle.cli.{module}"), name)


def make_command(name: str, command: Any, kind: type[Command] = Command) -> Any:
    """Return a function, or a group of commands, as a command of that kind. It takes its defaults from the environment
    and from openvalle.toml; a group sees to that itself."""
    maker = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    if isinstance(command, typer.Typer):
        maker.add_typer(command, name=name)
    else:
        maker.command(name, cls=kind)(expand(command))
    return get_group(maker).commands[name]


class Guarded(TyperGroup):
    """The root group: every command runs inside its `invoke`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Commands(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Show the commands in their sections."""
        width = formatter.width - 6 - max(map(len, self.commands))
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(width)) for name in names])

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn what it raises into one line and an exit code."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError as error:
            # The reader of our output went away: say nothing more, not even when Python flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt as error:
            complain(stop.LEFT_NOTHING)
            raise typer.Exit(stop.exit_code() or INTERRUPTED) from error
        except Exception as error:
            if code := stop.exit_code():  # somebody made another error of the one that asked to end
                complain(stop.LEFT_NOTHING)
                raise typer.Exit(code) from error
            if type(error).__module__.split(".")[0] in ("click", "typer"):
                raise  # a usage error: Typer shows it with a hint and leaves with exit code 2
            raise typer.Exit(explain(error, is_debugging(ctx))) from error


def explain(error: Exception, debug: bool) -> int:
    """Show an error on one line, with its traceback if wanted; return the exit code."""
    message = advice(error)
    if debug:
        traceback.print_exception(error)
    if message is not None:
        complain(f"error: {' '.join(message.split())}")
        return MENDABLE
    complain(f"openvalle failed: {type(error).__name__}: {' '.join(str(error).split())}")
    if not debug:
        complain("this is a fault in openvalle; `openvalle --debug ...` shows where it happened")
    return FAILED


def advice(error: Exception) -> str | None:
    """Return what is wrong and what to do, if a person can mend it."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        install = f"{sys.executable} -m pip install 'openvalle[torch]'"
        return f"torch is not installed, which this is computed with; run: {install}"
    if isinstance(error, RecursionError):
        return "something in the input is nested too deep; write it with fewer levels"
    if is_out_of_memory(error):
        return "there is not enough memory; close other programs, give less at a time, or use a smaller model"
    if isinstance(error, OSError) and error.errno in ADVICE:
        place = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{place}; {ADVICE[error.errno]}"
    return None


def complain(line: str) -> None:
    """Write one line to stderr."""
    print(line, file=sys.stderr, flush=True)


def is_debugging(ctx: Any) -> bool:
    """Return True if tracebacks were asked for, by flag or environment."""
    return bool(ctx.params.get("debug")) or os.environ.get("OPENVALLE_DEBUG", "") not in ("", "0")


def version() -> None:
    """Print the version."""
    print(f"openvalle {__version__}")


def _version_asked(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit(DONE)


app = typer.Typer(
    name="openvalle",
    cls=Guarded,
    help="Speak any text in a voice given as a few seconds of audio, and train the models that do it.",
    epilog='Start with: openvalle say "Hello there." --voice clip.wav --plot',
    no_args_is_help=True,
    rich_markup_mode=None,  # the boxes cost 0.2 s of start-up for every command
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order of use: where each is, and what kind of command it is unless `Command`.
SECTIONS: dict[str, dict[str, str]] = {
    "Speak": {"say": "say.say", "stream": "stream.stream", "dialogue": "say.dialogue"},
    "Voices": {"voice": "voice.voices"},
    "Long texts and recordings": {
        "book": "book.book",
        "batch": "recordings.batch",
        "edit": "recordings.edit recordings.EditCommand",
        "continue": "recordings.continue_",
        "translate": "translate.translate",
    },
    "Serve": {"serve": "serve.serve"},
    "Train": {
        "prepare": "train.prepare",
        "recipe": "models.recipe",
        "train": "train.train",
        "speedrun": "train.speedrun",
        "finetune": "finetune.finetune",
        "model": "models.model",
    },
    "Other projects": {"convert": "convert.convert", "export": "convert.export"},
    "Evaluate": {
        "evaluate": "evaluate.evaluate",
        "report": "evaluate.report",
        "compare": "evaluate.compare",
        "listen": "listening.listen",
        "spoofing": "evaluate.spoofing",
    },
    "Tools": {
        "phonemes": "tools.phonemes",
        "detect": "tools.detect",
        "watermark": "tools.watermark",
        "doctor": "tools.doctor",
        "version": "main.version",
    },
}


@app.callback()
def root(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (or set OPENVALLE_DEBUG=1).")] = False,
    config: Annotated[
        Path | None, typer.Option(help="Defaults of options, in place of ./openvalle.toml and the user's own.")
    ] = None,
    is_version: Annotated[
        bool, typer.Option("--version", callback=_version_asked, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Speak any text in a voice given as a few seconds of audio, and train the models that do it."""
    is_loud = is_debugging(ctx)
    logging.addLevelName(logging.WARNING, "warning")
    logging.basicConfig(
        level=logging.DEBUG if is_loud else logging.WARNING,
        format="%(levelname)s: %(name)s: %(message)s" if is_loud else "%(levelname)s: %(message)s",
        stream=sys.stderr,
    )


def main() -> None:
    """Run the command; `openvalle.__main__` calls this, and hears signals before this file is read."""
    stop.listen()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a path is printed as it is, whatever bytes it holds
    try:
        app()
    except SystemExit as ended:
        if stop.exit_code() is not None:  # all is unwound; what else runs at the end of Python may wait for others
            stop.leave(int(ended.code or 0))
        raise
