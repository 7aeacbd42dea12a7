"""Charts: labels are never cut and never overlap; maps are walked by keyboard; figures leave as files."""

import json

import pytest

from tests.app.page import browser

DRAW = """async ([name, spec]) => {
  const charts = await import("./charts.js");
  const root = charts[name](spec);
  document.body.replaceChildren(root);
  const whole = root.getBoundingClientRect();
  return [...root.querySelectorAll("text")].map(text => {
    const {left, right, top, bottom} = text.getBoundingClientRect();
    return {text: text.textContent, left: left - whole.left, right: whole.right - right, top, bottom,
      box: [left, right]};
  });
}"""


@pytest.fixture(scope="module")
def page(chromium):
    with browser.modules(chromium) as page:
        page.set_viewport_size({"width": 1440, "height": 900})
        yield page


def drawn(page, function: str, spec: dict) -> list[dict]:
    """The texts of a chart, with their distance to its edges; none is cut and no two overlap."""
    texts = page.evaluate(DRAW, [function, spec])
    assert texts
    for text in texts:
        assert text["left"] > -1 and text["right"] > -1, f"{text['text']} is cut"
    for i, one in enumerate(texts):
        for other in texts[:i]:
            beside = one["box"][1] <= other["box"][0] + 1 or other["box"][1] <= one["box"][0] + 1
            under = one["bottom"] <= other["top"] + 4 or other["bottom"] <= one["top"] + 4
            assert beside or under, f"{one['text']} lies on {other['text']}"
    return texts


@pytest.mark.parametrize("width", [318, 366, 700, 1300])
@pytest.mark.parametrize("end", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("long", [False, True])
def test_labels_of_lines(page, width, end, long):
    names = ["left", "right", "forward", "pickup", "drop", "toggle", "done"]
    series = [
        {
            "name": f"{name} of a model with a long title" if long else name,
            "x": [0, 0.5, 1],
            "y": [0.1 * i, 0.2, end],
            "colour": "var(--original)",
        }
        for i, name in enumerate(names)
    ]
    spec = {
        "title": "t",
        "width": width,
        "series": series,
        "y": {"label": "probability", "low": 0, "high": 1},
        "x": {"label": "reward-to-go"},
        "marks": [{"x": 1, "text": "now"}],
    }
    texts = [text["text"] for text in drawn(page, "lines", spec)]
    assert [line["name"] for line in series] == [
        t for t in texts if t in {s["name"] for s in series}
    ]


def test_lines_of_what_is_missing_or_constant(page):
    line = {"name": "original", "x": [0, 1], "y": [None, None], "colour": "red"}
    drawn(page, "lines", {"title": "t", "width": 300, "series": [line]})
    drawn(page, "lines", {"title": "t", "width": 300, "series": [line | {"y": [3, 3]}]})


@pytest.mark.parametrize("width", [60, 300, 700])
def test_bars_and_maps(page, width):
    rows = [
        {
            "name": name,
            "bars": [{"value": v, "colour": "red", "text": f"{v:.2f}", "name": "original"}],
        }
        for name, v in (("forward", -2.5), ("left", 3.0))
    ]
    drawn(page, "bars", {"title": "t", "width": width, "rows": rows, "low": -3, "high": 3})
    names = [f"{kind}{step}" for step in range(1, 4) for kind in "RSA"]
    drawn(page, "maps", {
        "title": "t", "width": width, "rows": names, "columns": names, "axes": True,
        "kind": "signed", "low": -1,
        "blocks": [{"values": [0.0] * len(names) ** 2}],
    })  # fmt: skip


WALK = """async () => {
  const {maps} = await import("./maps.js");
  const heard = [];
  const blocks = [{title: "L0H0", values: [1, 0, .25, .75]}, {title: "L0H1", values: [1, 0, 0, 1]}];
  const names = ["R1", "S1"];
  const moved = (block, r, c, text) => heard.push(text);
  const map = maps({title: "t", width: 300, blocks, rows: names, columns: names, moved});
  document.body.replaceChildren(map);
  map.focus();
  const press = key => map.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
  ["ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight"].forEach(press);
  return [heard, map.querySelectorAll(".token-mark").length, map.getAttribute("role")];
}"""


def test_a_map_says_what_a_cell_is_and_marks_its_tokens(page):
    heard, marked, role = page.evaluate(WALK)
    assert heard == [
        "L0H0 R1, R1: 1.000",
        "L0H0 S1, R1: 0.250",
        "L0H0 S1, S1: 0.750",
        "L0H1 S1, R1: 0.000",
    ]
    assert (marked, role) == (8, "application")  # rows and columns of both tokens, in both maps


def test_spread_keeps_labels_apart_and_in_order(page):
    wanted = [[50, 50, 50], [0, 0, 99], [100, 100], [10], []]
    spread = """async all => {
      const {spread} = await import("./charts.js");
      return all.map(places => spread(places, 0, 100, 15));
    }"""
    assert page.evaluate(spread, wanted) == [[50, 65, 80], [0, 15, 99], [85, 100], [10], []]


FILES = """async () => {
  const {svgText, csv, json, png} = await import("./export.js");
  const {bars} = await import("./charts.js");
  const bar = {value: 1, colour: "rgb(1, 2, 3)", text: "1.00", name: "original"};
  const figure = bars({title: "t", width: 200, rows: [{name: "left", bars: [bar]}]});
  document.body.replaceChildren(figure);
  const text = svgText(figure, "#1&a=ff");
  const table = csv({columns: ["a", "b,c"], rows: [[1.5, 'say "x"'], [null, "z"]]}, "#1");
  const data = json({a: {shape: [2, 2], data: Float32Array.from([1, NaN, 3, 4])}, b: "<b>"});
  return [text, table, data, (await png(text)).size];
}"""


def test_what_leaves_as_a_file_is_what_was_drawn(page):
    svg, csv, text, size = page.evaluate(FILES)
    assert "rgb(1, 2, 3)" in svg and "dtx explorer #1&amp;a=ff" in svg
    assert "var(" not in svg and "class=" not in svg
    assert csv == '# dtx explorer #1\na,"b,c"\n1.5,"say ""x"""\n,z\n'
    assert json.loads(text) == {"a": [[1, None], [3, 4]], "b": "<b>"}
    assert size > 200
