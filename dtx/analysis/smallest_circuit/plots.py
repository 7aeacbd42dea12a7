"""Faithfulness against the number of edges kept, beside random circuits."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.plots import sentence
from dtx.analysis.core.result import Result
from dtx.analysis.smallest_circuit.spec import (
    CELL,
    HELD_OUT,
    MATCHED,
    PRUNED,
    SAME_NODES,
    name_of,
)
from dtx.figures import new

COLOURS = {MATCHED: "#8d99ae", PRUNED: "#1d3557"}
POINTS = {SAME_NODES: ("#8d99ae", "s"), HELD_OUT: ("#e09f3e", "D")}
MARK = "#d1495b"
LOWEST = -0.6
"""Random circuits may keep the opposite of everything; what lies lower is cut off and says so."""


def draw(result: Result, faithfulness: float) -> Figure:
    """One panel a circuit (edit, reward-to-go, direction); a sentence if there is none.

    Args:
        result: Of the smallest circuit. faithfulness: What a circuit has to reach.
    """
    curve = result.tables["curve"]
    if not len(curve):
        return sentence(
            "no circuit: no edit changes the answer beyond what it does in untrained models"
        )
    keys = list(curve[CELL].drop_duplicates().itertuples(index=False, name=None))
    columns = min(len(keys), 2)
    names = [name_of(*key) for key in keys]
    rows = [names[i : i + columns] for i in range(0, len(names), columns)]
    rows[-1] += ["."] * (columns - len(rows[-1]))
    figure, axes = new(7.4, 2.5 * len(rows), mosaic=rows)
    for key, name in zip(keys, names, strict=True):
        axis = axes[name]
        own = curve[(curve[CELL] == list(key)).all(axis=1)]
        _curves(axis, own)
        size, of = (result.metrics[f"{name}_{what}"] for what in ("edges", "of"))
        if size is not None and of is not None:
            _size(axis, int(size), float(of))
        axis.axhline(faithfulness, color=MARK, lw=0.8, ls=":")
        edit, reward_to_go, direction = key
        axis.set(
            xscale="log",
            xlabel="edges kept (sender, receiver, token)",
            ylabel="faithfulness 1 - |1 - f|",
            title=f"{edit}, reward-to-go {reward_to_go:g}, {direction}",
            ylim=(LOWEST, 1.1),
        )
    axes[names[0]].legend(loc="lower right", fontsize=7)
    return figure


def _curves(axis: Axes, curve: pd.DataFrame) -> None:
    for kind, colour in COLOURS.items():
        part = curve[curve["circuit"] == kind].sort_values("size")
        size, kept = part["size"], part["faithfulness"]
        if bool((part["low"] < part["high"]).to_numpy().any()):
            axis.fill_between(size, part["low"], part["high"], color=colour, alpha=0.2, lw=0)
        axis.plot(size, kept, color=colour, marker="o", ms=2.5, lw=1.2, label=_label(part, kind))
    for kind, (colour, marker) in POINTS.items():
        part = curve[curve["circuit"] == kind]
        if not len(part):
            continue
        value = part["faithfulness"].to_numpy(float)
        ends = np.abs(part[["low", "high"]].to_numpy(float).T - value)
        axis.errorbar(
            part["size"], value, yerr=ends, color=colour, marker=marker, ms=4, lw=1, capsize=2, ls="",
            label=_label(part, kind),
        )  # fmt: skip


def _label(part: pd.DataFrame, kind: str) -> str:
    return f"{kind} ({part['interval'].iloc[0]})" if len(part) else kind


def _size(axis: Axes, size: int, largest: float) -> None:
    """Mark the smallest circuit's size."""
    axis.axvline(size, color=MARK, lw=1)
    late = size**2 > largest  # behind the middle of a logarithmic axis
    text = f"{size:,} edges " if late else f" {size:,} edges"
    side = "right" if late else "left"
    axis.text(size, LOWEST + 0.1, text, color=MARK, fontsize=8, va="center", ha=side)
