# ruff: noqa: E501  # a case a line; signs as the page writes them
"""Everyone can read and use the page: axe-core's rules, and no label is cut or leaves its figure."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.app.page.driven import tab
from tests.app.page.test_panels import OF_A_STORE, WITH_PAIR

SIZES = {1440: 900, 390: 844}
LOOKS = [
    (390, "dark"),  # the narrow one is where labels are cut
    *(
        pytest.param(look, marks=pytest.mark.slow)
        for look in [(1440, "light"), (1440, "dark"), (390, "light")]
    ),
]
CUT = (Path(__file__).parent / "cut.js").read_text()


@pytest.fixture(scope="package", params=LOOKS, ids=lambda p: f"{p[0]}-{p[1]}")
def looked_at(request, chromium, home, explorer):
    """The page at a size and in a colour scheme, with all panels open."""
    width, scheme = request.param
    size = {"width": width, "height": SIZES[width]}
    with tab(chromium, home, viewport=size, color_scheme=scheme) as one:
        one.everything = "~".join(name for name in explorer.panels if name != "policy")
        one.open(f"{WITH_PAIR}&p={one.everything}")
        yield one
        assert one.errors == []


def serious(tab) -> list[str]:
    """Serious and critical findings of axe-core."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(tab.page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{finding['id']} ({finding['impact']}): {node['target']} {node['html'][:160]} {node['failureSummary'][:200]}"
        for finding in found
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
    ]


@pytest.mark.skipif(
    find_spec("axe_playwright_python") is None,
    reason="axe-playwright-python is not installed (`pip install -e .[dev]`)",
)
def test_axe_finds_nothing_serious(looked_at):
    looked_at.go(f"{WITH_PAIR}&p={looked_at.everything}")
    assert serious(looked_at) == []
    looked_at.press("?")  # a dialog
    assert serious(looked_at) == []
    looked_at.press("Escape")


SCENES = {
    "a pair": WITH_PAIR,
    "two models": "#1&m=memory1~clone&w=key/left&a=fff&r=.9",
    "four models, a pair": WITH_PAIR.replace("memory1", "memory1~planted~leftpad~clone"),
    "a long run": f"#1&m=planted&w=ball/right&a={'lr' * 12}&r=.9&e=set_rtg:value=0:scope=all",
    "three actions": "#1&m=obstacles&w=seed:4&a=lf&r=-.25",
    "a store's model": OF_A_STORE,
}


QUICK = ("four models, a pair", "a long run", "a store's model")
"""Scenes of the fast tests, those with the most to draw; the others are slow."""


@pytest.mark.parametrize(
    "scene", [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in SCENES]
)
def test_no_label_is_cut_and_nothing_scrolls_sideways(looked_at, scene):
    looked_at.go(f"{SCENES[scene]}&p={looked_at.everything}")
    assert looked_at.page.evaluate(CUT) == []


def test_tables_are_not_cut(looked_at):
    looked_at.go(f"{WITH_PAIR}&p={looked_at.everything}")
    buttons = looked_at.page.get_by_role("button", name="as table")
    for i in range(buttons.count()):
        buttons.nth(i).click()
    try:
        assert looked_at.page.evaluate(CUT) == []
    finally:
        for i in range(buttons.count()):
            buttons.nth(i).click()
