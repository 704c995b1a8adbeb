"""What both benchmarks share on the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from openvalle.errors import UserError
from openvalle.evaluate.protocols import Judges, protocol

JUDGES: Judges = protocol("quick").judges


def parser(description: str, out: str) -> argparse.ArgumentParser:
    """Return a parser with the options common to the benchmarks."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--data", help="folder with manifest.jsonl (default: $OPENVALLE_SPEECH)")
    result.add_argument("--out", type=Path, default=Path(out), help="folder for results (default: %(default)s)")
    result.add_argument("--limit", type=int, default=50, help="clips of dev-clean (default: %(default)s)")
    result.add_argument("--other-limit", type=int, default=25, help="clips of dev-other (default: %(default)s)")
    result.add_argument("--seed", type=int, default=0)
    result.add_argument("--threads", type=int, default=2, help="threads of the models (default: %(default)s)")
    result.add_argument("--workers", type=int, default=2, help="processes of the judges (default: %(default)s)")
    return result


def run(main: Callable[[], None]) -> None:
    """Run a benchmark: a user's mistake is one line and exit 2, Ctrl-C exits 130 and loses no judgement."""
    try:
        main()
    except UserError as error:
        sys.exit(_said(f"error: {error}", 2))
    except KeyboardInterrupt:
        sys.exit(_said("interrupted; run it again to go on: what was judged is kept", 130))


def _said(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code
