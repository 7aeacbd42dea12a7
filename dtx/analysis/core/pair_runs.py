"""The two runs of counterfactual pairs, which every causal analysis edits, and how an edit's effect counts.

Shape suffixes: p pairs, n tokens, d model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from torch import Tensor

from dtx.pairs.pair_set import PairBatch
from dtx.statistics import bootstrap_columns

if TYPE_CHECKING:
    from dtx.analysis.activation_patching import Direction
    from dtx.dt.model import DecisionTransformerModel


class PairRuns:
    """Activations and logit differences (LD) of both runs of a batch of pairs.

    Attributes:
        source: Activations by hook of the run that patches are taken from, one row a pair.
        base: The same of the run that is patched.
        ld_clean: (p,) and ld_corrupt: (p,), float64. base_ld: (p,), LD of the run that is patched.
        span: (p,), what a full patch changes. A shuffled donor is measured against the pair whose donor it
            stands in for.
        measurable: (p,) bool, where the span reaches the gap; never in a null pair.
    """

    def __init__(
        self,
        model: DecisionTransformerModel,
        batch: PairBatch,
        direction: Direction,
        gap: float,
        wanted: Set[str] | Callable[[str], bool],
    ):
        """Run both.

        Args:
            model: Any.
            batch: Pairs of one shape.
            direction: ``denoise`` patches clean activations into the corrupt run, ``noise`` the reverse.
            gap: Smallest difference of LD at which rho means something.
            wanted: Names of the hooks whose activations are kept, or a test of a name.
        """
        keep = wanted if callable(wanted) else wanted.__contains__
        logits, caches = [], []
        for context in (batch.clean, batch.corrupt):
            out, cache = model.run_with_cache(context, names_filter=keep)
            logits.append(batch.difference(out[:, -1]).double().numpy())
            caches.append(dict(cache))
        forwards = direction.value == "denoise"
        self.batch = batch
        self.source: dict[str, Tensor]
        self.base: dict[str, Tensor]
        self.source, self.base = caches if forwards else caches[::-1]
        self.ld_clean, self.ld_corrupt = logits
        at_source, at_base = logits if forwards else logits[::-1]
        of = batch.control_of.numpy()
        own = np.where(of >= 0, of, np.arange(len(batch)))
        self.base_ld, self.span = at_base, at_source[own] - at_base
        self.measurable = (np.abs(self.span) >= gap) & ~batch.kind("null")

    def table(self) -> pd.DataFrame:
        """One row a pair: what it is, its logit differences, whether rho can be said."""
        table = self.about(np.arange(len(self.batch)))
        table["ld_clean"], table["ld_corrupt"] = self.ld_clean, self.ld_corrupt
        table["measurable"] = self.measurable
        return table

    def result(self, row: np.ndarray, ld: np.ndarray) -> pd.DataFrame:
        """What patches did: one row a patch, with ``change`` of LD and ``rho`` (missing under the gap).

        Args:
            row: (b,) the pair of each patch.
            ld: (b,) LD with the patch.
        """
        table = self.about(row)
        table["change"] = ld - self.base_ld[row]
        with np.errstate(divide="ignore", invalid="ignore"):
            rho = table["change"] / self.span[row]
        table["rho"] = np.where(self.measurable[row], rho, np.nan)
        return table

    def about(self, row: np.ndarray) -> pd.DataFrame:
        """The pair of each patch: pair, edit, kind, variant, reward_to_go."""
        columns = ["pair", "edit", "kind", "variant", "reward_to_go"]
        return self.batch.table[columns].iloc[row].reset_index(drop=True)


def mean_rho(patches: pd.DataFrame, by: Sequence[str], resamples: int, seed: int) -> pd.DataFrame:
    """Mean rho over pairs with a bootstrap interval; null pairs, which have none, are left out.

    Args:
        patches: Rows of :meth:`PairRuns.result`.
        by: Columns that tell patches apart, ``edit``, ``kind`` and ``reward_to_go`` among them.
        resamples: Of the bootstrap. seed: Of the bootstrap.

    Returns:
        ``by``, rho, low, high, pairs (measured), missing (under the gap).
    """
    measured = patches[patches["kind"] != "null"]
    table = pd.DataFrame(measured[list(by)]).drop_duplicates().reset_index(drop=True)
    code = measured.groupby(list(by), sort=False).ngroup().to_numpy()
    rho = measured["rho"].to_numpy(dtype=float)
    there = ~np.isnan(rho)
    count = np.bincount(code[there], minlength=len(table))
    values = rho[there][np.argsort(code[there], kind="stable")]
    first = count.cumsum() - count
    found = np.full((3, len(table)), np.nan)
    for n in set(count[count > 0].tolist()):  # groups of one size share their resamples: quick
        groups = np.flatnonzero(count == n)
        columns = values[first[groups] + np.arange(n)[:, None]]
        found[0, groups] = columns.mean(0)
        found[1:, groups] = bootstrap_columns(columns, resamples, seed)
    table["rho"], table["low"], table["high"] = found
    table["pairs"], table["missing"] = count, np.bincount(code, minlength=len(table)) - count
    return table
