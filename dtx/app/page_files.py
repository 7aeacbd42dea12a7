"""The files of the explorer's page, a list that is made at the start, and the figures of a store.

What a request names is looked up in a list. No path of a request is ever joined to a folder.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from dtx.store.checksums import DONE

PAGE = Path(__file__).parent / "page"
FIGURES = "/artefact/{label}/figures/{name}"
_ALONE = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src data:"
)
"""Of a figure: a page of its own with its own scripts, which reaches nothing else, this server included."""
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".png": "image/png",
}


def files(scripts: Iterable[Path]) -> dict[str, Path]:
    """All files by the path of their URL.

    Args:
        scripts: The JS files of the panels, each with a name of its own.
    """
    found = {
        f"/{file.relative_to(PAGE).as_posix()}": file
        for file in sorted(PAGE.rglob("*"))
        if file.suffix in _TYPES
    }
    found |= {f"/panels/{file.name}": file for file in scripts}
    if (index := found.pop("/index.html", None)) is not None:
        found["/"] = index
    return found


async def answer(file: Path, request: Request) -> Response:
    """A file as it is now; nothing but its mark, if the browser has it."""
    try:
        about = file.stat()
        mark = f'"{about.st_mtime_ns:x}-{about.st_size:x}"'
        headers = {"ETag": mark, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == mark:
            return Response(status_code=304, headers=headers)
        body = file.read_bytes()
        if file.suffix != ".png" and "gzip" in request.headers.get("accept-encoding", ""):
            body = gzip.compress(body, 6, mtime=0)
            headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return Response(body, headers=headers, media_type=_TYPES[file.suffix])
    except OSError:
        return Response("this file is gone", 404)


async def figure(store: Path, request: Request) -> Response:
    """A file among the figures of an artefact in a store."""
    wanted = request.path_params
    artefact = _among(store, wanted["label"])
    if artefact is None or not (artefact / DONE).is_file():
        return Response("no such artefact", 404)
    file = _among(artefact / "figures", wanted["name"])
    if file is None or file.suffix not in _TYPES:
        return Response("no such figure", 404)
    response = await answer(file, request)
    response.headers["Content-Security-Policy"] = _ALONE
    return response


def _among(folder: Path, name: str) -> Path | None:
    """What in a folder has a name; no link, which may lead elsewhere."""
    if not folder.is_dir():
        return None
    return next((p for p in folder.iterdir() if p.name == name and not p.is_symlink()), None)
