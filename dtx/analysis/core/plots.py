"""Pieces that the figures of several analyses share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from dtx import figures
from dtx.analysis.core.result import Result
from dtx.figures import BLUE, CLASS_COLOURS, GREY, INK, ORANGE, SIGNED, new

TARGET_COLOURS = LAYER_COLOURS = CLASS_COLOURS
"""Of targets and of layers, in their order; they repeat."""
MODEL_COLOURS = {"trained": BLUE, "untrained": GREY}
"""A model and its control."""
ACCENT, QUIET, LINE = ORANGE, GREY, INK
"""What stands out, what does not, and thin lines."""


def headline(figure: Figure, result: Result, text: str, note: str = "") -> None:
    """Title a figure with what it says, and below it with what is drawn, n and the control.

    Args:
        figure: It grows by the title's height.
        result: "Not established" and its first reason are added where it is not.
        text: The finding, with its numbers. note: Below it; the number of distinct inputs is added.
    """
    said = [note] if note else []
    if result.distinct_inputs is not None:
        said.append(f"{result.distinct_inputs:,} distinct inputs")
    if not result.established:
        text = f"Not established: {text}"
        said.append(shorten(next(result.reasons()), 140, placeholder=" ..."))
    figures.headline(figure, text, "; ".join(said))


def words(name: str) -> str:
    """A name in the config as a reader would write it: ``RTG zero`` of ``rtg_zero``."""
    spelled = name.replace("reward_to_go", "RTG").replace("_", " ")
    return re.sub(r"\brtg\b", "RTG", spelled)


def sentence_case(text: str) -> str:
    """The text with a capital at its beginning; the rest stays."""
    return text[:1].upper() + text[1:]


def counted(kinds: Iterable[str]) -> str:
    """The kinds of intervals of a figure, each once: ``t over 4 layouts``."""
    return ", ".join(dict.fromkeys(str(kind) for kind in kinds))


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
    cmap: str = SIGNED,
    low: float | None = None,
    size: float = 7.5,
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
    figure, axes = new(figures.PHONE, 0.3, mosaic=[["text"]])
    axes["text"].axis("off")
    figures.headline(figure, text)
    return figure
