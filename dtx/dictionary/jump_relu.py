"""JumpReLU: each feature has a threshold that is trained (Rajamanoharan et al. 2024b)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from dtx.config.ranges import Positive
from dtx.dictionary.sparsity import Penalised


@dataclass(frozen=True, kw_only=True)
class JumpReLU(Penalised):
    """Trains JumpReLU dictionaries; ``conf/dictionary/jump_relu.yaml`` explains the fields."""

    threshold: Positive
    bandwidth: Positive

    def run(self, out: Path) -> None:
        """Train all of them in one pass over the activations."""
        from dtx.dictionary.networks.jump_relu import JumpReLUNetwork
        from dtx.dictionary.training import train

        kind = functools.partial(
            JumpReLUNetwork, threshold=self.threshold, bandwidth=self.bandwidth
        )
        train(self, kind, out)
