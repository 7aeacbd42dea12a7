"""How well estimates agree with exact values: over nodes and edges of pairs, with intervals over pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dtx.analysis.attribution_patching.spec import PARTS
from dtx.analysis.core.patching_spec import DONOR, EDIT
from dtx.statistics import spearman

LEAST = 0.01
"""Exact values of at least this rho have a sign that counts."""
RANDOM_PAIRINGS = 200
COLUMNS = [
    "part",
    "method",
    "edit",
    "group",
    "r",
    "low",
    "high",
    "random_low",
    "random_high",
    "donor_r",
    "spearman",
    "sign",
    "error",
    "overlap",
    "compared",
    "pairs",
]


def agreement(tables: dict[str, pd.DataFrame], top: int, resamples: int, seed: int) -> pd.DataFrame:
    """Compare every method with the exact values.

    Left out are rows that agree by construction: activations that are the same in both runs, and tokens that
    the last token's logits cannot see any more.

    Args:
        tables: ``nodes`` and, if there are any, ``edges``: rows of a pair with ``exact``, ``open`` and a
            column for each method.
        top: Strongest of a pair that are compared by name.
        resamples: Of the bootstrap over pairs. seed: Of bootstrap and random pairings.

    Returns:
        One row for each part, method, edit (or all) and group (kind of node, input of a receiver, or all):
        Pearson's r with its interval, that of estimates paired at random (2.5% and 97.5%), that of the
        estimates for donors from other worlds, Spearman's, the share of equal signs where the exact value is
        at least .01, mean absolute error in rho, share of the strongest that are among the estimated
        strongest, and how many values of how many pairs were compared.
    """
    rows = []
    for part, column in (("nodes", "node"), ("edges", "input")):
        methods = PARTS[part]
        if part not in tables or not len(tables[part]):
            continue
        every = tables[part]
        own, donors = _with_donors(every.rename(columns={column: "group"}), list(methods))
        if not len(own):
            continue
        for edit in [*dict.fromkeys(own["edit"]), "all"]:
            of_edit = own if edit == "all" else own[own["edit"] == edit]
            groups = [*dict.fromkeys(of_edit["group"]), "all"]
            for group in groups if len(groups) > 2 else groups[-1:]:
                chosen = of_edit if group == "all" else of_edit[of_edit["group"] == group]
                for method in methods:
                    row = _compare(chosen, method, top, resamples, seed)
                    row["donor_r"] = correlation(
                        chosen["exact"].to_numpy(), donors.loc[chosen.index, method].to_numpy()
                    )
                    rows.append(
                        {**row, "part": part, "method": method, "edit": edit, "group": group}
                    )
    return pd.DataFrame(rows, columns=COLUMNS)


def _with_donors(table: pd.DataFrame, methods: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The edits' rows, and for each the mean estimates of its donors (missing where there are none)."""
    own = table[(table["kind"] == EDIT) & table["open"] & table["exact"].notna()]
    own = pd.DataFrame(own.reset_index(drop=True))
    where = [c for c in ("name", "position", "sender", "receiver", "group", "token") if c in table]
    by = ["edit", "variant", "reward_to_go", *dict.fromkeys(where)]
    donors = table.loc[table["kind"] == DONOR, [*by, *methods]]
    donors = donors.groupby(by, sort=False)[methods].mean().reset_index()
    beside = own[by].merge(donors, on=by, how="left")
    return own, beside.loc[:, methods]


def _compare(
    rows: pd.DataFrame, method: str, top: int, resamples: int, seed: int
) -> dict[str, float | int]:
    exact, estimate = rows["exact"].to_numpy(), rows[method].to_numpy(copy=True)
    place, _ = pd.factorize(rows["pair"])
    low, high = _interval(exact, estimate, place, resamples, seed)
    random_low, random_high = _random(exact, estimate, seed)
    large = np.abs(exact) >= LEAST
    return {
        "r": correlation(exact, estimate),
        "low": low,
        "high": high,
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


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r over the values that both have; NaN where either is constant."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _interval(
    exact: np.ndarray, estimate: np.ndarray, place: np.ndarray, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentile bootstrap of r: pairs are drawn, each with all its rows."""
    if not len(exact):
        return float("nan"), float("nan")
    # r follows from six sums, and the sums of a resample from those of its pairs.
    terms = [np.ones_like(exact), exact, estimate, exact**2, estimate**2, exact * estimate]
    sums = np.stack([np.bincount(place, term) for term in terms])
    pairs = sums.shape[1]
    drawn = np.random.default_rng(seed).multinomial(
        pairs, np.full(pairs, 1 / pairs), size=resamples
    )
    n, x, y, xx, yy, xy = sums @ drawn.T
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y))
    r = r[np.isfinite(r)]
    if not len(r):
        return float("nan"), float("nan")
    low, high = np.quantile(np.clip(r, -1, 1), [0.025, 0.975])
    return float(low), float(high)


def _random(exact: np.ndarray, estimate: np.ndarray, seed: int) -> tuple[float, float]:
    """Interval of r when estimates and exact values are paired at random."""
    rng = np.random.default_rng([seed, 2])
    r = [correlation(exact, rng.permutation(estimate)) for _ in range(RANDOM_PAIRINGS)]
    if not np.isfinite(r).all():
        return float("nan"), float("nan")
    low, high = np.quantile(r, [0.025, 0.975])
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
