"""The command `openvalle`: the groups of commands, and the one place where errors become exit codes.

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
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from openvalle import __version__, stop
from openvalle.cli.book import book
from openvalle.cli.convert import convert, export
from openvalle.cli.evaluate import compare, evaluate, report, spoofing
from openvalle.cli.finetune import finetune
from openvalle.cli.listening import listen
from openvalle.cli.options import expand
from openvalle.cli.recordings import EditCommand, batch, continue_, edit
from openvalle.cli.say import dialogue, say, stream
from openvalle.cli.serve import serve
from openvalle.cli.settings import Command
from openvalle.cli.tools import detect, doctor, phonemes, watermark
from openvalle.cli.train import model, prepare, recipe, speedrun, train
from openvalle.cli.translate import translate
from openvalle.cli.voice import voices
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


class Guarded(TyperGroup):
    """The root group: every command runs inside its `invoke`."""

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
# In the order of use. A command takes its defaults from the environment and from openvalle.toml; what is a group of
# commands sees to that itself.
SECTIONS: dict[str, dict[str, Any]] = {
    "Speak": {"say": say, "stream": stream, "dialogue": dialogue},
    "Voices": {"voice": voices},
    "Long texts and recordings": {
        "book": book,
        "batch": batch,
        "edit": edit,
        "continue": continue_,
        "translate": translate,
    },
    "Serve": {"serve": serve},
    "Train": {
        "prepare": prepare,
        "recipe": recipe,
        "train": train,
        "speedrun": speedrun,
        "finetune": finetune,
        "model": model,
    },
    "Other projects": {"convert": convert, "export": export},
    "Evaluate": {
        "evaluate": evaluate,
        "report": report,
        "compare": compare,
        "listen": listen,
        "spoofing": spoofing,
    },
    "Tools": {"phonemes": phonemes, "detect": detect, "watermark": watermark, "doctor": doctor, "version": version},
}
for _names in SECTIONS.values():
    for _name, _command in _names.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name)
        else:
            app.command(_name, cls=EditCommand if _command is edit else Command)(expand(_command))


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
