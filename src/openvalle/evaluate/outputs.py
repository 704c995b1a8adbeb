"""The outputs of a system for a list: spoken once, kept on disk, spoken again only if something changed.

Beside every sound lies a small file with what it took and a digest of system (with all its settings), item and seed.
What is judged is always the sound as it was written (16 bits), so that an interrupted evaluation gives the figures of
an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.audio import Audio
from openvalle.config import Syntax, read_data
from openvalle.errors import AudioError, UserError
from openvalle.evaluate.systems.base import Output, System, reset_peak_memory
from openvalle.evaluate.test_list import Folders, TestItem, apply_condition
from openvalle.files import sha256, write_text
from openvalle.media import read, write
from openvalle.parallel import progress, run_units

log = logging.getLogger(__name__)
TOLD = frozenset(("seconds", "processor", "ended", "flags", "memory"))  # of what is spoken, beside the sound
Build = Callable[[], System]


@dataclass(frozen=True)
class OutputRequest:
    """One item for one seed, and where the output goes."""

    item: TestItem
    seed: int  # of the run
    path: Path  # of the sound; the file beside it has the same name with .json
    sample: int = 0  # of several of this item in this run

    @property
    def beside(self) -> Path:
        """Where it says what the output took."""
        return self.path.with_suffix(".json")

    def key(self, digest: str) -> str:
        """Return what the output depends on."""
        values = {"system": digest, "item": asdict(self.item), "seed": self.item.seed(self.seed, self.sample)}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]

    def is_done(self, digest: str) -> bool:
        """Return True if an output of this system is there as it was written."""
        facts = self._facts()
        if facts.get("key") != self.key(digest):
            return False
        return bool(facts.get("error")) or (self.path.is_file() and sha256(self.path) == facts.get("digest"))

    def _facts(self) -> dict[str, Any]:
        try:
            facts = read_data(self.beside, Syntax.JSON, finite=False)
        except UserError:  # not answered yet, or damaged since: answered again
            return {}
        return facts if isinstance(facts, dict) and ("error" in facts or facts.keys() >= TOLD) else {}

    def result(self) -> Output | str:
        """Return the output, or why there is none."""
        facts = self._facts()
        if facts.get("error"):
            return str(facts["error"])
        values = {name: facts[name] for name in TOLD - {"flags"}}
        return Output(read(self.path), flags=tuple(facts["flags"]), **values)


def load_prompt(item: TestItem, folders: Folders) -> Audio:
    """Return an item's prompt in the item's condition."""
    return apply_condition(item.prompt.load(folders), item.condition)


def produce(system: System, digest: str, folders: Folders, request: OutputRequest) -> None:
    """Let the system of that digest speak one request; what it cannot say is kept as a failure."""
    facts: dict[str, Any] = {"key": request.key(digest)}
    try:
        prompt = load_prompt(request.item, folders)
        spoken = system.say(request.item, prompt, request.item.seed(request.seed, request.sample))
        if not len(spoken.audio.samples):
            raise AudioError("the system gave no sound")
        if not np.isfinite(spoken.audio.samples).all():
            raise AudioError("the system gave samples that are not numbers")
        write(request.path, spoken.audio)
        facts |= {name: getattr(spoken, name) for name in TOLD}
        facts["digest"] = sha256(request.path)
    except UserError as error:
        request.path.unlink(missing_ok=True)
        log.warning("%s failed on %s: %s", system.name, request.item.id, error)
        facts["error"] = str(error)
    write_text(request.beside, json.dumps(facts))


def produce_all(
    build: Build,
    digest: str,
    requests: Sequence[OutputRequest],
    folders: Folders,
    *,
    begin: Callable[[], object] = lambda: None,
    jobs: int = 1,
    fresh: bool = False,
    quiet: bool = False,
) -> None:
    """Let a system speak what is not there yet (`fresh`: everything), in `jobs` processes.

    `build` makes the system, once in each process, and has to pickle where there are several; `digest` is that of the
    system, known beforehand so that nothing is loaded if all is done; `begin` is called when the system is there,
    before it speaks. Times are true only with one job.
    """
    todo = [request for request in requests if fresh or not request.is_done(digest)]
    if not todo:
        return
    reset_peak_memory()
    system = build()  # where there are several processes too: there an error could not be told
    begin()
    speak = partial(produce, system, digest, folders)
    with progress(quiet) as show:
        if jobs > 1:
            del system, speak
            outputs = run_units(
                partial(_build_producer, build, digest, folders), todo, jobs, lambda request: request.item.id
            )
        else:
            outputs = enumerate(map(speak, todo))
        for done, _ in enumerate(outputs, 1):
            show("speaking", done, len(todo))


def _build_producer(build: Build, digest: str, folders: Folders) -> Callable[[OutputRequest], None]:
    return partial(produce, build(), digest, folders)
