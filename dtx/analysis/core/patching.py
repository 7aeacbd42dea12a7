"""The two runs of counterfactual pairs, which every causal analysis edits, and how an edit's effect counts.

Shape suffixes: p pairs, n tokens, b rows of a forward pass, each of a pair, c changed tokens, h head, e head
width, d model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.core.patching_spec import EDIT, NULL, Direction
from dtx.analysis.core.result import largest
from dtx.analysis.core.verdicts import Check
from dtx.dt.context import Context
from dtx.dt.forward import Changed
from dtx.dt.model import DecisionTransformerModel
from dtx.pairs.pair_set import PairBatch

NO_GAP = "no edit changes the logit difference by min_ld_gap; not analysed"
"""Why nothing is established where no pair has a rho."""
SAME_RUNS = (
    "in every pair both runs have the same logit difference: the model does not read what is edited"
)
"""The same where there is not even a small difference: as far as the model goes, nothing was edited."""


class Stopped(Exception):
    """Nobody waits for the rest of a sweep any more."""


def never() -> bool:
    """The ``stop`` of a sweep that runs to its end."""
    return False


class PairRuns:
    """Activations and logit differences (LD) of both runs of a batch of pairs.

    Attributes:
        source: Activations by hook of the run that patches are taken from, one row a pair.
        base: The same of the run that is patched.
        ld_clean: (p,) and ld_corrupt: (p,), float64. base_ld: (p,), LD of the run that is patched.
        direction: Of the patches.
        span: (p,), what a full patch changes. A donor's activations are put into the run that those of the
            pair that it is a control of are put into, and measured against that pair's span.
        measurable: (p,) bool, where the span reaches the gap; never in a null pair.
    """

    @torch.no_grad()
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
        of = batch.control_of.numpy()
        own = np.where(of >= 0, of, np.arange(len(batch)))
        self._own = own
        clean, corrupt = caches
        self.batch, self.direction = batch, direction
        self.ld_clean, self.ld_corrupt = logits
        self.source: dict[str, Tensor]
        self.base: dict[str, Tensor]
        if direction is Direction.denoise:
            self.source, self.base = clean, corrupt
            at_source, self.base_ld = self.ld_clean[own], self.ld_corrupt
        else:
            rows, donor = torch.from_numpy(own), torch.from_numpy(of >= 0)
            self.base = {name: value[rows] for name, value in clean.items()}
            self.source = {name: _where(donor, clean[name], corrupt[name]) for name in clean}
            at_source, self.base_ld = self.ld_corrupt, self.ld_clean[own]
        self.span = at_source - self.base_ld
        self.measurable = (np.abs(self.span) >= gap) & ~batch.kind(NULL)

    def table(self) -> pd.DataFrame:
        """One row a pair: what it is, its changed tokens and logit differences, whether it has a rho."""
        table = self.about(np.arange(len(self.batch)))
        table["changed"] = self.batch.table["changed"].to_numpy()
        table["ld_clean"], table["ld_corrupt"] = self.ld_clean, self.ld_corrupt
        table["measurable"] = self.measurable
        return table

    def result(self, row: np.ndarray, ld: np.ndarray) -> pd.DataFrame:
        """What patches did: a row each, with direction, ``change`` of LD and ``rho`` (missing under the gap).

        Args:
            row: (b,) the pair of each patch.
            ld: (b,) LD with the patch.
        """
        table = self.about(row)
        table["direction"] = self.direction.value
        table["change"] = ld - self.base_ld[row]
        with np.errstate(divide="ignore", invalid="ignore"):
            rho = table["change"] / self.span[row]
        table["rho"] = np.where(self.measurable[row], rho, np.nan)
        return table

    def patched_context(self, row: np.ndarray) -> Context:
        """The windows that are patched of pairs ``row`` (b,)."""
        if self.direction is Direction.denoise:
            return self.batch.corrupt[torch.from_numpy(row)]
        return self.batch.clean[torch.from_numpy(self._own[row])]

    def about(self, row: np.ndarray) -> pd.DataFrame:
        """The pair of each patch: pair, edit, kind, edit_as, variant, reward_to_go."""
        columns = ["pair", "edit", "kind", "edit_as", "variant", "reward_to_go"]
        return self.batch.table[columns].iloc[row].reset_index(drop=True)


def _where(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (yes.ndim - 1)), yes, no)


def distinct_inputs(runs: pd.DataFrame) -> int:
    """Edited pairs with different logit differences, of the rows of :meth:`PairRuns.table`."""
    edited = runs[runs["kind"] == EDIT]
    return len(edited.drop_duplicates(["ld_clean", "ld_corrupt", "edit"]))


def n_missing(runs: pd.DataFrame) -> float:
    """Edited pairs whose runs differ by less than the gap, so that they have no rho."""
    return float((~runs.loc[runs["kind"] == EDIT, "measurable"]).sum())


def unmoved(runs: pd.DataFrame) -> bool:
    """Whether there are edited pairs, and the two runs of each have the very same logit difference."""
    edited = runs[runs["kind"] == EDIT]
    return bool(len(edited) and (edited["ld_clean"] == edited["ld_corrupt"]).all())


def without_gap(runs: pd.DataFrame) -> list[str]:
    """The problem of an analysis if no edited pair's runs differ enough; else none."""
    if unmoved(runs):
        return [SAME_RUNS]
    return [] if runs.loc[runs["kind"] == EDIT, "measurable"].any() else [NO_GAP]


def worst(errors: Iterable[float | None]) -> float | None:
    """Largest of the errors that were measured; None if none was, NaN if one is no number."""
    values = [error for error in errors if error is not None]
    return largest(values) if values else None


def null_check(change: float | None, tolerance: float) -> Check:
    """The check that patches between two equal runs change nothing."""
    name = "patching within a null pair, whose runs are equal, changes nothing"
    return Check(name=name, error=change, tolerance=tolerance)


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
