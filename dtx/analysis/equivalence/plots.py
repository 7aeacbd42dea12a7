"""The figure: the largest change of a logit by rewriting, on a logarithmic axis with the tolerance."""

from __future__ import annotations

from matplotlib.figure import Figure

from dtx.analysis.core.notes import controls, note
from dtx.analysis.core.plots import headline
from dtx.analysis.core.result import Result
from dtx.figures import BLUE, ORANGE, PHONE, VERMILION, new

STYLES = {"float32": (ORANGE, "s"), "float64": (BLUE, "o")}
SMALLEST = 1e-17
"""Where exactly equal logits are drawn."""


def draw(result: Result, tolerance: float) -> Figure:
    """One panel a model, one row a rewriting, one dot a number type."""
    table = result.tables["differences"]
    models = list(dict.fromkeys(table.model))
    names = list(dict.fromkeys(table.rewriting))
    figure, axes = new(
        PHONE,
        0.6 + 0.36 * len(names) * len(models),
        mosaic=[[m] for m in models],
        sharey=True,
        sharex=True,
    )
    for model in models:
        axis = axes[model]
        rows = table[table.model == model]
        worst = rows.groupby(["rewriting", "dtype"]).max_logit_diff.max()
        for dtype, (colour, mark) in STYLES.items():
            values = [max(float(worst[name, dtype]), SMALLEST) for name in names]
            axis.scatter(
                values, range(len(names)), color=colour, marker=mark, s=30, label=dtype, zorder=3
            )
        axis.axvline(tolerance, color=VERMILION, lw=1, ls="--", label="tolerance")
        axis.set_xscale("log")
        axis.set_yticks(
            range(len(names)), [name.replace(": ", ":\n") for name in names], fontsize=8
        )
        axis.set_title(model, fontsize=9)
    axes[models[-1]].set_xlabel("largest change of a logit (left edge: none)")
    axes[models[0]].invert_yaxis()
    axes[models[0]].legend(loc="best", fontsize=8)
    change, wrong = result.metrics["max_logit_diff"], result.metrics["wrong_fold_diff"]
    text = (
        f"Rewriting the model changes a logit by at most {change:.0e} (float64); "
        f"a wrong fold by {wrong:.2g}"
    )
    headline(figure, result, text, note(f"tolerance {tolerance:g}", controls(result)))
    return figure
