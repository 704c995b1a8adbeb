"""The image: built and run where Docker can; what it promises is read from its files everywhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from openvalle.server.run import listen

ROOT = Path(__file__).parents[2]
PATIENCE = 180.0


def can_run() -> bool:
    """True where a Docker engine answers."""
    return shutil.which("docker") is not None and not subprocess.run(["docker", "info"], capture_output=True).returncode


def test_the_image_has_no_root_and_tells_its_health() -> None:
    last = (ROOT / "Dockerfile").read_text().split("\nFROM ")[-1]
    assert re.search(r"^USER openvalle$", last, re.M) and last.index("USER openvalle") < last.index("ENTRYPOINT")
    assert "/ready" in last.partition("HEALTHCHECK")[2] and "STOPSIGNAL SIGTERM" in last


def test_what_the_image_is_built_of_is_there_and_not_ignored() -> None:
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    names = {name for names in copied for name in names.split()}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert names == kept and all((ROOT / name).exists() for name in names)


def test_compose_serves_as_the_page_says() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    page = (ROOT / "docs" / "serve.md").read_text()
    for words in re.findall(r"docker compose (.*?) *#", page):
        profile = re.search(r"--profile (\w+)", words)
        for name in re.findall(r"(\w+)(?:=\d+)?", words.partition(" up")[2]):
            if name not in ("scale", "1", "2", "3"):
                assert name in services and (not profile or profile[1] in services[name]["profiles"])
    assert all(port.startswith("${HOST:-127.0.0.1}") for one in services.values() for port in one.get("ports", ()))


@pytest.fixture(scope="module")
def container() -> Iterator[tuple[str, str]]:
    """The name and the address of a container of an image that was built now."""
    if not can_run():
        pytest.skip("no Docker engine answers")
    name = f"openvalle-test-{uuid.uuid4().hex[:8]}"
    subprocess.run(["docker", "build", "--tag", name, str(ROOT)], check=True, timeout=3000)
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    strict = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    place = ["--volume", f"{name}:/data", "--publish", f"127.0.0.1:{port}:8000"]
    subprocess.run(["docker", "run", "--detach", "--name", name, *strict, *place, name], check=True)
    try:
        yield name, f"http://127.0.0.1:{port}"
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], check=False)
        subprocess.run(["docker", "volume", "rm", name], check=False)
        subprocess.run(["docker", "rmi", name], check=False)


@pytest.mark.slow
def test_a_container_becomes_healthy_speaks_and_ends(container) -> None:
    name, url = container

    def state() -> dict:
        found = subprocess.run(["docker", "inspect", name], capture_output=True, check=True)
        return json.loads(found.stdout)[0]["State"]

    until = time.monotonic() + PATIENCE
    while state()["Health"]["Status"] != "healthy":
        assert time.monotonic() < until and state()["Running"], "it does not become healthy"
        time.sleep(1)
    answer = httpx.post(f"{url}/v1/audio/speech", json={"input": "Hello there."}, timeout=PATIENCE)
    assert answer.status_code == 200 and len(answer.content) > 2000
    user = subprocess.run(["docker", "exec", name, "id", "-u"], capture_output=True, text=True, check=True)
    assert user.stdout.strip() == "10001"
    subprocess.run(["docker", "stop", name], check=True, timeout=PATIENCE)
    assert state()["ExitCode"] == 0
