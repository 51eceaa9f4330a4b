"""Stand in for a chat model behind OpenAI's protocol, on this machine alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer:
    """What it replies, and what it was asked.

    Attributes:
        reply: makes a reply of the messages; an int is a status to fail with.
        requests: every chat that was asked.
        wait_s: how long it keeps silent before each reply.
    """

    def __init__(self, reply: Callable[[list[dict[str, Any]]], str | int]) -> None:
        self.reply = reply
        self.requests: list[dict[str, Any]] = []
        self.wait_s = 0.0
        self.url = ""


@contextmanager
def serve_chat(reply: Callable[[list[dict[str, Any]]], str | int]) -> Iterator[ChatServer]:
    server = ChatServer(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, {"data": [{"id": "stand-in"}]})

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            request = json.loads(self.rfile.read(size))
            server.requests.append(request)
            time.sleep(server.wait_s)
            found = server.reply(request["messages"])
            if isinstance(found, int):
                return self._send(found, {"error": "no"})
            message = {"role": "assistant", "content": found}
            return self._send(200, {"choices": [{"message": message, "finish_reason": "stop"}]})

        def _send(self, status: int, told: dict[str, Any]) -> None:
            body = json.dumps(told).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # who asked has gone
                pass

        def log_message(self, *_: Any) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    server.url = f"http://127.0.0.1:{httpd.server_port}/v1"
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
