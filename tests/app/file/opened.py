"""A one file that is open in a headless Chromium, and its engine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dtx.app.frames import decode, encode
from dtx.app.scene import Scene
from tests.browser import Page, browser

_OPEN = """(async () => {
  const {File} = await import("file/engine.js"), given = (id) => document.getElementById(id).textContent;
  globalThis.engine = new File({...JSON.parse(given("dtx-scripts")), base64: given("dtx-contents"), ...%s});
  return (await engine.about()).checked;
})()"""
_ASK = """(async () => {
  const plain = (value) => {
    if (value === null || typeof value !== "object") return value;
    if (ArrayBuffer.isView(value)) return Array.from(value, (x) => Number.isFinite(x) ? x : String(x));
    if (Array.isArray(value)) return value.map(plain);
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  };
  return JSON.stringify(plain(await engine.ask(%s, %s)));
})()"""


class Opened:
    """The page and an engine of its own, made of what the file carries."""

    def __init__(self, page: Page, file: Path):
        self.page, self.file = page, file

    def engine(self, **options: bool) -> dict[str, Any]:
        """Make the engine anew: what its check says.

        Args:
            options: ``plain``: without the kernel. ``alone``: without a worker.
        """
        return self.page.js(_OPEN % json.dumps(options))

    @property
    def where(self) -> str:
        """Where the engine computes: worker or page."""
        return self.page.js("engine.where")

    def ask(self, scene: Scene, panels: Sequence[str], **parameters: Any) -> dict[str, Any]:
        """The engine's answer; an array is {shape, data}."""
        wanted = [{"name": name, "parameters": parameters.get(name, {})} for name in panels]
        return json.loads(self.page.js(_ASK % (json.dumps(scene.json()), json.dumps(wanted))))


@contextmanager
def opened(text: str, folder: Path) -> Iterator[Opened]:
    """A file that is open from disk."""
    file = folder / "explorer.html"
    file.write_text(text, encoding="utf-8")
    with browser() as page:
        page.open(file.as_uri())
        page.wait("document.readyState === 'complete'")
        yield Opened(page, file)


def differences(own: Any, theirs: Any, tolerance: float, where: str) -> Iterator[str]:
    """Where an answer of the page's engine differs from one of Python's by more than rounding.

    Args:
        own: Of the page: an array is {shape, data}.
        theirs: Of Python, with arrays and tensors; it goes through a frame first, as to a page.
    """
    yield from _differences(own, decode(encode(theirs)), tolerance, where)


def _differences(own: Any, theirs: Any, tolerance: float, where: str) -> Iterator[str]:
    if isinstance(theirs, np.ndarray):
        values = np.array([float(x) for x in own["data"]]).reshape(own["shape"])
        if values.shape != theirs.shape:
            yield f"{where}: shape {values.shape}, not {theirs.shape}"
        elif not np.allclose(values, theirs, rtol=0, atol=tolerance, equal_nan=True):
            yield f"{where}: differs by {np.abs(values - theirs).max():.2g}"
    elif isinstance(theirs, dict):
        if own is None or set(own) != set(theirs):
            yield f"{where}: has {own and sorted(own)}, not {sorted(theirs)}"
            return
        for name, value in theirs.items():
            yield from _differences(own[name], value, tolerance, f"{where}.{name}")
    elif isinstance(theirs, list):
        if len(own) != len(theirs):
            yield f"{where}: {own}, not {theirs}"
            return
        for i, value in enumerate(theirs):
            yield from _differences(own[i], value, tolerance, f"{where}[{i}]")
    elif isinstance(theirs, float) and isinstance(own, (int, float)):
        if not abs(own - theirs) <= tolerance:
            yield f"{where}: {own}, not {theirs}"
    elif own != theirs:
        yield f"{where}: {own!r}, not {theirs!r}"
