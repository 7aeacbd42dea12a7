"""Forward passes of ``dt=interchange`` with head outputs from other windows.

Shape suffixes: b window, t timestep, n token, h head, e head width, a action.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dtx.dt.interchange.routes import RouteBatch
from dtx.dt.model import DecisionTransformerModel


def last_token(batch: RouteBatch) -> Tensor:
    """(b,) token of the decision's state."""
    layout = batch.context.layout
    return layout.per_step * batch.decision + layout.first_state


def run_plain(network: DecisionTransformerModel, batch: RouteBatch) -> tuple[Tensor, list[Tensor]]:
    """Logits (b, t, a), and every block's head outputs z (b, n, h, e)."""
    z: list[Tensor] = []

    def keep(value: Tensor, hook) -> None:
        z.append(value)

    names = [f"blocks.{layer}.attn.hook_z" for layer in range(network.cfg.n_layers)]
    with network.hooks(fwd_hooks=[(name, keep) for name in names]):
        return network(batch.context), z


def run_interchanged(
    network: DecisionTransformerModel,
    batch: RouteBatch,
    z: list[Tensor],
    sources: dict[int, Tensor],
    rest: Tensor,
) -> Tensor:
    """Logits (b, a) at the decision when head outputs come from other windows.

    Args:
        z: Of :func:`run_plain` on the same windows.
        sources: By head of the first block: (b,) the window whose decision it comes from, at the decision.
        rest: (b,) window that all other head outputs come from, token by token.
    """
    last_b, rows = last_token(batch), torch.arange(len(rest))

    def first(value: Tensor, hook) -> Tensor:
        mixed = z[0][rest]
        for head, source in sources.items():
            mixed = mixed.clone()
            mixed[rows, last_b, head] = z[0][source, last_b[source], head]
        return mixed

    def later(value: Tensor, hook) -> Tensor:
        return z[hook.layer()][rest]

    hooks = [
        (f"blocks.{layer}.attn.hook_z", later if layer else first)
        for layer in range(network.cfg.n_layers)
    ]
    with network.hooks(fwd_hooks=hooks):
        return network(batch.context)[rows, batch.decision]
