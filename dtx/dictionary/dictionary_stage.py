"""Stages whose product are dictionaries: autoencoders, or others that are trained in the same way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from dtx.activations.names import width
from dtx.activations.spec import SHARD
from dtx.dictionary.spec import DictionarySpec, How
from dtx.dt.sizes import FLOAT, Sizes
from dtx.resources import Resources
from dtx.stage import Stage

if TYPE_CHECKING:
    from dtx.dictionary.trained import Dictionaries

READ_AHEAD = 4 * SHARD
"""Rows that are in memory for each seed, about: two pools of them."""
PRODUCTS = 5e10
"""Multiplications and additions a second of a step, with all else that it does (2026-11-30)."""


@dataclass(frozen=True, kw_only=True)
class SparseStage(DictionarySpec, Stage):
    """Interface of stages that train sparse dictionaries of stored activations, of whatever kind.

    Attributes:
        sparsity_field: The field that says how sparse they are, one dictionary for each of its values.
        slowness: Of a step of training, beside one of TopK.
    """

    sparsity_field: ClassVar[str]
    slowness: ClassVar[float] = 1.0
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

    def row_width(self, sizes: Sizes) -> int:
        """Numbers of a row that are read, of all hooks together, in a model of these sizes."""
        return sum(width(hook, sizes) for hook in self.chosen)

    def resources(self) -> Resources:
        """Weights, gradients and moments of each, a batch's features, and rows that are read ahead."""
        sizes = self.activations.dt.sizes
        if sizes is None:
            return Resources()
        each = len(self.sparsities) * len(self.seeds) * len(self.how)
        item = self.activations.numbers.dtype.itemsize
        d = self.row_width(sizes)
        stored = sum(width(hook, sizes) for hook in self.activations.hooks)
        rows = self.activations.resources().all_disk / (stored * item + 46.0)
        numbers = 2.0 * each * d * sum(self.width)
        features = 12.0 * self.batch_size * max(self.width)
        return Resources(
            memory={
                "width, hooks, seeds, how, " + self.sparsity_field: 4 * FLOAT * numbers,
                "batch_size, width": features + 8.0 * self.batch_size * d,
                "seeds, hooks": len(self.seeds) * READ_AHEAD * d * item,
                "the activations": 40.0 * rows,
            },
            disk={"width, hooks, seeds, how, " + self.sparsity_field: FLOAT * numbers},
            seconds=4
            + self.slowness * self.steps * self.batch_size * numbers / PRODUCTS
            + rows * each * len(self.chosen) * 2e-5,
        )

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
