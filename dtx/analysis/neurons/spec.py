"""The settings of the neurons' dashboards, and their names; ``conf/analysis/neurons.yaml`` explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from dtx.analysis.core.parts import Parts, Problem, no_layers
from dtx.config.ranges import Count, Natural, NotEmpty, Number, Positive, Seed
from dtx.dt.names import NEURON, part_of

TRAINED, UNTRAINED, RANDOM = "trained", "untrained", "random"
"""Names of the models, and of the sets of states that are shown: a model's strongest, or random ones."""


@dataclass(frozen=True, kw_only=True)
class NeuronsSpec:
    """Which neurons are described, over which states, and what they are compared with."""

    layers: Annotated[tuple[Natural, ...], NotEmpty("needs at least one; null for all")] | None
    neurons: Count
    named: tuple[str, ...]
    states: Count
    shown: Count
    high: Number
    untrained: Seed
    tolerance: Positive
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """Names of neurons; enough states to show the strongest and as many others."""
        for name in self.named:
            if not _is_neuron(name):
                yield "named", f"'{name}' is no neuron; L1N5 is"
        if self.states < 2 * self.shown:
            yield "states", f"must be at least twice what is shown, {2 * self.shown}"

    def misfits(self, sizes: Parts) -> Iterator[Problem]:
        """Neurons and layers that a model does not have."""
        for name in filter(_is_neuron, self.named):  # check() tells what is no name
            layer, neuron = place_of(name)
            if layer >= sizes.n_layers or neuron >= sizes.d_mlp:
                yield "named", f"the model has no neuron {name}"
        yield from no_layers(sizes, "layers", self.layers or ())


def place_of(name: str) -> tuple[int, int]:
    """Layer and number of a neuron by its name, ``L1N5`` or ``MLP1N5`` as before.

    Raises:
        ValueError: It is no neuron's name.
    """
    part = part_of(name)
    if part is None or part.kind != NEURON:
        raise ValueError(f"{name!r} is no neuron")
    return part.layer, part.unit


def _is_neuron(name: str) -> bool:
    part = part_of(name)
    return part is not None and part.kind == NEURON
