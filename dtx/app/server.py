"""The explorer's server: stateless, one request one scene.

It keeps no session. A request carries its scene, and its answer depends on that and the store alone. A client
that no longer wants an answer, because it shows a newer scene or was closed, ends its request, and so the
work.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
import traceback
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dtx.app import frames, page_files
from dtx.app.guard import Guard, Refused, body_of
from dtx.app.lanes import SECONDS, Full, Job, Lane
from dtx.app.panels import KEY, LONG, ONCE
from dtx.app.scene import MOST_PANELS
from dtx.errors import UserError
from dtx.text import say

BODY_SECONDS = 10.0
"""For the body of a request to come."""

EVERY = 0.05
"""Seconds between the frames of a stream, the last one aside."""

_FRAMES = "application/octet-stream"
_AGAIN = "1"  # seconds, of Retry-After

Stop = Callable[[], bool]


class Engine(Protocol):
    """What answers. Each lane makes one of its own, and calls it from its thread alone.

    Every method raises UserError for what a user can mend: its line is shown in the page.
    """

    def about(self) -> Mapping[str, Any]:
        """Models, environments and panels that there are now."""
        ...

    def ask(self, scene: Any, panels: Sequence[Mapping[str, Any]], stop: Stop) -> Mapping[str, Any]:
        """The scene as understood, what was played, and the data of some panels."""
        ...

    def long(
        self, scene: Any, panel: Mapping[str, Any], stop: Stop
    ) -> Iterator[tuple[float, Mapping[str, Any]]]:
        """Share done (0..1) and the answer so far; the last one is the result."""
        ...

    def text(self, scene: Any, what: str) -> str:
        """The scene as ``yaml``, ``command``, ..."""
        ...

    def save(self, scene: Any, stop: Stop) -> str:
        """The scene as one HTML file."""
        ...


class Server:
    """The application and its two lanes.

    Args:
        make: Makes an engine; called once in each lane.
        when: When each panel is computed, by name (:data:`dtx.app.panels.WHEN`).
        files: Of the page, by path (:func:`dtx.app.page_files.files`).
        names: This machine's, beside loopback's.
        token: That a request must bring; None: nothing.
        store: Whose figures are served; None: none. A link cannot bring a token, so with one none are.
    """

    def __init__(
        self,
        make: Callable[[], Engine],
        when: Mapping[str, str],
        files: Mapping[str, Path],
        names: Collection[str] = (),
        token: str | None = None,
        store: Path | None = None,
    ):
        self._when = when
        self._quick_lane = Lane("explorer, keys", make)
        self._long_lane = Lane("explorer, long work", make)
        posts = {
            "/about": self._about,
            "/ask": self._ask,
            "/long": self._long,
            "/text": self._text,
            "/save": self._save,
        }
        routes = [Route(path, _answering(do), methods=["POST"]) for path, do in posts.items()]
        routes += [Route(path, partial(page_files.answer, file)) for path, file in files.items()]
        self._figures = store is not None and token is None
        if store is not None and self._figures:
            routes.append(Route(page_files.FIGURES, partial(page_files.figure, store)))
        app = Starlette(routes=routes, exception_handlers={HTTPException: _not_there})
        app.router.redirect_slashes = False
        self.application: ASGIApp = Guard(app, names, token)

    def warm(self) -> None:
        """Import and load what the first page needs, before somebody waits for it."""
        for lane in (self._quick_lane, self._long_lane):
            with suppress(Full):
                lane.give(lambda engine, job: engine.ask({}, [], job.stop))

    def close(self) -> None:
        """End both lanes."""
        self._quick_lane.close()
        self._long_lane.close()

    async def _about(self, request: Request, asked: Mapping[str, Any]) -> Response:
        _fields(asked)
        files = {"files": self._figures}
        return await _frame(
            self._quick_lane,
            request,
            lambda engine, job: frames.encode({**engine.about(), **files}),
        )

    async def _ask(self, request: Request, asked: Mapping[str, Any]) -> Response:
        scene, wanted = _fields(asked, "scene", "panels")
        if not isinstance(wanted, list) or len(wanted) > MOST_PANELS:
            raise Refused(400, f"panels: a list of at most {MOST_PANELS}")
        panels = [_panel(one) for one in wanted]
        kinds = {self._when.get(panel["name"], KEY) for panel in panels}
        if LONG in kinds:
            raise Refused(400, "a panel that takes long is asked for at /long")
        return await _frame(
            self._long_lane if ONCE in kinds else self._quick_lane,
            request,
            lambda engine, job: frames.encode(engine.ask(scene, panels, job.stop)),
        )

    async def _long(self, request: Request, asked: Mapping[str, Any]) -> Response:
        scene, panel = _fields(asked, "scene", "panel")
        panel = _panel(panel)
        if self._when.get(panel["name"], LONG) != LONG:
            raise Refused(400, f"{panel['name']}: this panel is asked for at /ask")

        def work(engine: Engine, job: Job, put: Callable[[bytes], None]) -> None:
            kept, sent = None, -math.inf
            for kept in engine.long(scene, panel, job.stop):
                if time.monotonic() - sent > EVERY:
                    put(_progress(*kept))
                    kept, sent = None, time.monotonic()
            if kept is not None:  # the result
                put(_progress(*kept))

        parts = _parts(self._long_lane, request.receive, work)
        return _Stream(await _first(parts), parts)

    async def _text(self, request: Request, asked: Mapping[str, Any]) -> Response:
        scene, what = _fields(asked, "scene", "what")
        if not isinstance(what, str):
            raise Refused(400, "what: a text")
        return await _frame(
            self._quick_lane,
            request,
            lambda engine, job: engine.text(scene, what).encode(),
            "text/plain; charset=utf-8",
        )

    async def _save(self, request: Request, asked: Mapping[str, Any]) -> Response:
        (scene,) = _fields(asked, "scene")
        response = await _frame(
            self._long_lane,
            request,
            lambda engine, job: engine.save(scene, job.stop).encode(),
            "text/html; charset=utf-8",
        )
        # Never shown at this address: the file's scripts are its own.
        response.headers["Content-Disposition"] = 'attachment; filename="explorer.html"'
        return response


# --- what is asked -----------------------------------------------------------------------------------


def _fields(asked: Mapping[str, Any], *names: str) -> list[Any]:
    """The values of a request's fields.

    Raises:
        Refused: One is missing, or there is another.
    """
    if asked.keys() != set(names):
        raise Refused(400, f"this is asked with {' and '.join(names) or '{}'}, and nothing else")
    return [asked[name] for name in names]


def _panel(value: Any) -> dict[str, Any]:
    """A panel's name and parameters."""
    right = isinstance(value, dict) and value.keys() <= {"name", "parameters"}
    if not right or not isinstance(value.get("name"), str):
        raise Refused(400, 'a panel is {"name": ..., "parameters": {...}}')
    parameters = value.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Refused(400, "a panel's parameters are an object")
    return {"name": value["name"], "parameters": parameters}


