"""Muon on the blocks' matrices, AdamW elsewhere, and the learning rate by step.

Shape suffixes: k stacked matrices of one shape, r rows (the shorter side), c columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Quintic iteration that sends singular values near 1 (Jordan et al., 2024)."""
ITERATIONS = 5
MOMENTUM = 0.95


def orthogonalise(matrices_krc: Tensor, half: bool = False) -> Tensor:
    """Replace each matrix's singular values by about 1, all at once (Newton-Schulz).

    Args:
        matrices_krc: r must not exceed c, which makes the products small.
        half: Iterate in bfloat16, as the authors do; the result is only roughly orthogonal anyway.
    """
    a, b, c = COEFFICIENTS
    x = matrices_krc / (matrices_krc.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.bfloat16() if half else x
    for _ in range(ITERATIONS):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(matrices_krc.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, matrices of one shape stacked into one product.

    Attention's weights are (heads, d, e): each head is a matrix of its own, which costs a fraction
    of orthogonalising them side by side.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, half: bool = False
    ):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.half = half

    @torch.no_grad()
    def step(self, closure=None):
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows, columns = parameter.shape[-2:]
                    side = (min(rows, columns), max(rows, columns))
                    by_shape.setdefault(side, []).append(parameter)
            for parameters in by_shape.values():
                self._step_shape(parameters, group["lr"], group["weight_decay"])

    def _step_shape(self, parameters: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        for parameter in parameters:
            if parameter not in self.state or "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[p]["momentum"] for p in parameters]
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov
        update_krc = orthogonalise(torch.cat([_wide(x) for x in ahead]), self.half)
        updates, first = [], 0
        for parameter in parameters:
            count = parameter.numel() // (parameter.shape[-1] * parameter.shape[-2])
            part = update_krc[first : first + count]
            tall = parameter.shape[-2] > parameter.shape[-1]
            updates.append((part.transpose(1, 2) if tall else part).reshape(parameter.shape))
            first += count
        if weight_decay:
            torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        # A layer that widens gets a proportionally larger step; heads side by side are square.
        scales = [
            -lr * math.sqrt(max(1, p.shape[1] / p.shape[0])) if p.ndim == 2 else -lr
            for p in parameters
        ]
        torch._foreach_mul_(updates, scales)
        torch._foreach_add_(parameters, updates)


def _wide(x: Tensor) -> Tensor:
    stacked = x.reshape(-1, *x.shape[-2:])
    return stacked.transpose(1, 2) if x.shape[-2] > x.shape[-1] else stacked


def learning_rate_share(
    step: int, steps: int, warm_up: int, cycles: int, final_share: float
) -> float:
    """Share of the full learning rate at a step: linear warm-up, then cosine to ``final_share``.

    Args:
        cycles: Cosine restarts after the warm-up (the study: 3).
    """
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    phase = done * cycles % 1.0
    return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * phase))


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The blocks' matrices, and everything else (embeddings, biases, norms, unembedding)."""
    named = list(model.named_parameters())
    hidden = [p for n, p in named if n.startswith("blocks.") and ".W_" in n]
    chosen = {id(p) for p in hidden}
    return hidden, [p for _, p in named if id(p) not in chosen]
