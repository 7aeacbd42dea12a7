"""Forward passes that keep their activations, or compute only a part: from a residual stream on, or only
what a change in it can reach.

Shape suffixes: b window, n token, c changed token, d model, h head, e head width, a action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set

import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.dt.activation_cache import ActivationCache
from dtx.dt.context import Context
from dtx.dt.hook_points import HookPoint
from dtx.dt.hooks import Names, hooked
from dtx.dt.layers import Block
from dtx.dt.model import DecisionTransformerModel
from dtx.errors import UserError

Hook = tuple[str, Callable[[Tensor, HookPoint], Tensor | None]]
"""Name of an activation, and what is called with it; what that returns, if anything, replaces it."""


def blocks_of(model: DecisionTransformerModel) -> list[Block]:
    """The model's blocks, typed."""
    return list(model.blocks)


def run_from(
    model: DecisionTransformerModel,
    layer: int,
    resid_bnd: Tensor,
    hooks: Sequence[Hook] = (),
    *,
    last_token_only: bool = True,
) -> Tensor:
    """Action logits (b, a) at the last token, computed from a residual stream on.

    Args:
        model: Any; hooks of its own stay in force.
        layer: Block that reads the stream first; ``n_layers``: only the unembedding does.
        resid_bnd: The residual stream before that block.
        hooks: Edits of activations from that block on, as TransformerLens has them.
        last_token_only: Compute the last block at the last token alone, unless it is hooked there.
    """
    if hooks:
        with model.hooks(fwd_hooks=list(hooks)):
            return run_from(model, layer, resid_bnd, last_token_only=last_token_only)
    blocks = blocks_of(model)
    for block in blocks[layer:-1]:
        resid_bnd = block(resid_bnd)
    if layer < len(blocks):
        alone = last_token_only and not hooked(*blocks[-1].modules())
        resid_bnd = blocks[-1].last(resid_bnd) if alone else blocks[-1](resid_bnd)
    return model.read(resid_bnd[:, -1])


def run_with_cache(
    model: DecisionTransformerModel, context: Context, names: Names = None
) -> tuple[Tensor, ActivationCache]:
    """Logits (b, t, a) at the state tokens, and activations by name.

    Args:
        model: Any; gradients are not kept.
        context: Windows.
        names: Which activations: None for all, a name, names, or a function of names.

    Raises:
        UserError: A name is no activation that is computed, or none is chosen.
    """
    with torch.no_grad():
        logits, values = model.run_with_cache(context, names_filter=names)
    return logits, ActivationCache(values, model)


class Changed:
    """Forward passes that differ from a known one only from some token on.

    Args:
        model: Any, without hooks.
        base: Activations :meth:`needed` of the known run, one row a window.

    Raises:
        UserError: The model has hooks, which would not be called here.
    """

    def __init__(self, model: DecisionTransformerModel, base: Mapping[str, Tensor]):
        if model.has_hooks:
            raise UserError("a part of a run passes by no hook: reset_hooks() of the model before")
        self.model, self.base = model, base
        self.blocks = blocks_of(model)
        self.last = model.cfg.n_layers - 1
        self.n = base["blocks.0.hook_resid_pre"].shape[1]

    @staticmethod
    def needed(layers: int) -> Set[str]:
        """Names of the activations of the known run that are needed to go on from any layer."""
        parts = ("hook_resid_pre", "attn.hook_q", "attn.hook_k", "attn.hook_v")
        return {f"blocks.{layer}.{part}" for layer in range(layers) for part in parts}

    def logits(self, layer: int, row_b: Tensor, begin: int, resid_bcd: Tensor) -> Tensor:
        """Action logits (b, a) at the last token.

        Args:
            layer: Block that reads the changed stream first; ``n_layers``: only the unembedding does.
            row_b: Window of the known run of each row.
            begin: First changed token.
            resid_bcd: The stream before that layer at c tokens from there on; elsewhere it is the known one.
        """
        for number in range(layer, self.last + 1):
            # Wanted of this layer: every token that sees a changed one, of the last one the last.
            start = self.n - 1 if number == self.last else begin
            block = self.blocks[number]
            x_bcd = block.ln1(resid_bcd)
            k, v = (
                self._replaced(number, f"attn.hook_{name.lower()}", row_b, 0, begin, new)
                for name, new in ((name, block.attn.project(x_bcd, name)) for name in "KV")
            )
            asking = x_bcd[:, max(start - begin, 0) :]
            q = self._replaced(
                number, "attn.hook_q", row_b, start, start, block.attn.project(asking, "Q")
            )
            pre_bcd = self._replaced(
                number, "hook_resid_pre", row_b, start, start, resid_bcd[:, max(start - begin, 0) :]
            )
            z_bhce = F.scaled_dot_product_attention(
                *(x.transpose(1, 2) for x in (q, k, v)), attn_mask=self.seen(start)
            )
            mid_bcd = pre_bcd + block.attn.output(z_bhce.transpose(1, 2))
            resid_bcd = mid_bcd + block.mlp(block.ln2(mid_bcd))
            begin = start
        return self.model.read(resid_bcd[:, -1])

    def _replaced(
        self, layer: int, name: str, row_b: Tensor, start: int, begin: int, new: Tensor
    ) -> Tensor:
        """An activation of the known run from token ``start`` on, new at some tokens from ``begin`` on."""
        if begin == start and start + new.shape[1] == self.n:
            return new
        value = self.of(layer, name)[row_b, start:]
        value[:, begin - start : begin - start + new.shape[1]] = new
        return value

    def of(self, layer: int, name: str) -> Tensor:
        """An activation of the known run: ``attn.hook_q`` of a layer."""
        return self.base[f"blocks.{layer}.{name}"]

    def seen(self, start: int) -> Tensor:
        """(c, m) bool: what queries from ``start`` on may look at."""
        return torch.ones(self.n, self.n, dtype=torch.bool).tril()[start:]
