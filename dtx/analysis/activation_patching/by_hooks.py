"""The sweep of activation patching for any model with TransformerLens's hooks.

It knows nothing of the model but its hooks: every patch is a whole run. Of a Decision Transformer
:class:`dtx.analysis.activation_patching.sweep.NodeSweep` gives the same numbers sooner.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dtx.analysis.activation_patching.sweep import NodeSweep
from dtx.analysis.core.patching_spec import Node, hook_of


class HookSweep(NodeSweep):
    """The patches of one batch of pairs.

    Args:
        model: Called with rows of ``batch.clean``, gives logits (b, ..., a); has ``run_with_cache``,
            ``run_with_hooks``, ``cfg.n_layers`` and ``cfg.n_heads``.
        batch: Pairs of one shape.
        gap: Smallest difference between the runs at which rho means something.
        direction: What is patched into what.
        nodes: What is patched.
        at_once: Rows of a forward pass, at most.
        stop: Asked before each forward pass: whether to compute no more.
    """

    def _wanted(self) -> set[str]:
        return self._hooks(self.nodes)

    def _added(self, layer: int, node: Node, head: int | None) -> np.ndarray:
        p, n = self.batch.changed.shape
        mask = torch.eye(n, dtype=torch.bool).repeat(p, 1)
        return self._patched(layer, node, head, np.repeat(np.arange(p), n), mask)

    def _forward(
        self, layer: int, node: Node, head: int | None, which: Tensor, mask_bn: Tensor
    ) -> Tensor:
        name = hook_of(layer, node.value)
        patch = self.patch(node, head, self.runs.source[name][which], mask_bn)
        rows = self.runs.patched_context(which.numpy())
        return self.model.run_with_hooks(rows, fwd_hooks=[(name, patch)])[:, -1]
