"""Pieces that the figures of several analyses share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from dtx.figures import new

TARGET_COLOURS = ("#d1495b", "#1d3557", "#2a9d5c", "#e9a23b")
"""Of targets, in their order."""
LAYER_COLOURS = ("#d1803a", "#3a6ea5", "#2a9d5c", "#7a3e12", "#173753", "#8d5a97")
"""Of layers, in their order; they repeat."""
MODEL_COLOURS = {"trained": "#3a6ea5", "untrained": "#b9bfcc"}
"""A model and its control."""
ACCENT, QUIET, LINE = "#d1803a", "#8d99ae", "#333"
"""What stands out, what does not, and thin lines."""


def title(figure: Figure, text: str, size: float = 10) -> None:
    """Put a title over all panels, at the left."""
    figure.suptitle(text, fontsize=size, fontweight="bold", x=0.02, ha="left")


def heatmap(
    axis: Axes,
    grid: np.ndarray | pd.DataFrame,
    rows: Sequence[Any],
    columns: Sequence[Any],
    *,
    limit: float | None = None,
    cmap: str = "RdBu_r",
    low: float | None = None,
    size: float = 7,
    rotation: float = 90,
    aspect: str = "auto",
) -> AxesImage:
    """Draw a matrix with named rows and columns.

    Args:
        axis: Where.
        grid: Missing values stay white.
        rows: Names; none leaves the rows without.
        columns: Names; none leaves the columns without.
        limit: Value of the darkest colour; by default the largest absolute value.
        cmap: Colours; a diverging map has zero in the middle.
        low: Value of the lightest colour; by default ``-limit``.
        size: Of the names' font.
        rotation: Of the columns' names in degrees.
        aspect: ``auto`` fills the panel, ``equal`` gives squares.
    """
    values = np.ma.masked_invalid(np.asarray(grid, dtype=float))
    top = limit_of(values) if limit is None else limit
    bottom = -top if low is None else low
    image = axis.imshow(values, cmap=cmap, vmin=bottom, vmax=top, aspect=aspect)
    axis.set_yticks(range(len(rows)), [str(name) for name in rows], fontsize=size)
    names = [str(name) for name in columns]
    axis.set_xticks(range(len(names)), names, rotation=rotation, fontsize=size)
    axis.grid(False)
    return image


def limit_of(values: np.ndarray | pd.DataFrame | pd.Series) -> float:
    """The largest absolute value; 1 if all are 0, for a scale must have a width."""
    numbers = np.abs(np.asarray(values, dtype=float))
    return float(np.nanmax(numbers)) if numbers.size and np.nanmax(numbers) > 0 else 1.0


def bars(
    axis: Axes, place: Any, value: pd.Series, low: pd.Series, high: pd.Series, **options: Any
) -> None:
    """Horizontal bars with their intervals and the zero line.

    Args:
        axis: Where. place: Of each bar: names or numbers. value: Length of each bar.
        low: Lower end of its interval. high: Upper end.
        **options: For :meth:`matplotlib.axes.Axes.barh`.
    """
    error = np.stack([value - low, high - value]).clip(min=0)
    axis.barh(place, value, xerr=error, error_kw={"lw": 0.8}, **options)
    axis.axvline(0, color=LINE, lw=0.7)


def sentence(text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, axes = new(7.0, 1.2, mosaic=[["text"]])
    axes["text"].axis("off")
    axes["text"].text(0.5, 0.5, text, ha="center", va="center", transform=axes["text"].transAxes)
    return figure
