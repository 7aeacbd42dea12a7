"""Heatmaps of activation patching, a panel a direction and reward-to-go, and the strongest beside donors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.activation_patching.claims import PLACE, TIED, components
from dtx.analysis.core.donor_plots import WIDTH, beside_donors, conditions
from dtx.analysis.core.patching_spec import DONOR_CLEAN, DONOR_CORRUPT, EDIT, Direction
from dtx.analysis.core.plots import title
from dtx.analysis.core.result import Result
from dtx.figures import new

HEADS = 4
"""Heads that are drawn: the strongest; all nodes are on the page."""
LEAST = 0.1
"""A head is drawn from this |rho| on."""
SHORT = {"resid_pre": "stream", "attn_out": "attention", "mlp_out": "MLP"}
"""Rows of the figure, by node; others are drawn only where none of these was patched."""


def heatmaps(result: Result) -> Iterator[tuple[str, Figure]]:
    """A figure an edit: mean rho over layouts in each condition, and its strongest places beside donors."""
    effects = result.tables["effects"]
    for edit in effects["edit"].drop_duplicates():
        own = effects[
            (effects["edit"] == edit) & (effects["kind"] == EDIT) & effects["rho"].notna()
        ]
        if len(own):
            yield (
                f"patching_{edit}",
                _figure(str(edit), effects, own, result.arrays["tokens"].tolist()),
            )


def _figure(edit: str, effects: pd.DataFrame, own: pd.DataFrame, tokens: list[str]) -> Figure:
    every = conditions(effects, edit)
    names, labels = _rows(own)
    # Tokens at which nothing happens anywhere, most of all padding, would only make it wide.
    moved = own.groupby("position")["rho"].apply(lambda rho: rho.abs().max() > 0.005)
    shown = [i for i in range(len(tokens)) if moved.get(i, False)] or list(range(len(tokens)))
    panels = [f"{direction} {target:g}" for direction, target in every]
    heights = [0.6 + 0.17 * len(names)] * len(panels) + [0.9 + 0.42 * len(panels)]
    figure, axes = new(
        WIDTH,
        sum(heights) + 0.4,
        mosaic=[[name] for name in (*panels, "donors")],
        height_ratios=heights,
    )
    best = []
    for (direction, target), panel in zip(every, panels, strict=True):
        here = own[(own["direction"] == direction) & (own["reward_to_go"] == target)]
        image = _heatmap(axes[panel], here, names, labels, shown, tokens)
        pairs = int(here["pairs"].max())
        axes[panel].set_title(f"{direction}, asked for {target:g} ({pairs} pairs)", fontsize=8.5)
        parts = components(here)
        tied = parts[parts["rho"] > parts["rho"].max() - TIED]
        best += [row for _, row in tied.head(1).iterrows()]
    bar = figure.colorbar(image, ax=[axes[panel] for panel in panels], shrink=0.7, pad=0.02)
    bar.set_label("rho, mean over layouts", fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
    said = [
        f"{row['direction']}, {row['reward_to_go']:g}:\n{row['name']} at {row['token']}"
        for row in best
    ]
    axes["donors"].set_title("the strongest beside donors", fontsize=8.5)
    beside_donors(axes["donors"], effects, best, PLACE, said)
    title(figure, edit.replace("_", " "))
    return figure


def _rows(own: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Names of the nodes that are drawn, and their labels: parts of layers, and the strongest heads."""
    nodes = own.drop_duplicates("name")
    size = own.groupby("name")["rho"].apply(lambda rho: rho.abs().max())
    heads = nodes[nodes["head"] >= 0]["name"]
    strong = size[heads].sort_values(ascending=False)
    strong = set(strong[strong >= LEAST].index[:HEADS])
    parts = set(nodes[nodes["node"].isin(SHORT)]["name"]) or set(nodes[nodes["head"] < 0]["name"])
    kept = nodes[nodes["name"].isin(parts | strong)]
    kept = kept if len(kept) else nodes.head(HEADS)
    labels = [_label(row) for row in kept.to_dict("records")]
    return kept["name"].tolist(), labels


def _label(row: dict) -> str:
    if row["head"] >= 0:
        return str(row["name"])
    return f"L{row['layer']} {SHORT.get(row['node'], row['node'])}"


def _heatmap(axis: Axes, rows: pd.DataFrame, names: list[str], labels: list[str], shown: list[int],
             tokens: list[str]):  # fmt: skip
    grid = np.full((len(names), len(shown)), np.nan)
    for name, position, rho in rows[["name", "position", "rho"]].itertuples(index=False):
        if name in names and position in shown:
            grid[names.index(name), shown.index(position)] = rho
    image = axis.imshow(grid, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    axis.grid(False)
    axis.set_xticks(range(len(shown)), [tokens[i] for i in shown], fontsize=7.5, rotation=90)
    axis.set_yticks(range(len(labels)), labels, fontsize=7.5)
    layers = [name.split()[0] for name in names]
    for i in range(1, len(names)):
        if layers[i] != layers[i - 1]:
            axis.axhline(i - 0.5, color="#333", linewidth=0.8)
    return image


def page(result: Result) -> go.Figure:
    """All effects to look through: choose edit and reward-to-go, point at a cell for its interval."""
    effects, tokens = result.tables["effects"], result.arrays["tokens"].tolist()
    names = list(dict.fromkeys(effects["name"]))
    figure, titles = go.Figure(), []
    known = effects[effects["rho"].notna()]
    for key, rows in known.groupby(["edit", "reward_to_go", "direction"], sort=False):
        edit, target, direction = key  # type: ignore[misc]
        for kind in (EDIT, DONOR_CLEAN, DONOR_CORRUPT):
            of_kind = rows[rows["kind"] == kind]
            if not len(of_kind):
                continue
            rho = _grid(of_kind, "rho", names, tokens)
            beside = [_grid(of_kind, column, names, tokens) for column in ("low", "high", "n")]
            figure.add_heatmap(
                z=rho, x=tokens, y=names, customdata=np.stack(beside, -1), zmin=-1, zmax=1,
                colorscale="RdBu", colorbar={"title": "rho"}, visible=not titles,
                hovertemplate="%{y} at %{x}: rho %{z:.3f}<br>[%{customdata[0]:.3f}, %{customdata[1]:.3f}], "
                "t over %{customdata[2]:.0f} layouts<extra></extra>",
            )  # fmt: skip
            titles.append(f"{edit}, asked for {target:g}, {direction}: {_words(kind, direction)}")
    buttons = [
        {
            "label": title,
            "method": "update",
            "args": [{"visible": [i == shown for i in range(len(titles))]}],
        }
        for shown, title in enumerate(titles)
    ]
    figure.update_layout(
        title=None if titles else "the two runs of no pair differ enough (min_ld_gap)",
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
    if kind == EDIT:
        return "the edit"
    like = kind.removeprefix("donor_")
    return f"another world with the {like} run's answer (expected {Direction(direction).expected(like)})"


def _grid(effects: pd.DataFrame, column: str, names: list[str], tokens: list[str]) -> np.ndarray:
    """A row a name and a column a token; each has one effect in a condition."""
    table = effects.pivot(index="name", columns="token", values=column)
    return table.reindex(index=names, columns=tokens).to_numpy(dtype=float)
