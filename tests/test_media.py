"""Sound written in blocks equals sound written whole, and a failure leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from openvalle.audio import Audio
from openvalle.errors import AudioError
from openvalle.media import FORMATS, format_ending, read, sound_file, write


def test_blocks_equal_the_whole(tmp_path: Path, spoken: Audio) -> None:
    write(tmp_path / "whole.wav", spoken)
    with sound_file(tmp_path / "blocks.wav", spoken.rate) as append:
        for start in range(0, len(spoken.samples), 1000):
            append(Audio(spoken.samples[start : start + 1000]))
    assert (tmp_path / "blocks.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if suffix != ".pcm"])
def test_every_format_can_be_read_again(tmp_path: Path, spoken: Audio, suffix: str) -> None:
    path = tmp_path / f"speech{suffix}"
    with sound_file(path, spoken.rate) as append:
        append(spoken)
    assert read(path).seconds == pytest.approx(spoken.seconds, abs=0.1)


def test_raw_pcm_is_written_but_cannot_tell_its_rate(tmp_path: Path, spoken: Audio) -> None:
    path = tmp_path / "speech.pcm"
    with sound_file(path, spoken.rate) as append:
        append(spoken)
    assert path.stat().st_size == 2 * len(spoken.samples)
    with pytest.raises(AudioError, match="raw PCM"):
        read(path)


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"unknown format '.aac'"), sound_file(tmp_path / "x.aac", 24_000):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_stopped_in_the_middle_leaves_nothing(tmp_path: Path, spoken: Audio, stop: type[BaseException]) -> None:
    with pytest.raises(stop), sound_file(tmp_path / "x.wav", 24_000) as append:
        append(spoken)
        raise stop
    assert list(tmp_path.iterdir()) == []


def test_old_file_survives_a_failed_write(tmp_path: Path, spoken: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.wav", spoken)
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", full)
    with pytest.raises(AudioError, match="cannot write"), sound_file(path, 24_000) as append:
        append(spoken)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


LIMITED = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from openvalle.audio import Audio
from openvalle.errors import AudioError
from openvalle.media import sound_file

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
block = Audio((0.1 * np.random.default_rng(0).standard_normal(24_000)).astype(np.float32))
try:
    with sound_file(Path(sys.argv[1]), 24_000) as append:
        for _ in range(200):
            append(block)
except AudioError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX")
@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".opus"])
def test_real_write_error_is_one_line_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "limited"
    command = [sys.executable, "-c", LIMITED, str(folder / f"x{suffix}")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("cannot write")
    assert not folder.exists()


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path, spoken: Audio) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AudioError, match="cannot write"), sound_file(tmp_path / "file" / "x.wav", 24_000) as append:
        append(spoken)


def test_loud_samples_are_clipped_not_wrapped(tmp_path: Path) -> None:
    with sound_file(tmp_path / "x.wav", 24_000) as append:
        append(Audio(np.array([2.0, -2.0], np.float32)))
    np.testing.assert_allclose(read(tmp_path / "x.wav").samples, [1.0, -1.0], atol=1e-4)


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    for folder in (Path("."), tmp_path):
        with pytest.raises(AudioError, match="is a folder; give the name of a file in it"):
            format_ending(folder)
