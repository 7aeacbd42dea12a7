"""BatchTopK: the largest features of a batch are kept, k a token on average (Bussmann et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dtx.dictionary.dictionary_stage import DictionaryStage
from dtx.dictionary.sparsity import Counted


@dataclass(frozen=True, kw_only=True)
class BatchTopK(Counted, DictionaryStage):
    """Trains BatchTopK dictionaries; ``conf/dictionary/batch_topk.yaml`` explains the fields."""

    def run(self, out: Path) -> None:
        """Train all of them in one pass over the activations."""
        from dtx.dictionary.networks.batch_topk import BatchTopKNetwork
        from dtx.dictionary.training import train

        train(self, BatchTopKNetwork, out)
