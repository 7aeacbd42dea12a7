"""Means of patches over layouts, which of many are beyond 0, and whether conditions may be pooled.

Shape suffixes: c cells (a patch of one kind), k layouts, t conditions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.core.patching_spec import EDIT, NULL
from dtx.analysis.core.verdicts import MINIMUM
from dtx.statistics import Estimate, Estimates, mean_columns

LEVEL = 0.05
"""False discovery rate at which cells are told from 0 (2026-11-29: the usual one)."""
POOLED = 0.1
"""Conditions may be pooled if every difference between them has its interval within this rho (2026-11-29: a
tenth of the whole effect). A difference that is merely not significant allows nothing: four layouts have no
power."""
CONDITION = ["edit", "kind", "direction", "reward_to_go"]
"""What is never pooled without a test."""


@dataclass(frozen=True)
class Means:
    """Of cells: mean over layouts with its interval, and the p-value of a mean of 0, (c,)."""

    of: Estimates
    p: np.ndarray

    def into(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table of the cells with columns rho, low, high, n, interval, p."""
        columns = {**self.of.columns(), "interval": pd.Categorical(self.of.kind)}
        return table.assign(rho=self.of.value, **columns, p=self.p)


def means(value_ck: np.ndarray) -> Means:
    """Means over layouts of many cells at once.

    Args:
        value_ck: One value a layout; NaN where it was not measured.
    """
    from scipy import stats

    estimates = mean_columns(value_ck.T, of="layouts")
    n = estimates.n
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.nansum((value_ck - estimates.value[:, None]) ** 2, 1) / (n - 1)
        error = np.where(n > 1, np.sqrt(spread / n), np.nan)
        p = 2 * stats.t.sf(np.abs(estimates.value) / error, np.maximum(n - 1, 1))
    p = np.where(error == 0, (estimates.value == 0).astype(float), p)
    return Means(estimates, p)


def by_layout(code: np.ndarray, layout: np.ndarray, value: np.ndarray, cells: int) -> np.ndarray:
    """Values (c, k): means of the rows of each cell and layout, NaN where there is none.

    Args:
        code: (rows,) number of each row's cell. layout: (rows,) its name. value: (rows,), NaN: not measured.
        cells: How many there are.
    """
    names, column = np.unique(layout, return_inverse=True)
    there = np.isfinite(value)
    place = (code * len(names) + column)[there]
    count = np.bincount(place, minlength=cells * len(names)).astype(float)
    count[count == 0] = np.nan
    total = np.bincount(place, value[there], minlength=cells * len(names))
    return (total / count).reshape(cells, len(names))


def mean_rho(patches: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean rho over layouts with its interval; null pairs, which have none, are left out.

    Args:
        patches: Rows of :meth:`dtx.analysis.core.patching.PairRuns.result`.
        by: Columns that tell patches apart, those of :data:`CONDITION` among them.

    Returns:
        ``by``, rho, low, high, n (layouts), interval (its kind), p, pairs (measured), missing (under the
        gap), beyond: whether the cell differs from 0 by :func:`discovered` among those of its condition.
    """
    measured = patches[patches["kind"] != NULL]
    table = pd.DataFrame(measured[list(by)]).drop_duplicates().reset_index(drop=True)
    code = measured.groupby(list(by), sort=False).ngroup().to_numpy()
    rho = measured["rho"].to_numpy(dtype=float)
    value_ck = by_layout(code, measured["variant"].to_numpy(dtype=str), rho, len(table))
    table = means(value_ck).into(table)
    count = np.bincount(code[np.isfinite(rho)], minlength=len(table))
    table["pairs"], table["missing"] = count, np.bincount(code, minlength=len(table)) - count
    return discovered(table)


def discovered(table: pd.DataFrame) -> pd.DataFrame:
    """The table with ``beyond``: which cells differ from 0 at a false discovery rate of :data:`LEVEL`.

    Benjamini and Hochberg's step-up, among the cells of one condition. Cells that nothing can reach (exactly
    0) are no hypotheses.
    """
    from scipy import stats

    beyond = np.zeros(len(table), bool)
    asked = np.isfinite(table["p"].to_numpy()) & ((table["rho"] != 0) | (table["p"] < 1)).to_numpy()
    for rows in table.groupby(CONDITION, sort=False, observed=True).indices.values():
        rows = rows[asked[rows]]
        if len(rows):
            p = stats.false_discovery_control(table["p"].to_numpy()[rows])
            beyond[rows] = p <= LEVEL
    return table.assign(beyond=beyond)


def pooled(patches: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Which cells of edits may be pooled over reward-to-go, by the interaction with it.

    Args:
        patches: Rows of :meth:`dtx.analysis.core.patching.PairRuns.result`.
        by: Columns that tell cells apart, edit and direction among them, reward_to_go not.

    Returns:
        A row a cell that was measured at several rewards-to-go: ``by``, ``apart`` (the furthest end of an
        interval of a difference between two of them, per layout), ``may`` (it is within :data:`POOLED`), and
        rho, low, high, n, interval of the mean over both where one may, else missing.
    """
    own = patches[(patches["kind"] == EDIT) & patches["rho"].notna()]
    targets = sorted(own["reward_to_go"].unique())
    table = pd.DataFrame(own[list(by)]).drop_duplicates().reset_index(drop=True)
    code = own.groupby(list(by), sort=False).ngroup().to_numpy()
    layout, rho = own["variant"].to_numpy(dtype=str), own["rho"].to_numpy(dtype=float)
    asked = own["reward_to_go"].to_numpy()
    names = np.unique(layout)
    value_tck = np.full((len(targets), len(table), len(names)), np.nan)
    for i, target in enumerate(targets):
        value = np.where(asked == target, rho, np.nan)
        value_tck[i] = by_layout(code, layout, value, len(table))
    apart, enough = np.zeros(len(table)), np.full(len(table), len(targets) > 1)
    for a, b in itertools.combinations(value_tck, 2):
        difference = means(a - b)
        ends = difference.of
        apart = np.maximum(apart, np.maximum(-ends.low, ends.high))
        enough &= ends.n >= MINIMUM
    may = enough & (apart <= POOLED)
    with np.errstate(invalid="ignore"):
        value_ck = (
            np.where(may[:, None], value_tck.mean(0), np.nan) if len(targets) else value_tck.sum(0)
        )
    table = means(value_ck).into(table.assign(apart=np.where(enough, apart, np.nan), may=may))
    return pd.DataFrame(table.drop(columns="p")[enough])


def estimate_of(row: pd.Series) -> Estimate:
    """The mean of a row with its interval."""
    low, high, n = float(row["low"]), float(row["high"]), int(row["n"])
    return Estimate(float(row["rho"]), low, high, n, str(row["interval"]))


def words(estimate: Estimate) -> str:
    """``0.84 [0.75, 0.92]``: what n and kind are, the text around it says once."""
    if not np.isfinite(estimate.low) or estimate.low == estimate.high:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
