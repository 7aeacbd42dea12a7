"""The strongest edges of each edit as a graph: tokens are columns, the order of computing goes upwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.donor_plots import (
    DIRECTIONS,
    RESTORED,
    WIDTH,
    beside_donors,
    condition_in_words,
    conditions,
    finding,
)
from dtx.analysis.core.plots import headline
from dtx.analysis.core.result import Result
from dtx.analysis.path_patching.found import CELL
from dtx.dt.names import MLP, part_of, renamed
from dtx.figures import GREY, INK, NEGATIVE, POSITIVE, SOFT, WHITE, new

THRESHOLD, MOST = 0.05, 10
"""Edges are drawn from this restored share on, of either sign, and at most so many: the strongest."""
BESIDE = 3
"""Edges of each reward-to-go that are drawn beside their controls."""
Size = tuple[float, float]
"""Width and height of a panel in inches, about."""


def graphs(result: Result) -> Iterator[tuple[str, Figure]]:
    """One figure an edit: its strongest edges at each reward-to-go, and beside them their controls."""
    effects = result.tables["edges"]
    for edit, rows in result.tables["important"].groupby("edit", sort=False, observed=True):
        yield f"paths_{edit}", _figure(str(edit), result, rows, effects)


def row_of(name: str) -> float:
    """Height of a component: the order of computing. ``embed`` 0, heads of layer 0 1, its MLP 2, ..."""
    if name in ("embed", "logits"):
        return 0.0 if name == "embed" else np.inf
    part = part_of(name)
    assert part is not None, name
    return 2 * part.layer + (2 if part.kind == MLP else 1)


def _figure(edit: str, result: Result, important: pd.DataFrame, effects: pd.DataFrame) -> Figure:
    panels = [(condition_in_words(d, t), d, t) for d, t in conditions(effects, edit)]
    parts, heights = {}, []
    for panel, direction, target in panels:
        here = (important["direction"] == direction) & (important["reward_to_go"] == target)
        parts[panel] = important[here]
        shown = parts[panel][parts[panel]["rho"].abs() >= THRESHOLD].head(MOST)
        rows = {row_of(str(name)) for name in {*shown["sender"], *shown["receiver"]}}
        heights.append(0.7 + 0.55 * max(len(rows), 2))
    best = [row for rows in parts.values() for _, row in rows.nlargest(BESIDE, "rho").iterrows()]
    names = [f"RTG {row['reward_to_go']:g}:\n{_whole(row)}" for row in best]
    heights.append(0.7 + 0.42 * len(best))
    figure, axes = new(
        WIDTH,
        sum(heights) + 0.9,
        mosaic=[[name] for name in (*parts, "donors")],
        height_ratios=heights,
    )
    for (panel, *_), height in zip(panels, heights, strict=False):
        shown = parts[panel][parts[panel]["rho"].abs() >= THRESHOLD].head(MOST)
        least = shown["rho"].abs().min() if len(shown) == MOST else THRESHOLD
        axes[panel].set_title(f"{panel}: edges of {least:.2f} and more", fontsize=8.5)
        if len(shown):
            rows = sorted({row_of(str(n)) for n in {*shown["sender"], *shown["receiver"]}})
            _graph(axes[panel], shown, rows, (WIDTH * 0.8, height * 0.75))
        else:
            axes[panel].axis("off")
            axes[panel].text(0.5, 0.5, f"no edge restores {THRESHOLD:g}", ha="center", va="center")
    axes["donors"].set_title("the strongest beside their controls", fontsize=8.5)
    beside_donors(axes["donors"], effects, best, CELL[:4], names)
    first = [rows.loc[rows["rho"].idxmax()] for rows in parts.values() if len(rows)]
    counts = ", ".join(sorted({str(n) for n in important["n"]}))
    note = (
        f"Arrows: {RESTORED}; red: towards the source run, blue dashed: away from it; "
        f"q, k, v: input of a head. {DIRECTIONS}; n = {counts} layouts"
    )
    headline(figure, result, finding(result, edit, [(row, _whole(row)) for row in first]), note)
    return figure


def _whole(edge: pd.Series) -> str:
    """``L0H1 > L0 MLP at S1``."""
    read = f" {edge['input']}" if edge["input"] in ("q", "k", "v") else ""
    return renamed(f"{edge['sender']} > {edge['receiver']}{read} at {edge['token']}")


def _graph(axis: Axes, shown: pd.DataFrame, rows: list[float], size: Size) -> None:
    """Nodes stand at (token, step); what a head moves from one token to another is dotted."""
    order = shown.sort_values("position")
    tokens = list(dict.fromkeys(order["token"].astype(str)))
    nodes: dict[tuple[str, str], tuple[float, float]] = {}
    for token in tokens:
        here = shown[shown["token"] == token]
        names = sorted({*here["sender"], *here["receiver"]})
        for row in rows:
            level = [name for name in names if row_of(name) == row]
            for i, name in enumerate(level):
                x = tokens.index(token) + (i - (len(level) - 1) / 2) * 0.8 / max(len(level), 2)
                nodes[token, name] = (x, float(rows.index(row)))
    axis.set_xlim(-0.7, len(tokens) - 0.3)  # first: the places of labels follow from it
    axis.set_ylim(-0.5, len(rows) - 0.5)
    _moves(axis, shown, nodes)
    pairs = list(shown.groupby(["token", "sender", "receiver"], sort=False, observed=True))
    for i, ((token, sender, receiver), edges) in enumerate(pairs[::-1]):  # the strongest on top
        start, end = (nodes[str(token), str(name)] for name in (sender, receiver))
        _arrow(axis, start, end, edges, (0.38, 0.5, 0.62)[i % 3], size)
    for (_, name), (x, y) in nodes.items():
        box = {"boxstyle": "round,pad=0.2", "facecolor": WHITE, "edgecolor": SOFT}
        short = renamed(name)
        axis.text(x, y, short, ha="center", va="center", fontsize=7.5, bbox=box, zorder=5)
    axis.set_xticks(range(len(tokens)), tokens, fontsize=8)
    axis.set_yticks(range(len(rows)), [_band(row) for row in rows], fontsize=8)
    axis.tick_params(length=0)
    axis.grid(False, axis="x")
    axis.set_xlabel("token", fontsize=8)


def _band(row: float) -> str:
    if row in (0.0, np.inf):
        return "embedding" if row == 0.0 else "logits"
    layer, is_mlp = divmod(int(row) - 1, 2)
    return f"layer {layer}\n{'MLP' if is_mlp else 'attention'}"


def _moves(
    axis: Axes, shown: pd.DataFrame, nodes: dict[tuple[str, str], tuple[float, float]]
) -> None:
    """A dotted line from where a head reads keys or values to where its output is read."""
    for edge in shown[shown["input"].isin(("k", "v"))].itertuples():
        sends = shown[shown["sender"].astype(str) == str(edge.receiver)]
        for token in dict.fromkeys(sends["token"].astype(str)):
            if token != str(edge.token):
                name = str(edge.receiver)
                (x, y), (to_x, to_y) = nodes[str(edge.token), name], nodes[token, name]
                axis.plot([x, to_x], [y, to_y], ":", color=GREY, linewidth=1.4, zorder=1)


def _arrow(
    axis: Axes, start: Size, end: Size, edges: pd.DataFrame, label: float, size: Size
) -> None:
    """All edges of two components, with the shares that they restore.

    The text stands at a share ``label`` of the way so that those of several arrows stay apart.
    """
    rho = float(edges["rho"].iloc[0])  # of the strongest
    (x, y), (to_x, to_y) = start, end
    # An edge that passes other rows bows to a side, the further the more, around what lies between.
    passed = to_y - y - 1
    bow = 0.0 if passed == 0 else 0.36 + 0.03 * passed
    colour = POSITIVE if rho > 0 else NEGATIVE
    arrow = {
        "arrowstyle": "-|>",
        "color": colour,
        "linestyle": "-" if rho > 0 else "--",
        "linewidth": 0.8 + 3.2 * min(abs(rho), 1.2),
        "connectionstyle": f"arc3,rad={bow}",
        "shrinkA": 9,
        "shrinkB": 9,
        "mutation_scale": 9,
    }
    axis.annotate("", (to_x, to_y), (x, y), arrowprops=arrow, zorder=2)
    label = 0.5 if passed == 0 else label
    # On the quadratic curve that matplotlib draws: its control point stands beside the middle.
    beside = (x + to_x) / 2 + bow * (to_y - y) * _aspect(axis, size)
    above = (y + to_y) / 2 - bow * (to_x - x) / _aspect(axis, size)
    place = [
        (1 - label) ** 2 * a + 2 * label * (1 - label) * control + label**2 * b
        for a, control, b in ((x, beside, to_x), (y, above, to_y))
    ]
    text = "\n".join(_share(edge) for edge in edges.itertuples())
    box = {"boxstyle": "round,pad=0.1", "facecolor": WHITE, "edgecolor": "none", "alpha": 0.85}
    # Beside a straight arrow, which it would hide, on the outer side of its token's column.
    straight = passed == 0
    side = (-1 if x + to_x < 2 * round(x) else 1) if straight else 0
    style = {"fontsize": 7.5, "color": INK, "ha": {-1: "right", 0: "center", 1: "left"}[side]}
    away = (side * (6 + 3 * min(abs(rho), 1.2)), 0)
    axis.annotate(
        text, place, away, textcoords="offset points", bbox=box, zorder=4, va="center", **style
    )


def _share(edge: Any) -> str:
    """``.24``, or ``v .24`` where a head reads it."""
    text = f"{edge.rho:.2f}".replace("0.", ".")
    return text if edge.input in ("mlp", "logits") else f"{edge.input} {text}"


def _aspect(axis: Axes, size: Size) -> float:
    """Columns for a row's length on paper; the bow of an arrow is round on paper."""
    columns, rows = np.diff(axis.get_xlim())[0], np.diff(axis.get_ylim())[0]
    return float((size[1] / rows) / (size[0] / columns))
