"""What is wrong with a clip that is to become a voice, as a listener would say it. Nothing here refuses a clip."""

from __future__ import annotations

import logging

import numpy as np

from openvalle.audio import Audio, levels
from openvalle.errors import AudioError, MissingExtra, ModelError

log = logging.getLogger(__name__)

QUIET_DB = -45.0  # RMS of the active part, in dBFS
CLIPPED = 0.99  # of full scale
CLIPPED_SHARE = 1e-4  # of the samples, in runs of at least two
NOISE_DB = 20.0  # that speech should stand above what lies between the words
ONE_SPEAKER = 0.6  # cosine of two halves of a clip: one reader 0.75 to 0.9, two readers 0.5 to 0.65
HALF_SECONDS = 2.0  # of sound that a half needs, to be compared


def problems(recording: Audio) -> list[str]:
    """Return what may spoil the voice of a recording, one sentence each; none for a good one.

    Whether more than one person speaks is asked only if the speaker encoder is installed.
    """
    found = [check(recording) for check in (_quiet, _clipped, _noisy, _crowded)]
    return [problem for problem in found if problem]


def _active(recording: Audio) -> tuple[float, float]:
    """Return the level of the active part and of the quietest tenth, in dBFS."""
    frames = levels(recording).astype(np.float64)
    active = frames[frames > frames.max() - 25]
    return float(10 * np.log10(np.mean(10 ** (active / 10)))), float(np.quantile(frames, 0.1))


def _quiet(recording: Audio) -> str:
    level = _active(recording)[0]
    return f"it is quiet ({level:.0f} dBFS): record closer to the microphone" if level < QUIET_DB else ""


def _clipped(recording: Audio) -> str:
    full = np.abs(recording.samples) >= CLIPPED
    share = float((full[1:] & full[:-1]).mean()) if len(full) > 1 else 0.0
    return (
        f"it is clipped ({100 * share:.2f} % of the samples): record at a lower level" if share > CLIPPED_SHARE else ""
    )


def _noisy(recording: Audio) -> str:
    level, floor = _active(recording)
    if level - floor >= NOISE_DB:
        return ""
    return f"speech is only {level - floor:.0f} dB above what lies between the words: record in a quiet room"


def _crowded(recording: Audio) -> str:
    """Compare the voice of the first half with that of the second."""
    if recording.seconds < 2 * HALF_SECONDS:
        return ""
    from openvalle.listen.speaker import ResemblyzerEncoder, similarity

    middle = len(recording.samples) // 2
    try:
        encoder = ResemblyzerEncoder()
        halves = (recording.samples[:middle], recording.samples[middle:])
        first, second = (encoder.embed(Audio(half, recording.rate)) for half in halves)
    except (MissingExtra, ModelError, AudioError) as error:
        log.info("not asked whether one person speaks: %s", error)
        return ""
    alike = similarity(first, second)
    if alike >= ONE_SPEAKER:
        return ""
    return f"its halves sound like two people (similarity {alike:.2f}): cut out where one person speaks"
