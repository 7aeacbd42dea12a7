"""TopK: the k largest features of each token are kept (Gao et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dtx.dictionary.dictionary_stage import DictionaryStage
from dtx.dictionary.sparsity import Counted


@dataclass(frozen=True, kw_only=True)
class TopK(Counted, DictionaryStage):
    """Trains TopK dictionaries; ``conf/dictionary/topk.yaml`` explains the fields."""

    def run(self, out: Path) -> None:
        """Train all of them in one pass over the activations."""
        from dtx.dictionary.networks.topk import TopKNetwork
        from dtx.dictionary.training import train

        train(self, TopKNetwork, out)
