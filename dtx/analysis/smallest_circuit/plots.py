"""Faithfulness against the number of edges kept, beside random circuits."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.plots import sentence
from dtx.analysis.core.result import Result
from dtx.analysis.smallest_circuit.spec import RANDOM, RANKED
from dtx.figures import new

COLOURS = {RANDOM: "#8d99ae", RANKED: "#1d3557"}
MARK = "#d1495b"


def draw(result: Result, faithfulness: float) -> Figure:
    """One panel an edit whose runs differ enough; a sentence if there is none.

    Args:
        result: Of the smallest circuit. faithfulness: What a circuit has to keep.
    """
    curve = result.tables["curve"]
    if not len(curve):
        return sentence("no circuit: the two runs of no pair differ enough (min_ld_gap)")
    edits = curve["edit"].drop_duplicates().tolist()
    columns = min(len(edits), 2)
    rows = [edits[i : i + columns] for i in range(0, len(edits), columns)]
    rows[-1] += ["."] * (columns - len(rows[-1]))
    figure, axes = new(7.0, 2.6 * len(rows), mosaic=rows)
    for edit in edits:
        _curve(axes[edit], curve[curve["edit"] == edit])
        size = result.metrics[f"{edit}_edges"]
        if size is not None:
            _size(axes[edit], int(size), float(curve.loc[curve["edit"] == edit, "size"].max()))
        axes[edit].axhline(faithfulness, color=MARK, lw=0.8, ls=":")
        axes[edit].set(
            xscale="log",
            xlabel="edges kept (sender, receiver, token)",
            ylabel="faithfulness",
            title=edit,
            ylim=(-0.25, 1.25),
        )
    axes[edits[0]].legend(loc="upper left")
    return figure


def _curve(axis: Axes, curve: pd.DataFrame) -> None:
    for kind, colour in COLOURS.items():
        part = curve[curve["circuit"] == kind]
        size, kept = part["size"], part["faithfulness"]
        axis.fill_between(size, part["low"], part["high"], color=colour, alpha=0.2, lw=0)
        axis.plot(size, kept, color=colour, marker="o", ms=3, label=kind)


def _size(axis: Axes, size: int, largest: float) -> None:
    """Mark the smallest circuit's size."""
    axis.axvline(size, color=MARK, lw=1)
    late = size**2 > largest  # behind the middle of a logarithmic axis
    text = f"{size:,} edges " if late else f" {size:,} edges"
    side = "right" if late else "left"
    axis.text(size, -0.16, text, color=MARK, fontsize=8, va="center", ha=side)
