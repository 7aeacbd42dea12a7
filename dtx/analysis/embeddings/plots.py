"""The figures: the clustergram, pairs in one cell, and principal components as maps of the view."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from dtx.analysis.core.plots import limit_of
from dtx.analysis.core.result import Result
from dtx.figures import new


def cosines(result: Result) -> Figure:
    """Cosines of all channels, clustered, and those of pairs in one cell."""
    cosine_ij, order = result.arrays["cosine"], result.arrays["order"]
    figure, axes = new(7.0, 3.6, mosaic=[["cluster", "pairs"]], width_ratios=[1.15, 1])
    axis = axes["cluster"]
    image = axis.imshow(cosine_ij[np.ix_(order, order)], cmap="RdBu_r", vmin=-0.5, vmax=0.5)
    axis.set(title="cosines of channels, clustered", xlabel="channel", ylabel="channel")
    axis.grid(False)
    figure.colorbar(image, ax=axis, shrink=0.8, extend="both")
    axis = axes["pairs"]
    bins = np.linspace(-1, 1, 41)
    all_pairs = cosine_ij[np.triu_indices(len(order), 1)]
    axis.hist(all_pairs, bins=bins, density=True, color="#b9bfcc", label="all pairs")
    axis.hist(
        result.tables["pairs"].cosine, bins=bins, density=True, histtype="step", lw=1.5, color="#d1495b",
        label="pairs in one cell",
    )  # fmt: skip
    axis.set(title="pairs that exclude each other", xlabel="cosine", ylabel="density", yscale="log")
    axis.set_ylim(top=30 * axis.get_ylim()[1])  # room for the legend
    axis.legend(loc="upper left")
    return figure


def maps(result: Result) -> Figure:
    """The first two principal components of each subset, as maps of the view."""
    table, components = result.tables["maps"], result.tables["components"]
    subsets = list(dict.fromkeys(table.subset))
    columns = [
        (component, channel)
        for component in sorted(table.component.unique())
        for channel in dict.fromkeys(table.channel)
    ]
    mosaic = [[f"{s} {c} {k}" for c, k in columns] for s in subsets]
    figure, axes = new(7.0, 0.5 + 1.95 * len(subsets), mosaic=mosaic)
    for subset in subsets:
        rows = table[table.subset == subset]
        share = components[components.subset == subset].set_index("component").share
        for component, channel in columns:
            axis = axes[f"{subset} {component} {channel}"]
            part = rows[(rows.component == component) & (rows.channel == channel)]
            limit = limit_of(rows[rows.component == component].projection)
            grid = np.full((7, 7), np.nan)
            grid[part.row, part.column] = part.projection
            axis.imshow(np.ma.masked_invalid(grid), cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set_xticks([0, 3, 6])
            axis.set_yticks([0, 3, 6])
            axis.tick_params(labelsize=7)
            axis.plot(3, 6, marker="^", color="#333", ms=4)
            axis.set_title(f"{channel}, PC{component} ({share[component]:.0%})", fontsize=8)
            axis.grid(False)
        axes[f"{subset} {columns[0][0]} {columns[0][1]}"].set_ylabel(subset, fontweight="bold")
    return figure


def page(result: Result) -> go.Figure:
    """The clustergram, with names."""
    cosine_ij, order = result.arrays["cosine"], result.arrays["order"]
    norms = result.tables["norms"]
    names = norms[norms.kind == "state"].name.to_numpy()[order].tolist()
    figure = go.Figure(
        go.Heatmap(
            z=cosine_ij[np.ix_(order, order)].round(3),
            x=names,
            y=names,
            colorscale="RdBu_r",
            zmin=-1,
            zmax=1,
            hovertemplate="%{y}<br>%{x}<br>cosine %{z:.2f}<extra></extra>",
        )
    )
    figure.update_layout(
        template="plotly_white",
        title="Cosines of the state embedding's channels, clustered",
        yaxis={"autorange": "reversed", "scaleanchor": "x"},
        height=900,
    )
    return figure
