"""The figure: how near each feature's nearest is in other seeds and in an untrained network."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dtx.analysis.core.notes import note
from dtx.analysis.core.plots import headline
from dtx.analysis.core.result import Result
from dtx.figures import BLUE, SOFT, WHITE, new

SIDES = {"other_r": "in any other seed", "untrained_r": "in an untrained network"}
SIDE_COLOURS = {"other_r": BLUE, "untrained_r": WHITE}
SIDE_HATCHES = {"other_r": "", "untrained_r": "////"}
BARS = 20


def draw(result: Result) -> Figure:
    """Left: correlation with the nearest feature elsewhere. Right: at how many tokens features are on."""
    table = result.tables["features"]
    figure, axes = new(7.0, 2.9, mosaic=[["near", "density"]])
    _near(axes["near"], table)
    axis = axes["density"]
    log = np.log10(np.maximum(table.density.to_numpy(), 1e-7))
    axis.hist(log, bins=np.arange(np.floor(log.min()), 0.26, 0.25), color=BLUE)
    ticks = np.arange(np.floor(log.min()), 1)
    axis.set_xticks(ticks, [f"$10^{{{t:.0f}}}$" if t < -2 else f"{10.0**t:g}" for t in ticks])
    axis.set(xlabel="share of tokens at which it is on", ylabel="features")
    near, chance = (result.metrics[f"nearest_{name}"] for name in ("seed", "untrained"))
    shown = {"another seed": near, "an untrained network": chance}
    told = [f"in {where} {value:.2f}" for where, value in shown.items() if value is not None]
    words = f"; the nearest correlates {', '.join(told)} on average" if told else ""
    headline(
        figure,
        result,
        f"{len(table):,} features are on somewhere{words}",
        note("correlation of activations at the same tokens, each counted as often as it occurs"),
    )
    return figure


def _near(axis, table) -> None:
    edges = np.linspace(0, 1, BARS + 1)
    width = 0.46 / BARS
    for place, (column, words) in enumerate(SIDES.items()):
        values = table[column].dropna()
        if len(values):
            count, _ = np.histogram(np.clip(values, 0, 1), edges)
            axis.bar(edges[:-1] + width * (place + 0.6), count, width, label=words, lw=0.6,
                     color=SIDE_COLOURS[column], hatch=SIDE_HATCHES[column], edgecolor=SOFT)  # fmt: skip
    axis.set(xlim=(0, 1), xlabel="correlation with the nearest feature", ylabel="features")
    axis.legend(loc="upper right")
