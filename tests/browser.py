"""A headless Chromium driven by its DevTools protocol: for tests of pages and the pictures of the docs."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_ANSWER_SECONDS = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",  # it runs as root in CI
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)
_WITH_PIPES = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, 10) for number in sys.argv[1:3]]
for number, end in enumerate(ends, 3):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads from 3 and writes to 4, whatever these are in this process."""


def browser_lacks() -> str:
    """What is missing for a browser, with the command that installs it; empty if one is there."""
    return "" if program() else "Chromium is not installed (`apt-get install chromium`)"


def program() -> str | None:
    """The browser; None if there is none."""
    return next((found for name in _PROGRAMS if (found := shutil.which(name))), None)


class Page:
    """One tab.

    Attributes:
        errors: What the page's console has shown as an error, and exceptions that nothing caught.
        asked: URLs that the page has asked for.
    """

    def __init__(self, write: int, read: int):
        self.errors: list[str] = []
        self.asked: list[str] = []
        self._write, self._read, self._rest, self._sent = write, read, b"", 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(1440, 900)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call the protocol.

        Raises:
            RuntimeError: The browser answers with an error.
            TimeoutError: It does not answer.
        """
        self._sent += 1
        message: dict[str, Any] = {"id": self._sent, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + _ANSWER_SECONDS
        while time.monotonic() < end:
            for answer in self._messages(end):
                if answer.get("id") == self._sent:
                    if "error" in answer:
                        raise RuntimeError(f"{method}: {answer['error']['message']}")
                    return answer["result"]
        raise TimeoutError(f"Chromium did not answer {method} in {_ANSWER_SECONDS:.0f} s")

    def _messages(self, end: float) -> Iterator[dict[str, Any]]:
        """Note what happened; yield the answers, which come one at a time."""
        if not select.select([self._read], [], [], max(0.0, end - time.monotonic()))[0]:
            return
        data = os.read(self._read, 1 << 20)
        if not data:
            raise RuntimeError("Chromium has ended")
        *whole, self._rest = (self._rest + data).split(b"\0")
        for text in whole:
            message = json.loads(text)
            self._note(message.get("method"), message.get("params", {}))
            if "id" in message:
                yield message

    def _note(self, event: str | None, params: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif event == "Runtime.consoleAPICalled" and params["type"] == "error":
            shown = [str(a.get("value", a.get("description", ""))) for a in params["args"]]
            self.errors.append(" ".join(shown))
        elif event == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """The size of the window in CSS pixels, and the colours that its user prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        colours = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[colours])

    def open(self, url: str) -> None:
        """Go to an address; what the page shows then may take longer, see :meth:`wait`."""
        self.call("Page.navigate", url=url)

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; of a promise, what it resolves to.

        Raises:
            RuntimeError: It throws.
        """
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']['exception']}")
        return answer["result"].get("value")

    def text(self) -> str:
        """What a reader of the page sees as text."""
        return self.js("document.body ? document.body.innerText : ''")

    def wait(self, condition: str, seconds: float = 60.0) -> None:
        """Wait until an expression is true.

        Raises:
            TimeoutError: It is not; with what the page shows.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(RuntimeError):  # the page is being replaced
                if self.js(f"Boolean({condition})"):
                    return
            time.sleep(0.1)
        raise TimeoutError(f"not in {seconds:.0f} s: {condition}; the page shows:\n{self.text()}")

    def wait_for_text(self, text: str, seconds: float = 60.0) -> None:
        """Wait until the page shows a text."""
        self.wait(f"document.body && document.body.innerText.includes({json.dumps(text)})", seconds)

    def settle(self, seconds: float = 20.0) -> None:
        """Wait until the page has asked for nothing and changed nothing for two seconds, or some seconds."""
        end, before = time.monotonic() + seconds, None
        while time.monotonic() < end:
            shown = (len(self.asked), self.js("document.documentElement.outerHTML.length"))
            if shown == before:
                return
            before = shown
            time.sleep(2)

    def click(self, selector: str) -> None:
        """Press the first element that fits a CSS selector, as a mouse does."""
        self.wait(f"document.querySelector({json.dumps(selector)})")
        find = f"document.querySelector({json.dumps(selector)})"
        self.js(f"{find}.scrollIntoView({{block: 'center'}})")
        box = self.js(
            f"(b => [b.x + b.width / 2, b.y + b.height / 2])({find}.getBoundingClientRect())"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button="left",
                clickCount=1,
            )

    def screenshot(self, path: Path) -> Path:
        """Write what the window shows as PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))
        return path


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A browser with one empty tab, its profile in a folder that is removed with it."""
    path = program()
    assert path is not None, browser_lacks()
    with tempfile.TemporaryDirectory(prefix="dtx-chromium-", ignore_cleanup_errors=True) as profile:
        theirs_in, write = os.pipe()
        read, theirs_out = os.pipe()
        command = [sys.executable, "-c", _WITH_PIPES, str(theirs_in), str(theirs_out), path]
        process = subprocess.Popen(
            [*command, *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Page(write, read)
        finally:
            os.close(write)  # which ends it
            os.close(read)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
