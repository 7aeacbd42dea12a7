"""From a calibration's curve to headline numbers, and from those to a verdict on steering."""

from __future__ import annotations

import math

import pandas as pd

from dtx.analysis.calibration import Calibration, Criteria
from dtx.statistics import spearman

DT, GREEDY, CLONE, UNTRAINED, RANDOM = (
    "decision transformer",
    "decision transformer, greedy",
    "behaviour clone",
    "untrained",
    "uniformly random",
)
"""Names of the models in the tables."""


def summarise(
    stage: Calibration, curve: pd.DataFrame, decision: pd.DataFrame, wrong_layouts: float | None
) -> dict[str, float | None]:
    """Reduce the tables to ``calibration/*`` numbers.

    Args:
        stage: Says which targets are high and low.
        curve, decision: As in :class:`dtx.analysis.calibration.compute.Results`.
        wrong_layouts: Share of layouts in which greedy play at the low target ends at the wrong object;
            None where the environment has no layouts.
    """
    wanted = stage.criteria
    by_model = {name: part.sort_values("target") for name, part in curve.groupby("model")}
    mine, clone = by_model[DT], by_model.get(CLONE)
    supported = mine[mine.supported]
    at = {t: mine[mine.target == t].iloc[0] for t in (wanted.low, wanted.high)}
    numbers: dict[str, float | None] = {
        "success_high": float(at[wanted.high].success),
        "return_high": float(at[wanted.high].mean_return),
        "return_low": float(at[wanted.low].mean_return),
        "spearman": spearman(supported.target.to_numpy(), supported.mean_return.to_numpy()),
        "mae": float((supported.mean_return - supported.target).abs().mean()),
        "spread": float(mine.mean_return.max() - mine.mean_return.min()),
        "clone_spread": None
        if clone is None
        else float(clone.mean_return.max() - clone.mean_return.min()),
        "clone_return": None if clone is None else float(clone.mean_return.mean()),
        "untrained_return": float(by_model[UNTRAINED].mean_return.mean()),
        "random_return": float(by_model[RANDOM].mean_return.mean()),
    }
    if wrong_layouts is not None:
        numbers["greedy_wrong_layouts"] = wrong_layouts
    low = decision[decision.target == wanted.low]
    for source, name in (
        (DT, "junction"),
        ("demonstrations, as recorded", "demonstrated"),
        ("demonstrations, as trained on", "trained_on"),
    ):
        part = low[low.source == source]
        if len(part):
            numbers[f"{name}_wrong_low"] = float(part.wrong_turn.mean())
            numbers[f"{name}_right_low"] = float(part.right_turn.mean())
    return {f"calibration/{name}": value for name, value in numbers.items()}


def judge(wanted: Criteria, headline: dict[str, float | None]) -> pd.DataFrame:
    """Hold the numbers against the criteria, controls included.

    Returns:
        One row a criterion: criterion, value, wanted (in words), met.
    """
    n = {k.removeprefix("calibration/"): math.nan if v is None else v for k, v in headline.items()}
    chance = abs(n["untrained_return"] - n["random_return"])
    rows = [
        (
            f"success asked for {wanted.high:g}",
            n["success_high"],
            f"at least {wanted.min_success:g}",
            n["success_high"] >= wanted.min_success,
        ),
        (
            f"mean return asked for {wanted.low:g}",
            n["return_low"],
            f"at most {wanted.max_return:g}",
            n["return_low"] <= wanted.max_return,
        ),
        (
            "Spearman over the supported targets",
            n["spearman"],
            f"at least {wanted.min_spearman:g}",
            n["spearman"] >= wanted.min_spearman,
        ),
        (
            "control: spread of the behaviour clone's curve"
            if n["clone_spread"] >= 0
            else "control: a behaviour clone's curve (not established: no clone)",
            n["clone_spread"],
            "0 exactly",
            n["clone_spread"] == 0,
        ),
        (
            "control: the untrained model's distance from chance",
            chance,
            f"at most {wanted.max_from_chance:g}",
            chance <= wanted.max_from_chance,
        ),
    ]
    if "greedy_wrong_layouts" in n:
        rows.append(
            (
                f"greedy at {wanted.low:g}: layouts that end at the wrong object",
                n["greedy_wrong_layouts"],
                f"at least {wanted.min_wrong_layouts:g}",
                n["greedy_wrong_layouts"] >= wanted.min_wrong_layouts,
            )
        )
    if "junction_wrong_low" in n:
        lead = n["junction_wrong_low"] - n["junction_right_low"]
        rows.append(
            (
                f"P(wrong turn) - P(right turn) at the junction, asked for {wanted.low:g}",
                lead,
                "above 0",
                lead > 0,
            )
        )
    table = pd.DataFrame(rows, columns=["criterion", "value", "wanted", "met"])
    return table.astype({"value": float, "met": bool})
