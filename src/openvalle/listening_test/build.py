"""Make a listening test from folders of clips, one folder per system, one file per item.

Sounds that a listening test makes itself: anchors, clips for catch trials, tones for the headphone check.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import numpy as np

from openvalle.audio import Audio, is_silent, normalize
from openvalle.errors import AudioError, UserError
from openvalle.files import atomic_folder
from openvalle.listening_test.schedule import catches, comparisons, trainings
from openvalle.listening_test.study import (
    ANCHOR,
    AUDIO_FOLDER,
    HEADPHONES,
    REFERENCE,
    STUDY_FILE,
    Design,
    Role,
    Stimulus,
    Study,
    StudyItem,
    TestKind,
    Trial,
)
from openvalle.media import FORMATS, read

ANCHOR_HERTZ = 3500.0  # low anchor of ITU-R BS.1534-3
POOR_HERTZ = 1200.0  # a catch clip must be poor on any loudspeaker
POOR_SNR_DB = 3.0
TONE_HERTZ = 200.0  # Woods et al. 2017, "Headphone screening to facilitate web-based auditory experiments"
TONE_SECONDS, RAMP_SECONDS, GAP_SECONDS = 1.0, 0.1, 0.5
QUIETER_DB = -6.0
TONE_LEVEL = 0.25  # peak of the louder tones
TONE_RATE = 24_000
ORDERS = tuple(permutations(("loud", "quiet", "antiphase")))  # the six trials of the check


def low_pass(audio: Audio, hertz: float) -> Audio:
    """Return the sound below `hertz`, with a raised-cosine edge a tenth of it wide."""
    frequencies = np.fft.rfftfreq(len(audio.samples), 1 / audio.rate)
    edge = np.clip((frequencies - hertz) / (0.1 * hertz), 0, 1)
    spectrum = np.fft.rfft(audio.samples) * (0.5 + 0.5 * np.cos(np.pi * edge))
    return Audio(np.fft.irfft(spectrum, len(audio.samples)).astype(np.float32), audio.rate)


def anchor(audio: Audio) -> Audio:
    """Return the MUSHRA anchor of a reference: its band below 3.5 kHz."""
    return low_pass(audio, ANCHOR_HERTZ)


def poor(audio: Audio, rng: np.random.Generator) -> Audio:
    """Return a version that no listener takes for the better one: dull and noisy, at the same level."""
    dull = low_pass(audio, POOR_HERTZ).samples
    power = float(np.mean(np.square(dull, dtype=np.float64)))
    noise = rng.standard_normal(len(dull)) * np.sqrt(power / 10 ** (POOR_SNR_DB / 10))
    mixed = dull + noise
    gain = np.sqrt(np.mean(np.square(audio.samples, dtype=np.float64)) / max(np.mean(np.square(mixed)), 1e-12))
    return Audio(np.clip(mixed * gain, -1, 1).astype(np.float32), audio.rate)


def headphone_tones(order: tuple[str, ...]) -> np.ndarray:
    """Return three tones in a row, (samples, 2) float32 at `TONE_RATE`.

    One tone is 6 dB quieter and one is loud with the channels in opposite phase. Through headphones the quiet one
    is found easily; through loudspeakers the opposite phases cancel, and the loud tone seems to be the quietest.
    """
    times = np.arange(round(TONE_SECONDS * TONE_RATE)) / TONE_RATE
    ramp = np.clip(np.minimum(times, TONE_SECONDS - times) / RAMP_SECONDS, 0, 1)
    tone = TONE_LEVEL * np.sin(2 * np.pi * TONE_HERTZ * times) * np.sin(0.5 * np.pi * ramp) ** 2
    quiet = tone * 10 ** (QUIETER_DB / 20)
    sounds = {"loud": (tone, tone), "quiet": (quiet, quiet), "antiphase": (tone, -tone)}
    gap = np.zeros((round(GAP_SECONDS * TONE_RATE), 2))
    parts = [part for name in order for part in (np.stack(sounds[name], axis=1), gap)]
    return np.concatenate(parts[:-1]).astype(np.float32)


MAX_CLIP_SECONDS = 60.0  # nobody compares longer clips from memory
MAX_STIMULI = 12  # BS.1534 advises no more on one page
FILE_FORMATS = (".flac", ".wav", ".mp3")  # what every browser plays

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Sources:
    """Where the clips come from. An item is a file; the file's name without its ending is the item's name."""

    systems: Mapping[str, Path]
    reference: Path | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    only_common: bool = False


@dataclass(frozen=True)
class Sound:
    """How clips are written: file ending, rate in hertz (0 keeps each file's), level."""

    ending: str = ".flac"
    rate: int = 0
    is_levelled: bool = True

    def __post_init__(self) -> None:
        if self.ending not in FILE_FORMATS:
            raise UserError(
                f"raters' browsers may not play {self.ending!r}", f"choose one of {', '.join(FILE_FORMATS)}"
            )

    def prepare(self, path: Path) -> Audio:
        """Return the clip as raters will hear it; `AudioError` if it holds no speech."""
        audio = read(path, rate=self.rate or None, max_seconds=MAX_CLIP_SECONDS)
        if is_silent(audio):
            raise AudioError(f"{path} is silent", "a system that failed there has no clip: delete the file")
        return normalize(audio) if self.is_levelled else audio


def build_study(
    folder: Path, design: Design, sources: Sources, sound: Sound | None = None, progress: Progress | None = None
) -> Study:
    """Write a new test into `folder` (which must not be there, or empty) and return it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already", "choose another folder; a test is never overwritten")
    check_systems(design, sources)
    clips = find_all_clips(sources)
    items = common_items(clips, sources.only_common)
    with atomic_folder(folder) as part:
        study = _Builder(part / AUDIO_FOLDER, design, sources, sound or Sound(), clips).build(items, progress)
        study.save(part / STUDY_FILE)
    return study


def find_clips(folder: Path, name: str) -> dict[str, Path]:
    """Return the audio files in `folder` by their names without endings."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} for {name!r}", "write --system NAME=FOLDER")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in FORMATS and not path.name.startswith("."):
            if path.stem in found:
                raise UserError(f"{folder} holds {path.stem} twice ({path.name})", "keep one file for every item")
            found[path.stem] = path
    if not found:
        raise UserError(f"{folder} holds no sound files", f"they end in {' '.join(FORMATS)}")
    return found


