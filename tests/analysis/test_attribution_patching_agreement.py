"""Agreement of estimates with exact values: at each reward-to-go, with intervals over layouts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dtx.analysis.attribution_patching.agreement import agreement
from dtx.analysis.attribution_patching.compute import claims
from dtx.analysis.attribution_patching.spec import NODE_METHODS
from dtx.analysis.core.patching_spec import Direction
from dtx.analysis.core.verdicts import Verdict


def a_table(estimate) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    exact = rng.normal(size=200)
    table = pd.DataFrame(
        {
            "pair": np.repeat(np.arange(10), 20),
            "edit": "flip",
            "kind": "edit",
            "variant": np.repeat([f"v{i}" for i in range(10)], 20),
            "reward_to_go": 0.0,
            "node": "z",
            "name": "L0H0 z",
            "position": np.tile(np.arange(20), 10),
            "token": "S1",
            "open": True,
            "exact": exact,
        }
    )
    for method in NODE_METHODS:
        table[method] = estimate(exact, rng)
    return table


def compared(tables: dict[str, pd.DataFrame]) -> pd.Series:
    return agreement(tables, top=5, direction=Direction.denoise, seed=0).iloc[0]


def test_agreement_is_one_for_equals_and_none_for_noise():
    tables = {"nodes": a_table(lambda exact, rng: 2 * exact)}
    row = compared(tables)
    assert row["r"] == pytest.approx(1) and row["low"] == pytest.approx(1)
    assert row["overlap"] == 1 and row["sign"] == 1 and row["spearman"] == pytest.approx(1)
    assert row["error"] == pytest.approx(np.abs(tables["nodes"]["exact"]).mean())
    assert row["random_low"] < 0 < row["random_high"] < 0.3
    assert (row["compared"], row["pairs"], row["n"]) == (200, 10, 10) and np.isnan(row["donor_r"])
    assert row["interval"] == "t over 10 layouts"
    row = compared({"nodes": a_table(lambda exact, rng: exact + 3 * rng.normal(size=200))})
    assert row["low"] < row["r"] < row["high"] and 0.1 < row["r"] < 0.6 and row["overlap"] < 0.8
    # Rows that agree by construction are not counted.
    tables["nodes"]["open"] = tables["nodes"].index < 40
    row = compared(tables)
    assert (row["compared"], row["pairs"]) == (40, 2)


def test_agreement_is_told_at_each_reward_to_go():
    """Equal at one, opposite at the other: a pooled r would be 0."""
    high, low = (a_table(lambda exact, rng, s=s: s * exact) for s in (1, -1))
    both = pd.concat([high.assign(reward_to_go=0.9), low.assign(pair=low["pair"] + 10)])
    table = agreement({"nodes": both}, top=5, direction=Direction.denoise, seed=0)
    whole = table[(table["group"] == "all") & (table["method"] == "attribution_patching")]
    assert dict(zip(whole["reward_to_go"], whole["r"].round(6), strict=True)) == {0.9: 1, 0.0: -1}
    (claim,) = [c for c in claims(table, True) if c.id == "attribution_patching_agrees"]
    assert claim.verdict is Verdict.DEPENDS and "at RTG 0: r -1.00" in claim.evidence


def test_the_estimates_of_a_donor_without_the_answer_are_compared_with_the_edit():
    own = a_table(lambda exact, rng: exact)
    without = own.assign(kind="donor_corrupt", pair=own["pair"] + 10, exact=np.nan)
    having = own.assign(kind="donor_clean", pair=own["pair"] + 20, exact=np.nan)
    for method in NODE_METHODS:
        without[method] = -own[method]
    donors = pd.concat([without, having]).sample(frac=1, random_state=0)
    assert compared({"nodes": pd.concat([donors, own])})["donor_r"] == pytest.approx(-1)
