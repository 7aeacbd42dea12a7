"""ReLU features with an L1 penalty (Bricken et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dtx.dictionary.sparsity import Penalised


@dataclass(frozen=True, kw_only=True)
class Standard(Penalised):
    """Trains Standard dictionaries; ``conf/dictionary/standard.yaml`` explains the fields."""

    def run(self, out: Path) -> None:
        """Train all of them in one pass over the activations."""
        from dtx.dictionary.networks.standard import StandardNetwork
        from dtx.dictionary.training import train

        train(self, StandardNetwork, out)
