"""Everyone can read and use the page: axe-core's rules, and no label is cut or leaves its figure."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.app.page.driven import tab
from tests.app.page.test_panels import OF_A_STORE, WITH_PAIR

SIZES = {1440: 900, 390: 844}
SCHEMES = ["light", "dark"]
CUT = """() => {
  const cut = [];
  const name = (element) => `${element.tagName.toLowerCase()}.${element.className?.baseVal ?? element.className} in ${element.closest("[data-panel]")?.dataset.panel ?? element.closest("section, header, dialog")?.className}: ${element.textContent.trim().slice(0, 60)}`;
  for (const element of document.querySelectorAll("main *:not(svg *), dialog[open] *:not(svg *)")) {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text || element.matches(".hidden, option, optgroup, textarea") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    if (style.display !== "inline" && style.overflowX !== "visible" && !["auto", "scroll"].includes(style.overflowX) && element.scrollWidth > element.clientWidth + 1) cut.push(`cut: ${name(element)}`);
    let box = element.parentElement;
    while (box && !["auto", "scroll"].includes(getComputedStyle(box).overflowX)) box = box.parentElement;
    const range = document.createRange();
    range.selectNodeContents(element);
    const {right, left} = range.getBoundingClientRect();
    if (!box && (right > innerWidth + 1 || left < -1)) cut.push(`outside the window: ${name(element)}`);
  }
  for (const figure of document.querySelectorAll("main svg.figure")) {
    if (figure.parentElement.closest("svg") || !figure.getClientRects().length) continue;
    const {left, right, top, bottom} = figure.getBoundingClientRect();
    const scale = (right - left) / (figure.viewBox.baseVal.width || 1);
    for (const text of figure.querySelectorAll("text")) {
      const box = text.getBBox();
      const matrix = text.getScreenCTM();
      const xs = [[box.x, box.y], [box.x + box.width, box.y], [box.x, box.y + box.height], [box.x + box.width, box.y + box.height]].map(([x, y]) => new DOMPoint(x, y).matrixTransform(matrix));
      if (!text.textContent.trim()) continue;
      if (Math.min(...xs.map((p) => p.x)) < left - 1.5 || Math.max(...xs.map((p) => p.x)) > right + 1.5) cut.push(`leaves its figure sideways by ${Math.max(left - Math.min(...xs.map((p) => p.x)), Math.max(...xs.map((p) => p.x)) - right).toFixed(1)}: ${name(text)}`);
      if (Math.min(...xs.map((p) => p.y)) < top - 3 || Math.max(...xs.map((p) => p.y)) > bottom + 4) cut.push(`leaves its figure upwards or downwards: ${name(text)}`);
      if (scale * parseFloat(getComputedStyle(text).fontSize) < 9) cut.push(`too small (${(scale * parseFloat(getComputedStyle(text).fontSize)).toFixed(1)} px): ${name(text)}`);
    }
  }
  if (document.documentElement.scrollWidth > innerWidth) cut.push(`the page scrolls sideways: ${document.documentElement.scrollWidth} > ${innerWidth}`);
  return [...new Set(cut)];
}"""


@pytest.fixture(
    scope="package", params=[(w, s) for w in SIZES for s in SCHEMES], ids=lambda p: f"{p[0]}-{p[1]}"
)
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


@pytest.mark.parametrize("scene", SCENES)
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
