"""Return against episode length by outcome, with the distribution of each beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dtx.analysis.core.result import Result
from dtx.dataset.episodes import OUTCOMES
from dtx.figures import OUTCOME_COLOURS, new

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure


def draw(result: Result, horizon: int) -> Figure:
    """A scatter with marginals; the area of a point grows with the episodes there."""
    figure, axes = new(
        6.6,
        4.6,
        mosaic=[["length", "."], ["scatter", "return"]],
        width_ratios=[4, 1.2],
        height_ratios=[1.2, 3],
    )
    scatter = axes["scatter"]
    steps = np.arange(1, horizon + 1)
    scatter.plot(steps, 1 - 0.9 * steps / horizon, color="#c9ced8", lw=1, zorder=1)
    scatter.text(horizon * 0.62, 0.54, "1 - 0.9 t / max_steps", color="#7a8194", fontsize=8)
    for name, rows in _by_outcome(result):
        scatter.scatter(
            rows["length"],
            rows["return"],
            s=6 + 22 * np.log10(rows["episodes"] + 1),
            color=OUTCOME_COLOURS[name],
            alpha=0.75,
            lw=0,
            label=f"{name}: {rows['episodes'].sum():,}",
        )
    scatter.set(
        xlabel="episode length (steps)", ylabel="return", xlim=(0, horizon + 1.5), ylim=(-0.06, 1.0)
    )
    scatter.legend(loc="upper right", title="area: log of episodes at a point", title_fontsize=7)
    groups = [rows for _, rows in _by_outcome(result)]
    style = {
        "stacked": True,
        "color": [OUTCOME_COLOURS[name] for name in OUTCOMES],
        "lw": 0,
        "weights": [rows["episodes"] for rows in groups],
    }
    # One bar a possible return: 0, and a success at each step.
    step = 0.9 / horizon
    return_bins = np.append([-step, step], 0.1 + step * (np.arange(horizon + 1) - 0.5))
    lengths = [rows["length"] for rows in groups]
    returns = [rows["return"] for rows in groups]
    axes["length"].hist(lengths, bins=np.arange(0.5, horizon + 1.5), **style)
    axes["return"].hist(returns, bins=return_bins, orientation="horizontal", **style)
    axes["length"].set(
        xlim=scatter.get_xlim(),
        ylabel="episodes",
        xticklabels=[],
        title="Demonstrations by length and return",
    )
    axes["return"].set(ylim=scatter.get_ylim(), xlabel="episodes", yticklabels=[])
    for name, axis in (("length", "y"), ("return", "x")):
        axes[name].set(**{f"{axis}scale": "log"})
    return figure


def page(result: Result, horizon: int) -> PlotlyFigure:
    """The scatter, with the numbers of a point on hovering."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, rows in _by_outcome(result):
        count = rows["episodes"]
        figure.add_trace(
            go.Scatter(
                x=rows["length"], y=rows["return"], mode="markers",
                name=f"{name}: {count.sum():,}", customdata=count,
                marker={"color": OUTCOME_COLOURS[name], "size": 5 + 5 * np.log10(count + 1)},
                hovertemplate="%{customdata:,} episodes<br>length %{x}, return %{y:.3f}",
            )
        )  # fmt: skip
    figure.update_layout(
        template="plotly_white",
        title="Demonstrations by length and return",
        xaxis_title="episode length (steps)",
        yaxis_title="return",
        xaxis_range=[0, horizon + 1.5],
    )
    return figure


def _by_outcome(result: Result) -> Iterator[tuple[str, pd.DataFrame]]:
    points = result.tables["points"]
    for name in OUTCOMES:
        yield name, points.loc[points["outcome"] == name]
