"""JumpReLU dictionaries in training: thresholds get gradients of steps that are taken as slopes of a width.

Letters: n rows, d and o activations, f feature.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dtx.dictionary.networks.penalised import PenalisedNetwork


class JumpReLUNetwork(PenalisedNetwork):
    """The penalty is on the number of features that are on.

    Args:
        arguments: As of :class:`Network`.
        threshold: Of each feature at the start.
        bandwidth: Around the threshold, in which it gets gradients.

    Attributes:
        log_threshold: (f,).
    """

    def __init__(self, *arguments: Any, threshold: float, bandwidth: float):
        super().__init__(*arguments)
        self.bandwidth = bandwidth
        start = torch.full_like(self.b_enc, threshold).log()
        self.log_threshold = nn.Parameter(start, requires_grad=self.b_enc.requires_grad)

    def losses(
        self, before_nf: Tensor, x_nd: Tensor, y_no: Tensor, penalty: float
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`PenalisedNetwork.losses`."""
        threshold_f = self.log_threshold.exp()
        on_nf = _Step.apply(before_nf, threshold_f, self.bandwidth)
        features_nf = torch.relu(before_nf) * on_nf
        return features_nf, self.errors(features_nf, y_no) + penalty * on_nf.sum(1)

    def limits(self) -> Tensor:
        """The thresholds."""
        return self.log_threshold.exp().detach()

    @torch.no_grad()
    def architecture(self, scale: float) -> tuple[str, dict[str, Tensor], int | None]:
        """SAELens's jumprelu."""
        return "jumprelu", {"threshold": self.log_threshold.exp() / scale}, None


class _Step(torch.autograd.Function):
    """1 above the threshold, 0 below; backward, a slope of the given width around it."""

    @staticmethod
    def forward(ctx: Any, before_nf: Tensor, threshold_f: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(before_nf, threshold_f)
        ctx.width = width
        return (before_nf > threshold_f).to(before_nf.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        before_nf, threshold_f = ctx.saved_tensors
        near_nf = ((before_nf - threshold_f).abs() < ctx.width / 2) / ctx.width
        slope_nf = gradients[0] * near_nf
        return slope_nf, -slope_nf.sum(0), None
