"""The rest of a patched run, where only what a patch can change is computed.

Shape suffixes: b rows of a forward pass, each of a pair, n tokens, c changed tokens, h head, e head width,
d model.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.analysis.core.pair_runs import PairRuns

if TYPE_CHECKING:
    from dtx.dt.model import DecisionTransformerModel


def needed(layers: int) -> Set[str]:
    """The activations of the base run that are needed to go on from any layer."""
    parts = ("hook_resid_pre", "attn.hook_q", "attn.hook_k", "attn.hook_v")
    return {f"blocks.{layer}.{part}" for layer in range(layers) for part in parts}


class RestOfRun:
    """Goes on from a layer in the run that is patched; tokens before the patch stay as they are."""

    def __init__(self, model: DecisionTransformerModel, runs: PairRuns):
        self.model, self.base, self.batch = model, runs.base, runs.batch
        self.blocks: Any = model.blocks
        self.n = runs.batch.changed.shape[1]
        self.last = model.cfg.n_layers - 1

    def ld(self, layer: int, row_b: Tensor, begin: int, resid_bcd: Tensor) -> Tensor:
        """LD (b,) when the stream before a layer is new at c tokens from ``begin`` on, else the base's."""
        for number in range(layer, self.last + 1):
            # Wanted of this layer: every token that sees a changed one, of the last one the last.
            start = self.n - 1 if number == self.last else begin
            block = self.blocks[number]
            x_bcd = block.ln1(resid_bcd)
            k, v = (
                self._replaced(number, f"attn.hook_{name.lower()}", row_b, 0, begin, new)
                for name, new in ((name, block.attn._project(x_bcd, name)) for name in "KV")
            )
            asking = x_bcd[:, max(start - begin, 0) :]
            q = self._replaced(
                number, "attn.hook_q", row_b, start, start, block.attn._project(asking, "Q")
            )
            pre_bcd = self._replaced(
                number, "hook_resid_pre", row_b, start, start, resid_bcd[:, max(start - begin, 0) :]
            )
            z_bhce = F.scaled_dot_product_attention(
                *(x.transpose(1, 2) for x in (q, k, v)), attn_mask=self.seen(start)
            )
            mid_bcd = pre_bcd + block.attn._output(z_bhce.transpose(1, 2))
            resid_bcd = mid_bcd + block.mlp(block.ln2(mid_bcd))
            begin = start
        logits = self.model.unembed(self.model.ln_final(resid_bcd[:, -1]))
        place = torch.arange(len(row_b))
        positive, negative = self.batch.positive[row_b], self.batch.negative[row_b]
        return logits[place, positive] - logits[place, negative]

    def _replaced(
        self, layer: int, name: str, row_b: Tensor, start: int, begin: int, new: Tensor
    ) -> Tensor:
        """An activation of the base run from token ``start`` on, new at some tokens from ``begin`` on."""
        if begin == start and start + new.shape[1] == self.n:
            return new
        value = self.of(layer, name)[row_b, start:]
        value[:, begin - start : begin - start + new.shape[1]] = new
        return value

    def of(self, layer: int, name: str) -> Tensor:
        return self.base[f"blocks.{layer}.{name}"]

    def seen(self, start: int) -> Tensor:
        """(c, m) bool: what queries from ``start`` on may look at."""
        return torch.ones(self.n, self.n, dtype=torch.bool).tril()[start:]
