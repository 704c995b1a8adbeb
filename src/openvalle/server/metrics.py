"""What `/metrics` tells Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from openvalle.server.speech import Piece
from openvalle.synth.batching import Load


class Metrics:
    """The figures of one server."""

    def __init__(self, load: Callable[[], Load]) -> None:
        """`load`: tells what the engine has to do."""
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "openvalle_requests", "Requests by route and status", ["route", "status"], registry=registry
        )
        self._first = Histogram(
            "openvalle_time_to_first_audio_seconds",
            "From the request to its first sound",
            buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30),
            registry=registry,
        )
        self._factor = Histogram(
            "openvalle_real_time_factor",
            "Seconds of work per second of sound, waiting included",
            buckets=(0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5),
            registry=registry,
        )
        self._audio = Counter("openvalle_audio_seconds", "Seconds of sound made", registry=registry)
        self._stops = Counter(
            "openvalle_generation_stops", "Sentences by how their decoding ended", ["reason"], registry=registry
        )
        Gauge("openvalle_queue_depth", "Requests that wait", registry=registry).set_function(lambda: load().waiting)
        Gauge("openvalle_running", "Requests that are spoken now", registry=registry).set_function(
            lambda: load().running
        )
        Gauge("openvalle_rows", "Rows in the decoder now", registry=registry).set_function(lambda: load().rows)

    def text(self) -> bytes:
        """Return the figures as Prometheus reads them."""
        return bytes(generate_latest(self._registry))

    def watch(self) -> RequestTimer:
        """Return what follows one request, from now on."""
        return RequestTimer(self._first.observe, self._factor.observe, self)

    def count(self, piece: Piece) -> None:
        """Count what was made."""
        self._audio.inc(piece.seconds)
        if piece.speech is not None:
            flags = piece.speech.quality.flags
            self._stops.labels(flags[0] if flags else piece.speech.quality.stopped_by).inc()


class RequestTimer:
    """Times one request."""

    def __init__(self, first: Callable[[float], None], factor: Callable[[float], None], metrics: Metrics) -> None:
        self._first, self._factor, self._metrics = first, factor, metrics
        self._begin, self._seconds = time.monotonic(), 0.0

    def see(self, piece: Piece) -> None:
        """Take note of a piece."""
        if not self._seconds and piece.seconds:
            self._first(time.monotonic() - self._begin)
        self._seconds += piece.seconds
        self._metrics.count(piece)

    def end(self) -> None:
        """The request is answered."""
        if self._seconds:
            self._factor((time.monotonic() - self._begin) / self._seconds)
