"""The page's own files in a headless Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import mimetypes
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import dtx.app
from tests.browser import browser_lacks

HOME = "http://explorer.test/"
FILES = Path(dtx.app.__file__).parent / "page"


def lacks() -> str:
    """What is missing, with what installs it; empty if all is there."""
    if find_spec("playwright") is None:
        return "Playwright is not installed (`pip install -e .[dev]`)"
    return browser_lacks()


@contextlib.contextmanager
def modules() -> Iterator:
    """A tab in which the page's modules can be imported: ``import("./scene.js")``; nothing is started."""
    from playwright.sync_api import Route

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

    with tab() as page:
        page.route("**/*", answer)
        page.goto(HOME)
        yield page


@contextlib.contextmanager
def tab(script: str = "") -> Iterator:
    """A tab of a browser of its own.

    Args:
        script: Runs in every page before the page's own.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        if script:
            page.add_init_script(script)
        try:
            yield page
        finally:
            browser.close()
