"""Matryoshka in training: the mean of the losses of several dictionaries, each the first part of the next.

Letters: n rows of a batch, d activation, o activation that is reconstructed, z features on in the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dtx.dictionary.networks.batch_topk import BatchTopKNetwork
from dtx.dictionary.networks.sparse import Codes


class MatryoshkaNetwork(BatchTopKNetwork):
    """Features are on as in BatchTopK; the decoder's bias belongs to every part.

    Args:
        arguments: As of :class:`Network`.
        nested: Shares of the features, first ones first, that reconstruct without the others.

    Attributes:
        ends: Features of each part; the last has all.
    """

    def __init__(self, *arguments: Any, nested: tuple[float, ...]):
        super().__init__(*arguments)
        width = self.planned.width
        self.ends = [*(int(share * width) for share in nested), width]

    def backward(
        self,
        codes: Codes,
        values_z: Tensor,
        x_nd: Tensor,
        y_no: Tensor,
        weight_n: Tensor,
        step: int,
    ) -> tuple[float, Tensor]:
        """Set gradients of the mean of the parts' losses; returns it, and the whole's errors (n, o)."""
        ends = self.ends
        place_z = torch.bucketize(codes.index.long(), torch.tensor(ends), right=True)
        per_n = 2 / len(x_nd) / len(ends) * weight_n[:, None]
        out_no, loss = self.b_dec.expand_as(y_no), 0.0
        errors = []
        for part in range(len(ends)):
            out_no = out_no + codes.decoded(values_z * (place_z == part), self.W_dec)
            errors.append(out_no - y_no)
            loss += (weight_n @ errors[-1].square().sum(1)).item() / len(x_nd) / len(ends)
        whole_no = errors[-1]
        self.saw(codes, values_z, whole_no, y_no, weight_n, step)
        # A feature is in its own part and in all larger ones.
        behind_no = torch.zeros_like(y_no)
        decoder, encoder = torch.zeros_like(self.W_dec), torch.zeros_like(self.W_enc)
        bias = torch.zeros_like(self.b_enc)
        for part in reversed(range(len(ends))):
            behind_no = behind_no + errors[part] * per_n
            here_z = place_z == part
            if self.W_dec.requires_grad:
                decoder += codes.transposed(values_z * here_z, behind_no)
            if self.W_enc.requires_grad:
                slope_z = codes.products(behind_no, self.W_dec) * here_z
                encoder += codes.transposed(slope_z, x_nd)
                bias += codes.summed(slope_z)
        self.b_dec.grad = behind_no.sum(0)
        if self.W_dec.requires_grad:
            self.W_dec.grad = decoder
        if self.W_enc.requires_grad:
            self.W_enc.grad, self.b_enc.grad = encoder, bias
        return loss, whole_no
