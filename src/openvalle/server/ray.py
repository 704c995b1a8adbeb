"""More than one process or machine: the app as a Ray Serve deployment, with a model and its batch in every replica.

Ray starts replicas as more requests come than they speak at a time, hands each request to one that has fewer, starts a
new one where one dies, and lets those that it takes away finish. A request whose replica dies ends with an error, or a
connection that breaks off: never as if it were complete. Uploaded voices lie in a folder, which all replicas have to
see: on several machines, one that they share.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from openvalle.errors import UserError, import_extra
from openvalle.parallel import set_up_ray
from openvalle.server.orders import Settings
from openvalle.server.run import listen, show_address

APP = "openvalle"
RESTING = 64  # requests of a replica that cost the model nothing: open WebSockets, lists, the page
RETRY_SECONDS = 5.0  # after which a client may ask again that found every replica and Ray's own queue full


def serve_on_ray(
    build: Callable[[], FastAPI],
    settings: Settings,
    address: tuple[str, int],
    replicas: tuple[int, int],
    device: str,
    then: Callable[[str], None],
) -> None:
    """Serve what `build` makes, in every replica, until a signal comes; `then` gets the address once requests are
    taken.

    `build`: a function, which Ray copies to where a replica is started; `replicas`: fewest and most; `device`: of the
    model. `UserError` if no replica comes up.
    """
    is_own = set_up_ray()
    ray, serve = import_extra("ray", "ray[serve]", "ray"), import_extra("ray.serve", "ray[serve]", "ray")
    with listen(*address) as free:  # one that is taken is told at once
        host, port = free.getsockname()[:2]
        shown = show_address(free)
    quiet: dict[str, Any] = {"logging_level": "warning", "log_to_driver": False}
    try:
        ray.init(address="local" if is_own else None, include_dashboard=False if is_own else None, **quiet)
    except Exception as error:  # noqa: BLE001 - it has no class of its own
        raise UserError(f"Ray does not start ({str(error).splitlines()[0][:200]})", "see docs.ray.io") from None
    try:
        logs = {"log_level": "WARNING", "enable_access_log": False}
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(http_options={"host": host, "port": port}, logging_config=logs)
        deployment = make_deployment(
            build, settings, replicas, choose_resources(ray.cluster_resources(), replicas, device)
        )
        try:
            serve.run(deployment.bind(), name=APP, route_prefix="/", logging_config=logs)
        except (RuntimeError, TimeoutError) as error:
            reason = str(error).strip().splitlines()[-1][:300]
            raise UserError(f"no replica came up ({reason})", "try the same without --ray first") from None
        done = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: done.set())
        then(shown)
        done.wait()
        serve.delete(APP)  # what was begun is finished
        if is_own:
            serve.shutdown()
    finally:
        ray.shutdown()


def make_deployment(
    build: Callable[[], FastAPI], settings: Settings, replicas: tuple[int, int], resources: dict[str, float]
) -> Any:
    """Return the deployment: Ray's words for our queue.

    A replica takes as many requests as it decodes and lets wait (`rows`, `waiting`), and refuses more with a 429 of its
    own; Ray, whose 429 tells less, holds no more than a burst. `resources`: what a replica needs of its machine.
    """
    serve = import_extra("ray.serve", "ray[serve]", "ray")
    config = import_extra("ray.serve.config", "ray[serve]", "ray")
    fewest, most = replicas
    taken = settings.rows + settings.waiting + RESTING
    return serve.deployment(
        serve.ingress(build)(),
        name=APP,
        max_ongoing_requests=taken,
        max_queued_requests=taken * most,
        backpressure_config=config.BackpressureConfig(status_code=429, retry_after_s=RETRY_SECONDS),
        autoscaling_config=config.AutoscalingConfig(
            min_replicas=fewest, initial_replicas=fewest, max_replicas=most, target_ongoing_requests=settings.rows
        ),
        graceful_shutdown_timeout_s=settings.drain_seconds,
        health_check_period_s=5,
        ray_actor_options=resources,
    )


def choose_resources(there: dict[str, float], replicas: tuple[int, int], device: str) -> dict[str, float]:
    """Return the processors and graphics cards of a replica, of those that are there."""
    if device == "cuda" or (device == "auto" and there.get("GPU", 0) >= 1):
        return {"num_cpus": 1, "num_gpus": 1}
    return {"num_cpus": max(1, int(there.get("CPU", 1) // replicas[1]))}
