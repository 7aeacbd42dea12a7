"""Crosscoders in training: BatchTopK on all sources beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dtx.dictionary.networks.batch_topk import BatchTopKNetwork
from dtx.dictionary.networks.network import Planned, Schedule


class CrosscoderNetwork(BatchTopKNetwork):
    """Starts with the same directions at all sources of one width, so that equal models stay equal.

    Args:
        planned: Which. schedule: The stage's settings.
        d: Width of all sources together. o: The same.
        widths: Of each source.
    """

    def __init__(self, planned: Planned, schedule: Schedule, d: int, o: int, widths: Sequence[int]):
        super().__init__(planned, schedule, d, o)
        first: dict[int, slice] = {}
        begin = 0
        with torch.no_grad():
            for width in widths:
                own = slice(begin, begin + width)
                self.start[:, own] = self.start[:, first.setdefault(width, own)]
                begin += width
            self.start /= self.start.norm(dim=1, keepdim=True)
            self.W_dec.copy_(self.start)
            self.W_enc.copy_(self.start)
