"""The scorecard as one page: analyses down, models and measures across, every value printed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dtx import figures
from dtx.analysis.core.result import Result
from dtx.analysis.scorecard.gates import SMALL_IS_GOOD

WORDS = {
    "identity": "identity\nerror",
    "error": "largest\nerror",
    "recall": "recall",
    "auroc": "AUROC",
    "position": "right\ntoken",
    "false_positives": "false\npositives",
    "false_statements": "false\nstatements",
}
GOOD, BAD, NONE = "#d7eee0", "#f6d5d8", "#ffffff"


def columns(scores: pd.DataFrame) -> list[tuple[str, str]]:
    """(model or T0, measure): T0 with its variants is one group, the worst of them shown."""
    apart = ("error", "false_statements")
    wanted = [("T0", m) for m in WORDS] + [("T1", m) for m in WORDS if m not in apart]
    negatives = scores.loc[scores["kind"] == "T4", "model"].drop_duplicates()
    return [*wanted, *((str(name), "false_positives") for name in negatives)]


def worst(scores: pd.DataFrame) -> pd.DataFrame:
    """One row an analysis (and part), one column a group of models and measure: the worst value of them.

    A model's claims are shown among the false positives of the whole analysis.
    """
    table = scores.copy()
    table["group"] = np.where(table["kind"] == "T4", table["model"], table["kind"])
    named = table["analysis"] + table["part"].map(lambda part: f": {part}" if part else "")
    table["row"] = named.str.replace("_", " ")
    order = {name: i for i, name in enumerate(table["analysis"].drop_duplicates())}
    table = table.iloc[np.argsort(table["analysis"].map(order).to_numpy(), kind="stable")]
    largest = table["measure"].isin(["identity", *SMALL_IS_GOOD])
    table["signed"] = np.where(largest, -table["value"], table["value"])
    table = table[table["value"].notna()]
    shown = table.groupby(["row", "group", "measure"], sort=False)["signed"].min().abs()
    return pd.DataFrame(shown.unstack(["group", "measure"]))


def draw(result: Result) -> Figure:
    """Analyses down, models and measures across, every value printed; red where a gate fails.

    White: shown without a gate.
    """
    scores = result.tables["scores"]
    table, wanted = worst(scores), columns(scores)
    beyond = worst(scores[scores["holds"].eq(False)])  # what fails in some model
    held = worst(scores[scores["holds"].notna()])
    names = list(table.index)
    height = 1.1 + 0.23 * len(names)
    figure, axes = figures.new(7.0, height, mosaic=[["table"]])
    axis = axes["table"]
    axis.set(xlim=(0, len(wanted)), ylim=(len(names), 0))
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    for y, name in enumerate(names):
        for x, column in enumerate(wanted):
            value = float(table.loc[name, column]) if column in table else np.nan
            colour = BAD if _has(beyond, name, column) else GOOD
            colour = colour if _has(held, name, column) else NONE
            axis.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", lw=1.5))
            axis.text(x + 0.5, y + 0.5, _shown(column[1], value), ha="center", va="center", size=6)
    axis.set_yticks(np.arange(len(names)) + 0.5, names, size=6.5)
    axis.set_xticks(np.arange(len(wanted)) + 0.5, [_head(*column) for column in wanted], size=5)
    axis.tick_params(length=0)
    axis.xaxis.tick_top()
    titles = {"T0": "T0, compiled (worst variant)", "T1": "T1, trained to a circuit"}
    names_of = [titles.get(group, "T4, negatives") for group, _ in wanted]
    for title in dict.fromkeys(names_of):
        places = [x for x, other in enumerate(names_of) if other == title]
        middle = (places[0] + places[-1] + 1) / 2
        axis.text(middle, -1.75, title, ha="center", va="center", size=6.5, weight="bold")
        if places[0]:
            axis.axvline(places[0], color="#8d99ae", lw=0.8)
    return figure


def _head(group: str, measure: str) -> str:
    """Of a negative its name: all that is shown of it is what was found wrongly."""
    if group in ("T0", "T1"):
        return WORDS[measure]
    return group.replace("behaviour_", "behaviour\n").replace("_", " ")


def _has(table: pd.DataFrame, name: str, column: tuple[str, str]) -> bool:
    return name in table.index and column in table and bool(np.isfinite(table.loc[name, column]))


def _shown(measure: str, value: float) -> str:
    if np.isnan(value):
        return "-"
    if measure in ("identity", "error"):
        return "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-")
    if measure in ("false_positives", "false_statements"):
        return f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"
    return f"{value:.2f}" if value < 1 else "1"
