"""The two ways of saying how sparse dictionaries are: features a token, or the weight of a penalty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from dtx.config.ranges import Count, NotEmpty, Positive
from dtx.dictionary.dictionary_stage import DictionaryStage, SparseStage
from dtx.dictionary.spec import named_twice


@dataclass(frozen=True, kw_only=True)
class Counted(SparseStage):
    """Dictionaries of any kind with k features a token.

    Attributes:
        k: One dictionary for each.
    """

    sparsity_field: ClassVar[str] = "k"

    k: Annotated[tuple[Count, ...], NotEmpty("needs at least one k")]

    def check(self) -> Iterator[tuple[str, str]]:
        """A k beyond the features there are."""
        yield from super().check()
        yield from named_twice("k", self.k)
        if max(self.k) > min(self.width):
            yield "k", f"{max(self.k)} features a token of {min(self.width)}: choose a smaller k"


@dataclass(frozen=True, kw_only=True)
class Penalised(DictionaryStage):
    """Dictionaries whose features cost something.

    Attributes:
        penalty: Weight of the cost, one dictionary for each.
    """

    sparsity_field: ClassVar[str] = "penalty"
    slowness: ClassVar[float] = 4.0

    penalty: Annotated[tuple[Positive, ...], NotEmpty("needs at least one penalty")]

    def check(self) -> Iterator[tuple[str, str]]:
        """A penalty that is named twice."""
        yield from super().check()
        yield from named_twice("penalty", self.penalty)
