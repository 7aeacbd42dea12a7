"""From a calibration's curve to metrics, and from those to a verdict on steering."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from dtx.analysis.calibration.spec import (
    CLONE,
    DT,
    RANDOM,
    RECORDED,
    TRAINED_ON,
    UNTRAINED,
    Criteria,
)
from dtx.analysis.core.result import About, Claim, Verdict
from dtx.statistics import spearman


def summarise(
    wanted: Criteria,
    curve: pd.DataFrame,
    decision: pd.DataFrame,
    greedy_wrong: np.ndarray | None,
) -> dict[str, float]:
    """Reduce the tables to metrics; what is missing is no number.

    Args:
        wanted: Says which targets are high and low.
        curve: See :func:`dtx.analysis.calibration.compute.compute`. decision: See there.
        greedy_wrong: (layouts,) bool, whether greedy play at the low target ends at the wrong object;
            None where the environment has no layouts.
    """
    by_model = {name: part.sort_values("target") for name, part in curve.groupby("model")}
    model, clone = by_model[DT], by_model.get(CLONE)
    supported = model[model.supported]
    at = {t: model[model.target == t].iloc[0] for t in (wanted.low, wanted.high)}
    metrics = {
        "success_high": float(at[wanted.high].success),
        "return_high": float(at[wanted.high].mean_return),
        "return_low": float(at[wanted.low].mean_return),
        "spearman": spearman(supported.target.to_numpy(), supported.mean_return.to_numpy()),
        "mae": float((supported.mean_return - supported.target).abs().mean()),
        "spread": float(model.mean_return.max() - model.mean_return.min()),
        "clone_spread": math.nan
        if clone is None
        else float(np.ptp(clone.mean_return.to_numpy())),  # no number stays no number
        "clone_return": math.nan if clone is None else float(clone.mean_return.mean()),
        "untrained_return": float(by_model[UNTRAINED].mean_return.mean()),
        "random_return": float(by_model[RANDOM].mean_return.mean()),
    }
    if greedy_wrong is not None:
        metrics["greedy_wrong_layouts"] = float(greedy_wrong.mean())
    low = decision[decision.target == wanted.low]
    for source, name in (
        (DT, "junction"),
        (RECORDED, "demonstrated"),
        (TRAINED_ON, "trained_on"),
    ):
        part = low[low.source == source]
        if len(part):
            metrics[f"{name}_wrong_low"] = float(part.wrong_turn.mean())
            metrics[f"{name}_right_low"] = float(part.right_turn.mean())
    return metrics


def judge(wanted: Criteria, n: Mapping[str, float]) -> pd.DataFrame:
    """Hold the numbers against the criteria, controls included.

    Args:
        wanted: The criteria.
        n: Metrics; a missing one is no number.

    Returns:
        One row a criterion: criterion, value, wanted (in words), met.
    """
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


def steered(wanted: Criteria, criteria: pd.DataFrame) -> Claim:
    """The one claim of a calibration, from the table of :func:`judge`."""
    missed = criteria[~criteria.met]
    values = [f"{row.criterion}: {row.value:.3g}, not {row.wanted}" for row in missed.itertuples()]
    return Claim(
        id="steered",
        text="the model is steered by reward-to-go",
        criterion=f"all {len(criteria)} criteria of the table `criteria` are met, among them success of at "
        f"least {wanted.min_success:g} asked for {wanted.high:g} and a return of at most "
        f"{wanted.max_return:g} asked for {wanted.low:g}",
        evidence=f"{len(criteria) - len(missed)} of {len(criteria)} criteria met"
        + (f"; missed: {'; '.join(values)}" if values else ""),
        verdict=Verdict.of(missed.empty),
        about=About.REWARD_TO_GO,
    )
