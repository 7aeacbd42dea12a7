"""The figure: the KL of each lens to the final prediction, and how the decision builds up."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.notes import controls
from dtx.analysis.core.plots import TARGET_COLOURS, headline
from dtx.analysis.core.result import Result
from dtx.analysis.lens.spec import LOGIT, TRAINED, TUNED, UNTRAINED
from dtx.dt.names import renamed
from dtx.figures import BLUE, HATCHES, INK, MARKERS, ORANGE, PHONE, SOFT, new


def draw(result: Result, targets: Sequence[float]) -> Figure:
    """One panel of all states; two more at the decision, where there is one."""
    points, decision = result.tables["points"], result.tables["decision"]
    panels = ["points", *(("decision", "components") if len(decision) else ())]
    figure, axes = new(PHONE, 0.4 + 3.1 * len(panels), mosaic=[[name] for name in panels])
    _points(axes["points"], points)
    if len(decision):
        _decision(axes["decision"], decision, targets)
        _components(axes["components"], result.tables["components"], targets)
    headline(figure, result, finding(result), controls(result))
    return figure


def finding(result: Result) -> str:
    """Where the prediction forms, in the model and in an untrained one."""
    points = result.tables["points"]
    names = _names(points)
    formed, untrained = (
        names[int(result.metrics[name] or 0)] for name in ("formed_at", "untrained_formed_at")
    )
    start = result.metrics["unexplained_at_embedding"]
    return (
        f"By the tuned lens the prediction forms at {formed} (untrained model: {untrained}); "
        f"KL at the embedding / KL of the average policy: {start:.2f}"
    )


def _names(table: pd.DataFrame) -> list[str]:
    """Points of the residual stream in their order."""
    return [renamed(point) for point in table.drop_duplicates("order").sort_values("order").point]


def _points(axis: Axes, points: pd.DataFrame) -> None:
    names = _names(points)
    for model, style in ((TRAINED, "-"), (UNTRAINED, ":")):
        for lens, colour, mark in ((LOGIT, ORANGE, "s"), (TUNED, BLUE, "o")):
            rows = points[(points.model == model) & (points.lens == lens)]
            name = lens if model == TRAINED else f"{lens}, untrained model"
            axis.plot(
                rows.order,
                rows.unexplained.clip(1e-4),
                style,
                marker=mark,
                ms=4,
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
    axis.axhline(1, color=SOFT, lw=1, ls="--", label="baseline: average policy")
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axis.set(
        yscale="log",
        ylim=(1e-3, None),
        xlabel="residual stream after",
        ylabel="KL to final prediction /\nKL of average policy",
        title=f"{states:,} distinct held-out states",
    )
    axis.legend(loc="lower left", fontsize=7.5)


def _decision(axis: Axes, table: pd.DataFrame, targets: Sequence[float]) -> None:
    names = _names(table)
    for index, target in enumerate(targets):
        for lens, style in ((LOGIT, "--"), (TUNED, "-")):
            mark = MARKERS[index % len(MARKERS)]
            rows = table[(table.target == target) & (table.lens == lens)]
            mean = rows.groupby("order").value.mean()
            colour = TARGET_COLOURS[index % len(TARGET_COLOURS)]
            axis.plot(
                mean.index,
                mean,
                style,
                marker=mark,
                ms=4,
                color=colour,
                label=f"{lens}, RTG {target:g}",
            )
            axis.fill_between(
                mean.index, rows.groupby("order").value.min(), rows.groupby("order").value.max(),
                color=colour, alpha=0.08, lw=0,
            )  # fmt: skip
    axis.axhline(0, color=SOFT, lw=0.8)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axis.set(
        title=f"At the decision: mean and range of {table.layout.nunique()} layouts",
        ylabel="logit, correct minus wrong turn",
    )
    axis.legend(fontsize=7.5)


def _components(axis: Axes, table: pd.DataFrame, targets: Sequence[float]) -> None:
    names = _names(table)
    width = 0.8 / len(targets)
    for index, target in enumerate(targets):
        rows = table[table.target == target].groupby("order").value
        place = rows.mean().index + (index - (len(targets) - 1) / 2) * width
        axis.bar(
            place,
            rows.mean(),
            width,
            color=TARGET_COLOURS[index % len(TARGET_COLOURS)],
            hatch=HATCHES[index % len(HATCHES)],
            edgecolor="white",
            label=f"RTG {target:g}",
        )
        axis.vlines(place, rows.min(), rows.max(), color=INK, lw=0.8)
    axis.axhline(0, color=SOFT, lw=0.8)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axis.set(
        title="Direct contributions: mean and range",
        ylabel="logit, correct minus wrong turn",
    )
    axis.legend(fontsize=7.5)
