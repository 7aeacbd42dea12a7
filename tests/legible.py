"""What makes a figure hard to read, found without looking at it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from dtx.figures import LEAST_FONT

SLACK = 1.5
"""Pixels by which the boxes of two texts may overlap: letters do not fill their boxes."""


def problems(figure: Figure) -> list[str]:
    """All that is wrong with a figure, a line each; none if it can be read.

    Its headline and note, the size and the place of every text, labels of every axis that shows data, and
    tick labels that overlap.
    """
    figure.draw_without_rendering()
    found = list(_headline(figure))
    for text in _texts(figure):
        said = repr(text.get_text()[:40])
        if text.get_fontsize() < LEAST_FONT:
            found.append(f"{said} has {text.get_fontsize():g} points")
        if _beyond(text.get_window_extent(), figure.bbox):
            found.append(f"{said} leaves the figure")
    for axis in figure.axes:
        found += _unlabelled(axis)
        found += _overlapping(axis)
    return found


def _headline(figure: Figure) -> Iterator[str]:
    texts = [text.get_text() for text in figure.texts]
    if not texts or not texts[0].strip():
        yield "no headline"
        return
    if not any(axis.has_data() for axis in figure.axes):
        return  # a sentence that says why nothing is drawn
    if not re.search(r"\d", texts[0]):
        yield f"no number in the headline {texts[0]!r}"
    note = texts[1] if len(texts) > 1 else ""
    if not re.search(r"\d[\d,]*\s+(distinct|layouts|episodes|pairs|windows|states)|\bn = \d", note):
        yield f"no n in the note {note!r}"


def _texts(figure: Figure) -> list[Text]:
    unseen = {id(label) for axis in figure.axes for label in _unseen(axis)}
    return [
        text
        for text in figure.findobj(Text)
        if isinstance(text, Text)
        and text.get_visible()
        and text.get_text().strip()
        and id(text) not in unseen
    ]


def _unseen(axis: Axes) -> Iterator[Text]:
    """Tick labels outside an axis' limits, which exist and are not drawn."""
    for each, ends in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
        for tick in (*each.get_major_ticks(), *each.get_minor_ticks()):
            if not axis.axison or not min(ends) <= tick.get_loc() <= max(ends):
                yield tick.label1
                yield tick.label2


def _beyond(box: Bbox, page: Bbox) -> bool:
    return (
        box.x0 < page.x0 - SLACK
        or box.y0 < page.y0 - SLACK
        or box.x1 > page.x1 + SLACK
        or box.y1 > page.y1 + SLACK
    )


def _unlabelled(axis: Axes) -> Iterator[str]:
    """An axis of numbers needs words; names at its ticks are words."""
    if not axis.has_data() or not axis.axison:
        return
    shares = axis.get_shared_x_axes(), axis.get_shared_y_axes()
    for i, (which, ticks) in enumerate(
        (("x", axis.get_xticklabels()), ("y", axis.get_yticklabels()))
    ):
        siblings = shares[i].get_siblings(axis)
        said = [getattr(each, f"get_{which}label")() for each in siblings]
        named = any(re.search(r"[A-Za-z]", tick.get_text()) for tick in ticks)
        numbers = [tick for tick in ticks if tick.get_text().strip()]
        if numbers and not named and not any(said):
            yield f"the {which} axis of {axis.get_title(loc='left')!r} has no label"


def _overlapping(axis: Axes) -> Iterator[str]:
    unseen = {id(label) for label in _unseen(axis)}
    for which, labels in (("x", axis.get_xticklabels()), ("y", axis.get_yticklabels())):
        shown = [
            t for t in labels if t.get_visible() and t.get_text().strip() and id(t) not in unseen
        ]
        boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
        for (one, a), (other, b) in itertools.pairwise(boxes):
            wide = min(a.x1, b.x1) - max(a.x0, b.x0)
            high = min(a.y1, b.y1) - max(a.y0, b.y0)
            if wide > SLACK and high > SLACK:
                yield f"{which} labels {one!r} and {other!r} overlap"
