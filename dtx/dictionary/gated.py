"""Gated: whether a feature is on is decided apart from how large it is (Rajamanoharan et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dtx.dictionary.sparsity import Penalised


@dataclass(frozen=True, kw_only=True)
class Gated(Penalised):
    """Trains Gated dictionaries; ``conf/dictionary/gated.yaml`` explains the fields."""

    def run(self, out: Path) -> None:
        """Train all of them in one pass over the activations."""
        from dtx.dictionary.networks.gated import GatedNetwork
        from dtx.dictionary.training import train

        train(self, GatedNetwork, out)
