"""The strongest edges of each edit as a graph: tokens are columns, the order of computing goes upwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.patching_spec import DONOR, EDIT
from dtx.analysis.core.result import Result
from dtx.figures import new

THRESHOLD, MOST = 0.05, 16
"""Edges are drawn from this |rho| on, and at most so many: the strongest."""
INPUTS = ("q", "k", "v", "mlp", "logits")
POSITIVE, NEGATIVE, CONTROL, INK = "#2a6f97", "#d1495b", "#8d99ae", "#1b1f2a"


def graphs(result: Result) -> Iterator[tuple[str, Figure]]:
    """One figure an edit: its edges, and beside them all cells and their controls."""
    effects = result.tables["edges"]
    for edit, important in result.tables["important"].groupby("edit", sort=False):
        yield f"paths_{edit}", _figure(str(edit), important, effects)


def row_of(name: str) -> float:
    """Height of a component: the order of computing. ``embed`` 0, heads of layer 0 1, its MLP 2, ..."""
    if name in ("embed", "logits"):
        return 0.0 if name == "embed" else np.inf
    layer, part = name[1:].split()
    return 2 * int(layer) + (2 if part == "MLP" else 1)


def _figure(edit: str, important: pd.DataFrame, effects: pd.DataFrame) -> Figure:
    shown = important[important["rho"].abs() >= THRESHOLD].head(MOST)
    ends = {*shown["sender"], *shown["receiver"]}
    rows = sorted({row_of(name) for name in ends})
    height = 1.5 + 0.62 * max(len(rows), 3)
    figure, axes = new(7.0, height, mosaic=[["graph", "control"]], width_ratios=[2.5, 1])
    title = edit.replace("_", " ")
    least = shown["rho"].abs().min() if len(shown) == MOST else THRESHOLD
    axes["graph"].set_title(f"{title}: edges with |rho| from {least:.2f} on")
    if len(shown):
        _graph(axes["graph"], shown, rows)
    else:
        axes["graph"].axis("off")
        axes["graph"].text(0.5, 0.5, f"none reaches {THRESHOLD:g}", ha="center", va="center")
    _control(axes["control"], edit, effects)
    return figure


def _graph(axis: Axes, shown: pd.DataFrame, rows: list[float]) -> None:
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
        _arrow(axis, start, end, edge, (0.38, 0.5, 0.62)[i % 3])
    size = 7 if len(tokens) <= 6 else 5.5
    for (_, name), (x, y) in nodes.items():
        box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "#525a6b"}
        short = name if name in ("embed", "logits") else name.split()[1]
        axis.text(x, y, short, ha="center", va="center", fontsize=size, bbox=box, zorder=5)
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


def _arrow(
    axis: Axes, start: tuple[float, float], end: tuple[float, float], edge: Any, label: float
) -> None:
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
    beside = (x + to_x) / 2 + bow * (to_y - y) * _aspect(axis)
    above = (y + to_y) / 2 - bow * (to_x - x) / _aspect(axis)
    place = [
        (1 - label) ** 2 * a + 2 * label * (1 - label) * control + label**2 * b
        for a, control, b in ((x, beside, to_x), (y, above, to_y))
    ]
    text = f"{edge.rho:.2f}".replace("0.", ".")
    text = text if edge.input in ("mlp", "logits") else f"{edge.input} {text}"
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    style = {"fontsize": 6, "color": colour, "ha": "center", "va": "center", "zorder": 4}
    axis.text(*place, text, bbox=box, **style)


def _aspect(axis: Axes) -> float:
    """Columns for a row's length on paper; the bow of an arrow is round on paper."""
    width, height = axis.figure.get_size_inches()
    columns, rows = np.diff(axis.get_xlim())[0], np.diff(axis.get_ylim())[0]
    return float((height * 0.75 / rows) / (width * 0.55 / columns))


def _control(axis: Axes, edit: str, effects: pd.DataFrame) -> None:
    """|rho| of all cells by the receiver's kind, of the edit and of activations from other layouts."""
    rows = effects[(effects["edit"] == edit) & effects["rho"].notna()]
    single = rows[rows["position"] >= 0]
    rows = single if len(single) else rows
    inputs = [name for name in INPUTS if name in set(rows["input"])]
    rng = np.random.default_rng(0)
    for kind, colour, shift in ((EDIT, POSITIVE, 0.17), (DONOR, CONTROL, -0.17)):
        of_kind = rows[rows["kind"] == kind]
        over = of_kind.groupby(["sender", "receiver", "input", "position"], observed=True)["rho"]
        means = over.mean().abs().reset_index()
        place = means["input"].astype(str).map({name: i for i, name in enumerate(inputs)})
        up = place.astype(float) + shift + rng.uniform(-0.11, 0.11, len(means))
        axis.plot(
            means["rho"].clip(1e-4), up, ".", color=colour, markersize=4, alpha=0.6,
            markeredgewidth=0, rasterized=True,
        )  # fmt: skip
    axis.set_xscale("log")
    axis.set_xlim(0.8e-4, 3)
    axis.set_xticks([1e-4, 1e-2, 1], ["≤ .0001", ".01", "1"])
    axis.axvline(THRESHOLD, color=INK, linewidth=0.8, linestyle="--")
    axis.set_yticks(range(len(inputs)), inputs)
    axis.set_xlabel("|rho| of every edge")
    axis.set_title("grey: control,\nunrelated layout", fontsize=7.5, fontweight="normal")
