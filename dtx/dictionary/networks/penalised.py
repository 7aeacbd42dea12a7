"""Dictionaries whose features cost something: gradients by autograd, for many features are on at first.

Letters: n rows of a batch, d activation, o activation that is reconstructed, f feature.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.dictionary.networks.network import Network


class PenalisedNetwork(Network):
    """A kind says what its features and its loss are."""

    def gradients(self, x_nd: Tensor, y_no: Tensor, weight_n: Tensor, step: int) -> float:
        """As :meth:`Network.gradients`."""
        self.zero_grad(set_to_none=True)
        share = min(1.0, (step + 1) / (self.schedule.warm_up + 1))
        before_nf = torch.addmm(self.b_enc, x_nd, self.W_enc.T)
        features_nf, loss_n = self.losses(before_nf, x_nd, y_no, share * self.planned.sparsity)
        on_nf = features_nf.detach() > 0
        self.last_on[on_nf.any(0)] = step
        dead_f = self.dead(step)
        if self.schedule.revive and self.b_enc.requires_grad and dead_f.any():
            # Nothing else moves a feature that is never on.
            missing_nf = F.relu(self.limits()[dead_f] - before_nf[:, dead_f])
            loss_n = loss_n + self.schedule.revive * missing_nf.sum(1)
        loss = (weight_n * loss_n).mean()
        loss.backward()
        with torch.no_grad():
            error_no = torch.addmm(self.b_dec, features_nf, self.W_dec) - y_no
            self.note(error_no, y_no, weight_n, on_nf.sum(1))
        return loss.item()

    def losses(
        self, before_nf: Tensor, x_nd: Tensor, y_no: Tensor, penalty: float
    ) -> tuple[Tensor, Tensor]:
        """Features (n, f) and the loss of each row (n,)."""
        raise NotImplementedError

    def limits(self) -> Tensor:
        """(f,) what the encoder must give for a feature to be on."""
        return torch.zeros_like(self.b_enc)

    def errors(self, features_nf: Tensor, y_no: Tensor) -> Tensor:
        """(n,) squared errors."""
        return (torch.addmm(self.b_dec, features_nf, self.W_dec) - y_no).square().sum(1)
