"""BatchTopK in training: a budget of features for a batch, and the threshold that stands for it later.

Letters: n rows of a batch, f feature, z features on in the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtx.dictionary.networks.sparse import Codes
from dtx.dictionary.networks.topk import TopKNetwork

MEMORY = 0.9
"""Of the running mean of the batches' thresholds."""


class BatchTopKNetwork(TopKNetwork):
    """The largest features of a batch, k a token on average: a row counts as often as it occurs.

    Attributes:
        threshold: (1,) running mean of the smallest value that is on; below 0: no batch yet.
    """

    threshold: Tensor

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.register_buffer("threshold", torch.full((1,), -1.0))

    def chosen(self, before_nf: Tensor, weight_n: Tensor) -> tuple[Codes, Tensor]:
        """As :meth:`TopKNetwork.chosen`."""
        n, f = before_nf.shape
        values, weight = before_nf.reshape(-1).numpy(), weight_n.numpy()
        budget = self.planned.sparsity * float(weight.sum())
        low = max(0.0, 0.7 * float(self.threshold))  # most values are far below
        some = np.flatnonzero(values > low)
        if low and float(weight[some // f].sum()) < budget:
            some = np.flatnonzero(values > 0)
        order = some[np.argsort(-values[some], kind="stable")]
        spent = np.cumsum(weight[order // f], dtype=np.float64)
        on = np.sort(order[: int(np.searchsorted(spent, budget, "right"))])
        if len(on):
            least = torch.from_numpy(values[on].min(keepdims=True))
            first = float(self.threshold) < 0
            self.threshold.lerp_(least, 1.0 if first else 1 - MEMORY)
        begins = np.searchsorted(on, np.arange(n + 1) * f).astype(np.int32)
        return Codes(begins, (on % f).astype(np.int32), f), torch.from_numpy(values[on])

    def architecture(self, scale: float) -> tuple[str, dict[str, Tensor], int | None]:
        """SAELens's jumprelu, with one threshold for all features."""
        threshold = self.threshold.clamp_min(0) / scale
        return "jumprelu", {"threshold": threshold.expand(self.planned.width).contiguous()}, None
