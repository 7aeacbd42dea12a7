"""Heatmaps of activation patching: nodes against tokens, the edit beside its control."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from dtx.analysis.core.patching_spec import DONOR, EDIT
from dtx.analysis.core.result import Result
from dtx.figures import new


def heatmaps(result: Result) -> Iterator[tuple[str, Figure]]:
    """A figure an edit: mean rho over its pairs, beside that with activations from other layouts."""
    patches, tokens = result.tables["patches"], result.arrays["tokens"].tolist()
    for edit in patches["edit"].drop_duplicates():
        rows = patches[(patches["edit"] == edit) & patches["rho"].notna()]
        if EDIT in set(rows["kind"]):
            yield f"patching_{edit}", _heatmap(edit, rows, tokens)


def _heatmap(edit: str, patches: pd.DataFrame, tokens: list[str]) -> Figure:
    own = patches[patches["kind"] == EDIT]
    names = list(dict.fromkeys(own["name"]))
    # Tokens at which nothing happens anywhere, most of all padding, would only make it wide.
    moved = own.groupby("position")["rho"].apply(lambda rho: rho.abs().max() > 1e-3)
    shown = [i for i in range(len(tokens)) if moved.get(i, False)] or list(range(len(tokens)))
    height = 1.3 + 0.145 * len(names)
    figure, axes = new(7.0, height, mosaic=[["edit", "control"]], width_ratios=[1, 1])
    titles = {"edit": edit.replace("_", " "), "control": "control: unrelated layout"}
    kinds = {"edit": EDIT, "control": DONOR}
    for place, axis in axes.items():
        rows = patches[patches["kind"] == kinds[place]]
        grid = np.full((len(names), len(shown)), np.nan)
        for (name, position), rho in rows.groupby(["name", "position"])["rho"].mean().items():  # type: ignore[misc]
            if position in shown:
                grid[names.index(name), shown.index(position)] = rho
        image = axis.imshow(grid, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
        axis.grid(False)
        axis.set_title(titles[place])
        size = 7 if len(shown) <= 14 else 5
        axis.set_xticks(range(len(shown)), [tokens[i] for i in shown], fontsize=size, rotation=90)
        labels = names if place == "edit" else []
        axis.set_yticks(range(len(labels)), labels, fontsize=6)
        layers = [name.split()[0] for name in names]
        for i in range(1, len(names)):
            if layers[i] != layers[i - 1]:
                axis.axhline(i - 0.5, color="#333", linewidth=0.8)
    pairs = own["pair"].nunique()
    bar = figure.colorbar(image, ax=list(axes.values()), shrink=0.6)
    bar.set_label(f"restored logit difference, mean of {pairs} pairs")
    return figure


def page(result: Result) -> go.Figure:
    """All effects to look through: choose edit and reward-to-go, point at a cell for its interval."""
    effects, tokens = result.tables["effects"], result.arrays["tokens"].tolist()
    kinds = {EDIT: "the edit", DONOR: "control: activations from unrelated layouts"}
    names = list(dict.fromkeys(effects["name"]))
    figure, titles = go.Figure(), []
    known = effects[effects["rho"].notna()]
    for key, rows in known.groupby(["edit", "reward_to_go"], sort=False):
        edit, target = key  # type: ignore[misc]
        for kind, words in kinds.items():
            of_kind = rows[rows["kind"] == kind]
            if not len(of_kind):
                continue
            rho = _grid(of_kind, "rho", names, tokens)
            beside = [_grid(of_kind, column, names, tokens) for column in ("low", "high", "pairs")]
            figure.add_heatmap(
                z=rho, x=tokens, y=names, customdata=np.stack(beside, -1), zmin=-1, zmax=1,
                colorscale="RdBu", colorbar={"title": "rho"}, visible=not titles,
                hovertemplate="%{y} at %{x}: rho %{z:.3f}<br>[%{customdata[0]:.3f}, %{customdata[1]:.3f}], "
                "%{customdata[2]:.0f} pairs<extra></extra>",
            )  # fmt: skip
            titles.append(f"{edit}, asked for {target:g}: {words}")
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


def _grid(effects: pd.DataFrame, column: str, names: list[str], tokens: list[str]) -> np.ndarray:
    table = effects.pivot_table(index="name", columns="token", values=column, aggfunc="mean")
    return table.reindex(index=names, columns=tokens).to_numpy()
