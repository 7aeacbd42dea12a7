"""The page's own files in a headless Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import mimetypes
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import dtx.app
from tests.browser import browser_lacks, program

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

HOME = "http://explorer.test/"
FILES = Path(dtx.app.__file__).parent / "page"


def lacks() -> str:
    """What is missing, with what installs it; empty if all is there."""
    if find_spec("playwright") is None:
        return "Playwright is not installed (`pip install -e .[dev]`)"
    return browser_lacks()


@contextlib.contextmanager
def modules(chromium: Browser) -> Iterator[Page]:
    """A tab in which the page's modules can be imported: ``import("./scene.js")``; nothing is started."""

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(HOME)
        path = FILES / name if name else FILES / "index.html"
        if not name:
            route.fulfill(body="<!doctype html><title>modules</title>", content_type="text/html")
        elif path.is_file():
            kind = mimetypes.guess_type(path.name)[0] or "text/plain"
            route.fulfill(body=path.read_bytes(), content_type=kind)
        else:
            route.fulfill(status=404)

    page = chromium.new_page()
    try:
        page.route("**/*", answer)
        page.goto(HOME)
        yield page
    finally:
        page.close()


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """A browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program(), args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield chromium
        finally:
            chromium.close()


@contextlib.contextmanager
def tab(script: str = "") -> Iterator[Page]:
    """A tab of a browser of its own.

    Args:
        script: Runs in every page before the page's own.
    """
    with started() as chromium:
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        if script:
            page.add_init_script(script)
        yield page
