"""Whether a model has what settings name; asked before anything runs where the model's config is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from dtx.analysis.core.inputs import Contrast
from dtx.env.actions import ACTIONS, Action


class Parts(Protocol):
    """How much a model has of everything: its config, or its sizes as far as a stage's config gives them."""

    @property
    def n_layers(self) -> int: ...
    @property
    def n_heads(self) -> int: ...
    @property
    def d_mlp(self) -> int: ...
    @property
    def n_actions(self) -> int: ...


Problem = tuple[str, str]
"""Field, and what is wrong with it."""


def no_layers(sizes: Parts, field: str, layers: Iterable[int]) -> Iterator[Problem]:
    """Yield that the model lacks layers, if it does."""
    if missing := sorted({layer for layer in layers if layer >= sizes.n_layers}):
        names = ", ".join(map(str, missing))
        yield field, f"the model has layers 0 to {sizes.n_layers - 1}, not {names}"


def no_actions(sizes: Parts, field: str, actions: Iterable[Action]) -> Iterator[Problem]:
    """Yield the actions that the model lacks."""
    for action in actions:
        if action.number >= sizes.n_actions:
            known = ", ".join(ACTIONS[: sizes.n_actions])
            yield field, f"the model has no action {action.value}; it has {known}"


def no_contrast(sizes: Parts, contrast: Contrast) -> Iterator[Problem]:
    """Yield which of the two actions that are compared the model lacks."""
    for place in ("pos", "neg"):
        yield from no_actions(sizes, f"contrast.{place}", [getattr(contrast, place)])
