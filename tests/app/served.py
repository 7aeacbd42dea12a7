"""The explorer's server in a thread of this process, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn

from dtx.app.frames import decode, frames_of
from dtx.app.server import Server
from dtx.serving import listen_near

JSON = {"Content-Type": "application/json"}


@contextlib.contextmanager
def served(one: Server, port: int = 0) -> Iterator[int]:
    """Serve until the block ends; gives the port, which is any free one for 0."""
    with listen_near("127.0.0.1", port, "app") as listening:
        server = uvicorn.Server(uvicorn.Config(one.application, log_level="warning"))
        thread = threading.Thread(target=server.run, args=[[listening]], daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            one.close()
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


class Client:
    """One connection, as a page's."""

    def __init__(self, port: int):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def close(self) -> None:
        """Go away, whether answered or not."""
        self.connection.close()

    def send(self, path: str, value: Any) -> None:
        """Ask, without waiting for the answer."""
        self.connection.request("POST", path, json.dumps(value), JSON)

    def receive(self) -> tuple[int, Any]:
        """Status, and the answer: of a frame or stream its values, of other texts the text."""
        answer = self.connection.getresponse()
        body = answer.read()
        kind = answer.headers.get("Content-Type", "")
        if kind == "application/octet-stream":
            stream = answer.headers.get("Content-Length") is None
            return answer.status, frames_of(body) if stream else decode(body)
        text = body.decode()
        return answer.status, json.loads(text) if kind == "application/json" else text

    def ask(self, path: str, value: Any) -> tuple[int, Any]:
        """Ask, and wait."""
        self.send(path, value)
        return self.receive()


@contextlib.contextmanager
def client(port: int) -> Iterator[Client]:
    """A connection that ends with the block."""
    one = Client(port)
    try:
        yield one
    finally:
        one.close()
