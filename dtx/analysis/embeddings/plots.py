"""The clustergram of channels, pairs in one cell, and principal components as maps of the view."""

from __future__ import annotations

import numpy as np

from dtx.analysis.embeddings.compute import Results
from dtx.figures import new
from dtx.report import Report


def draw(report: Report, results: Results) -> None:
    """``embeddings`` (cosines) and ``components`` (maps) as PNG, the clustergram as a page."""
    _cosines(report, results)
    _maps(report, results)
    _page(report, results)


def _cosines(report: Report, results: Results) -> None:
    figure, axes = new(7.0, 3.6, mosaic=[["cluster", "pairs"]], width_ratios=[1.15, 1])
    axis = axes["cluster"]
    order = results.order
    image = axis.imshow(results.cosine_ij[np.ix_(order, order)], cmap="RdBu_r", vmin=-0.5, vmax=0.5)
    axis.set(title="cosines of channels, clustered", xlabel="channel", ylabel="channel")
    axis.grid(False)
    figure.colorbar(image, ax=axis, shrink=0.8, extend="both")
    axis = axes["pairs"]
    bins = np.linspace(-1, 1, 41)
    cosine = results.cosine_ij[np.triu_indices(len(order), 1)]
    axis.hist(cosine, bins=bins, density=True, color="#b9bfcc", label="all pairs")
    axis.hist(
        results.pairs.cosine, bins=bins, density=True, histtype="step", lw=1.5, color="#d1495b",
        label="pairs in one cell",
    )  # fmt: skip
    axis.set(title="pairs that exclude each other", xlabel="cosine", ylabel="density", yscale="log")
    axis.set_ylim(top=30 * axis.get_ylim()[1])  # room for the legend
    axis.legend(loc="upper left")
    report.figure("embeddings", figure)


def _maps(report: Report, results: Results) -> None:
    maps, subsets = results.maps, list(dict.fromkeys(results.maps.subset))
    columns = [
        (component, channel)
        for component in sorted(maps.component.unique())
        for channel in dict.fromkeys(maps.channel)
    ]
    mosaic = [[f"{s} {c} {k}" for c, k in columns] for s in subsets]
    figure, axes = new(7.0, 0.5 + 1.95 * len(subsets), mosaic=mosaic)
    for subset in subsets:
        mine = maps[maps.subset == subset]
        share = results.components[results.components.subset == subset].set_index("component").share
        for component, channel in columns:
            axis = axes[f"{subset} {component} {channel}"]
            part = mine[(mine.component == component) & (mine.channel == channel)]
            limit = float(mine[mine.component == component].projection.abs().max() or 1.0)
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
    report.figure("components", figure)


def _page(report: Report, results: Results) -> None:
    import plotly.graph_objects as go

    order = results.order
    names = [results.names[i] for i in order]
    figure = go.Figure(
        go.Heatmap(
            z=results.cosine_ij[np.ix_(order, order)].round(3),
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
    report.page("embeddings", figure)
