"""A convolutional state embedding, as some published models have it, on the same flattened one-hots.

Shape suffixes: b observation, c channel of a flattened one-hot, k one of a cell's 20 channels, x and y cell,
d model.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtx.env.encoding import CHANNELS, OFFSETS, VIEW


class ConvolutionalState(nn.Module):
    """Embed each cell, two 3x3 convolutions, the maximum over the view: BabyAI's shape of encoder.

    Source: Hui et al. 2020, "BabyAI 1.1", https://arxiv.org/abs/2007.12770. Its batch normalisation, in
    evaluation mode, is a part of the convolutions' weights here.
    """

    def __init__(self, width: int):
        super().__init__()
        self.W_cell = nn.Parameter(torch.empty(CHANNELS, width))
        for name in ("first", "second"):  # rows are inputs, as everywhere in the model
            setattr(self, f"W_{name}", nn.Parameter(torch.empty(width * 9, width)))
            setattr(self, f"b_{name}", nn.Parameter(torch.zeros(width)))

    def forward(self, one_hot: Tensor) -> Tensor:
        """Embed (..., c) as (..., d). Where nothing is set (padding), a cell has index 0 of every kind."""
        image_bkxy = one_hot.reshape(-1, CHANNELS, VIEW, VIEW).clone()
        for first, last in zip(OFFSETS, (*OFFSETS[1:], CHANNELS), strict=True):
            image_bkxy[:, first] += 1 - image_bkxy[:, first:last].sum(1)
        x_bdxy = torch.einsum("bkxy,kd->bdxy", image_bkxy, self.W_cell)
        for name in ("first", "second"):
            x_bdxy = F.relu(
                F.conv2d(x_bdxy, self._kernel(name), getattr(self, f"b_{name}"), padding=1)
            )
        return x_bdxy.amax(dim=(2, 3)).unflatten(0, one_hot.shape[:-1])

    def _kernel(self, name: str) -> Tensor:
        """(out, in, 3, 3) of the matrix (in * 9, out)."""
        matrix = getattr(self, f"W_{name}")
        return matrix.T.unflatten(1, (-1, 3, 3))
