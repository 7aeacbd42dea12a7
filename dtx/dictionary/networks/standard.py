"""ReLU features with an L1 penalty in training. Letters: n rows, d and o activations, f feature."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dtx.dictionary.networks.penalised import PenalisedNetwork


class StandardNetwork(PenalisedNetwork):
    """The penalty is on the sum of the features; the decoder's rows have norm 1."""

    def losses(
        self, before_nf: Tensor, x_nd: Tensor, y_no: Tensor, penalty: float
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`PenalisedNetwork.losses`."""
        features_nf = F.relu(before_nf)
        return features_nf, self.errors(features_nf, y_no) + penalty * features_nf.sum(1)

    def architecture(self, scale: float) -> tuple[str, dict[str, Tensor], int | None]:
        """SAELens's standard."""
        return "standard", {}, None
