"""A real browser without a window, driven over W3C WebDriver: Chromium and its chromedriver, nothing else.

Debian and Ubuntu: apt install chromium chromium-driver. Other places: set CHROME and CHROMEDRIVER.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that the standard gives to elements
KEYS = {"Enter": "\ue007", "Space": " ", "Tab": "\ue004", "Right": "\ue014", "End": "\ue010", "Escape": "\ue00c"}
KEYS |= {"Shift": "\ue008", "Control": "\ue009", "Down": "\ue015", "Home": "\ue011"}


def programs() -> tuple[str, str] | None:
    """Return the browser and its driver; None if one of them is not installed."""
    browser = os.environ.get("CHROME") or next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


class Browser:
    """One window of the browser."""

    def __init__(self, address: str, capabilities: dict[str, Any]) -> None:
        self._address = address
        reply = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._session = f"/session/{reply['sessionId']}"

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(
            self._address + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"].splitlines()[0]) from None

    def open(self, url: str) -> None:
        self._call("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what a script in the page returns."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def click(self, css: str) -> None:
        """Click as a person does: in the middle of the element, if nothing covers it and it is not disabled."""
        found = self._call("POST", f"{self._session}/element", {"using": "css selector", "value": css})
        self._call("POST", f"{self._session}/element/{found[ELEMENT]}/click")

    def type(self, css: str, text: str) -> None:
        """Write into a field, or give a file to one that takes files."""
        found = self._call("POST", f"{self._session}/element", {"using": "css selector", "value": css})
        self._call("POST", f"{self._session}/element/{found[ELEMENT]}/value", {"text": text})

    def chord(self, held: str, key: str) -> None:
        """Press a key while another is held."""
        steps = [("keyDown", held), ("keyDown", key), ("keyUp", key), ("keyUp", held)]
        actions = [{"type": kind, "value": KEYS.get(name, name)} for kind, name in steps]
        body = {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}
        self._call("POST", f"{self._session}/actions", body)

    def emulate(self, **features: str) -> None:
        """Let media features have these values: `prefers_color_scheme="dark"`."""
        wanted = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.control("Emulation.setEmulatedMedia", features=wanted)

    def control(self, command: str, **parameters: Any) -> Any:
        """Return what the browser's own protocol answers to a command."""
        body = {"cmd": command, "params": parameters}
        return self._call("POST", f"{self._session}/goog/cdp/execute", body)

    def press(self, *keys: str) -> None:
        """Press keys, one after another, wherever the focus is."""
        pressed = [KEYS.get(key, key) for key in keys]
        actions = [{"type": kind, "value": key} for key in pressed for kind in ("keyDown", "keyUp")]
        body = {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}
        self._call("POST", f"{self._session}/actions", body)

    def wait(self, condition: str, *arguments: Any, seconds: float = 20.0) -> Any:
        """Return the value of a JavaScript expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(f"return {condition}", *arguments)):
            assert time.monotonic() < end, f"never true: {condition}; the page says: {self.text()[:300]}"
            time.sleep(0.01)
        return value

    def text(self) -> str:
        return self.run("return document.body.innerText")

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def close(self) -> None:
        self._call("DELETE", self._session)


@contextmanager
def browser(
    downloads: Path, width: int = 1100, height: int = 850, phone: bool = False, microphone: Path | None = None
) -> Iterator[Browser]:
    """Yield a new browser with one window; files that pages save go to `downloads`; `microphone`: a WAV file that is
    heard over and over."""
    found = programs()
    assert found
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    driver = subprocess.Popen([found[1], f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    window = None
    try:
        _await(port, driver)
        window = Browser(
            f"http://127.0.0.1:{port}", _capabilities(found[0], downloads, width, height, phone, microphone)
        )
        yield window
    finally:
        if window:
            window.close()
        driver.terminate()
        driver.wait(10)


def _await(port: int, driver: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        assert driver.poll() is None, "chromedriver ended at once"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("chromedriver does not answer")


def _capabilities(
    browser: str, downloads: Path, width: int, height: int, phone: bool, microphone: Path | None
) -> dict[str, Any]:
    # no sandbox: test machines run as root or in containers; the pages are our own
    arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--mute-audio"]
    if microphone:
        arguments += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        arguments.append(f"--use-file-for-fake-audio-capture={microphone}")
    options: dict[str, Any] = {
        "binary": browser,
        "args": [*arguments, f"--window-size={width},{height}"],
        "prefs": {"download.default_directory": str(downloads), "download.prompt_for_download": False},
    }
    if phone:
        metrics = {"width": 360, "height": 740, "pixelRatio": 2.0, "touch": True}
        options["mobileEmulation"] = {"deviceMetrics": metrics}
    return {"goog:chromeOptions": options}
