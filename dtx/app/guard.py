"""What the explorer's server lets in, and the headers of all that it answers.

A page of another site can make a reader's browser send requests to this machine, under a name of its own if
it owns one (DNS rebinding). So the names in ``Host`` and ``Origin`` must be ours, and what is sent must be
declared as JSON, which a browser sends to another site only after asking. There is no cookie that could be
sent along. Beyond this machine a token is needed.
"""

from __future__ import annotations

import hmac
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY = 64 * 1024
"""Bytes of a request's body."""

DEPTH = 8
"""Lists and objects within each other in a request."""

OURS = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""Names of this machine that no other site can take."""

POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
NOT_FRAMED = "frame-ancestors 'none'"

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?")
_READ = ("GET", "HEAD")


class Refused(Exception):
    """A request is not answered; ``str()`` says why in one line.

    Args:
        status: Of HTTP.
        why: One line.
        headers: Of the answer.
    """

    def __init__(self, status: int, why: str, **headers: str):
        super().__init__(why)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def response(self) -> Response:
        """The answer."""
        return JSONResponse({"error": str(self)}, self.status, self.headers)


class Guard:
    """An ASGI application that lets in to another what is allowed.

    Args:
        app: The other.
        names: Names of this machine, as they stand in a URL, beside :data:`OURS`.
        token: What a POST must bring as ``Authorization: Bearer``; None: nothing.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = (), token: str | None = None):
        self._app, self._token = app, token
        self._names = OURS | {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close"})
            return
        headers = Headers(scope=scope)
        framed = self._token is not None and self._is_token(_query(scope, "frame"))

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_headers(MutableHeaders(scope=message), framed)
            await send(message)

        try:
            self._check(scope["method"], headers)
        except Refused as refused:
            await refused.response()(scope, receive, with_headers)
        else:
            await self._app(scope, receive, with_headers)

    def _check(self, method: str, headers: Headers) -> None:
        host = _only(headers, "host").lower()
        found = _HOST.fullmatch(host)
        if not found or found[1] not in self._names:
            raise Refused(403, "the Host of this request is no name of this machine")
        if "origin" in headers:
            # The whole of it, port included: a page of another program on this machine is foreign, too.
            origin = _only(headers, "origin").lower()
            if origin.removeprefix("http://").removeprefix("https://") != host:
                raise Refused(403, "the Origin of this request is another site")
        if method in _READ:
            return
        if method != "POST":
            raise Refused(405, "only GET, HEAD and POST", Allow="GET, HEAD, POST")
        if self._token is not None:
            kind, _, token = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not self._is_token(token):
                raise Refused(
                    401, "the token is missing or wrong: open the address that `dtx app` printed"
                )
        kind, _, _ = _only(headers, "content-type").partition(";")
        if kind.strip().lower() != "application/json":
            raise Refused(415, "Content-Type must be application/json")

    def _is_token(self, text: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(text.encode(errors="replace"), self._token.encode())


def _only(headers: Headers, name: str) -> str:
    """The value of a header that must be there once."""
    values = headers.getlist(name)
    if len(values) != 1:
        raise Refused(400, f"the header {name} must be there once")
    return values[0]


def _query(scope: Scope, name: str) -> str:
    found = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=None)
    return found.get(name, [""])[0]


def _add_headers(headers: MutableHeaders, framed: bool) -> None:
    policy = headers.get("Content-Security-Policy", POLICY)
    headers["Content-Security-Policy"] = policy if framed else f"{policy}; {NOT_FRAMED}"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers.setdefault("Cache-Control", "no-store")


# --- bodies ------------------------------------------------------------------------------------------


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object that a request brings.

    Raises:
        Refused: It is too large, too deep, no object, or not strict JSON in UTF-8.
    """
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > BODY:
            raise Refused(413, f"a request may have {BODY} bytes", Connection="close")
    return parse(data)


def parse(data: bytes) -> dict[str, Any]:
    """Strict JSON: an object, no key twice, finite numbers, text that UTF-8 can hold, at most DEPTH deep.

    Raises:
        Refused: It is not.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_without_doubles,
            parse_constant=_no_number,
            parse_float=_finite,
        )
    except RecursionError:
        raise Refused(400, _TOO_DEEP) from None
    except ValueError as error:  # of JSON, UTF-8, or a number of thousands of digits
        raise Refused(400, f"this is no JSON: {str(error).splitlines()[0][:200]}") from None
    if not isinstance(value, dict):
        raise Refused(400, "a request is one JSON object")
    level: list[Any] = [value]
    for _ in range(DEPTH):
        inside = [inner for outer in level for inner in _inside(outer)]
        for inner in inside:
            if isinstance(inner, str):
                _text(inner)
        level = [inner for inner in inside if isinstance(inner, (dict, list))]
        if not level:
            return value
    raise Refused(400, _TOO_DEEP)


_TOO_DEEP = f"a request may be {DEPTH} lists and objects deep"


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    """What is in a list or an object, keys too."""
    return [*value, *value.values()] if isinstance(value, dict) else value


def _text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, by an escape
        raise Refused(400, "a text holds half of a surrogate pair") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError("a number is too large")
    return value
