"""Play a sound file on this machine's loudspeaker."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from openvalle.errors import UserError

PLAYERS = (  # the first that is installed is used
    ("afplay",),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
    ("paplay",),
    ("aplay", "-q"),
    ("mpv", "--no-video", "--really-quiet"),
)


def play_file(path: Path) -> None:
    """Play the file to its end; `UserError` if this machine has no player or no sound device."""
    try:
        import sounddevice

        from openvalle.media import read

        audio = read(path, rate=None)
        sounddevice.play(audio.samples, audio.rate, blocking=True)
    except (ImportError, OSError):  # no package, or no PortAudio library
        _play_with_command(path)
    except sounddevice.PortAudioError as error:
        raise UserError(f"{path} is written, but cannot be played here ({error})", "open it in a player") from None


def _play_with_command(path: Path) -> None:
    for command in PLAYERS:
        if shutil.which(command[0]):
            done = subprocess.run([*command, str(path)], check=False, capture_output=True, text=True)
            if done.returncode == 0:
                return
            raise UserError(
                f"{path} is written, but {command[0]} cannot play it ({done.stderr.strip() or done.returncode})",
                "open it in a player",
            )
    raise UserError(
        f"{path} is written, but there is nothing to play it with", "run: pip install sounddevice; or install ffmpeg"
    )
