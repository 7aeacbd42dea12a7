"""The explorer's page in a tab of a headless Chromium, used as people do: keys, mouse, links, files."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dtx.app.address import parse
from dtx.app.asked import Explorer
from dtx.app.engine import Engine
from dtx.app.page_files import files
from dtx.app.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Asked in the page, as its Content-Security-Policy forbids what Playwright's own waiting evaluates.
_DRAWN = """async ([seconds, all]) => {
  const root = document.documentElement;
  const end = performance.now() + 1000 * seconds;
  const waiting = () => [...document.querySelectorAll(".panel.stale, .panel:has(> progress:not([hidden]))")];
  const due = () => root.dataset.drawn !== location.hash || (all && waiting().length > 0);
  while (due()) {
    if (performance.now() > end) {
      const names = waiting().map((panel) => panel.dataset.panel);
      const told = document.querySelector(".messages")?.textContent ?? document.body.textContent;
      return `drawn: ${root.dataset.drawn}; asked: ${location.hash}; not computed: ${names}; ${told}`;
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await new Promise((resolve) => setTimeout(resolve, 0));
  return null;
}"""
SECONDS = 60
"""For a scene and all its panels, on a busy machine."""
ACTION_SECONDS = 60
"""For a control to be there, on a busy machine."""


def server(explorer: Explorer) -> Server:
    """The server of an explorer's page, as ``dtx app`` makes it."""
    panels = explorer.panels.values()
    return Server(
        lambda: Engine(explorer),
        {panel.name: panel.when for panel in panels},
        files(panel.script for panel in panels),
    )


class Tab:
    """A tab.

    Attributes:
        page: Playwright's.
        errors: What the console has shown as an error, and exceptions that nothing caught.
    """

    def __init__(self, page: Page, home: str):
        self.page, self.home = page, home
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.text} {message.location.get('url', '')}")

    # --- scenes

    def open(self, fragment: str = "") -> None:
        """Load the page anew with a scene, and wait until all of it is drawn."""
        self.page.goto("about:blank")
        self.page.goto(self.home + fragment)
        self.page.wait_for_selector("html[data-drawn]", state="attached", timeout=1000 * SECONDS)
        self.settle()

    def go(self, fragment: str) -> None:
        """Follow a link to another scene in the page that is loaded, and wait."""
        self.page.evaluate("fragment => { location.hash = fragment; }", fragment)
        self.page.evaluate("() => new Promise(resolve => setTimeout(resolve, 0))")
        self.settle()

    def release(self) -> None:
        """Close what is open over the page, and give the keys back to it."""
        self.page.evaluate(
            """() => {
              for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
              document.activeElement?.blur();
            }"""
        )

    def settle(self, *, all: bool = True) -> None:
        """Wait until the newest scene is drawn, and with ``all`` its slower panels too."""
        if problem := self.page.evaluate(_DRAWN, [SECONDS, all]):
            raise AssertionError(f"not drawn in {SECONDS} s: {problem}; {self.errors}")

    @property
    def fragment(self) -> str:
        """What stands behind the page's address."""
        return self.page.evaluate("location.hash")

    @property
    def scene(self) -> dict[str, Any]:
        """The scene of the address."""
        return parse(self.fragment)[0].json()

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, and wait until what they do is drawn."""
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    @property
    def messages(self) -> str:
        """What the page says about its scene."""
        return self.page.locator(".messages").inner_text()

    # --- what is drawn

    def panel(self, name: str) -> Any:
        """A panel's element."""
        return self.page.locator(f"[data-panel='{name}']")

    def saved(self, name: str, kind: str) -> bytes:
        """A panel's file (SVG, PNG, CSV, JSON) as a reader saves it."""
        panel = self.panel(name)
        panel.locator("details.menu summary").first.click()
        with self.page.expect_download() as waiting:
            panel.locator("details.menu button", has_text=kind).click()
        download = waiting.value
        assert download.suggested_filename == f"{name}.{kind.lower()}"
        return download.path().read_bytes()

    def data(self, name: str) -> dict[str, Any]:
        """What a panel draws: its JSON file."""
        return json.loads(self.saved(name, "JSON"))

    def table(self, name: str) -> list[list[str]]:
        """A panel's CSV file, its columns' names first."""
        lines = self.saved(name, "CSV").decode()
        assert lines.startswith("# dtx explorer #1")
        return list(csv.reader(io.StringIO(lines.partition("\n")[2])))


@contextlib.contextmanager
def tab(browser: Browser, home: str, **settings: Any) -> Iterator[Tab]:
    """A tab with a storage of its own; ``settings`` are those of Playwright's ``new_context``."""
    settings = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"} | settings
    context = browser.new_context(**settings)
    context.set_default_timeout(1000 * ACTION_SECONDS)
    try:
        yield Tab(context.new_page(), home)
    finally:
        context.close()