def find_all_clips(sources: Sources) -> dict[str, dict[str, Path]]:
    """Return the clips of each system, and of the reference, by item."""
    folders = {**sources.systems, **({} if sources.reference is None else {REFERENCE: sources.reference})}
    return {name: find_clips(folder, name) for name, folder in folders.items()}


def common_items(folders: Mapping[str, Mapping[str, Path]], only_common: bool = False) -> list[str]:
    """Return the items that all folders hold; `UserError` names what is missing where, unless `only_common`."""
    everything = sorted({item for clips in folders.values() for item in clips})
    common = [item for item in everything if all(item in clips for clips in folders.values())]
    if not common:
        raise UserError("the folders have no item in common", "files of one item need the same name in every folder")
    if len(common) < len(everything) and not only_common:
        lost = {name: [item for item in everything if item not in clips] for name, clips in folders.items()}
        shown = "; ".join(f"{name} lacks {len(gone)} ({', '.join(gone[:3])})" for name, gone in lost.items() if gone)
        raise UserError(
            f"the folders hold different items: {shown}",
            f"add what is missing, or use only the {len(common)} that all have with --only-common",
        )
    return common


def check_systems(design: Design, sources: Sources) -> None:
    """Raise `UserError` if these systems cannot make this kind of test."""
    names = list(sources.systems)
    needed = 2 if design.kind in (TestKind.CMOS, TestKind.MUSHRA) else 1
    if len(names) < needed:
        raise UserError(f"a {design.kind} test needs {needed} systems or more", "give --system NAME=FOLDER for each")
    if bad := [name for name in names if not name.strip() or name in (REFERENCE, ANCHOR) or len(name) > 60]:
        raise UserError(f"{bad[0]!r} cannot be the name of a system", "use a short word")
    if design.kind in (TestKind.SMOS, TestKind.MUSHRA) and sources.reference is None:
        raise UserError(f"a {design.kind} test needs a reference for every item", "give --reference FOLDER")
    if design.kind is TestKind.MUSHRA and len(names) + 2 > MAX_STIMULI:
        raise UserError(
            f"{len(names)} systems are too many for one page", f"a mushra test takes up to {MAX_STIMULI - 2}"
        )
    if design.kind is TestKind.CMOS and design.baseline not in names:
        given = f"there is no system {design.baseline!r}" if design.baseline else "there is no baseline"
        raise UserError(f"{given} to compare the others with", f"give --baseline, one of {', '.join(names)}")


