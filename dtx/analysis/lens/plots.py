"""The figure: what each lens leaves unexplained, and how the decision builds up."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.plots import TARGET_COLOURS
from dtx.analysis.core.result import Result
from dtx.analysis.lens.spec import LOGIT, TRAINED, TUNED, UNTRAINED
from dtx.figures import new


def draw(result: Result, targets: Sequence[float]) -> Figure:
    """One panel of all states; two more at the decision, where there is one."""
    points, decision = result.tables["points"], result.tables["decision"]
    if not len(decision):
        figure, axes = new(6.0, 3.6, mosaic=[["points"]])
        _points(axes["points"], points)
        return figure
    figure, axes = new(7.0, 6.0, mosaic=[["points", "points"], ["decision", "components"]])
    _points(axes["points"], points)
    _decision(axes["decision"], decision, targets)
    _components(axes["components"], result.tables["components"], targets)
    return figure


def _points(axis: Axes, points: pd.DataFrame) -> None:
    names = points.drop_duplicates("order").point.tolist()
    for model, style in ((TRAINED, "-"), (UNTRAINED, ":")):
        for lens, colour in ((LOGIT, "#e9a23b"), (TUNED, "#1d3557")):
            rows = points[(points.model == model) & (points.lens == lens)]
            name = lens if model == TRAINED else f"{lens}, untrained model"
            axis.plot(
                rows.order,
                rows.unexplained.clip(1e-4),
                style,
                marker="o",
                ms=3.5,
                color=colour,
                label=name,
            )
            if model == TRAINED:
                scale = (rows.unexplained / rows.kl).iloc[0]
                axis.fill_between(
                    rows.order, (rows.kl_low * scale).clip(1e-4), (rows.kl_high * scale).clip(1e-4),
                    color=colour, alpha=0.2, lw=0,
                )  # fmt: skip
    states = int(points.states.iloc[0])
    axis.axhline(1, color="#7a8194", lw=1, ls="--")
    axis.text(
        len(names) - 1,
        1.06,
        "baseline: average policy",
        ha="right",
        va="bottom",
        fontsize=7,
        color="#7a8194",
    )
    axis.set_xticks(range(len(names)), names)
    axis.set(
        yscale="log",
        ylim=(1e-3, None),
        xlabel="residual stream after",
        ylabel="KL to final prediction / KL of average policy",
        title=f"What a lens misses of the prediction, {states:,} distinct held-out states",
    )
    axis.legend(loc="lower left")


def _decision(axis: Axes, table: pd.DataFrame, targets: Sequence[float]) -> None:
    names = table.drop_duplicates("order").point.tolist()
    for index, target in enumerate(targets):
        for lens, style in ((LOGIT, "--"), (TUNED, "-")):
            rows = table[(table.target == target) & (table.lens == lens)]
            mean = rows.groupby("order").value.mean()
            colour = TARGET_COLOURS[index % len(TARGET_COLOURS)]
            axis.plot(mean.index, mean, style, color=colour, label=f"{lens}, RTG {target:g}")
            axis.fill_between(
                mean.index, rows.groupby("order").value.min(), rows.groupby("order").value.max(),
                color=colour, alpha=0.08, lw=0,
            )  # fmt: skip
    axis.axhline(0, color="#7a8194", lw=0.8)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axis.set(title="At the decision square", ylabel="logit, correct minus wrong turn")
    axis.legend(fontsize=6.5, title="band: layouts", title_fontsize=6.5)


def _components(axis: Axes, table: pd.DataFrame, targets: Sequence[float]) -> None:
    names = table.drop_duplicates("order").point.tolist()
    width = 0.8 / len(targets)
    for index, target in enumerate(targets):
        rows = table[table.target == target].groupby("order").value
        place = rows.mean().index + (index - (len(targets) - 1) / 2) * width
        axis.bar(
            place,
            rows.mean(),
            width,
            color=TARGET_COLOURS[index % len(TARGET_COLOURS)],
            label=f"RTG {target:g}",
        )
        axis.vlines(place, rows.min(), rows.max(), color="black", lw=0.8)
    axis.axhline(0, color="#7a8194", lw=0.8)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axis.set(title="Direct contributions (scale frozen)", ylabel="logit, correct minus wrong turn")
    axis.legend(fontsize=7)
