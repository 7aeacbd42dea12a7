"""The settings that all kinds of dictionaries share; ``conf/dictionary/topk.yaml`` explains them."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from dtx.activations.windows import WindowActivations
from dtx.config.ranges import Count, LearningRate, Natural, NonNegative, NotEmpty, Seed, Share
from dtx.text import suggest

CROSSCODER = "crosscoder"
"""Stands in the names of crosscoders, where other dictionaries have their hook's."""


class How(enum.Enum):
    """What of a dictionary is trained; all but ``trained`` are controls.

    ``frozen_decoder``: random directions stay, the encoder is trained. ``soft_frozen_decoder``: directions
    stay within a cosine of .8 of random ones. ``frozen_encoder``: the decoder alone is trained.
    """

    trained = "trained"
    frozen_decoder = "frozen_decoder"
    soft_frozen_decoder = "soft_frozen_decoder"
    frozen_encoder = "frozen_encoder"


class Split(enum.Enum):
    """By what the activations that a dictionary is not trained on are held out."""

    episode = "episode"
    prefix = "prefix"
    view = "view"


@dataclass(frozen=True, kw_only=True)
class DictionarySpec:
    """Of which activations, how large, and how they are trained: one dictionary for every combination."""

    activations: WindowActivations
    hooks: Annotated[tuple[str, ...], NotEmpty("needs at least one hook")] | None
    width: Annotated[tuple[Count, ...], NotEmpty("needs at least one width")]
    seeds: Annotated[tuple[Seed, ...], NotEmpty("needs at least one seed")]
    how: Annotated[tuple[How, ...], NotEmpty("needs at least one way")]
    held_out: Split
    steps: Natural
    batch_size: Count
    learning_rate: LearningRate
    warm_up: Natural
    decay: Share
    normalise: bool
    revive: NonNegative
    dead_after: Count
    checkpoint_every: Count

    @property
    def chosen(self) -> tuple[str, ...]:
        """The hooks that dictionaries are trained on."""
        return self.activations.hooks if self.hooks is None else self.hooks

    def check(self) -> Iterator[tuple[str, str]]:
        """Hooks that are not stored, and values that are named twice."""
        for name in self.chosen:
            if name not in self.activations.hooks:
                yield "hooks", f"{name} is not stored{suggest(name, self.activations.hooks)}"
        for field in ("hooks", "width", "seeds", "how"):
            yield from named_twice(field, getattr(self, field) or ())


def named_twice(field: str, values: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """A problem for each value of a list that stands there twice: its dictionaries would have one name."""
    for value in dict.fromkeys(v for v in values if list(values).count(v) > 1):
        yield field, f"names {value.value if isinstance(value, enum.Enum) else value} twice"
