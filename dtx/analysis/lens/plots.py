"""A3's figure: what each lens leaves unexplained, and how the decision builds up."""

from __future__ import annotations

from dtx.analysis.lens import Lens
from dtx.analysis.lens.compute import LOGIT, TRAINED, TUNED, UNTRAINED, Results
from dtx.figures import new
from dtx.report import Report

TARGETS = ["#d1495b", "#1d3557", "#2a9d5c", "#e9a23b"]


def draw(report: Report, results: Results, stage: Lens) -> None:
    """Write ``lens.png``."""
    if not len(results.decision):
        figure, axes = new(6.0, 3.6, mosaic=[["points"]])
        _points(axes["points"], results)
    else:
        figure, axes = new(7.0, 6.0, mosaic=[["points", "points"], ["decision", "components"]])
        _points(axes["points"], results)
        _decision(axes["decision"], results, stage)
        _components(axes["components"], results, stage)
    report.figure("lens", figure)


def _points(axis, results: Results) -> None:
    names = results.points.drop_duplicates("order").point.tolist()
    for model, style in ((TRAINED, "-"), (UNTRAINED, ":")):
        for lens, colour in ((LOGIT, "#e9a23b"), (TUNED, "#1d3557")):
            rows = results.points[(results.points.model == model) & (results.points.lens == lens)]
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
    states = int(results.points.states.iloc[0])
    axis.axhline(1, color="#7a8194", lw=1, ls="--")
    axis.text(
        len(names) - 1, 1.06, "mean policy", ha="right", va="bottom", fontsize=7, color="#7a8194"
    )
    axis.set_xticks(range(len(names)), names)
    axis.set(
        yscale="log",
        ylim=(1e-3, None),
        xlabel="residual stream after",
        ylabel="share left unexplained",
        title=f"What a lens misses of the prediction, {states:,} distinct held-out states",
    )
    axis.legend(loc="lower left")


def _decision(axis, results: Results, stage: Lens) -> None:
    table = results.decision
    names = table.drop_duplicates("order").point.tolist()
    for index, target in enumerate(stage.targets):
        for lens, style in ((LOGIT, "--"), (TUNED, "-")):
            rows = table[(table.target == target) & (table.lens == lens)]
            mean = rows.groupby("order").value.mean()
            colour = TARGETS[index % len(TARGETS)]
            axis.plot(mean.index, mean, style, color=colour, label=f"{lens}, RTG {target:g}")
            axis.fill_between(
                mean.index, rows.groupby("order").value.min(), rows.groupby("order").value.max(),
                color=colour, alpha=0.08, lw=0,
            )  # fmt: skip
    axis.axhline(0, color="#7a8194", lw=0.8)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axis.set(title="At the decision square", ylabel="logit, correct minus wrong turn")
    axis.legend(fontsize=6.5, title="band: layouts", title_fontsize=6.5)


def _components(axis, results: Results, stage: Lens) -> None:
    table = results.components
    names = table.drop_duplicates("order").point.tolist()
    width = 0.8 / len(stage.targets)
    for index, target in enumerate(stage.targets):
        rows = table[table.target == target].groupby("order").value
        place = rows.mean().index + (index - (len(stage.targets) - 1) / 2) * width
        axis.bar(
            place, rows.mean(), width, color=TARGETS[index % len(TARGETS)], label=f"RTG {target:g}"
        )
        axis.vlines(place, rows.min(), rows.max(), color="black", lw=0.8)
    axis.axhline(0, color="#7a8194", lw=0.8)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axis.set(title="Direct contributions (scale frozen)", ylabel="logit, correct minus wrong turn")
    axis.legend(fontsize=7)
