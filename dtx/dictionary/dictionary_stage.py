"""Stages whose product are dictionaries: autoencoders, or others that are trained in the same way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from dtx.dictionary.spec import DictionarySpec, How
from dtx.stage import Stage

if TYPE_CHECKING:
    from dtx.dictionary.trained import Dictionaries


@dataclass(frozen=True, kw_only=True)
class SparseStage(DictionarySpec, Stage):
    """Interface of stages that train sparse dictionaries of stored activations, of whatever kind.

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
    def parts(self) -> tuple[str, ...]:
        """What there is a dictionary of, by the name that stands in its own: usually a hook."""
        return self.chosen

    @property
    def count(self) -> int:
        """How many dictionaries there are."""
        sizes = (self.parts, self.width, self.sparsities, self.seeds, self.how)
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


@dataclass(frozen=True, kw_only=True)
class DictionaryStage(SparseStage):
    """Interface of stages that train autoencoders: what each of their dictionaries reads it gives back."""

    def load(self) -> Dictionaries:
        """All of them, by name."""
        from dtx.dictionary.trained import Dictionaries

        return Dictionaries(self.path)
