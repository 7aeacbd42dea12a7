"""How well dictionaries reconstruct held-out rows, each counted as often as it occurs.

Letters: n rows of a block, d activation, f feature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dtx.activations.stored import Activations
from dtx.dictionary.autoencoder import SparseAutoencoder

ROWS = 1024
"""That are encoded together."""


@dataclass(frozen=True)
class Measured:
    """Numbers of a dictionary.

    Attributes:
        explained_variance: 1 - sum |x - x^|^2 / sum |x - mean|^2 over all rows and their mean.
        l0: Features that are on, a token.
        dead_share: Of features that are never on.
        loss: Mean squared error of a number.
    """

    explained_variance: float
    l0: float
    dead_share: float
    loss: float


@torch.no_grad()
def measure(
    sae: SparseAutoencoder, stored: Activations, rows: np.ndarray, hook_out: str | None = None
) -> Measured:
    """Encode and decode all rows.

    Args:
        sae: A dictionary of ``sae.hook_name``.
        stored: Where the rows are.
        rows: Their numbers.
        hook_out: What is reconstructed; None: what is read.
    """
    wanted = np.zeros(len(stored), bool)
    wanted[rows] = True
    count = stored.columns["count"]
    f, o = sae.weights["W_dec"].shape
    ever = torch.zeros(f, dtype=torch.bool)
    error, on, weight, squares, sums = 0.0, 0.0, 0.0, 0.0, np.zeros(o)
    shift_o = sae.weights["b_dec"].double()  # near the mean: large means would cost digits
    for number in range(stored.blocks):
        read, numbers = stored.block(sae.hook_name, number, wanted)
        out = read if hook_out is None else stored.block(hook_out, number, wanted)[0]
        for begin in range(0, len(read), ROWS):
            some = slice(begin, begin + ROWS)
            x = torch.from_numpy(read[some].astype(np.float32))
            y = torch.from_numpy(out[some].astype(np.float32))
            w = torch.from_numpy(count[numbers[some]].astype(np.float64))
            features = sae.encode(x)
            active = features > 0
            ever |= active.any(0)
            far = y.double() - shift_o
            error += float(w @ (sae.decode(features, x) - y).double().square().sum(1))
            on += float(w @ active.sum(1).double())
            weight += float(w.sum())
            squares += float(w @ far.square().sum(1))
            sums += (w @ far).numpy()
    mean = sums / weight
    deviation = squares - weight * float(mean @ mean)
    return Measured(
        explained_variance=1 - error / deviation if deviation > 0 else float("nan"),
        l0=on / weight,
        dead_share=1 - float(ever.double().mean()),
        loss=error / weight / o,
    )
