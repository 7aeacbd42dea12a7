"""The palette: classes that colour tells apart are apart for everybody, and no other file has colours."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

import dtx
from dtx import figures
from dtx.dataset.episodes import OUTCOMES

PACKAGE = Path(dtx.__file__).parent
APART = 20
"""dE (CIE 1976) that is told apart at a glance, in small marks, too."""
SEEN_AS = {
    "all colours": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
"""Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB."""
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)  # fmt: skip
"""Of linear sRGB, white D65."""


def linear(colour: str) -> np.ndarray:
    """Linear RGB (3,) of a colour by name or hex."""
    c = np.array(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (3,) of linear RGB."""
    t = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(1)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def difference(one: str, other: str, seen_as: str) -> float:
    """dE between two colours."""
    a, b = (lab(np.asarray(SEEN_AS[seen_as]) @ linear(colour)) for colour in (one, other))
    return float(np.linalg.norm(a - b))


def assigned(path: Path) -> Iterator[str]:
    """Names of a module's constants that end in COLOURS."""
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        names = [t.id for t in targets if isinstance(t, ast.Name)]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
        yield from (name for name in names if name.endswith("COLOURS"))


def constants() -> list[tuple[str, str]]:
    """(module, name) of every set of colours in the package: a new one is tested by itself."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        found += [(module.removesuffix(".__init__"), name) for name in assigned(path)]
    return [(module, name) for module, name in found if drawn(module, name)]


def drawn(module: str, name: str) -> bool:
    """Whether it holds colours that are drawn, not names of a world's colours or of classes of a page."""
    values = colours(getattr(importlib.import_module(module), name))
    return all(isinstance(value, str) and value.startswith("#") for value in values)


def colours(value: Any) -> list[str]:
    """The colours of a constant, each once."""
    values = value.values() if isinstance(value, Mapping) else value
    return list(dict.fromkeys(values))


def test_the_difference_of_colours_is_that_of_the_literature():
    # Sharma, Wu and Dalal's constants for sRGB primaries: L*a*b* of red is 53.2, 80.1, 67.2.
    np.testing.assert_allclose(lab(linear("#ff0000")), [53.24, 80.09, 67.20], atol=0.05)
    assert difference("#000000", "#ffffff", "all colours") == pytest.approx(100, abs=0.1)
    # Red and green of one lightness: far apart, and nearly one colour for deuteranopes.
    assert difference("#d1495b", "#2a9d5c", "all colours") > 90
    assert difference("#d1495b", "#2a9d5c", "deuteranopia") < APART


@pytest.mark.parametrize("seen_as", SEEN_AS)
@pytest.mark.parametrize(("module", "name"), constants())
def test_classes_are_told_apart_by_everybody(module, name, seen_as):
    palette = colours(getattr(importlib.import_module(module), name))
    near = {
        (one, other): round(dE, 1)
        for one, other in itertools.combinations(palette, 2)
        if (dE := difference(one, other, seen_as)) < APART
    }
    assert len(palette) > 1 and not near


def test_the_sets_of_colours_are_found():
    named = {name for module, name in constants() if module == "dtx.figures"}
    assert {
        "OUTCOME_COLOURS",
        "ACTION_COLOURS",
        "MODEL_COLOURS",
        "SIGN_COLOURS",
        "CLASS_COLOURS",
    } <= named
    assert figures.SIGN_COLOURS == {"positive": figures.POSITIVE, "negative": figures.NEGATIVE}


def test_every_outcome_has_a_colour_and_a_hatch():
    assert set(figures.OUTCOME_COLOURS) == set(figures.OUTCOME_HATCHES) == set(OUTCOMES)
    assert len(set(figures.OUTCOME_HATCHES.values())) == len(OUTCOMES)


def test_positive_is_red_in_maps_as_in_bars():
    from matplotlib import colormaps

    low, middle, high = (colormaps[figures.SIGNED](x)[:3] for x in (0.0, 0.5, 1.0))
    assert high[0] > high[2] and low[2] > low[0] and min(middle) > 0.9
    assert to_rgb(figures.POSITIVE)[0] > to_rgb(figures.POSITIVE)[2]
    assert to_rgb(figures.NEGATIVE)[2] > to_rgb(figures.NEGATIVE)[0]


def test_colours_stand_in_one_file():
    """Pages' stylesheets are no Python; what draws takes its colours from dtx/figures.py."""
    pattern = re.compile(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b")
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.value[:40]}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != PACKAGE / "figures.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and pattern.search(node.value)
    ]
    assert not found


def test_a_headline_grows_the_figure_and_leaves_its_panels():
    figure, axes = figures.new(figures.PHONE, 2.0, mosaic=[["a"]])
    axes["a"].plot([0, 1])
    text = (
        "A finding of 0.98 that is too long for one line of a figure that is as narrow as this one"
    )
    figures.headline(figure, text, "n = 4 layouts")
    figure.draw_without_rendering()
    title, note = figure.texts
    assert title.get_text().replace("\n", " ") == text and note.get_text() == "n = 4 layouts"
    renderer = figure.canvas.get_renderer()
    boxes = [t.get_window_extent(renderer) for t in (title, note)]
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert boxes[0].y0 >= boxes[1].y1 >= boxes[1].y0 >= axes["a"].get_tightbbox(renderer).y1
    assert 1.8 < axes["a"].get_tightbbox(renderer).height / figure.dpi <= 2.0


@pytest.mark.parametrize("weight", ["normal", "bold"])
def test_words_are_as_wide_as_what_is_drawn_of_them(weight):
    font = FontProperties(size=9, weight=weight)
    for text in ("j", "return rises by -0.03", "fi AV To é ω 10³ $x^2$ ŷ %", "(i.i.d.), n = 4;"):
        drawn = TextPath((0, 0), text, prop=font).get_extents().width
        assert figures._width(text, font) == pytest.approx(1.05 * drawn, rel=1e-9)
