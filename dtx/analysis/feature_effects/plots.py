"""The figure: chosen features beside random ones, sets of features, and the strongest edges."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.notes import controls
from dtx.analysis.core.plots import headline, words
from dtx.analysis.core.result import Result
from dtx.analysis.feature_effects.curves import DIMENSIONS, FEATURES, RANDOM_FEATURES
from dtx.analysis.feature_effects.spec import KL, LD, OFF, ON, RANDOM, RETURN, TRAINED
from dtx.figures import BLUE, GREY, INK, ORANGE, PHONE, SOFT, new

SIDE_COLOURS = {OFF: BLUE, ON: ORANGE}
"""Of the ways in which a feature is changed."""
MARKS = {OFF: "o", ON: "s"}
NAMES = {
    LD: "Pairs: |change of logit difference|",
    KL: "Held-out episodes: KL (nats)",
    RETURN: "Played episodes: |change of return|",
}
BASIS = {
    FEATURES: (BLUE, "-", "o"),
    DIMENSIONS: (ORANGE, "--", "s"),
    RANDOM_FEATURES: (GREY, ":", "^"),
}
SHOWN = 12
"""Edges that are drawn."""


def draw(result: Result) -> Figure:
    """A panel a measure; restored shares by set; edges with attribution and exact patch."""
    tables = result.tables
    effects = tables["effects"] if "effects" in tables else pd.DataFrame(columns=["measure"])
    measures = [m for m in NAMES if (effects["measure"] == m).to_numpy().any()]
    panels = [*measures, *(name for name in ("sets", "edges") if _rows(result, name))]
    heights = [1.6 if name == "edges" else 1.0 for name in panels or ["none"]]
    figure, axes = new(
        PHONE, 0.4 + 2.6 * sum(heights), mosaic=[[name] for name in panels or ["none"]],
        height_ratios=heights,
    )  # fmt: skip
    for measure in measures:
        _beside(axes[measure], effects[effects["measure"] == measure], measure)
    if "sets" in panels:
        _sets(axes["sets"], tables["sets"])
    if "edges" in panels:
        _edges(axes["edges"], tables["edges"])
    if not panels:
        axes["none"].axis("off")
    headline(figure, result, finding(result), controls(result))
    return figure


def _rows(result: Result, name: str) -> bool:
    return name in result.tables and len(result.tables[name]) > 0


def finding(result: Result) -> str:
    """Shares beyond random features, beside untrained networks'."""
    said = []
    for side in (OFF, ON):
        own, other = (result.metrics.get(f"{side}_kl_margin{end}") for end in ("", "_untrained"))
        if own is not None:
            beside = "" if other is None else f" (untrained: {other:.0%})"
            said.append(f"{side} {own:.0%}{beside}")
    if not said:
        return "No feature could be compared with random ones"
    return f"Share of chosen features' effect on the policy beyond random ones: {', '.join(said)}"


def _beside(axis: Axes, table: pd.DataFrame, measure: str) -> None:
    """A point a chosen feature: its effect against the stronger random control."""
    random = table[[f"{kind}_95" for kind in RANDOM]].max(axis=1)
    positive = pd.concat([random, table["value"]])
    positive = positive[positive > 0]
    least = float(positive.min()) / 2 if len(positive) else 1e-3
    most = float(positive.max()) * 2 if len(positive) else 1.0
    axis.plot([least, most], [least, most], color=INK, lw=0.8)
    for side in (OFF, ON):
        for trained in (False, True):
            some = (table["side"] == side) & ((table["model"] == TRAINED) == trained)
            if not some.to_numpy().any():
                continue
            axis.plot(
                random[some].clip(lower=least), table["value"][some].clip(lower=least), MARKS[side], ms=4.5,
                color=SIDE_COLOURS[side] if trained else "none",
                markeredgecolor="white" if trained else GREY, markeredgewidth=0.5 if trained else 0.9,
                label=f"turned {side}" + ("" if trained else ", untrained"), zorder=3 if trained else 2,
            )  # fmt: skip
    axis.set(
        xscale="log", yscale="log", xlim=(least, most), ylim=(least, most),
        xlabel="random feature at the 95% quantile", ylabel="chosen feature",
    )  # fmt: skip
    axis.set_title(NAMES[measure], fontsize=8.5)
    axis.legend(fontsize=7.5, loc="upper left")


def _sets(axis: Axes, table: pd.DataFrame) -> None:
    """Faithfulness, mean over pairs and dictionaries, by size; thin: what is left without the set."""
    mean = table.groupby(["basis", "k"])[["faithfulness", "remaining"]].mean()
    for basis, (colour, line, mark) in BASIS.items():
        some = mean.loc[basis]
        place = np.maximum(some.index.to_numpy(float), 0.5)
        axis.plot(
            place, some["faithfulness"], ls=line, marker=mark, ms=4, color=colour, label=basis
        )
        axis.plot(
            place, some["remaining"], ls=line, marker=mark, ms=2, lw=0.8, color=colour, alpha=0.55
        )
    for value in (0, 1):
        axis.axhline(value, color=SOFT, lw=0.7)
    axis.set_xscale("log", base=2)
    sizes = sorted(table["k"].unique())
    axis.set_xticks([max(size, 0.5) for size in sizes], [str(size) for size in sizes])
    axis.set(xlabel="size of the set", ylabel="share of the effect", ylim=(-0.35, 1.45))
    axis.set_title("Set patched (thick); all else (thin)", fontsize=8.5)
    axis.legend(fontsize=7.5, loc="center left")


def _edges(axis: Axes, table: pd.DataFrame) -> None:
    """The strongest edges, by the exact patch."""
    exact = table[table["exact"].notna()]
    where = ["sender", "receiver", "edit", "reward_to_go"]
    first = exact[exact["dictionary"] == exact["dictionary"].iloc[0]] if len(exact) else exact
    best = first.reindex(first["exact"].abs().sort_values(ascending=False).index).head(SHOWN)
    names = [
        f"{s} > {r}\n{words(str(e))}, RTG {t:g}"
        for s, r, e, t in best[where].itertuples(index=False)
    ]
    place = np.arange(len(best))[::-1]
    axis.barh(place, best["exact"], color=BLUE, height=0.6, label="exact")
    error = np.stack([best["exact"] - best["low"], best["high"] - best["exact"]]).clip(min=0)
    axis.errorbar(best["exact"], place, xerr=np.nan_to_num(error), fmt="none", ecolor=INK, lw=0.8)
    axis.plot(best["attribution"], place, "D", ms=3.5, color=ORANGE, label="attribution")
    axis.axvline(0, color=INK, lw=0.7)
    axis.set_yticks(place, names, fontsize=7)
    axis.set(xlabel="share of the effect")
    axis.set_title("Strongest edges, one dictionary", fontsize=8.5)
    axis.legend(fontsize=7.5, loc="lower right")
