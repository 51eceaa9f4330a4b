"""Guard a server: who may ask, how much a request may hold, under what name it is reached.

Plain ASGI, so that nothing stands between a stream and its client.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from biddable.serving.server_errors import ApiError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/", "/health")  # told without a key: the page itself, and that the server lives
_MOST_DRAINED = 8  # times the limit: what is read and thrown away, so that a client hears why


@dataclass(frozen=True, slots=True)
class Guarding:
    """Say what a server lets in.

    Attributes:
        api_key: what a request has to bring; None for none.
        hosts: names by which the server is reached; None for any. A page elsewhere may give this
            machine a name of its own, and so reach what only listens here.
        max_body: bytes of a request.
        body_timeout_s: seconds that its body may take to come.
    """

    api_key: str | None = None
    hosts: frozenset[str] | None = None
    max_body: int = 1 << 20
    body_timeout_s: float = 30.0


class Guard:
    """Let requests through to an app, or say why not."""

    def __init__(self, app: App, guarding: Guarding) -> None:
        """Take the app, and what is let in."""
        self._app, self._guarding = app, guarding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
            body = await self._read(scope, receive)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        if body is None:
            return  # the client has gone
        rest: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": body, "more_body": False}
        ]

        async def replay() -> MutableMapping[str, Any]:
            return rest.pop() if rest else await receive()

        await self._app(scope, replay, send)

    def _check(self, scope: Scope) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        hosts, key = self._guarding.hosts, self._guarding.api_key
        if hosts is not None:
            host = _name(headers.get(b"host", b"").decode("latin-1"))
            if host not in hosts:
                raise ApiError(
                    403,
                    f'the server is not reached as "{host}", only as {", ".join(sorted(hosts))}. '
                    "Start it with --host, if it is to be reached from elsewhere.",
                )
        if key is not None and scope["path"] not in OPEN_PATHS:
            kind, _, given = headers.get(b"authorization", b"").partition(b" ")
            if kind.lower() != b"bearer" or not hmac.compare_digest(given.strip(), key.encode()):
                raise ApiError(
                    401,
                    "no key, or a wrong one; send it as: Authorization: Bearer KEY.",
                    code="invalid_api_key",
                )

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """Read the whole body; None if the client goes away."""
        most, size, parts = self._guarding.max_body, 0, []
        try:
            async with asyncio.timeout(self._guarding.body_timeout_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    size += len(part)
                    if size > most:
                        parts.clear()
                    else:
                        parts.append(part)
                    if size > most * _MOST_DRAINED:
                        break
                    more = bool(message.get("more_body"))
        except TimeoutError:
            raise ApiError(408, "the request's body did not come in time.") from None
        if size > most:
            raise ApiError(
                413, f"the request is too large; at most {most:,} bytes.", code="request_too_large"
            )
        return b"".join(parts)


def _name(host: str) -> str:
    """Take the port off a host.

    Example:
        >>> _name("localhost:8000"), _name("[::1]:8000"), _name("::1")
        ('localhost', '::1', '::1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() and ":" not in name else host).lower()