class _Builder:
    """Writes clips under names that say nothing, and keeps the key."""

    def __init__(
        self, folder: Path, design: Design, sources: Sources, sound: Sound, paths: Mapping[str, Mapping[str, Path]]
    ) -> None:
        self._folder, self._design, self._sources, self._sound, self._paths = folder, design, sources, sound, paths
        self._rng = np.random.default_rng(design.seed)
        self._clips: dict[str, Stimulus] = {}

    def build(self, items: list[str], progress: Progress | None) -> Study:
        """Write every clip and return the test."""
        design = self._design
        self._folder.mkdir(parents=True)
        shuffled = [items[place] for place in self._rng.permutation(len(items))]
        names: dict[tuple[str, str], str] = {}
        for count, item in enumerate(shuffled):
            self._write_item(item, names)
            if progress:
                progress("preparing clips", count + 1, len(shuffled))
        headphones = self._tones() if design.headphones else ()
        systems = tuple(self._sources.systems)
        return Study(
            id=secrets.token_hex(8),
            design=design,
            systems=systems,
            items=tuple(StudyItem(id=item, text=self._sources.texts.get(item, "")) for item in items),
            comparisons=comparisons(design, systems, shuffled, names),
            training=trainings(design, shuffled, self._known_pair),
            catches=catches(design, shuffled, self._known_pair),
            headphones=headphones,
            clips=dict(sorted(self._clips.items())),
        )

    def _write_item(self, item: str, names: dict[tuple[str, str], str]) -> None:
        """Write what one item's counted trials need; `names[system, item]` says where."""
        for system in self._sources.systems:
            names[system, item] = self._write(
                self._audio(system, item), Stimulus(role=Role.SYSTEM, system=system, item=item)
            )
        if self._design.kind not in (TestKind.SMOS, TestKind.MUSHRA):
            return
        reference = self._audio(REFERENCE, item)
        names[REFERENCE, item] = self._write(reference, Stimulus(role=Role.OPEN, system=REFERENCE, item=item))
        if self._design.kind is TestKind.MUSHRA:
            hidden = Stimulus(role=Role.HIDDEN, system=REFERENCE, item=item)
            names["hidden", item] = self._write(reference, hidden)
            low = Stimulus(role=Role.ANCHOR, system=ANCHOR, item=item, poor=True)
            names[ANCHOR, item] = self._write(anchor(reference), low)

    def _known_pair(self, role: Role, item: str, is_second_poor: bool) -> tuple[str, str]:
        """Write the best recording of an item twice, the second time made poor if asked; return both names."""
        best = REFERENCE if self._sources.reference is not None else self._design.baseline or next(iter(self._paths))
        audio = self._audio(best, item)
        second = poor(audio, self._rng) if is_second_poor else audio
        return (
            self._write(audio, Stimulus(role=role, system=best, item=item)),
            self._write(second, Stimulus(role=role, system=best, item=item, poor=is_second_poor)),
        )

    def _audio(self, system: str, item: str) -> Audio:
        return self._sound.prepare(self._paths[system][item])

    def _write(self, audio: Audio, clip: Stimulus) -> str:
        import soundfile

        # Not from the seed: whoever knows the seed must not know which file is which system.
        name = secrets.token_hex(8) + self._sound.ending
        container, subtype = FORMATS[self._sound.ending]
        # not `audio.write`: the whole folder appears at once, single files need no care
        soundfile.write(self._folder / name, np.clip(audio.samples, -1, 1), audio.rate, subtype, format=container)
        self._clips[name] = clip
        return name

    def _tones(self) -> tuple[Trial, ...]:
        import soundfile

        trials = []
        for order in ORDERS:
            name = secrets.token_hex(8) + ".wav"  # a lossy format could spoil the opposite phases
            soundfile.write(self._folder / name, headphone_tones(order), TONE_RATE, subtype="PCM_16")
            answer = order.index("quiet") + 1
            self._clips[name] = Stimulus(role=Role.TONES, system=HEADPHONES, item=HEADPHONES, answer=answer)
            trials.append(Trial(stage="headphones", item=HEADPHONES, clips=(name,)))
        return tuple(trials)
