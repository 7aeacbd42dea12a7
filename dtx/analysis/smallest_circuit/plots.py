"""Faithfulness against the number of edges kept, beside random circuits."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.donor_plots import DIRECTIONS
from dtx.analysis.core.plots import LINE, counted, headline, sentence, words
from dtx.analysis.core.result import Result
from dtx.analysis.smallest_circuit.spec import (
    CELL,
    HELD_OUT,
    MATCHED,
    PRUNED,
    SAME_NODES,
    name_of,
)
from dtx.figures import BLACK, BLUE, GREY, ORANGE, PHONE, new

CURVE_COLOURS = {PRUNED: BLUE, MATCHED: GREY}
POINT_COLOURS = {SAME_NODES: BLACK, HELD_OUT: ORANGE}
MARKS = {PRUNED: "o", MATCHED: "v", SAME_NODES: "s", HELD_OUT: "D"}
WORDS = {
    PRUNED: "pruned",
    MATCHED: "control: random edges",
    SAME_NODES: "control: random edges between its nodes",
    HELD_OUT: "pruned on other layouts",
}
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
            "No circuit: no edit changes the answer beyond what it does in untrained models"
        )
    keys = list(curve[CELL].drop_duplicates().itertuples(index=False, name=None))
    columns = min(len(keys), 2)
    names = [name_of(*key) for key in keys]
    rows = [names[i : i + columns] for i in range(0, len(names), columns)]
    rows[-1] += ["."] * (columns - len(rows[-1]))
    figure, axes = new(PHONE, 1.5 * len(rows) + 0.9, mosaic=rows, sharex=True, sharey=True)
    handles: dict = {}
    for key, name in zip(keys, names, strict=True):
        axis = axes[name]
        own = curve[(curve[CELL] == list(key)).all(axis=1)]
        handles |= _curves(axis, own)
        size, of = (result.metrics[f"{name}_{what}"] for what in ("edges", "of"))
        if size is not None and of is not None:
            _size(axis, int(size), float(of))
        axis.axhline(faithfulness, color=LINE, lw=0.8, ls=":")
        edit, target, direction = key
        axis.set_title(f"{words(edit)}\nRTG {target:g}, {direction}", fontsize=8)
        axis.set(xscale="log", ylim=(LOWEST, 1.1))
        axis.tick_params(labelsize=7.5)
    for name in names[-columns:]:
        axes[name].set_xlabel("edges kept\n(sender, receiver, token)", fontsize=7.5)
        axes[name].tick_params(labelbottom=True)
    for row in rows:
        axes[row[0]].set_ylabel("faithfulness", fontsize=7.5)
    figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=2, fontsize=7.5)
    note = (
        "Faithfulness 1 - |1 - f|, f: share of the edit's effect. Vertical line: fewest edges that reach "
        f"{faithfulness:g} (dotted); bars and bands: 95%, "
        f"{counted(curve['interval'])}; {DIRECTIONS}"
    )
    headline(figure, result, _finding(result, keys), note)
    return figure


def _finding(result: Result, keys: list[tuple]) -> str:
    """Sizes by edit, and how many of them are enough on other layouts, too."""
    sizes: dict[str, list[str]] = {}
    for key in keys:
        edges = result.metrics[f"{name_of(*key)}_edges"]
        sizes.setdefault(words(key[0]), []).append("none" if edges is None else f"{edges:,.0f}")
    ids = {f"{name_of(*key)}_circuit".replace(".", "_") for key in keys}
    verdicts = [c.verdict.value for c in result.claims if c.id in ids]
    said = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
    of = max(result.metrics[f"{name_of(*key)}_of"] or 0 for key in keys)
    numbers = "; ".join(f"{edit} {', '.join(dict.fromkeys(each))}" for edit, each in sizes.items())
    enough = f". Enough on other layouts: {said}" if said else ""
    return f"Edges in the smallest circuits, of at most {of:,.0f}: {numbers}{enough}"


def _curves(axis: Axes, curve: pd.DataFrame) -> dict:
    """Handles of the legend by their words."""
    handles: dict = {}
    for kind, colour in CURVE_COLOURS.items():
        part = curve[curve["circuit"] == kind].sort_values("size")
        if not len(part):
            continue
        size, kept = part["size"], part["faithfulness"]
        if bool((part["low"] < part["high"]).to_numpy().any()):
            axis.fill_between(size, part["low"], part["high"], color=colour, alpha=0.25, lw=0)
        handles[WORDS[kind]] = axis.plot(
            size, kept, color=colour, marker=MARKS[kind], ms=2.5, lw=1.2
        )[0]
    for kind, colour in POINT_COLOURS.items():
        part = curve[curve["circuit"] == kind]
        if not len(part):
            continue
        value = part["faithfulness"].to_numpy(float)
        ends = np.abs(part[["low", "high"]].to_numpy(float).T - value)
        handles[WORDS[kind]] = axis.errorbar(
            part["size"], value, yerr=ends, color=colour, marker=MARKS[kind], ms=4.5, lw=1, capsize=2,
            ls="", zorder=4,
        )  # fmt: skip
    return handles


def _size(axis: Axes, size: int, largest: float) -> None:
    """Mark the smallest circuit's size."""
    axis.axvline(size, color=LINE, lw=0.8)
    late = size**2 > largest  # behind the middle of a logarithmic axis
    text = f"{size:,} edges " if late else f" {size:,} edges"
    side = "right" if late else "left"
    axis.text(size, LOWEST + 0.1, text, color=LINE, fontsize=7.5, va="center", ha=side)
