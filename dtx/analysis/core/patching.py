"""The two runs of counterfactual pairs, which every causal analysis edits, and how an edit's effect counts.

Shape suffixes: p pairs, n tokens, b rows of a forward pass, each of a pair, c changed tokens, h head, e head
width, d model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.core.patching_spec import EDIT, NULL, Direction
from dtx.analysis.core.result import About, Check, Claim, Verdict, largest
from dtx.dt.forward import Changed
from dtx.dt.model import DecisionTransformerModel
from dtx.pairs.pair_set import PairBatch
from dtx.statistics import bootstrap_columns

NO_GAP = "in no pair do the two runs differ by min_ld_gap"
"""Why nothing is established where no pair has a rho."""


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
        forwards = direction is Direction.denoise
        self.batch = batch
        self.source: dict[str, Tensor]
        self.base: dict[str, Tensor]
        self.source, self.base = caches if forwards else caches[::-1]
        self.ld_clean, self.ld_corrupt = logits
        at_source, at_base = logits if forwards else logits[::-1]
        of = batch.control_of.numpy()
        own = np.where(of >= 0, of, np.arange(len(batch)))
        self.base_ld, self.span = at_base, at_source[own] - at_base
        self.measurable = (np.abs(self.span) >= gap) & ~batch.kind(NULL)

    def table(self) -> pd.DataFrame:
        """One row a pair: what it is, its logit differences, whether it has a rho."""
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
    measured = patches[patches["kind"] != NULL]
    table = pd.DataFrame(measured[list(by)]).drop_duplicates().reset_index(drop=True)
    code = measured.groupby(list(by), sort=False).ngroup().to_numpy()
    rho = measured["rho"].to_numpy(dtype=float)
    there = ~np.isnan(rho)
    count = np.bincount(code[there], minlength=len(table))
    values = rho[there][np.argsort(code[there], kind="stable")]
    first = count.cumsum() - count
    values_3g = np.full((3, len(table)), np.nan)
    for n in set(count[count > 0].tolist()):  # groups of one size share their resamples: quick
        groups = np.flatnonzero(count == n)
        columns = values[first[groups] + np.arange(n)[:, None]]
        values_3g[0, groups] = columns.mean(0)
        values_3g[1:, groups] = bootstrap_columns(columns, resamples, seed)
    table["rho"], table["low"], table["high"] = values_3g
    table["pairs"], table["missing"] = count, np.bincount(code, minlength=len(table)) - count
    return table


def distinct_inputs(runs: pd.DataFrame) -> int:
    """Edited pairs with different logit differences, of the rows of :meth:`PairRuns.table`."""
    edited = runs[runs["kind"] == EDIT]
    return len(edited.drop_duplicates(["ld_clean", "ld_corrupt", "edit"]))


def n_missing(runs: pd.DataFrame) -> float:
    """Edited pairs whose runs differ by less than the gap, so that they have no rho."""
    return float((~runs.loc[runs["kind"] == EDIT, "measurable"]).sum())


def without_gap(runs: pd.DataFrame) -> list[str]:
    """The problem of an analysis if no edited pair's runs differ enough; else none."""
    return [] if runs.loc[runs["kind"] == EDIT, "measurable"].any() else [NO_GAP]


def worst(errors: Iterable[float | None]) -> float | None:
    """Largest of the errors that were measured; None if none was, NaN if one is no number."""
    values = [error for error in errors if error is not None]
    return largest(values) if values else None


def null_check(change: float | None, tolerance: float) -> Check:
    """The check that patches between two equal runs change nothing."""
    name = "patching within a null pair, whose runs are equal, changes nothing"
    return Check(name=name, error=change, tolerance=tolerance)


def above_control(edit: str, what: str, own: float, control: float | None) -> Claim:
    """Whether the strongest patch of an edit brings more than one from other layouts does at its place.

    Args:
        edit: Name of the edit.
        what: The patch: ``L1 mlp_out at S5``.
        own: rho of the patch. control: rho with activations from other layouts; None: not measured.
    """
    beside = "not measured" if control is None else f"{control:.2f}"
    return Claim(
        id=f"{edit}_carried",
        text=f"the strongest patch of {edit} brings more than its control",
        criterion="more than activations from an unrelated layout bring at the same place",
        evidence=f"{what} {own:.2f}, from unrelated layouts {beside}",
        verdict=Verdict.of(control is None or own > control),
        about=About.INSTRUMENT,
    )


class RestOfRun(Changed):
    """Goes on from a layer in the run that is patched; tokens before the patch stay as they are."""

    def __init__(self, model: DecisionTransformerModel, runs: PairRuns):
        super().__init__(model, runs.base)
        self.batch = runs.batch

    def ld(self, layer: int, row_b: Tensor, begin: int, resid_bcd: Tensor) -> Tensor:
        """LD (b,) when the stream before a layer is new at c tokens from ``begin`` on, else the base's."""
        logits = self.logits(layer, row_b, begin, resid_bcd)
        place = torch.arange(len(row_b))
        positive, negative = self.batch.positive[row_b], self.batch.negative[row_b]
        return logits[place, positive] - logits[place, negative]
