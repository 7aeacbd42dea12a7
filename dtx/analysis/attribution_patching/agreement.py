"""How well estimates agree with exact values: over the nodes and edges of a layout's pair, by edit and
reward-to-go, with intervals over layouts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dtx.analysis.attribution_patching.spec import PARTS
from dtx.analysis.core.patching_spec import EDIT, Direction
from dtx.statistics import Estimate, mean_estimate, spearman

LEAST = 0.01
"""Exact values of at least this rho have a sign that counts."""
RANDOM_PAIRINGS = 200
SURE = 1 - 1e-9
"""Correlations are cut off here before Fisher's transformation, which is infinite at 1."""
COLUMNS = [
    "part", "method", "edit", "direction", "reward_to_go", "group", "r", "low", "high", "n", "interval",
    "random_low", "random_high", "donor_r", "spearman", "sign", "error", "overlap", "compared", "pairs",
]  # fmt: skip


def agreement(
    tables: dict[str, pd.DataFrame], top: int, direction: Direction, seed: int
) -> pd.DataFrame:
    """Compare every method with the exact values, at each reward-to-go apart.

    Left out are rows that agree by construction: activations that are the same in both runs, and tokens that
    the last token's logits cannot see any more.

    Args:
        tables: ``nodes`` and, if there are any, ``edges``: rows of a pair with ``exact``, ``open`` and a
            column for each method.
        top: Strongest of a pair that are compared by name.
        direction: Of the patches. seed: Of random pairings.

    Returns:
        One row for each part, method, edit, reward-to-go and group (kind of node, input of a receiver, or
        all): Pearson's r over the places of a layout, the mean over layouts with its interval (both of
        Fisher's z), the same of estimates paired at random (2.5% and 97.5%) and of the estimates for donors
        with the base run's answer (``donor_r``), Spearman's, the share of equal signs where the exact value
        is at least .01, mean absolute error in rho, share of the strongest that are among the estimated
        strongest, and how many values of how many pairs were compared.
    """
    rows = []
    for part, column in (("nodes", "node"), ("edges", "input")):
        methods = PARTS[part]
        if part not in tables or not len(tables[part]):
            continue
        every = tables[part].rename(columns={column: "group"})
        own, donors = _with_donors(every, list(methods), direction)
        for key, chosen in own.groupby(["edit", "reward_to_go"], sort=False):
            edit, target = key  # type: ignore[misc]
            where = {"edit": edit, "reward_to_go": target, "direction": direction.value}
            groups = [*dict.fromkeys(chosen["group"]), "all"]
            for group in groups if len(groups) > 2 else groups[-1:]:
                here = chosen if group == "all" else chosen[chosen["group"] == group]
                for method in methods:
                    row = _compare(here, method, top, seed)
                    row["donor_r"] = layouts_r(
                        here, donors.loc[here.index, method].to_numpy()
                    ).value
                    rows.append({**row, **where, "part": part, "method": method, "group": group})
    return pd.DataFrame(rows, columns=COLUMNS)


def _with_donors(
    table: pd.DataFrame, methods: list[str], direction: Direction
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The edits' rows, and for each the estimates of its donor with the base run's answer (or missing)."""
    own = table[(table["kind"] == EDIT) & table["open"] & table["exact"].notna()]
    own = pd.DataFrame(own.reset_index(drop=True))
    where = [c for c in ("name", "position", "sender", "receiver", "group", "token") if c in table]
    by = ["edit", "variant", "reward_to_go", *dict.fromkeys(where)]
    without = "donor_corrupt" if direction is Direction.denoise else "donor_clean"
    donors = table.loc[table["kind"] == without, [*by, *methods]]
    donors = donors.groupby(by, sort=False)[methods].mean().reset_index()
    beside = own[by].merge(donors, on=by, how="left")
    return own, beside.loc[:, methods]


def _compare(rows: pd.DataFrame, method: str, top: int, seed: int) -> dict[str, float | int | str]:
    exact, estimate = rows["exact"].to_numpy(), rows[method].to_numpy(copy=True)
    place, _ = pd.factorize(rows["pair"])
    r = layouts_r(rows, estimate)
    random_low, random_high = _random(rows, estimate, seed)
    large = np.abs(exact) >= LEAST
    return {
        "r": r.value,
        **r.columns(),
        "random_low": random_low,
        "random_high": random_high,
        "spearman": spearman(exact, estimate),
        "sign": float((np.sign(exact) == np.sign(estimate))[large].mean())
        if large.any()
        else np.nan,
        "error": float(np.abs(exact - estimate).mean()) if len(exact) else np.nan,
        "overlap": _overlap(exact, estimate, place, top),
        "compared": len(exact),
        "pairs": int(place.max()) + 1 if len(place) else 0,
    }


def layouts_r(rows: pd.DataFrame, estimate: np.ndarray) -> Estimate:
    """r of each layout's rows, the mean over layouts with its interval; both are of Fisher's z."""
    of_layout = [
        correlation(rows["exact"].to_numpy()[index], estimate[index])
        for index in rows.groupby("variant", sort=False).indices.values()
    ]
    return mean_r([r for r in of_layout if np.isfinite(r)])


def mean_r(r: Sequence[float]) -> Estimate:
    """The mean of correlations, one a layout, by Fisher's z."""
    z = mean_estimate(np.arctanh(np.clip(r, -SURE, SURE)), of="layouts")
    value, low, high = (float(np.tanh(x)) for x in (z.value, z.low, z.high))
    return Estimate(value, low, high, z.n, z.kind)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r over the values that both have; NaN where either is constant."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _random(rows: pd.DataFrame, estimate: np.ndarray, seed: int) -> tuple[float, float]:
    """The same statistic where each layout's estimates and exact values are paired at random: 2.5%, 97.5%."""
    rng = np.random.default_rng([seed, 2])
    z = []
    for index in rows.groupby("variant", sort=False).indices.values():
        exact, guess = rows["exact"].to_numpy()[index], estimate[index]
        if len(index) < 2 or np.ptp(exact) == 0 or np.ptp(guess) == 0:
            continue
        drawn = rng.permuted(np.tile(guess, (RANDOM_PAIRINGS, 1)), axis=1)
        centred = exact - exact.mean()
        r = (drawn - guess.mean()) @ centred / (len(index) * guess.std() * exact.std())
        z.append(np.arctanh(np.clip(r, -SURE, SURE)))
    if not z:
        return float("nan"), float("nan")
    low, high = np.quantile(np.tanh(np.mean(z, axis=0)), [0.025, 0.975])
    return float(low), float(high)


def _overlap(exact: np.ndarray, estimate: np.ndarray, place: np.ndarray, top: int) -> float:
    """Mean over pairs: share of the strongest by exact value that are among the strongest by estimate."""
    shares = []
    for pair in range(int(place.max()) + 1 if len(place) else 0):
        size, guess = np.abs(exact[place == pair]), np.abs(estimate[place == pair])
        k = min(top, int((size >= LEAST).sum()))
        if k:
            best = np.argsort(-size, kind="stable")[:k]
            shares.append(len(np.intersect1d(best, np.argsort(-guess, kind="stable")[:k])) / k)
    return float(np.mean(shares)) if shares else float("nan")
