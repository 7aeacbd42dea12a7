"""The scorecard: analyses down, kinds of gates across; and a page of every score."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from dtx import figures
from dtx.analysis.core.plots import headline
from dtx.analysis.core.result import Result
from dtx.analysis.scorecard.gates import SMALL_IS_GOOD
from dtx.analysis.scorecard.spec import T0, T1, T4
from dtx.figures import INK, PHONE, SKY, VERMILION, WHITE

IDENTITY, STATEMENTS = "identity", "false_statements"
COLUMNS = {
    "exact\nchecks": "largest error",
    "finds it\n(T0)": "least score",
    "ranks it\n(T1)": "least AUROC",
    "finds none\n(T4)": "most found",
    "no false\nclaims": "largest share",
}
"""What is held to a gate, and the value that is printed below how many hold."""
GATE_COLOURS = {"holds": SKY, "fails": VERMILION}
TINT = 0.35
MEANING = (
    "Circuits: T0 compiled, T1 trained; T4: models in which there is nothing to find. Of each: gates that "
    "hold; the worst of errors, of scores (0-1) or of false positives (%); white: no gate"
)


def column_of(scores: pd.DataFrame) -> pd.Series:
    """The column of :data:`COLUMNS` to which each score belongs; missing: it is in none."""
    checks, t0, t1, t4, claims = COLUMNS
    measure, kind = scores["measure"], scores["kind"]
    cases = [measure == IDENTITY, measure == STATEMENTS, kind == T0, kind == T1, kind == T4]
    return pd.Series(np.select(cases, [checks, claims, t0, t1, t4], ""), scores.index)


def cells(scores: pd.DataFrame) -> pd.DataFrame:
    """A row an analysis and column: how many gates there are and hold, and the worst value of them."""
    held = scores[scores["holds"].notna() & scores["value"].notna()]
    held = held.assign(column=column_of(held), holds=held["holds"].astype(bool))
    small = held["measure"].isin([IDENTITY, *SMALL_IS_GOOD])
    # What fails comes first, then what should be large, so that one value stands for the cell.
    held = held.assign(small=small, rank=np.where(small, -held["value"], held["value"]))
    held = held.sort_values(["holds", "small", "rank"], kind="stable")
    grouped = held.groupby(["analysis", "column"], sort=False)
    table = grouped.agg(
        gates=("holds", "size"),
        hold=("holds", "sum"),
        value=("value", "first"),
        measure=("measure", "first"),
    )
    return pd.DataFrame(table.reset_index())


def draw(result: Result) -> Figure:
    """Analyses down, kinds of gates across: how many hold, and the worst value; hatched where one fails."""
    scores = result.tables["scores"]
    table = cells(scores).set_index(["analysis", "column"])
    names = list(scores["analysis"].drop_duplicates())
    figure, axes = figures.new(PHONE, 1.0 + 0.32 * len(names), mosaic=[["table"]])
    axis = axes["table"]
    axis.set(xlim=(0, len(COLUMNS)), ylim=(len(names), 0))
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    for y, name in enumerate(names):
        for x, column in enumerate(COLUMNS):
            cell = table.loc[(name, column)] if (name, column) in table.index else None
            axis.add_patch(_box(x, y, cell))
            text = "" if cell is None else f"{cell['hold']}/{cell['gates']}\n{_shown(cell)}"
            axis.text(x + 0.5, y + 0.52, text, ha="center", va="center", size=7.5, color=INK)
    axis.set_yticks(np.arange(len(names)) + 0.5, [n.replace("_", " ") for n in names], size=7.5)
    axis.set_xticks(np.arange(len(COLUMNS)) + 0.5, list(COLUMNS), size=7.5)
    axis.tick_params(length=0)
    axis.xaxis.tick_top()
    handles = [
        Patch(facecolor=to_rgba(GATE_COLOURS["holds"], TINT), label="all gates hold"),
        Patch(facecolor=to_rgba(GATE_COLOURS["fails"], TINT), hatch="///", label="a gate fails"),
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, fontsize=7.5)
    headline(figure, result, _finding(result), MEANING)
    return figure


def _finding(result: Result) -> str:
    gates, scores = result.tables["gates"], result.tables["scores"]
    holds = gates["holds"].astype(bool)
    failing = gates[~holds]
    where = [f"{g.analysis} on {g.model}".replace("_", " ") for g in failing.itertuples()]
    where = list(dict.fromkeys(where))
    more = f" and {len(where) - 3} more" if len(where) > 3 else ""
    fails = f"; fails: {', '.join(where[:3])}{more}" if where else ""
    return (
        f"{holds.sum()} of {len(gates)} gates hold, for {scores['analysis'].nunique()} analyses on "
        f"{scores['model'].nunique()} models{fails}"
    )


def _box(x: int, y: int, cell: pd.Series | None) -> Rectangle:
    style: dict = {"facecolor": WHITE}
    if cell is not None:
        fails = cell["hold"] < cell["gates"]
        colour = GATE_COLOURS["fails" if fails else "holds"]
        style = {"facecolor": to_rgba(colour, TINT), "hatch": "///" if fails else None}
    return Rectangle((x, y), 1, 1, edgecolor=WHITE, lw=1.5, **style)


def _shown(cell: pd.Series) -> str:
    value = float(cell["value"])
    if cell["measure"] in (IDENTITY, "error"):
        return "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-")
    if cell["measure"] in ("false_positives", STATEMENTS):
        return f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"
    return f"{value:.2f}" if value < 1 else "1"


def page(result: Result) -> go.Figure:
    """Every score: those that fail first, then by analysis."""
    scores = result.tables["scores"]
    state = np.select(
        [scores["holds"].isna(), scores["holds"].eq(True)], ["no gate", "holds"], "fails"
    )
    table = scores.assign(state=state, order=state != "fails")
    table = table.sort_values(["order", "analysis", "model"], kind="stable")
    fills = {"holds": SKY, "fails": VERMILION, "no gate": WHITE}
    columns = [
        "analysis",
        "part",
        "model",
        "kind",
        "measure",
        "value",
        "interval",
        "limit",
        "state",
    ]
    shown = table[columns].assign(
        value=table["value"].map("{:.3g}".format), limit=table["limit"].map("{:.3g}".format)
    )
    figure = go.Figure(
        go.Table(
            header={"values": columns, "align": "left"},
            cells={
                "values": [shown[name].astype(str).str.replace("_", " ") for name in columns],
                "align": "left",
                "fill": {"color": [*[WHITE] * (len(columns) - 1), shown["state"].map(fills)]},
            },
        )
    )
    figure.update_layout(title=_finding(result), template="plotly_white", height=900)
    return figure
