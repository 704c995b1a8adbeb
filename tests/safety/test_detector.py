"""Tags and findings: what is written is read again in every format, and nothing is claimed beyond it."""

from __future__ import annotations

from pathlib import Path

import pytest

from openvalle.audio import Audio
from openvalle.errors import AudioError
from openvalle.media import FORMATS, read_tags, write
from openvalle.safety.detector import MEANINGS, Provenance, Verdict, inspect, read_provenance
from openvalle.safety.watermark import Detector, Marker

MADE = Provenance("openvalle 0.1.0", "tïny", "perth-implicit")


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.mark.parametrize("ending", [ending for ending in FORMATS if ending != ".pcm"])
def test_provenance_survives_every_format(tmp_path: Path, intoned: Audio, ending: str) -> None:
    path = write(tmp_path / f"a{ending}", intoned, tags=MADE.tags())
    assert read_provenance(path) == MADE
    assert read_tags(path)["comment"].startswith("Synthetic speech")


@pytest.mark.parametrize(
    "comment",
    ["", "my comment", "openvalle: nothing", "openvalle: [1]", 'openvalle: {"generator": 1}', "openvalle: {"],
)
def test_other_comments_say_nothing(tmp_path: Path, intoned: Audio, comment: str) -> None:
    assert read_provenance(write(tmp_path / "a.flac", intoned, tags={"comment": comment})) is None


def test_equal_sounds_are_equal_files(tmp_path: Path, intoned: Audio) -> None:
    first, second = (write(tmp_path / name, intoned, tags=MADE.tags()).read_bytes() for name in ("a.wav", "b.wav"))
    assert first == second


def test_each_finding_has_its_verdict(tmp_path: Path, intoned: Audio, detector: Detector) -> None:
    marked = Marker().mark(intoned)
    files = {
        "both.wav": (write(tmp_path / "both.wav", marked, tags=MADE.tags()), Verdict.MARKED),
        "mark.wav": (write(tmp_path / "mark.wav", marked), Verdict.MARKED),
        "tags.wav": (write(tmp_path / "tags.wav", intoned, tags=MADE.tags()), Verdict.TAGGED),
        "none.wav": (write(tmp_path / "none.wav", intoned), Verdict.UNKNOWN),
    }
    for path, verdict in files.values():
        finding = inspect(path, detector)
        assert finding.verdict is verdict
        assert finding.meaning == MEANINGS[verdict]
        assert (finding.as_dict()["metadata"] is None) == (path.name in ("mark.wav", "none.wav"))


def test_raw_pcm_and_missing_files_are_clear_errors(tmp_path: Path, intoned: Audio, detector: Detector) -> None:
    for path, message in ((write(tmp_path / "a.pcm", intoned), "raw PCM"), (tmp_path / "b.wav", "no audio file")):
        with pytest.raises(AudioError, match=message):
            inspect(path, detector)
        with pytest.raises(AudioError, match=message):
            read_tags(path)
