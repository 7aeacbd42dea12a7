"""The style of all figures: fonts, sizes, and colours of what occurs in several of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import matplotlib

if "inline" not in os.environ.get("MPLBACKEND", ""):  # a notebook goes on showing its own figures
    matplotlib.use("Agg")  # ours go to files; no display is needed
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PURPLE, YELLOW, BLACK, GREY = "#56b4e9", "#cc79a7", "#f0e442", "#000000", "#8d99ae"
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW, BLACK)
"""Okabe and Ito's colours (Color Universal Design, 2008), which colour-blind readers tell apart."""
SIGNED = "RdBu_r"
"""Colour map of signed values, for matplotlib and plotly: red is positive, blue negative, white zero."""
POSITIVE, NEGATIVE = VERMILION, BLUE
"""The same of lines and bars."""
OUTCOME_COLOURS = {"success": BLUE, "wrong": VERMILION, "truncated": GREY}
"""By the name of an episode's outcome (``dtx.dataset.episodes.OUTCOMES``)."""
ACTION_COLOURS = {"left": ORANGE, "right": SKY, "forward": BLACK, "other": GREY}
"""By what an action does."""
MODEL_COLOURS = {"dt": BLUE, "behaviour clone": ORANGE, "shuffled": PURPLE, "untrained": GREY}
"""By the role of a model (:mod:`dtx.running.roles`); more are added where an analysis draws more."""

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8ee",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.use": True,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
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
