"""The style of all figures: fonts, sizes, and colours of what occurs in several of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import matplotlib

if "inline" not in os.environ.get("MPLBACKEND", ""):  # a notebook goes on showing its own figures
    matplotlib.use("Agg")  # ours go to files; no display is needed
import matplotlib.pyplot as plt
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PURPLE, YELLOW, BLACK = "#56b4e9", "#cc79a7", "#f0e442", "#000000"
"""Okabe and Ito's colours (Color Universal Design, 2008). Not every two of them are told apart by colour
alone; those of a ``..._COLOURS`` constant are, as ``tests/test_figures.py`` measures."""
GREY, FAINT, SOFT, INK, WHITE = "#8d99ae", "#e6e8ee", "#525a6b", "#1b1f2a", "#ffffff"
"""What is no class: controls, grids and bands, second lines, text."""
CLASS_COLOURS = (BLUE, ORANGE, GREEN, SKY, BLACK, GREY)
"""Of classes without a colour of their own (layers, targets, edits), in order; with MARKERS or LINES."""
MARKERS = ("o", "s", "^", "D", "v", "X")
"""Markers of classes, in their order: colour never stands alone."""
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
"""Line styles of classes, in their order."""
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
"""Hatches of areas and bars of classes, in their order."""
SIGNED = "RdBu_r"
"""Colour map of signed values, for matplotlib and plotly: red is positive, blue negative, white zero."""
POSITIVE, NEGATIVE = VERMILION, BLUE
"""The same of lines and bars."""
SIGN_COLOURS = {"positive": POSITIVE, "negative": NEGATIVE}
"""The two by name."""
OUTCOME_COLOURS = {"success": BLUE, "wrong": VERMILION, "truncated": GREY}
"""By the name of an episode's outcome (``dtx.dataset.episodes.OUTCOMES``)."""
OUTCOME_HATCHES = {"success": "", "wrong": "///", "truncated": "..."}
"""The same of bars and areas."""
ACTION_COLOURS = {"left": ORANGE, "right": SKY, "forward": BLACK, "other": GREY}
"""By what an action does."""
MODEL_COLOURS = {"dt": BLUE, "behaviour clone": ORANGE, "shuffled": GREEN, "untrained": GREY}
"""By the role of a model (:mod:`dtx.running.roles`); more are added where an analysis draws more."""
PHONE = 4.6
"""Inches: in a figure of this width letters of 7.5 points are 9 pixels high on a screen of 390."""
TRACK = "#eef0f4"
"""What a bar fills, where the rest is to be seen, too."""
LEAST_FONT = 7.0
"""Points: no text of a figure is smaller."""

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.use": True,
    "axes.prop_cycle": matplotlib.cycler(color=CLASS_COLOURS),
    "hatch.linewidth": 0.6,
}
plt.rcParams.update(STYLE)  # type: ignore[arg-type]  # for the whole process: titles and legends are made after the figure


def new(width: float = 7.0, height: float = 4.2, **subplots) -> tuple[Figure, dict]:
    """A figure in the project's style; ``mosaic=...`` names its axes.

    Args:
        width: Inches, at most 7 so that the MLflow UI shows it whole.
        height: Inches.
        **subplots: For :meth:`matplotlib.figure.Figure.subplot_mosaic`.

    Returns:
        The figure and its axes by name.
    """
    figure = plt.figure(figsize=(width, height))
    return figure, figure.subplot_mosaic(**subplots)


def headline(figure: Figure, text: str, note: str = "", size: float = 10) -> None:
    """Write what a figure says above all its panels, which keep their size; the figure grows.

    Args:
        figure: Its panels are made, its legends not yet or already.
        text: The finding, bold, over as many lines as it takes.
        note: Smaller below it: what is drawn, n, the control.
        size: Points of the title.
    """
    width, height = figure.get_size_inches()
    room, edge = (width - 0.2) * 72, 0.08
    lines = wrapped(text, room, size, "bold")
    notes = wrapped(note, room, NOTE, "normal") if note else []
    tall = [len(lines) * size * 1.25 / 72, len(notes) * NOTE * 1.3 / 72]
    header = edge + sum(tall) + 0.1
    total = height + header
    figure.set_size_inches(width, total)
    style: dict[str, Any] = {"ha": "left", "va": "top", "linespacing": 1.2}
    top = 1 - edge / total
    figure.text(0.1 / width, top, "\n".join(lines), size=size, weight="bold", color=INK, **style)
    figure.text(
        0.1 / width,
        top - (tall[0] + 0.03) / total,
        "\n".join(notes),
        size=NOTE,
        color=SOFT,
        **style,
    )
    engine = figure.get_layout_engine()
    assert engine is not None  # see STYLE
    engine.set(rect=(0, 0, 1, 1 - header / total))  # type: ignore[call-arg]


NOTE = 7.5
"""Points of the note below a title."""


def wrapped(text: str, room: float, size: float, weight: str) -> list[str]:
    """The lines of a text that is set in the figures' font.

    Args:
        text: Words; line breaks in it stay.
        room: Points from left to right.
        size: Points. weight: ``normal`` or ``bold``.
    """
    font = FontProperties(size=size, weight=weight)
    lines = []
    for part in text.split("\n"):
        line = ""
        for word in part.split():
            longer = f"{line} {word}".strip()
            if line and _width(longer, font) > room:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def _width(text: str, font: FontProperties) -> float:
    """Points from left to right."""
    return 1.05 * TextPath((0, 0), text, prop=font).get_extents().width  # hinting widens letters
