"""TopK: the k largest features of each token are kept (Gao et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from dtx.config.ranges import Count, NotEmpty
from dtx.dictionary.dictionary_stage import DictionaryStage
from dtx.dictionary.spec import named_twice


@dataclass(frozen=True, kw_only=True)
class TopK(DictionaryStage):
    """Trains TopK dictionaries; ``conf/dictionary/topk.yaml`` explains the fields."""

    sparsity_field: ClassVar[str] = "k"

    k: Annotated[tuple[Count, ...], NotEmpty("needs at least one k")]

    def check(self) -> Iterator[tuple[str, str]]:
        """A k beyond the features there are."""
        yield from super().check()
        yield from named_twice("k", self.k)
        if max(self.k) > min(self.width):
            yield "k", f"{max(self.k)} features a token of {min(self.width)}: choose a smaller k"

    def run(self, out: Path) -> None:
        """Train all of them in one pass over the activations."""
        from dtx.dictionary.networks.topk import TopKNetwork
        from dtx.dictionary.training import train

        train(self, TopKNetwork, out)
