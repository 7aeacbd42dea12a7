"""The one file where MLflow's UI shows it: played by keyboard to success, and to failure."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dtx.cli import main
from dtx.files import read_json
from tests.browser import Page, browser, browser_lacks
from tests.verbs.test_ui_served import ui

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(browser_lacks()), reason=browser_lacks() or "one is there"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder in which the planted model's explorer was made and tracked; the id of its run."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        alone = ["pairs.dataset=null", "analysis.explorer.dataset=null"]
        assert main(["run", "dt=planted", "analysis=[explorer]", *alone]) == 0
    (done,) = (folder / "store").glob("explorer-*/done.json")
    return folder, read_json(done)["mlflow"]["run_id"]


def test_it_plays_inside_mlflow(project):
    folder, run = project
    with ui(folder) as (_, link, _), browser() as page:
        home = link.partition("#")[0]
        page.open(f"{home}#/experiments/1/runs/{run}/artifacts/figures/explorer.html")
        page.wait("document.querySelector('iframe[src^=blob]')")
        with inside(page):
            page.wait("document.documentElement.dataset.drawn")
            page.wait("/checked against PyTorch here: [\\d.]+e/.test(document.body.innerText)")
        box = page.js("(b => [b.x, b.y])(document.querySelector('iframe').getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):  # the keys are the file's from now on
            where = {"x": box[0] + 5, "y": box[1] + 90, "button": "left", "clickCount": 1}
            page.call("Input.dispatchMouseEvent", type=kind, **where)
        for _ in range(6):
            press(page, "Enter")
        with inside(page):
            page.wait_for_text("the episode ended with success")
            before = len(page.asked)
        press(page, "r")
        for _ in range(12):
            press(page, ",")  # .05 less, from 1; up to .4 the planted model turns wrongly
        press(page, "Enter", shift=True)
        with inside(page):
            page.wait_for_text("the episode ended with failure")
            address = page.js("document.documentElement.dataset.drawn")
            assert re.search(r"&r=\.4(&|$)", address), address
            asked = [url for url in page.asked[before:] if not url.startswith(("data:", "blob:"))]
        assert not [url for url in asked if url.startswith("http") and home not in url]


@contextmanager
def inside(page: Page) -> Iterator[None]:
    """The page's methods act in the frame that shows the file, a process of its own."""
    frame, end = None, time.monotonic() + 30
    while frame is None and time.monotonic() < end:
        targets = page.call("Target.getTargets")["targetInfos"]
        shown = (t for t in targets if t["type"] == "iframe" and t["url"].startswith("blob:"))
        frame = next(shown, None)
        time.sleep(0.2)
    assert frame is not None
    outer = page._session
    attached = page.call("Target.attachToTarget", targetId=frame["targetId"], flatten=True)
    page._session = attached["sessionId"]
    try:
        page.call("Runtime.enable")
        yield
    finally:
        page._session = outer


def press(page: Page, key: str, shift: bool = False) -> None:
    """Press a key where the focus is."""
    more = {"windowsVirtualKeyCode": 13, "text": "\r"} if key == "Enter" else {"text": key}
    given = {"key": key, "modifiers": 8 if shift else 0, **more}
    page.call("Input.dispatchKeyEvent", type="keyDown", **given)
    page.call("Input.dispatchKeyEvent", type="keyUp", key=key)
    time.sleep(0.3)
