"""Matryoshka: the first features reconstruct alone, too (Bussmann et al. 2025); on as in BatchTopK."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from dtx.config.ranges import NotEmpty, OpenShare
from dtx.dictionary.dictionary_stage import DictionaryStage
from dtx.dictionary.sparsity import Counted


@dataclass(frozen=True, kw_only=True)
class Matryoshka(Counted, DictionaryStage):
    """Trains Matryoshka dictionaries; ``conf/dictionary/matryoshka.yaml`` explains the fields."""

    nested: Annotated[tuple[OpenShare, ...], NotEmpty("needs at least one share")]

    def check(self) -> Iterator[tuple[str, str]]:
        """Shares that do not rise, or are less than a feature."""
        yield from super().check()
        if any(later <= former for former, later in pairwise(self.nested)):
            yield "nested", "must rise from share to share"
        if self.nested[0] * min(self.width) < 1:
            yield "nested", f"{self.nested[0]:g} of {min(self.width)} features is less than one"

    def run(self, out: Path) -> None:
        """Train all of them in one pass over the activations."""
        from dtx.dictionary.networks.matryoshka import MatryoshkaNetwork
        from dtx.dictionary.training import train

        train(self, functools.partial(MatryoshkaNetwork, nested=self.nested), out)
