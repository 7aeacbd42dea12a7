"""The strongest edges of each edit as a graph: tokens are columns, the order of computing goes upwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.donor_plots import WIDTH, beside_donors, conditions
from dtx.analysis.core.plots import title
from dtx.analysis.core.result import Result
from dtx.analysis.path_patching.found import CELL
from dtx.dt.names import MLP, part_of, renamed
from dtx.figures import new

THRESHOLD, MOST = 0.05, 10
"""Edges are drawn from this |rho| on, and at most so many: the strongest."""
BESIDE = 3
"""Edges of each reward-to-go that are drawn beside their donors."""
POSITIVE, NEGATIVE, CONTROL = "#2a6f97", "#d1495b", "#8d99ae"
Size = tuple[float, float]
"""Width and height of a panel in inches, about."""


def graphs(result: Result) -> Iterator[tuple[str, Figure]]:
    """One figure an edit: its strongest edges at each reward-to-go, and beside them their donors."""
    effects = result.tables["edges"]
    for edit, rows in result.tables["important"].groupby("edit", sort=False, observed=True):
        yield f"paths_{edit}", _figure(str(edit), rows, effects)


def row_of(name: str) -> float:
    """Height of a component: the order of computing. ``embed`` 0, heads of layer 0 1, its MLP 2, ..."""
    if name in ("embed", "logits"):
        return 0.0 if name == "embed" else np.inf
    part = part_of(name)
    assert part is not None, name
    return 2 * part.layer + (2 if part.kind == MLP else 1)


def _figure(edit: str, important: pd.DataFrame, effects: pd.DataFrame) -> Figure:
    panels = [(f"{d} {t:g}", d, t) for d, t in conditions(effects, edit)]
    parts, heights = {}, []
    for panel, direction, target in panels:
        here = (important["direction"] == direction) & (important["reward_to_go"] == target)
        parts[panel] = important[here]
        shown = parts[panel][parts[panel]["rho"].abs() >= THRESHOLD].head(MOST)
        rows = {row_of(str(name)) for name in {*shown["sender"], *shown["receiver"]}}
        heights.append(0.7 + 0.55 * max(len(rows), 2))
    best = [row for rows in parts.values() for _, row in rows.nlargest(BESIDE, "rho").iterrows()]
    names = [f"{row['reward_to_go']:g}: {_name(row)}" for row in best]
    heights.append(0.7 + 0.3 * len(best))
    figure, axes = new(
        WIDTH,
        sum(heights) + 0.9,
        mosaic=[[name] for name in (*parts, "donors")],
        height_ratios=heights,
    )
    for (panel, direction, target), height in zip(panels, heights, strict=False):
        shown = parts[panel][parts[panel]["rho"].abs() >= THRESHOLD].head(MOST)
        least = shown["rho"].abs().min() if len(shown) == MOST else THRESHOLD
        said = f"{direction}, asked for {target:g}: |rho| from {least:.2f} on"
        axes[panel].set_title(said, fontsize=8.5)
        if len(shown):
            rows = sorted({row_of(str(n)) for n in {*shown["sender"], *shown["receiver"]}})
            _graph(axes[panel], shown, rows, (WIDTH * 0.8, height * 0.75))
        else:
            axes[panel].axis("off")
            axes[panel].text(0.5, 0.5, f"none reaches {THRESHOLD:g}", ha="center", va="center")
    axes["donors"].set_title("the strongest beside donors", fontsize=8.5)
    beside_donors(axes["donors"], effects, best, CELL[:4], names)
    title(figure, edit.replace("_", " "))
    return figure


def _name(edge: pd.Series) -> str:
    read = f" {edge['input']}" if edge["input"] in ("q", "k", "v") else ""
    return f"{edge['sender']} > {edge['receiver']}{read}, {edge['token']}"


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
    for i, edge in enumerate(shown.iloc[::-1].itertuples()):  # the strongest on top
        start, end = (nodes[str(edge.token), str(name)] for name in (edge.sender, edge.receiver))
        _arrow(axis, start, end, edge, (0.38, 0.5, 0.62)[i % 3], size)
    for (_, name), (x, y) in nodes.items():
        box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "#525a6b"}
        short = renamed(name)
        axis.text(x, y, short, ha="center", va="center", fontsize=7, bbox=box, zorder=5)
    axis.set_xticks(range(len(tokens)), tokens)
    axis.set_yticks(range(len(rows)), [_band(row) for row in rows], fontsize=8)
    axis.tick_params(length=0)
    axis.grid(False, axis="x")
    axis.set_xlabel("token")


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
                axis.plot([x, to_x], [y, to_y], ":", color=CONTROL, linewidth=1.4, zorder=1)


def _arrow(axis: Axes, start: Size, end: Size, edge: Any, label: float, size: Size) -> None:
    """An edge with its rho, which stands at a share ``label`` of its way so that labels stay apart."""
    (x, y), (to_x, to_y) = start, end
    # An edge that passes other rows bows to a side, the further the more, around what lies between.
    passed = to_y - y - 1
    bow = 0.0 if passed == 0 else 0.36 + 0.03 * passed
    colour = POSITIVE if edge.rho > 0 else NEGATIVE
    arrow = {
        "arrowstyle": "-|>",
        "color": colour,
        "linewidth": 0.8 + 3.2 * min(abs(edge.rho), 1.2),
        "connectionstyle": f"arc3,rad={bow}",
        "shrinkA": 9,
        "shrinkB": 9,
        "mutation_scale": 9,
    }
    axis.annotate("", (to_x, to_y), (x, y), arrowprops=arrow, zorder=2)
    # On the quadratic curve that matplotlib draws: its control point stands beside the middle.
    beside = (x + to_x) / 2 + bow * (to_y - y) * _aspect(axis, size)
    above = (y + to_y) / 2 - bow * (to_x - x) / _aspect(axis, size)
    place = [
        (1 - label) ** 2 * a + 2 * label * (1 - label) * control + label**2 * b
        for a, control, b in ((x, beside, to_x), (y, above, to_y))
    ]
    text = f"{edge.rho:.2f}".replace("0.", ".")
    text = text if edge.input in ("mlp", "logits") else f"{edge.input} {text}"
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    style = {"fontsize": 7, "color": colour, "ha": "center", "va": "center", "zorder": 4}
    axis.text(*place, text, bbox=box, **style)


def _aspect(axis: Axes, size: Size) -> float:
    """Columns for a row's length on paper; the bow of an arrow is round on paper."""
    columns, rows = np.diff(axis.get_xlim())[0], np.diff(axis.get_ylim())[0]
    return float((size[1] / rows) / (size[0] / columns))
