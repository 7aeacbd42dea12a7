"""D1: return against episode length, with marginals, by outcome."""

from __future__ import annotations

import numpy as np

from dtx.dataset.episodes import Episodes
from dtx.figures import OUTCOME_COLOURS, OUTCOMES, new
from dtx.report import Report


def draw(report: Report, episodes: Episodes, horizon: int) -> None:
    """Draw the scatter with marginals as PNG and as HTML."""
    returns = episodes.returns
    points = {
        name: (episodes.length[episodes.outcome == i], returns[episodes.outcome == i])
        for i, name in enumerate(OUTCOMES)
    }
    _png(report, points, horizon)
    _html(report, points, horizon)


def _counted(length: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct (length, return) points and how many episodes are at each."""
    pairs, counts = np.unique(
        np.stack([length, value.astype(np.float64)]), axis=1, return_counts=True
    )
    return pairs[0], pairs[1], counts


def _png(report: Report, points: dict, horizon: int) -> None:
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
    for name, (length, value) in points.items():
        x, y, n = _counted(length, value)
        label = f"{name}: {len(length):,}"
        scatter.scatter(
            x,
            y,
            s=6 + 22 * np.log10(n + 1),
            color=OUTCOME_COLOURS[name],
            alpha=0.75,
            lw=0,
            label=label,
        )
    scatter.set(
        xlabel="episode length (steps)", ylabel="return", xlim=(0, horizon + 1.5), ylim=(-0.06, 1.0)
    )
    scatter.legend(loc="upper right", title="area: log of episodes at a point", title_fontsize=7)
    lengths, values = [p[0] for p in points.values()], [p[1] for p in points.values()]
    colours = [OUTCOME_COLOURS[n] for n in points]
    style = {"stacked": True, "color": colours, "lw": 0}
    # One bar a possible return: 0, and a success at each step.
    step = 0.9 / horizon
    return_bins = np.append([-step, step], 0.1 + step * (np.arange(horizon + 1) - 0.5))
    axes["length"].hist(lengths, bins=np.arange(0.5, horizon + 1.5), **style)
    axes["return"].hist(values, bins=return_bins, orientation="horizontal", **style)
    axes["length"].set(
        xlim=scatter.get_xlim(),
        ylabel="episodes",
        xticklabels=[],
        title="Demonstrations by length and return",
    )
    axes["return"].set(ylim=scatter.get_ylim(), xlabel="episodes", yticklabels=[])
    for name, axis in (("length", "y"), ("return", "x")):
        axes[name].set(**{f"{axis}scale": "log"})
    report.figure("demonstrations", figure)


def _html(report: Report, points: dict, horizon: int) -> None:
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, (length, value) in points.items():
        x, y, n = _counted(length, value)
        figure.add_trace(
            go.Scatter(
                x=x, y=y, mode="markers", name=f"{name}: {len(length):,}", customdata=n,
                marker={"color": OUTCOME_COLOURS[name], "size": 5 + 5 * np.log10(n + 1)},
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
    report.page("demonstrations", figure)
