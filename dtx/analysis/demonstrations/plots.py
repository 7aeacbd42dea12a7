"""Return against episode length by outcome, with the distribution of each beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dtx.analysis.core.notes import note
from dtx.analysis.core.plots import headline
from dtx.analysis.core.result import Result
from dtx.dataset.episodes import OUTCOMES
from dtx.figures import GREY, OUTCOME_COLOURS, OUTCOME_HATCHES, PHONE, SOFT, new

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure


MARKERS = {"success": "o", "wrong": "X", "truncated": "s"}


def draw(result: Result, horizon: int) -> Figure:
    """A scatter with marginals; the area of a point grows with the episodes there."""
    figure, axes = new(
        PHONE,
        4.2,
        mosaic=[["length", "."], ["scatter", "return"]],
        width_ratios=[4, 1.2],
        height_ratios=[1.2, 3],
    )
    scatter = axes["scatter"]
    steps = np.arange(1, horizon + 1)
    scatter.plot(steps, 1 - 0.9 * steps / horizon, color=GREY, lw=1, zorder=1)
    line = "line: 1 - 0.9 t / max_steps"
    scatter.text(horizon * 0.02, 0.07, line, color=SOFT, fontsize=8)
    for name, rows in _by_outcome(result):
        scatter.scatter(
            rows["length"],
            rows["return"],
            s=6 + 22 * np.log10(rows["episodes"] + 1),
            color=OUTCOME_COLOURS[name],
            marker=MARKERS[name],
            alpha=0.75,
            lw=0,
            label=f"{name}: {rows['episodes'].sum():,}",
        )
    scatter.set(
        xlabel="episode length (steps)", ylabel="return", xlim=(0, horizon + 1.5), ylim=(-0.06, 1.0)
    )
    scatter.legend(loc="upper right", title="area: log of episodes", title_fontsize=8)
    groups = [rows for _, rows in _by_outcome(result)]
    style = {
        "stacked": True,
        "color": [OUTCOME_COLOURS[name] for name in OUTCOMES],
        "hatch": [OUTCOME_HATCHES[name] for name in OUTCOMES],
        "edgecolor": "white",
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
    )
    axes["return"].set(ylim=scatter.get_ylim(), xlabel="episodes", yticklabels=[])
    for name, axis in (("length", "y"), ("return", "x")):
        axes[name].set(**{f"{axis}scale": "log"})
    audit = result.tables["audit"]
    about = note(
        "length and return of each recorded episode",
        f"{int(audit.violations.sum())} violations in {len(audit)} exact checks of returns, "
        "reward-to-go and windows",
    )
    headline(figure, result, finding(result), about)
    return figure


def finding(result: Result) -> str:
    """How many episodes there are, how many differ, and how many succeed."""
    episodes = int(result.tables["points"].episodes.sum())
    share, distinct = result.metrics["success_share"], result.metrics["unique_episodes"]
    return f"{share:.0%} of {episodes:,} demonstrations succeed; {distinct:,.0f} are distinct"


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
                marker={
                    "color": OUTCOME_COLOURS[name],
                    "symbol": {"o": "circle", "X": "x", "s": "square"}[MARKERS[name]],
                    "size": 5 + 5 * np.log10(count + 1),
                },
                hovertemplate="%{customdata:,} episodes<br>length %{x}, return %{y:.3f}",
            )
        )  # fmt: skip
    figure.update_layout(
        template="plotly_white",
        title=finding(result),
        xaxis_title="episode length (steps)",
        yaxis_title="return",
        xaxis_range=[0, horizon + 1.5],
    )
    return figure


def _by_outcome(result: Result) -> Iterator[tuple[str, pd.DataFrame]]:
    points = result.tables["points"]
    for name in OUTCOMES:
        yield name, points.loc[points["outcome"] == name]
