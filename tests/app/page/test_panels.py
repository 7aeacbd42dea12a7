"""Every panel, found by its files: drawn, explained, tabled, saved, pointed at, enlarged."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from dtx.app.asked import Explorer
from dtx.app.explore import entry
from dtx.app.models import Catalogue
from dtx.app.panels import DECISION, PAIR, REWARD_TO_GO, WORLD, found
from tests.app.page.driven import server, tab
from tests.app.served import served

PANELS = found()
DOCS = Path(__file__).parents[3] / "docs"
FLIP = "set_type:select.role=instruction:to.ball=key:to.key=ball"
WITH_PAIR = f"#1&m=memory1&w=key/left&a=fff&r=.9&e={FLIP}"
"""A scene in which every need is met."""
WITHOUT = {
    PAIR: "#1&m=memory1&w=key/left&a=fff&r=.9",
    REWARD_TO_GO: "#1&m=clone&w=key/left&a=fff",
    DECISION: "#1&m=keydoor&w=seed:3&a=fff&r=.9",
}
"""By need, a scene in which it is not met."""
SIZE = """panel => {
  const figure = panel.querySelector("svg.figure");
  return figure && [figure.getBoundingClientRect().width, figure.getBoundingClientRect().height];
}"""
every_panel = pytest.mark.parametrize("name", PANELS)
MINUS = "\N{MINUS SIGN}"
SVG = "{http://www.w3.org/2000/svg}"


OF_A_STORE = "#1&m=decision_transformer&w=key/left&a=ff&r=.9"
"""Of the panel that reads what the store holds."""


def opened(name: str, scene: str = WITH_PAIR, **parameters: Any) -> str:
    """The scene with this panel open, and no other."""
    scene = OF_A_STORE if name == "stored" else scene
    values = "".join(
        f":{key}={json.dumps(value)}".replace('"', "") for key, value in parameters.items()
    )
    return f"{scene}&p={name}{values}"


def numbers(value: Any) -> list[float]:
    """All numbers in nested lists and mappings."""
    if isinstance(value, dict):
        return [number for inner in value.values() for number in numbers(inner)]
    if isinstance(value, list):
        return [number for inner in value for number in numbers(inner)]
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return [float(value)] if real else []


def strings(value: Any) -> set[str]:
    """All texts in nested lists and mappings."""
    if isinstance(value, dict):
        return {text for inner in value.values() for text in strings(inner)}
    if isinstance(value, list):
        return {text for inner in value for text in strings(inner)}
    return {value} if isinstance(value, str) else set()


@pytest.mark.slow
@every_panel
def test_it_draws_with_every_choice_of_its_parameters(page, name):
    page.go(opened(name))
    settings: list[dict[str, Any]] = [{}]
    for parameter in PANELS[name].about()["parameters"]:
        values = {"choice": parameter.get("choices"), "flag": [False, True]}.get(
            parameter["kind"], [parameter["default"], parameter.get("low"), parameter.get("high")]
        )
        settings += [{parameter["name"]: v} for v in values or [] if v != parameter["default"]]
    for parameters in settings:
        page.go(opened(name, **parameters))
        panel = page.panel(name)
        size = panel.evaluate(SIZE)
        if size is None:  # a choice that this model or scene does not have: it says so
            assert parameters and len(panel.locator(".note").inner_text()) > 10, parameters
            continue
        assert size[0] > 80 and size[1] > 20, (parameters, size)
        assert not panel.locator(".bad").count(), panel.inner_text()
        assert not panel.locator(".body.unestablished").count()
        assert page.messages == "" and page.errors == []


@pytest.mark.parametrize(
    ("name", "need"),
    [
        (name, need)
        for name, panel in PANELS.items()
        for need in panel.module.NEEDS
        if need in WITHOUT
    ],
)
def test_it_says_what_it_needs(page, name, need):
    page.go(opened(name, WITHOUT[need]))
    panel = page.panel(name)
    assert panel.locator(".note").inner_text().startswith("Needs a")
    assert not panel.locator("svg.figure").count()
    page.go(opened(name))
    assert panel.locator("svg.figure").count()


def test_panels_that_need_a_world_say_so_beside_a_model_that_reads_text(chromium):
    from tests.app import readers

    model = readers.reader(readers.tokenizer())
    explorer = Explorer(Catalogue(None, others=[entry(model, None, [])]))
    wanting = [name for name, panel in PANELS.items() if WORLD in panel.module.NEEDS]
    with (
        served(server(explorer)) as port,
        tab(chromium, f"http://127.0.0.1:{port}/") as one,
    ):
        one.open(f"#1&p={'~'.join(wanting)}&x=The%20cat%20sat")
        for name in wanting:
            note = one.panel(name).locator(".note").inner_text()
            assert note == "Needs a model that acts in a world."
        assert one.errors == []


@every_panel
def test_it_explains_itself(page, name):
    page.go(opened(name))
    panel, about = page.panel(name), PANELS[name].about()
    assert panel.locator(".help").inner_text() == about["help"] and about["help"].endswith(".")
    panel.locator("details.about summary").click()
    text = panel.locator("details.about").inner_text()
    assert f"Control. {about['control']}" in text and about["source"] in text
    assert f"docs/{about['doc']}" in text
    file, _, section = about["doc"].partition("#")
    headings = re.findall(r"(?m)^#+ (.*)$", (DOCS / file).read_text())
    assert section in [re.sub(r"[^\w]+", "-", h.lower()).strip("-") for h in headings]


@every_panel
def test_its_table_has_the_numbers_of_its_data(page, name):
    page.go(opened(name))
    columns, *rows = page.table(name)
    assert rows and all(len(row) == len(columns) for row in rows)
    data = np.unique(numbers(page.data(name)["data"]))
    for row in rows:
        for column, cell in zip(columns, row, strict=True):
            if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", cell) and "median" not in column:
                near = np.abs(data - float(cell)).min()
                assert near <= 1e-6 * max(1, abs(float(cell))), (column, row)
    panel = page.panel(name)
    panel.get_by_role("button", name="as table").click()
    try:
        shown = panel.locator("table tbody tr").all_inner_texts()
        assert len(shown) == min(len(rows), 400)
        for line, row in zip(shown, rows, strict=False):
            for text, cell in zip(line.split("\t"), row, strict=True):
                if re.fullmatch(rf"{MINUS}?\d+(\.\d+)?", text):
                    assert abs(float(text.replace(MINUS, "-")) - float(cell)) <= 5.1e-5
    finally:
        panel.get_by_role("button", name="as table").click()
    assert panel.locator("svg.figure").count()


@every_panel
def test_what_is_saved_is_what_is_drawn(page, name):
    page.go(opened(name))
    scene = page.fragment
    figure = page.panel(name).locator("svg.figure").first
    drawn = figure.locator("text").all_text_contents()
    svg = page.saved(name, "SVG")
    root = ElementTree.fromstring(svg)
    assert root.findtext(f"{SVG}desc") == f"dtx explorer {scene}"
    assert ["".join(text.itertext()) for text in root.iter(f"{SVG}text")] == drawn
    for element in root.iter():
        assert element.tag.startswith(SVG) and element.tag != f"{SVG}script"
        for attribute, value in element.attrib.items():
            assert not attribute.startswith("on") and "var(" not in value, (element.tag, value)
            if attribute.endswith("href"):
                assert value.startswith(("data:image/png;base64,", "#"))
            elif "url(" in value:
                assert re.search(r"url\(['\"]?#", value)
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    picture = Image.open(io.BytesIO(page.saved(name, "PNG"))).convert("RGB")
    assert abs(picture.width - 2 * width) <= 2 and abs(picture.height - 2 * height) <= 2
    assert len(picture.getcolors(1 << 24)) > 5
    file = page.data(name)
    assert file["scene"] == scene and file["panel"] == name
    assert file["source"] == PANELS[name].module.SOURCE
    assert name == "stored" or file["models"][0]["id"] == "memory1"


@every_panel
def test_pointing_at_a_token_marks_it_here_and_stays(page, name):
    page.go(opened(name, **WITH_TOKENS.get(name, {})))
    tokens = strings(page.data(name)["data"]) & {"S2", "R2", "A2"}
    if not tokens:
        assert not page.panel(name).locator("[data-token]").count()
        return
    token = sorted(tokens)[-1]
    page.page.locator(f".timeline .line.original [data-token={token}]").first.hover()
    assert marks(page, name, token)
    page.press(".")  # another reward-to-go: all is drawn anew, the mouse has not moved
    assert marks(page, name, token)
    page.press(",")


WITH_TOKENS = {"attribution": {"part": "sources"}}
"""Parameters with which a panel draws tokens, where it does not at first."""


def marks(page, name: str, token: str) -> bool:
    """Whether a panel marks a token: its name, or its rows and columns of maps."""
    panel = page.panel(name)
    names = panel.locator(f"[data-token={token}]")
    return bool(panel.locator(".token-mark").count()) or (
        names.count() > 0
        and names.count() == panel.locator(f".pointed[data-token={token}]").count()
    )


@every_panel
def test_it_is_enlarged_by_f(page, name):
    page.go(opened(name))
    panel = page.panel(name)
    before = panel.bounding_box()
    panel.evaluate("element => element.focus()")
    page.press("f")
    assert page.page.locator(f"dialog.enlarged[open] [data-panel='{name}'] svg.figure").count()
    assert panel.bounding_box()["width"] > before["width"]
    page.press("f")
    assert not page.page.locator("dialog.enlarged").count()
    assert panel.bounding_box()["width"] == before["width"]
