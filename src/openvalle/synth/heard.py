"""Voices of clips that were heard before: to hear a clip takes seconds, and the same clip is often given again.

A voice is kept by all that it depends on: what the clip holds, not what it is called, and how it was heard. Who agreed
to its use is not kept: that is said, and asked for, every time. Clips that are files are kept on disk, too, in the
cache folder, readable for their owner alone: the last `MOST_FILES`, for `DAYS`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from openvalle import __version__
from openvalle.audio import Audio
from openvalle.errors import UserError
from openvalle.hub import VOICE_SUFFIX, cache_folder
from openvalle.synth.enrol import enrol
from openvalle.synth.generate import SpeechGenerator
from openvalle.synth.voice import Voice, now

log = logging.getLogger(__name__)

MOST, MOST_FILES, DAYS = 16, 32, 30
LARGEST = 64 << 20  # bytes of a file that is looked at; clips are far smaller
FOLDER = "heard"  # in the cache folder


class HeardVoices:
    """The voices that were made of clips, in memory and, if wanted, on disk. Threads may share it."""

    def __init__(self, *, on_disk: bool = True) -> None:
        self.on_disk = on_disk
        self._known: OrderedDict[str, Voice] = OrderedDict()  # the last one last
        self._lock = threading.Lock()

    def enrol(
        self, clip: Audio | Path, generator: SpeechGenerator, words: str | None, asr: str, known: Mapping[str, str]
    ) -> Voice:
        """Return the voice of a clip for a model; `words`: what it says, `known`: what is said of it, as `enrol` takes
        both."""
        merge, table, codec = generator.ar.config.merge, generator.table, generator.codec
        model = {"codec": codec.spec.digest, "symbols": table.digest, "spelt": table.is_spelt, "merge": merge}
        how = {**model, "words": words, "language": known["language"], "channel": known["channel"], "asr": asr}

        def hear() -> Voice:
            return enrol(clip, codec, table.digest, words, merge=merge, table=table, asr=asr, **known)

        return self.find(clip, how, {"consent": known["consent"], "licence": known["licence"]}, hear)

    def find(
        self, clip: Audio | Path, how: Mapping[str, Any], about: Mapping[str, str], hear: Callable[[], Voice]
    ) -> Voice:
        """Return the voice of a clip, heard as `how` says: the one that is known, else what `hear` makes. `about`: its
        `consent` and `licence`, as they are given this time."""
        key = make_key(clip, how)
        if key is None:
            return hear()
        with self._lock:
            known = self._known.get(key)
        if known is None and self.on_disk and isinstance(clip, Path):
            known = _read(key)
        voice = hear() if known is None else _tell_again(known, clip, about, how["words"] is None)
        self._keep(key, voice, is_new=known is None and isinstance(clip, Path))
        return voice

    def _keep(self, key: str, voice: Voice, *, is_new: bool) -> None:
        bare = replace(voice, name="", source="", consent="", licence="")
        if is_new and self.on_disk:
            _write(key, bare)
        with self._lock:
            self._known[key] = bare
            self._known.move_to_end(key)
            while len(self._known) > MOST:
                self._known.popitem(last=False)


def _tell_again(known: Voice, clip: Audio | Path, about: Mapping[str, str], is_transcribed: bool) -> Voice:
    """Return a known voice as that of this clip; what was said of it the first time is said again."""
    label, name, source = "the recording", "unnamed", ""
    if isinstance(clip, Path):
        label, name, source = str(clip), clip.stem, clip.name
    for check in filter(None, known.checks.split("; ")):
        log.warning("%s: %s", label, check)
    if is_transcribed:
        log.warning("%s: transcribed before: %r; if that is wrong, say what is spoken", label, known.text)
    consent, licence = about["consent"], about["licence"]
    return replace(known, name=name, source=source, created=now(), consent=consent, licence=licence)


def make_key(clip: Audio | Path, how: Mapping[str, Any]) -> str | None:
    """Return the key that a voice is kept by; None for a file that cannot be read, or is too large for a clip."""
    if isinstance(clip, Audio):
        content = hashlib.sha256(clip.samples.tobytes()).hexdigest() + f" {clip.rate}"
    else:
        try:
            if not clip.is_file() or clip.stat().st_size > LARGEST:
                return None
            content = hashlib.sha256(clip.read_bytes()).hexdigest()
        except OSError:
            return None
    facts = [__version__, content, dict(how)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _path(key: str) -> Path:
    return cache_folder() / FOLDER / f"{key}{VOICE_SUFFIX}"


def _read(key: str) -> Voice | None:
    try:
        path = _path(key)
        voice = Voice.load(path)
        with suppress(OSError):
            os.utime(path)  # it was asked for just now
    except (UserError, OSError):  # none, or it is damaged
        return None
    return voice


def _write(key: str, voice: Voice) -> None:
    """Keep a voice, and let go of what is old. If the disk does not take it, it is heard again another time."""
    with suppress(UserError, OSError):
        path = _path(key)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        voice.save(path)
        path.chmod(0o600)
        kept = sorted(path.parent.glob(f"*{VOICE_SUFFIX}"), key=lambda each: each.stat().st_mtime, reverse=True)
        for number, each in enumerate(kept):
            if number >= MOST_FILES or each.stat().st_mtime < time.time() - DAYS * 86_400:
                each.unlink(missing_ok=True)
