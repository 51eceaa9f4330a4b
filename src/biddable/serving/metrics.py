"""Count what a server does, for Prometheus to read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from biddable.serving.server_guard import App, Receive, Scope, Send

# What may stand as a path in the counts: what clients make up must not fill the memory.
_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics", "/report")
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class _Load(Protocol):
    @property
    def num_running(self) -> int: ...
    @property
    def num_waiting(self) -> int: ...


class Metrics:
    """Hold the counts of one server."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._registry = CollectorRegistry()

        def make(kind: Any, name: str, told: str, labels: tuple[str, ...], **more: Any) -> Any:
            return kind(f"biddable_{name}", told, labels, registry=self._registry, **more)

        self._requests = make(Counter, "requests", "Requests ended.", ("path", "status"))
        self._seconds = make(
            Histogram, "request_seconds", "Until the last byte.", ("path",), buckets=_SECONDS
        )
        self._first = make(
            Histogram, "first_text_seconds", "Until the first text.", ("model",), buckets=_SECONDS
        )
        self._read = make(Counter, "prompt_tokens", "Tokens of prompts.", ("model",))
        self._written = make(Counter, "answer_tokens", "Tokens of answers.", ("model",))
        self._ended = make(Counter, "answers", "Answers ended.", ("model", "reason"))
        self._running = make(Gauge, "running", "Answers being written.", ("model",))
        self._waiting = make(Gauge, "waiting", "Answers in the queue.", ("model",))

    def watch(self, model: str, load: _Load) -> None:
        """Tell how many answers of a model run and wait, whenever it is asked."""
        self._running.labels(model).set_function(lambda: load.num_running)
        self._waiting.labels(model).set_function(lambda: load.num_waiting)

    def read(self, model: str, num_tokens: int) -> None:
        """Count the ids of prompts."""
        self._read.labels(model).inc(num_tokens)

    def first(self, model: str, seconds: float) -> None:
        """Note how long the first text of an answer took."""
        self._first.labels(model).observe(seconds)

    def wrote(self, model: str, num_tokens: int, reason: str) -> None:
        """Count an answer."""
        self._written.labels(model).inc(num_tokens)
        self._ended.labels(model, reason).inc()

    def page(self) -> tuple[bytes, str]:
        """Give all counts, and what type they are of."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def middleware(self, app: App) -> Callable[[Scope, Receive, Send], Any]:
        """Count the requests of an app."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            started, status = time.monotonic(), 500

            async def noted(message: Any) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            try:
                await app(scope, receive, noted)
            finally:
                known = [path for path in _PATHS if scope["path"].startswith(path)]
                path = known[0] if known else "other"
                self._requests.labels(path, str(status)).inc()
                self._seconds.labels(path).observe(time.monotonic() - started)

        return counted
