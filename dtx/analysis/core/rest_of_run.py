"""The rest of a patched run, where only what a patch can change is computed.

Shape suffixes: b rows of a forward pass, each of a pair, c changed tokens, d model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dtx.analysis.core.pair_runs import PairRuns
from dtx.dt.forward import Changed

if TYPE_CHECKING:
    from dtx.dt.model import DecisionTransformerModel

needed = Changed.needed


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
