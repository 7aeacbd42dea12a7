"""Scripts of the page in one file: every module as a ``data:`` URL, unchanged but for what it imports.

A ``data:`` URL has no folder, so nothing can be imported from it by a relative address. Modules of the page
import each other by names of an import map. A worker knows no import map: what it runs is one ``data:`` URL,
in which every import is the ``data:`` URL of the module that it names.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

APP = Path(__file__).parents[1]
"""Folder of the explorer: scripts are named by their path in it."""
_IMPORT = re.compile(r'^((?:import|export)\b[^"\n;]*)"(\.{1,2}/[^"\n]+)";', re.MULTILINE)


def import_map(entries: list[str]) -> dict[str, str]:
    """Some modules and those that they need, as ``data:`` URLs by name (``page/page.js``)."""
    found: dict[str, str] = {}
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        needed: list[str] = []

        def named(other: str, needed: list[str] = needed) -> str:
            needed.append(other)
            return other

        found[name] = data_url(_with_imports(name, named))
        waiting += needed
    return dict(sorted(found.items()))


def alone(name: str) -> str:
    """A module as a ``data:`` URL that needs no import map."""
    return data_url(_with_imports(name, alone))


def data_url(script: str) -> str:
    """A script as a URL."""
    return f"data:text/javascript;base64,{base64.b64encode(script.encode()).decode()}"


def csp_hash(text: str) -> str:
    """How a Content-Security-Policy names a script or style that stands in the page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _with_imports(name: str, address: Callable[[str], str]) -> str:
    """The text of a module whose imports are replaced by what ``address`` gives for the modules' names."""
    path = APP / name

    def replaced(match: re.Match[str]) -> str:
        other = (path.parent / match[2]).resolve().relative_to(APP.resolve())
        return f'{match[1]}"{address(other.as_posix())}";'

    return _IMPORT.sub(replaced, path.read_text(encoding="utf-8"))
