"""Stages whose product are dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from dtx.dictionary.spec import DictionarySpec, How
from dtx.stage import Stage

if TYPE_CHECKING:
    from dtx.dictionary.trained import Dictionaries


@dataclass(frozen=True, kw_only=True)
class DictionaryStage(DictionarySpec, Stage):
    """Interface of stages that train dictionaries of stored activations.

    Attributes:
        sparsity_field: The field that says how sparse they are, one dictionary for each of its values.
    """

    sparsity_field: ClassVar[str]
    headline: ClassVar[tuple[str, ...]] = (
        "dictionary/explained_variance",
        "dictionary/l0",
        "dictionary/dead_share",
    )

    @property
    def sparsities(self) -> tuple[float, ...]:
        """The values of :attr:`sparsity_field`."""
        return getattr(self, self.sparsity_field)

    @property
    def count(self) -> int:
        """How many dictionaries there are."""
        sizes = (self.chosen, self.width, self.sparsities, self.seeds, self.how)
        number = 1
        for values in sizes:
            number *= len(values)
        return number

    def of_untrained(self, seed: int) -> Self:
        """The dictionaries of an untrained network's activations: same sizes, same rows, one seed.

        Args:
            seed: Of the network's weights.
        """
        activations = self.activations.of_untrained(seed)
        return replace(self, activations=activations, seeds=self.seeds[:1], how=(How.trained,))

    def controls(self) -> Self:
        """Dictionaries of which a part stays random, of one seed."""
        ways = tuple(how for how in How if how is not How.trained)
        return replace(self, seeds=self.seeds[:1], how=ways)

    def load(self) -> Dictionaries:
        """All of them, by name."""
        from dtx.dictionary.trained import Dictionaries

        return Dictionaries(self.path)
