"""The figures: the clustergram, pairs in one cell, and principal components as maps of the view."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from dtx.analysis.core.notes import controls, note
from dtx.analysis.core.plots import headline, limit_of
from dtx.analysis.core.result import Result
from dtx.figures import BLUE, GREY, INK, PHONE, SIGNED, new


def cosines(result: Result) -> Figure:
    """Cosines of all channels, clustered, and those of pairs in one cell."""
    cosine_ij, order = result.arrays["cosine"], result.arrays["order"]
    figure, axes = new(PHONE, 6.0, mosaic=[["cluster"], ["pairs"]], height_ratios=[1.6, 1])
    axis = axes["cluster"]
    all_pairs = cosine_ij[np.triu_indices(len(order), 1)]
    limit = float(np.quantile(np.abs(all_pairs), 0.999))
    image = axis.imshow(cosine_ij[np.ix_(order, order)], cmap=SIGNED, vmin=-limit, vmax=limit)
    axis.set(title="Cosines of channels, clustered", xlabel="channel", ylabel="channel")
    axis.grid(False)
    figure.colorbar(image, ax=axis, shrink=0.8, extend="both", label="cosine")
    axis = axes["pairs"]
    bins = np.linspace(-1, 1, 41)
    axis.hist(all_pairs, bins=bins, density=True, color=GREY, label="all pairs")
    axis.hist(
        result.tables["pairs"].cosine, bins=bins, density=True, histtype="step", lw=1.5, color=BLUE,
        label="pairs in one cell",
    )  # fmt: skip
    axis.set(
        title="Channels of one cell exclude each other",
        xlabel="cosine",
        ylabel="density",
        yscale="log",
    )
    axis.set_ylim(top=30 * axis.get_ylim()[1])  # room for the legend
    axis.legend(loc="upper left")
    headline(figure, result, antipodal(result), note(
        f"{len(order)} channels that occur in the demonstrations",
        f"{len(result.tables['pairs']):,} pairs in one cell", controls(result),
    ))  # fmt: skip
    return figure


def antipodal(result: Result) -> str:
    """How many pairs of channels in one cell point in opposite directions."""
    count = int(result.metrics["antipodal_pairs"] or 0)
    chance = int(result.metrics["antipodal_random_95"] or 0)
    return (
        f"{count} of {len(result.tables['pairs'])} pairs of channels in one cell point in opposite "
        f"directions (random Gaussian embeddings: at most {chance})"
    )


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
    figure, axes = new(PHONE, 0.9 + 1.55 * len(subsets), mosaic=mosaic)
    for subset in subsets:
        rows = table[table.subset == subset]
        share = components[components.subset == subset].set_index("component").share
        for component, channel in columns:
            axis = axes[f"{subset} {component} {channel}"]
            limit = limit_of(rows[rows.component == component].projection)
            part = rows[(rows.component == component) & (rows.channel == channel)]
            grid = np.full((7, 7), np.nan)
            grid[part.row, part.column] = part.projection / limit
            image = axis.imshow(np.ma.masked_invalid(grid), cmap=SIGNED, vmin=-1, vmax=1)
            axis.set_xticks([0, 3, 6])
            axis.set_yticks([0, 3, 6])
            axis.tick_params(labelsize=7)
            axis.plot(3, 6, marker="^", color=INK, ms=5)
            axis.set_title(f"{channel}\nPC{component}, {share[component]:.0%}", fontsize=8)
            axis.grid(False)
        axes[f"{subset} {columns[0][0]} {columns[0][1]}"].set_ylabel(
            f"{subset}\nrow of the view", fontsize=8
        )
    for component, channel in columns:
        axes[f"{subsets[-1]} {component} {channel}"].set_xlabel("column", fontsize=8)
    figure.colorbar(
        image, ax=list(axes.values()), location="bottom", shrink=0.7, aspect=35,
        label="projection on the component / its largest",
    )  # fmt: skip
    parts = []
    for subset in subsets:
        share, chance = (result.metrics[f"{subset}_{name}"] for name in ("pc12", "random_95"))
        parts.append(f"{subset} {share:.0%} (random subsets {chance:.0%})")
    headline(figure, result, f"Variance explained by PC1 and PC2: {', '.join(parts)}", note(
        "7x7 view, triangle: the agent; opposite colours of two channels at a cell: the component "
        "separates them there; white: does not occur",
        "in brackets: 95% of random subsets as large",
    ))  # fmt: skip
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
            colorscale=SIGNED,
            zmid=0,
            zmin=-1,
            zmax=1,
            colorbar={"title": "cosine"},
            hovertemplate="%{y}<br>%{x}<br>cosine %{z:.2f}<extra></extra>",
        )
    )
    figure.update_layout(
        template="plotly_white",
        title=antipodal(result),
        yaxis={"autorange": "reversed", "scaleanchor": "x"},
        height=900,
    )
    return figure
