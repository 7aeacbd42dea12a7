"""A part of what differs between the two runs of pairs, put into the corrupt run at one activation.

Shape suffixes: b pair, n token, d activation, f feature, r row of a forward pass.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.feature_effects.dictionary import Directions
from dtx.analysis.feature_effects.sites import Site, SiteRuns
from dtx.dt.model import DecisionTransformerModel
from dtx.pairs.pair_set import PairBatch

CONDITION = ["edit", "reward_to_go"]
"""What is never pooled."""


class Patches:
    """Both runs of pairs whose logit differences (LD) are apart, as features and what they leave out.

    The change from the corrupt to the clean activation is the sum of what each feature changes and of the
    error's change, whatever the dictionary.

    Args:
        model: Any. site: The activation. batch: Pairs. rows: Those of them that are patched.
        directions: Of the dictionary. at_once: Rows of a forward pass, at most.

    Attributes:
        change_bnf: Change of each feature, in units of its direction. error_bnd: Of the error.
        span_b: LD of the clean minus that of the corrupt run.
        gradient_bnd: Of LD by the activation, mean of its values at both ends.
    """

    def __init__(
        self,
        model: DecisionTransformerModel,
        site: Site,
        batch: PairBatch,
        rows: np.ndarray,
        directions: Directions,
        at_once: int,
    ):
        self.model, self.site, self.directions, self.at_once = model, site, directions, at_once
        self.batch, self.pair_b = batch, torch.from_numpy(rows)
        self.base, self.source = (
            SiteRuns(model, context[self.pair_b], site, last_only=True)
            for context in (batch.corrupt, batch.clean)
        )
        with torch.no_grad():
            added = [self.added(run.x_bnd) for run in (self.base, self.source)]
            self.change_bnf = added[1] - added[0]
            self.whole_bnd = self.source.x_bnd - self.base.x_bnd
            self.error_bnd = self.whole_bnd - self.change_bnf @ directions.direction_fd
            self.base_ld = batch.difference_of(self.base.logits, self.pair_b)
            self.span_b = batch.difference_of(self.source.logits, self.pair_b) - self.base_ld
        ends = [self._gradient(run) for run in (self.base, self.source)]
        self.gradient_bnd = (ends[0] + ends[1]) / 2

    @property
    def table(self) -> pd.DataFrame:
        """One row a pair: edit, reward_to_go, variant."""
        columns = [*CONDITION, "variant"]
        return self.batch.table[columns].iloc[self.pair_b.numpy()].reset_index(drop=True)

    def added(self, x_bnd: Tensor) -> Tensor:
        """Features (b, n, f) of an activation, as multiples of their directions."""
        return self.directions.sae.encode(x_bnd) * self.directions.scale(x_bnd)

    def _gradient(self, run: SiteRuns) -> Tensor:
        x_bnd = run.x_bnd.clone().requires_grad_()
        with torch.enable_grad():
            logits = run.replaced(torch.arange(len(run)), x_bnd)
            difference = self.batch.difference_of(logits, self.pair_b).sum()
        return torch.autograd.grad(difference, x_bnd)[0]

    @torch.no_grad()
    def rho(self, row_r: Tensor, added_rnd: Tensor) -> Tensor:
        """Share (r,) of the span that comes back when this is added in the corrupt run of pairs ``row_r``."""
        parts = [
            self.share(row, self.base.edited(row, added))
            for row, added in zip(
                row_r.split(self.at_once), added_rnd.split(self.at_once), strict=True
            )
        ]
        return torch.cat(parts) if parts else torch.zeros(0)

    def share(self, row_r: Tensor, logits_ra: Tensor) -> Tensor:
        """The same of logits."""
        ld_r = self.batch.difference_of(logits_ra, self.pair_b[row_r])
        return (ld_r - self.base_ld[row_r]) / self.span_b[row_r]

    def attribution(self) -> Tensor:
        """First-order rho (b, f) of each feature alone, summed over tokens."""
        along_bnf = self.gradient_bnd @ self.directions.direction_fd.T
        return (along_bnf * self.change_bnf).sum(1) / self.span_b[:, None]

    def attribution_of(self, added_bnd: Tensor) -> Tensor:
        """First-order rho (b,) of an addition."""
        return (self.gradient_bnd * added_bnd).sum((1, 2)) / self.span_b

    def of_features(self, features: Tensor) -> Tensor:
        """What some features (k,) change together (b, n, d)."""
        return self.change_bnf[..., features] @ self.directions.direction_fd[features]

    def conditions(self) -> list[tuple[tuple[str, float], Tensor]]:
        """Edits and rewards-to-go with their rows."""
        groups = self.table.groupby(CONDITION, sort=False).indices
        return [((str(k[0]), float(k[1])), torch.from_numpy(v)) for k, v in groups.items()]
