"""Crosscoders: features of several activations together, of layers or of models (Lindsey et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dtx.activations.windows import WindowActivations
from dtx.dictionary.sparsity import Counted
from dtx.dictionary.spec import CROSSCODER
from dtx.dt.sizes import Sizes
from dtx.text import suggest

if TYPE_CHECKING:
    from dtx.dictionary.trained import Crosscoders

SAME = ("tokens", "episodes", "other_windows", "held_out", "seed")
"""Settings of stored activations that decide which rows there are, and their order."""


@dataclass(frozen=True, kw_only=True)
class Crosscoder(Counted):
    """Trains crosscoders by BatchTopK; ``conf/dictionary/crosscoder.yaml`` explains the fields."""

    others: tuple[WindowActivations, ...]

    @property
    def stores(self) -> tuple[WindowActivations, ...]:
        """All stored activations that are read."""
        return (self.activations, *self.others)

    @property
    def parts(self) -> tuple[str, ...]:
        """One: all sources together."""
        return (CROSSCODER,)

    def check(self) -> Iterator[tuple[str, str]]:
        """A single source, and stores of other rows."""
        yield from super().check()
        if len(self.chosen) * len(self.stores) < 2:
            yield "hooks", "a crosscoder reads several: name more hooks, or others, of other models"
        for number, other in enumerate(self.others):
            place = f"others[{number}]"
            for name in self.chosen:
                if name not in other.hooks:
                    yield place, f"{name} is not stored there{suggest(name, other.hooks)}"
            if other.dataset.key != self.activations.dataset.key:
                yield place, "is of other demonstrations than activations, so its rows are others"
            for field in SAME:
                own, wanted = getattr(other, field), getattr(self.activations, field)
                if own != wanted:
                    yield place, f"has {field}={own}, activations {wanted}: its rows are others"

    def row_width(self, sizes: Sizes) -> int:
        """As :meth:`SparseStage.row_width`, of all stores."""
        return len(self.stores) * super().row_width(sizes)

    def of_untrained(self, seed: int) -> Self:
        """Of untrained networks of all models' architectures; those of several models are several.

        Args:
            seed: Of the first network's weights.
        """
        others = tuple(each.of_untrained(seed + 1 + i) for i, each in enumerate(self.others))
        return replace(super().of_untrained(seed), others=others)

    def run(self, out: Path) -> None:
        """Train all of them in one pass over the activations."""
        from dtx.dictionary.joined import Crosscoding, Joined
        from dtx.dictionary.networks.crosscoder import CrosscoderNetwork
        from dtx.dictionary.training import train

        stores = [(each.label, each.load()) for each in self.stores]
        joined = Joined(stores, self.chosen, self.held_out, self.normalise)
        kind = partial(CrosscoderNetwork, widths=joined.widths)
        train(self, kind, out, Crosscoding(joined))

    def load(self) -> Crosscoders:
        """All of them, by name."""
        from dtx.dictionary.trained import Crosscoders

        return Crosscoders(self.path)
