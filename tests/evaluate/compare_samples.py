"""What the tests of comparisons share: an item, a speech server, espeak-ng as a program."""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from openvalle.audio import Audio
from openvalle.evaluate.test_list import CorpusExcerpt, TestItem

ESPEAK = Path(__file__).parents[2] / "benchmarks" / "espeak_command.py"


def item(text: str = "Hello there.", id_: str = "utt1") -> TestItem:
    excerpt = CorpusExcerpt(id_, f"{id_}.wav", "SAW SEE", "anna", "F")
    return TestItem(id_, text, prompt=excerpt, reference=excerpt)


def tone(hertz: float = 220.0, seconds: float = 0.3, rate: int = 24_000) -> Audio:
    times = np.arange(round(seconds * rate)) / rate
    return Audio((0.3 * np.sin(2 * np.pi * hertz * times)).astype(np.float32), rate)


def wav(audio: Audio) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.samples, audio.rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def espeak() -> tuple[str, ...] | None:
    """The command template of espeak-ng: the program, or the library from a wheel; None if there is neither."""
    if program := shutil.which("espeak-ng"):
        return (program, "-v", "en-us", "-w", "{output}", "--stdin")
    try:
        import espeakng_loader  # noqa: F401
    except ImportError:
        return None
    return (sys.executable, str(ESPEAK), "{output}")


class SpeechServer(ThreadingHTTPServer):
    """An OpenAI-compatible speech endpoint: a tone as long as the text. Remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Speech)
        self.asked: list[dict[str, Any]] = []
        self.replies: list[tuple[int, dict[str, str]]] = []  # given first, one per request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Speech(BaseHTTPRequestHandler):
    server: SpeechServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append({"path": self.path, "key": self.headers.get("Authorization", ""), **body})
        if self.server.replies:
            status, headers = self.server.replies.pop(0)
            return self._send(status, b'{"error": "as told"}', headers)
        text = str(body.get("input", body.get("text", "")))
        sound = tone(300, 0.4 + 0.05 * len(text))
        if self.path.startswith("/json"):
            reply = json.dumps({"data": [{"audio": base64.b64encode(wav(sound)).decode()}]}).encode()
            return self._send(200, reply, {})
        if self.path.startswith("/pcm"):
            return self._send(200, (sound.samples * 32767).astype("<i2").tobytes(), {})
        if "unspeakable" in text:
            return self._send(400, b'{"error": "cannot say that"}', {})
        return self._send(200, wav(sound), {})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def speech_server() -> Iterator[SpeechServer]:
    with SpeechServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
