"""`openvalle serve`: speech over HTTP, as OpenAI's API has it."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openvalle.cli import options as opt
from openvalle.errors import UserError, import_extra
from openvalle.hub import home
from openvalle.parallel import status

if TYPE_CHECKING:
    from fastapi import FastAPI

KEYS = "OPENVALLE_API_KEY"  # environment variable with one key or several, between commas


def serve(
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every one of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0: any free one.")] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option("--api-key", help=f"Who sends it may ask; repeatable. Better: ${KEYS}, with commas between keys."),
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option("--origin", help="A foreign page that may ask: https://my.site; repeatable.")
    ] = None,
    wyoming: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port for Home Assistant's protocol, usually 10200. It knows no API keys."),
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Serve from replicas that Ray starts; $RAY_ADDRESS: a cluster.")
    ] = False,
    replicas: Annotated[str, typer.Option(help="With --ray: how many, or fewest:most as more is asked for.")] = "1",
    speaker: opt.Speaker,
    queue: Annotated[int, typer.Option(min=0, max=10_000, help="Requests that may wait; others get a 429.")] = 32,
    rows: Annotated[int, typer.Option(min=1, max=256, help="Requests that are spoken at a time.")] = 8,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where uploaded voices are kept. Default: with your other voices.")
    ] = None,
    characters: Annotated[int, typer.Option(min=1, max=1_000_000, help="Longest text of a request.")] = 4096,
    translator: Annotated[
        list[str] | None,
        typer.Option(
            "--translator", help="Translate speech, too, with this opus-mt model (docs/languages.md); repeatable."
        ),
    ] = None,
    patient: Annotated[
        bool, typer.Option("--patient", help="Stream each line only when it is known to be right: later, but repaired.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse fields and models that are not known.")] = False,
    drain: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds for what was begun, when asked to end.")
    ] = 30.0,
    consent_policy: opt.Policy = None,
    model: opt.Model,
    quiet: opt.Quiet = False,
) -> None:
    """Serve speech over HTTP until a signal comes: OpenAI's endpoint, a page, voices, a WebSocket (docs/serve.md).

    \b
    openvalle serve                                    http://127.0.0.1:8000
    OPENVALLE_API_KEY=secret openvalle serve --host 0.0.0.0
    """
    import_extra("starlette", "starlette", "server")
    import_extra("fastapi", "fastapi", "server")
    import_extra("uvicorn", "uvicorn", "server")
    import_extra("websockets", "websockets", "server")
    import_extra("prometheus_client", "prometheus-client", "server")
    import_extra("python_multipart", "python-multipart", "server")
    from openvalle.server.app import create_app
    from openvalle.server.orders import Settings
    from openvalle.server.ray import serve_on_ray
    from openvalle.server.run import listen, show_address
    from openvalle.server.run import serve as run

    settings = Settings(
        keys=read_keys(api_key),
        origins=tuple(origin or ()),
        is_strict=strict,
        is_patient=patient,
        rows=rows,
        waiting=queue,
        most_characters=characters,
        drain_seconds=drain,
        is_ready_first=ray,
        translators=tuple(translator or ()),
    )
    place = (folder or home() / "server").absolute()

    def build(door: socket.socket | None = None) -> FastAPI:
        synthesizer = model.load(speaker.asr, consent_policy)
        voice = None if speaker.voice is None else speaker.read(synthesizer)
        return create_app(synthesizer, place, settings, voice, door)

    def say_so(address: str, door: str = "") -> None:
        if not quiet:
            keyed = "an API key is asked for" if settings.keys else "no API key is asked for"
            print(f"serving on http://{address} ({keyed}); end with Ctrl-C", file=sys.stderr, flush=True)
        if not quiet and door:
            print(f"for Home Assistant: tcp://{door} (no key is asked for)", file=sys.stderr, flush=True)

    if ray:
        if wyoming is not None:
            raise UserError("--wyoming is a port of one process", "serve it without --ray")
        serve_on_ray(build, settings, (host, port), read_replicas(replicas), model.device, say_so)
        return
    listener = listen(host, port)  # before the model is loaded: an address that is taken is told at once
    door = None if wyoming is None else listen(host, wyoming, "--wyoming")
    with status(quiet) as show:
        show("loading the model")
        app = build(door)
    run(app, listener, drain, lambda: say_so(show_address(listener), show_address(door) if door else ""))


def read_replicas(text: str) -> tuple[int, int]:
    """Return the fewest and the most replicas of `2` or `1:4`."""
    found = re.fullmatch(r"(\d{1,3})(?::(\d{1,3}))?", text)
    fewest, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= fewest <= most:
        raise UserError(f"cannot read --replicas {text!r}", "write a number, or fewest:most, such as 1:4")
    return fewest, most


def read_keys(given: list[str] | None) -> tuple[str, ...]:
    """Return the API keys of the options, else of the environment; `UserError` for one that no header can carry."""
    keys = given or [key.strip() for key in os.environ.get(KEYS, "").split(",") if key.strip()]
    for key in keys:
        if not re.fullmatch(r"[!-~]{1,512}", key):
            raise UserError("an API key holds something else than letters, digits and signs of ASCII", "choose another")
    return tuple(keys)
