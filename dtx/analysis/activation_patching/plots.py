"""Heatmaps of activation patching, a panel a direction and reward-to-go, the strongest beside controls."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from dtx.analysis.activation_patching.claims import PLACE, TIED, components
from dtx.analysis.core.donor_plots import (
    DIRECTIONS,
    RESTORED,
    WIDTH,
    WORDS,
    beside_donors,
    condition_in_words,
    conditions,
    finding,
)
from dtx.analysis.core.patching_spec import DONOR_CLEAN, DONOR_CORRUPT, EDIT, Direction
from dtx.analysis.core.plots import LINE, headline, heatmap, words
from dtx.analysis.core.result import Result
from dtx.dt.names import renamed
from dtx.figures import SIGNED, new

MOST_COLUMNS = 30
"""Tokens that have room side by side."""
TICKS = (-1, -0.5, 0, 0.5, 1)
HEADS = 4
"""Heads that are drawn: the strongest; all nodes are on the page."""
LEAST = 0.1
"""A head is drawn from this restored share on, of either sign."""
SHORT = {"resid_pre": "stream", "attn_out": "attention", "mlp_out": "MLP"}
"""Rows of the figure, by node; others are drawn only where none of these was patched."""


def heatmaps(result: Result) -> Iterator[tuple[str, Figure]]:
    """A figure an edit: mean effects over layouts in each condition, and its strongest beside controls."""
    effects = result.tables["effects"]
    for edit in effects["edit"].drop_duplicates():
        own = effects[
            (effects["edit"] == edit) & (effects["kind"] == EDIT) & effects["rho"].notna()
        ]
        if len(own):
            yield f"patching_{edit}", _figure(str(edit), result, effects, own)


def _figure(edit: str, result: Result, effects: pd.DataFrame, own: pd.DataFrame) -> Figure:
    every, tokens = conditions(effects, edit), result.arrays["tokens"].tolist()
    names = _rows(own)
    # Tokens at which nothing happens anywhere, most of all padding, would only make it wide.
    moved = own.groupby("position")["rho"].apply(lambda rho: rho.abs().max() > 0.005)
    shown = [i for i in range(len(tokens)) if moved.get(i, False)] or list(range(len(tokens)))
    targets = list(dict.fromkeys(target for _, target in every))
    directions = list(dict.fromkeys(direction for direction, _ in every))
    # Directions stand side by side as long as their tokens can be read.
    columns = len(directions) if len(shown) * len(directions) <= MOST_COLUMNS else 1
    panels = [[f"{d} {t:g}" for d in directions] for t in targets]
    if columns == 1:
        panels = [[name] for row in panels for name in row]
    heights = [0.75 + 0.17 * len(names)] * len(panels) + [0.9 + 0.42 * len(every)]
    figure, axes = new(
        WIDTH,
        sum(heights) + 0.9,
        mosaic=[*panels, ["donors"] * columns],
        height_ratios=heights,
        empty_sentinel="",
    )
    best = []
    for direction, target in every:
        axis = axes[f"{direction} {target:g}"]
        here = own[(own["direction"] == direction) & (own["reward_to_go"] == target)]
        image = _heatmap(axis, here, names, shown, tokens)
        pairs = int(here["pairs"].max())
        said = f"{condition_in_words(direction, target)}\n{pairs} pairs"
        axis.set_title(said, fontsize=8)
        if columns > 1 and direction != directions[0]:
            axis.tick_params(labelleft=False)
        parts = components(here)
        tied = parts[parts["rho"] > parts["rho"].max() - TIED]
        best += [
            (row, f"{_label(row['name'])} at {row['token']}") for _, row in tied.head(1).iterrows()
        ]
        axis.set_xlabel("token patched", fontsize=7.5)
    drawn = [axes[f"{direction} {target:g}"] for direction, target in every]
    bar = figure.colorbar(
        image, ax=drawn, location="bottom", shrink=0.7, pad=0.01, aspect=35, ticks=TICKS
    )
    bar.set_label(f"{RESTORED}, mean over layouts", fontsize=7.5)
    bar.ax.tick_params(labelsize=7.5)
    lines = [
        f"{condition_in_words(row['direction'], row['reward_to_go'])}:\n{place}"
        for row, place in best
    ]
    axes["donors"].set_title("the strongest beside its control", fontsize=8.5)
    beside_donors(axes["donors"], effects, [row for row, _ in best], PLACE, lines)
    rest = len(own["name"].drop_duplicates()) - len(names)
    note = f"Red: towards the source run; layers' parts and the strongest heads ({rest} more on the page)"
    counts = ", ".join(sorted({str(n) for n in own["n"]}))
    headline(
        figure, result, finding(result, edit, best), f"{note}; {DIRECTIONS}; n = {counts} layouts"
    )
    return figure


def _rows(own: pd.DataFrame) -> list[str]:
    """Names of the nodes that are drawn: parts of layers, and the strongest heads."""
    nodes = own.drop_duplicates("name")
    size = own.groupby("name")["rho"].apply(lambda rho: rho.abs().max())
    heads = nodes[nodes["head"] >= 0]["name"]
    strong = size[heads].sort_values(ascending=False)
    strong = set(strong[strong >= LEAST].index[:HEADS])
    parts = set(nodes[nodes["node"].isin(SHORT)]["name"]) or set(nodes[nodes["head"] < 0]["name"])
    kept = nodes[nodes["name"].isin(parts | strong)]
    return (kept if len(kept) else nodes.head(HEADS))["name"].tolist()


def _label(name: str) -> str:
    """``L0 attention``, ``L1H4``, ``L1H4 q``."""
    name = renamed(name).removesuffix(" z")
    for node, word in SHORT.items():
        name = name.replace(node, word)
    return name


def _heatmap(
    axis: Axes, rows: pd.DataFrame, names: list[str], shown: list[int], tokens: list[str]
) -> AxesImage:
    table = rows.pivot(index="name", columns="position", values="rho")
    grid = table.reindex(index=names, columns=shown)
    labels = [_label(name) for name in names]
    image = heatmap(axis, grid, labels, [tokens[i] for i in shown], limit=1)
    layers = [label[:2] for label in labels]
    for i in range(1, len(names)):
        if layers[i] != layers[i - 1]:
            axis.axhline(i - 0.5, color=LINE, linewidth=0.8)
    return image


def page(result: Result) -> go.Figure:
    """All effects to look through: choose edit and reward-to-go, point at a cell for its interval."""
    effects, tokens = result.tables["effects"], result.arrays["tokens"].tolist()
    names = list(dict.fromkeys(effects["name"]))
    labels = [_label(name) for name in names]
    bar = {"title": {"text": RESTORED, "side": "right"}}
    figure, titles = go.Figure(), []
    known = effects[effects["rho"].notna()]
    for key, rows in known.groupby(["edit", "reward_to_go", "direction"], sort=False):
        edit, target, direction = key  # type: ignore[misc]
        for kind in (EDIT, DONOR_CLEAN, DONOR_CORRUPT):
            of_kind = rows[rows["kind"] == kind]
            if not len(of_kind):
                continue
            restored = _grid(of_kind, "rho", names, tokens)
            beside = [_grid(of_kind, column, names, tokens) for column in ("low", "high", "n")]
            figure.add_heatmap(
                z=restored, x=tokens, y=labels, customdata=np.stack(beside, -1), zmin=-1, zmax=1,
                colorscale=SIGNED, colorbar=bar, visible=not titles,
                hovertemplate="%{y} at %{x}: restored %{z:.3f}<br>[%{customdata[0]:.3f}, "
                "%{customdata[1]:.3f}], t over %{customdata[2]:.0f} layouts<extra></extra>",
            )  # fmt: skip
            titles.append(
                f"{words(edit)}, {condition_in_words(str(direction), target)}: {_words(kind, str(direction))}"
            )
    buttons = [
        {
            "label": title,
            "method": "update",
            "args": [{"visible": [i == shown for i in range(len(titles))]}],
        }
        for shown, title in enumerate(titles)
    ]
    figure.update_layout(
        title=None
        if titles
        else "Nothing to show: an edit changes the logit difference by less than min_ld_gap",
        height=160 + 14 * len(names),
        margin={"t": 90, "l": 110, "r": 20},
        yaxis={"autorange": "reversed", "dtick": 1, "tickfont": {"size": 9}},
        xaxis={"side": "top"},
    )
    if buttons:
        figure.update_layout(updatemenus=[{"buttons": buttons, "x": 0, "y": 1.0, "yanchor": "bottom",
                                           "pad": {"b": 28}, "xanchor": "left"}])  # fmt: skip
    return figure


def _words(kind: str, direction: str) -> str:
    return WORDS[
        None if kind == EDIT else Direction(direction).expected(kind.removeprefix("donor_"))
    ]


def _grid(effects: pd.DataFrame, column: str, names: list[str], tokens: list[str]) -> np.ndarray:
    """A row a name and a column a token; each has one effect in a condition."""
    table = effects.pivot(index="name", columns="token", values=column)
    return table.reindex(index=names, columns=tokens).to_numpy(dtype=float)
