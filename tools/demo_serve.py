"""Start `openvalle serve`, let curl and OpenAI's client speak with it, and leave it running (`make demo-serve`).

python tools/demo_serve.py [--once] [--port 8000] [--out out]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import soundfile
from openai import OpenAI

TEXT = "Hello. This was spoken by a server on this machine."


def wait_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server has spoken its first words; `SystemExit` if it ends before."""
    while True:
        if server.poll() is not None:
            raise SystemExit(server.returncode or 1)
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)


def ask_with_curl(url: str, out: Path) -> Path:
    """Return the MP3 that curl gets."""
    path = out / "demo-curl.mp3"
    body = json.dumps({"model": "tts-1", "voice": "alloy", "input": TEXT})
    head = ["-H", "Content-Type: application/json"]
    subprocess.run(["curl", "-sSf", f"{url}/v1/audio/speech", *head, "-d", body, "-o", str(path)], check=True)
    return path


def ask_with_client(url: str, out: Path) -> tuple[Path, float]:
    """Return the WAV that OpenAI's client gets, and the seconds to its first byte."""
    path, first = out / "demo-openai.wav", 0.0
    create = OpenAI(base_url=f"{url}/v1", api_key="any").audio.speech.with_streaming_response.create
    started = time.monotonic()
    with create(model="tts-1", voice="alloy", input=TEXT, response_format="wav") as answer, path.open("wb") as file:
        for piece in answer.iter_bytes():
            first = first or time.monotonic() - started
            file.write(piece)
    return path, first


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--once", action="store_true", help="end the server when all was heard")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--out", type=Path, default=Path("out"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{chosen.port}"
    server = subprocess.Popen([sys.executable, "-m", "openvalle", "serve", "--port", str(chosen.port), "--quiet"])
    try:
        wait_ready(url, server)
        if shutil.which("curl"):
            path = ask_with_curl(url, chosen.out)
            print(f"curl: {path}, {soundfile.info(str(path)).duration:.1f} s of speech")
        path, first = ask_with_client(url, chosen.out)
        print(f"openai: {path}, {path.stat().st_size / 48_000:.1f} s of speech, first sound after {first:.2f} s")
        if not chosen.once:
            print(f"serving on {url}; end with Ctrl-C", flush=True)
            server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
