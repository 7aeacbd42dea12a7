"""The figure: groups of facts with the F1 of features and of controls, and each fact's margin."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.notes import controls, note
from dtx.analysis.core.plots import headline, sentence
from dtx.analysis.core.result import Result
from dtx.analysis.features.claims import ALL
from dtx.analysis.features.spec import FROZEN, INPUT, TRAINED, UNTRAINED
from dtx.figures import BLACK, BLUE, GREY, INK, MODEL_COLOURS, ORANGE, PHONE, SOFT, new

SOURCE_COLOURS = {
    TRAINED: BLUE,
    INPUT: ORANGE,
    UNTRAINED: MODEL_COLOURS["untrained"],
    FROZEN: BLACK,
}
"""Of the features that are drawn, in the order in which they lie."""
MARKS = {TRAINED: "o", INPUT: "s", UNTRAINED: "^", FROZEN: "x"}
NAMES = {
    TRAINED: "features",
    INPUT: "input",
    UNTRAINED: "untrained networks",
    FROZEN: "frozen decoder",
}
"""Names in the legend."""
ROWS = {
    ALL: "all facts",
    "view": "in view",
    "earlier": "shown earlier",
    "hidden": "hidden",
    "computed": "joined",
    "reward_to_go": "RTG",
    "action": "action",
    "time": "time",
}
"""Names of the groups of facts."""


def draw(result: Result) -> Figure:
    """Above: mean F1 minus always on, by group. Below: each fact's margin over the best control."""
    if "groups" not in result.tables:
        return sentence(result, result.finding)
    groups, facts = result.tables["groups"], result.tables["facts"]
    names = [name for name in ROWS if name in set(groups.group)]
    names += [name for name in dict.fromkeys(groups.group) if name not in ROWS]
    high = 0.5 * len(names) + 0.9
    figure, axes = new(PHONE, 1.8 * high, mosaic=[["means"], ["facts"]], height_ratios=[1.15, 1])
    _means(axes["means"], groups, names)
    _facts(axes["facts"], facts, names)
    seeds = int(groups[(groups.group == ALL) & (groups.source == TRAINED)].n.iloc[0])
    headline(
        figure,
        result,
        finding(result),
        note(f"n = {seeds} seeds of the dictionary, bars: t over them", controls(result)),
    )
    return figure


def finding(result: Result) -> str:
    """How many facts are told beyond all controls, and the mean margins."""
    m = result.metrics
    facts = int(m["facts"] or 0)
    beyond = round((m["beyond_share"] or 0) * facts)
    return (
        f"Features tell {beyond} of {facts} facts beyond all controls; mean F1 {_signed(m['margin_input'])} "
        f"against the input, {_signed(m['margin_untrained'])} against untrained networks"
    )


def _signed(value: float | None) -> str:
    return "?" if value is None else f"{value:+.2f}"


def _means(axis: Axes, groups: pd.DataFrame, names: list[str]) -> None:
    for shift, (source, colour) in zip(
        (-0.27, -0.09, 0.09, 0.27), SOURCE_COLOURS.items(), strict=True
    ):
        rows = groups[groups.source == source].set_index("group")
        if rows.empty:
            continue
        rows = rows.loc[names]
        place = np.arange(len(names)) + shift
        axis.hlines(place, rows.low, rows.high, color=colour, lw=1.6)
        axis.plot(
            rows.above_always_on, place, MARKS[source], color=colour, ms=5.5, label=NAMES[source]
        )
    of_features = groups[groups.source == TRAINED].set_index("group").loc[names]
    labels = [
        f"{ROWS.get(name, name)} ({int(n)})"
        for name, n in zip(names, of_features.facts, strict=True)
    ]
    _rows(axis, labels)
    axis.set(title="Best feature of each fact", xlabel="mean F1 minus that of always on")
    axis.legend(loc="upper center", bbox_to_anchor=(0.4, -0.11), ncols=2)


def _facts(axis: Axes, facts: pd.DataFrame, names: list[str]) -> None:
    rng = np.random.default_rng(0)
    labels = []
    for place, name in enumerate(names):
        some = facts if name == ALL else facts[facts.group == name]
        height = place + rng.uniform(-0.3, 0.3, len(some))
        for beyond, colour, mark in ((False, GREY, "."), (True, BLUE, "o")):
            which = (some.beyond == beyond).to_numpy()
            axis.plot(
                some.margin[which],
                height[which],
                mark,
                color=colour,
                ms=4,
                mec="none",
                label=("beyond all controls" if beyond else "not beyond") if not place else None,
            )
        labels.append(f"{ROWS.get(name, name)} ({int(some.beyond.sum())} of {len(some)})")
    _rows(axis, labels)
    axis.set(title="Each fact", xlabel="F1 minus that of its best control")
    axis.legend(loc="upper center", bbox_to_anchor=(0.4, -0.13), ncols=2)


def _rows(axis: Axes, labels: list[str]) -> None:
    axis.set_yticks(range(len(labels)), labels)
    axis.tick_params(axis="y", labelcolor=INK)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    for edge in np.arange(len(labels) - 1) + 0.5:
        axis.axhline(edge, color=SOFT, lw=0.3, alpha=0.5)
    axis.grid(axis="y", visible=False)
    axis.axvline(0, color=INK, lw=0.8)
