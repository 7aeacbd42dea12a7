"""TopK in training: gradients by the k features that are on alone.

Letters: n rows of a batch, d activation, o activation that is reconstructed, f feature, q dead feature,
z features that are on in the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.dictionary.networks.network import Network
from dtx.dictionary.networks.sparse import Codes, largest, of_largest


class TopKNetwork(Network):
    """The k largest features of each row, those above 0."""

    @torch.no_grad()
    def gradients(self, x_nd: Tensor, y_no: Tensor, weight_n: Tensor, step: int) -> float:
        """As :meth:`Network.gradients`."""
        before_nf = torch.addmm(self.b_enc, x_nd, self.W_enc.T)
        codes, values_z = self.chosen(before_nf, weight_n)
        loss, error_no = self.backward(codes, values_z, x_nd, y_no, weight_n, step)
        dead_f = self.dead(step)
        if self.schedule.revive and dead_f.any():
            loss += self._revive(before_nf, dead_f, error_no, x_nd, weight_n)
        return loss

    def chosen(self, before_nf: Tensor, weight_n: Tensor) -> tuple[Codes, Tensor]:
        """Which features are on, and their values (z,)."""
        values_nk, index_nk = largest(before_nf, int(self.planned.sparsity))
        return of_largest(index_nk, self.planned.width), values_nk.relu().view(-1)

    def saw(
        self,
        codes: Codes,
        values_z: Tensor,
        error_no: Tensor,
        y_no: Tensor,
        weight_n: Tensor,
        step: int,
    ) -> None:
        """Note which features were on, and the numbers of the curves."""
        on_z = values_z > 0
        self.last_on[codes.index[on_z].long()] = step
        self.note(error_no, y_no, weight_n, codes.of_rows(on_z.float()))

    def backward(
        self,
        codes: Codes,
        values_z: Tensor,
        x_nd: Tensor,
        y_no: Tensor,
        weight_n: Tensor,
        step: int,
    ) -> tuple[float, Tensor]:
        """Set gradients of the mean squared error; returns it, and the errors (n, o)."""
        error_no = codes.decoded(values_z, self.W_dec, self.b_dec) - y_no
        self.saw(codes, values_z, error_no, y_no, weight_n, step)
        weighted_no = error_no * (2 / len(x_nd) * weight_n)[:, None]
        self.b_dec.grad = weighted_no.sum(0)
        if self.W_dec.requires_grad:
            self.W_dec.grad = codes.transposed(values_z, weighted_no)
        if self.W_enc.requires_grad:
            slope_z = codes.products(weighted_no, self.W_dec) * (values_z > 0)
            self.W_enc.grad = codes.transposed(slope_z, x_nd)
            self.b_enc.grad = codes.summed(slope_z)
        loss = (weight_n @ error_no.square().sum(1)).item() / len(x_nd)
        return loss, error_no

    def _revive(
        self,
        before_nf: Tensor,
        dead_f: Tensor,
        error_no: Tensor,
        x_nd: Tensor,
        weight_n: Tensor,
    ) -> float:
        """Add gradients of the loss by which the largest dead features reconstruct what is missing."""
        dead_q = dead_f.nonzero()[:, 0]
        most = max(1, min(self.b_dec.shape[0] // 2, len(dead_q)))
        values, index = largest(before_nf[:, dead_q], most)
        values_z = F.relu(values).reshape(-1)
        codes, W_qo = of_largest(index, len(dead_q)), self.W_dec[dead_q]
        rest_no = codes.decoded(values_z, W_qo) + error_no  # error: reconstruction - wanted
        share = self.schedule.revive * min(1.0, len(dead_q) / (self.b_dec.shape[0] // 2 or 1))
        weighted_no = rest_no * (2 * share / len(x_nd) * weight_n)[:, None]
        if self.W_dec.grad is not None:
            self.W_dec.grad[dead_q] += codes.transposed(values_z, weighted_no)
        if self.W_enc.grad is not None and self.b_enc.grad is not None:
            slope_z = codes.products(weighted_no, W_qo) * (values_z > 0)
            self.W_enc.grad[dead_q] += codes.transposed(slope_z, x_nd)
            self.b_enc.grad[dead_q] += codes.summed(slope_z)
        return share * (weight_n @ rest_no.square().sum(1)).item() / len(x_nd)

    def architecture(self, scale: float) -> tuple[str, dict[str, Tensor], int | None]:
        """SAELens's topk."""
        return "topk", {}, int(self.planned.sparsity)