# --- what is answered --------------------------------------------------------------------------------

Do = Callable[[Request, Mapping[str, Any]], Awaitable[Response]]


def _answering(do: Do) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint: read the body, answer, and say in one line what went wrong."""

    async def endpoint(request: Request) -> Response:
        try:
            try:
                asked = await asyncio.wait_for(body_of(request), BODY_SECONDS)
            except TimeoutError:
                raise Refused(408, "the request did not come", Connection="close") from None
            return await do(request, asked)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as error:
            return _refusal(error).response()

    return endpoint


def _refusal(error: Exception) -> Refused:
    """How an error is told to the page. A defect is told in one line, too; its place goes to the console."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, UserError) and not error.defect:
        return Refused(400, " ".join(str(error).split()))
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error, file=sys.stderr)
    last = traceback.extract_tb(error.__traceback__)[-1]
    line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    say(
        f"defect: {line} ({Path(last.filename).name}:{last.lineno}; HYDRA_FULL_ERROR=1 shows all of it)"
    )
    return Refused(500, f"a defect of dtx: {line}")


async def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _progress(share: float, so_far: Mapping[str, Any]) -> bytes:
    return frames.in_stream(frames.encode({**so_far, "share": share}))


class _Stream(Response):
    """Frames, sent as they come."""

    def __init__(self, first: bytes, rest: AsyncIterator[bytes]):
        self._first, self._rest = first, rest
        super().__init__(media_type=_FRAMES)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them; what fails on the way is the last one."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}

        async def put(part: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": part, "more_body": more})

        async with aclosing(self._rest):
            await send(start)
            await put(self._first)
            try:
                async for part in self._rest:
                    await put(part)
            except Exception as error:
                told = {"error": str(_refusal(error))}
                await put(frames.in_stream(frames.encode(told)))
        await put(b"", more=False)


async def _frame(
    lane: Lane[Engine],
    request: Request,
    work: Callable[[Engine, Job], bytes],
    media_type: str = _FRAMES,
) -> Response:
    """The answer of a job that gives one thing."""
    parts = _parts(lane, request.receive, lambda engine, job, put: put(work(engine, job)))
    async with aclosing(parts):
        return Response(await _first(parts), media_type=media_type)


async def _first(parts: AsyncIterator[bytes]) -> bytes:
    async for part in parts:
        return part
    raise ClientDisconnect


async def _parts(
    lane: Lane[Engine],
    receive: Receive,
    work: Callable[[Engine, Job, Callable[[bytes], None]], None],
) -> AsyncIterator[bytes]:
    """What a job puts, while the client is there.

    Each part holds all of those before it: of a slow reader's waiting parts the newest stays.

    Raises:
        Refused: Too many wait, or the time is over.
    """
    loop, ready, over = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    waiting: list[bytes] = []

    def put(part: bytes) -> None:
        loop.call_soon_threadsafe(replace, part)

    def replace(part: bytes) -> None:
        waiting[:] = [part]
        ready.set()

    def end() -> None:
        over.set()
        ready.set()

    def end_soon(_: object) -> None:
        with suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(end)

    try:
        job = lane.give(partial(_working, work, put))
    except Full:
        raise Refused(
            503, "too much is asked at once: again in a moment", Retry_After=_AGAIN
        ) from None
    job.future.add_done_callback(end_soon)  # after all that it put
    left = asyncio.ensure_future(_gone(receive))
    left.add_done_callback(lambda _: ready.set())
    deadline = loop.time() + SECONDS
    try:
        while not left.done():
            if waiting:
                yield waiting.pop()
            elif over.is_set():
                job.future.result()
                return
            else:
                await asyncio.wait_for(ready.wait(), deadline - loop.time())
                ready.clear()
    except TimeoutError:
        # No 503, after which the page would ask for the same again.
        raise Refused(400, f"this takes longer than {SECONDS:.0f} s, and was given up") from None
    finally:
        left.cancel()
        job.leave()


def _working(
    work: Callable[[Engine, Job, Callable[[bytes], None]], None],
    put: Callable[[bytes], None],
    engine: Engine,
    job: Job,
) -> None:
    def put_in_time(part: bytes) -> None:
        if job.stop():
            raise TimeoutError
        put(part)

    work(engine, job, put_in_time)


async def _gone(receive: Receive) -> None:
    """Wait until the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
