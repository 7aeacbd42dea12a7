"""The figure: the largest change of a logit by rewriting, on a logarithmic axis with the tolerance."""

from __future__ import annotations

from matplotlib.figure import Figure

from dtx.analysis.core.plots import title
from dtx.analysis.core.result import Result
from dtx.figures import new

COLOURS = {"float32": "#3a6ea5", "float64": "#2a9d5c"}
SMALLEST = 1e-17
"""Where exactly equal logits are drawn."""


def draw(result: Result, tolerance: float) -> Figure:
    """One panel a model, one row a rewriting, one dot a number type."""
    table = result.tables["differences"]
    models = list(dict.fromkeys(table.model))
    figure, axes = new(7.0, 3.4, mosaic=[models], sharey=True, sharex=True)
    title(figure, "Largest change of a logit")
    names = list(dict.fromkeys(table.rewriting))
    for model in models:
        axis = axes[model]
        rows = table[table.model == model]
        worst = rows.groupby(["rewriting", "dtype"]).max_logit_diff.max()
        for dtype, colour in COLOURS.items():
            values = [max(float(worst[name, dtype]), SMALLEST) for name in names]
            axis.scatter(values, range(len(names)), color=colour, s=28, label=dtype, zorder=3)
        axis.axvline(tolerance, color="#d1495b", lw=1, ls="--", label="tolerance")
        axis.set_xscale("log")
        axis.set_yticks(range(len(names)), [name.replace(": ", ":\n") for name in names])
        axis.set(title=model, xlabel="logits (left edge: none at all)")
    axes[models[0]].invert_yaxis()
    axes[models[0]].legend(loc="center", fontsize=7)
    return figure
