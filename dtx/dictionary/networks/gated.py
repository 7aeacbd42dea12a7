"""Gated dictionaries in training. Letters: n rows, d and o activations, f feature."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtx.dictionary.networks.penalised import PenalisedNetwork


class GatedNetwork(PenalisedNetwork):
    """The penalty is on the gates alone, so that it does not shrink the features.

    Attributes:
        b_enc: (f,) of the gate. b_mag, r_mag: (f,) bias, and logarithm of the factor, of the size.
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        encodes = self.b_enc.requires_grad
        self.b_mag = nn.Parameter(torch.zeros_like(self.b_enc), requires_grad=encodes)
        self.r_mag = nn.Parameter(torch.zeros_like(self.b_enc), requires_grad=encodes)

    def losses(
        self, before_nf: Tensor, x_nd: Tensor, y_no: Tensor, penalty: float
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`PenalisedNetwork.losses`."""
        gates_nf = F.relu(before_nf)
        sizes_nf = F.relu((before_nf - self.b_enc) * self.r_mag.exp() + self.b_mag)
        features_nf = sizes_nf * (before_nf > 0)
        # The gate learns what to be on for by reconstructing with a decoder that it does not move.
        out_no = torch.addmm(self.b_dec.detach(), gates_nf, self.W_dec.detach())
        of_gates_n = (out_no - y_no).square().sum(1)
        return features_nf, self.errors(features_nf, y_no) + of_gates_n + penalty * gates_nf.sum(1)

    @torch.no_grad()
    def architecture(self, scale: float) -> tuple[str, dict[str, Tensor], int | None]:
        """SAELens's gated."""
        biases = {"b_gate": self.b_enc / scale, "b_mag": self.b_mag / scale}
        return "gated", {**biases, "r_mag": self.r_mag.clone()}, None
