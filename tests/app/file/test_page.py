"""The page of the one file, as a reader has it: from disk, and in such a frame as MLflow's viewer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dtx.app.asked import Explorer
from dtx.app.demo import entries
from dtx.app.models import Catalogue
from dtx.app.onefile import of_scene
from dtx.app.scene import Scene
from tests.app.page.browser import HOME, lacks, tab

pytestmark = pytest.mark.skipif(bool(lacks()), reason=lacks())
FRAMED = """<iframe sandbox="allow-scripts" style="width: 1300px; height: 800px"></iframe><script>
fetch("explorer.html").then((answer) => answer.blob()).then((blob) => {
  document.querySelector("iframe").src = URL.createObjectURL(blob);
});</script>"""
"""As MLflow shows an artefact that is HTML."""
DRAWN = "document.documentElement.dataset.drawn"


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    found = Explorer(Catalogue(None, None, entries(tmp_path_factory.mktemp("planted"))))
    path = tmp_path_factory.mktemp("file") / "explorer.html"
    made = of_scene(found, Scene(models=("demo", "planted")))
    path.write_text(made.text, encoding="utf-8")
    return path


def until(frame, expression: str) -> None:
    """Wait until an expression is true: Playwright's own way evaluates text, which the page forbids."""
    end = time.monotonic() + 30
    while not frame.evaluate(expression):
        assert time.monotonic() < end, (
            f"not true: {expression}; the page shows {frame.inner_text('body')}"
        )
        time.sleep(0.05)


def press(page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_it_plays_by_keyboard_from_disk_and_asks_for_nothing(file):
    with tab() as page:
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(file.as_uri())
        page.wait_for_selector("#checked")
        assert "checked against PyTorch here: " in page.inner_text("#checked")
        until(page, f"{DRAWN} !== undefined")
        press(page, "Shift+Enter")
        until(page, "document.body.innerText.includes('success')")
        press(page, "r", "<", "Shift+Enter")
        until(page, "document.body.innerText.includes('failure')")
        press(page, "i")
        until(page, f"{DRAWN}.includes('e=')")
        assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
        assert said == []


def test_it_plays_in_a_frame_without_an_origin(file):
    from playwright.sync_api import Route

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(HOME)
        if name == "explorer.html":
            route.fulfill(body=file.read_bytes(), content_type="text/html")
        else:
            route.fulfill(body=FRAMED, content_type="text/html")

    with tab() as page:
        said = []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.route(f"{HOME}**", answer)
        page.goto(HOME)
        until(page, "document.querySelector('iframe').src.startsWith('blob:')")
        frame = page.frames[1]
        frame.wait_for_selector("#checked")
        assert "checked against PyTorch here: " in frame.inner_text("#checked")
        until(frame, f"{DRAWN} !== undefined")
        frame.locator("body").click(position={"x": 3, "y": 3})  # keys go to the frame from then on
        press(page, "ArrowUp")
        until(frame, f"({DRAWN} ?? '').includes('a=f')")
        assert said == []
