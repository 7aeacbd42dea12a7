"""The settings of ablation, and the names of nodes; ``conf/analysis/ablation.yaml`` explains the settings."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from dtx.analysis.core.controls import RandomControls
from dtx.analysis.core.inputs import Contrast
from dtx.analysis.core.parts import Parts, Problem, no_contrast, no_layers
from dtx.config.ranges import Count, Natural, NotEmpty, Positive, Seed, Share
from dtx.stage import RUNTIME

if TYPE_CHECKING:
    pass


NAME = re.compile(r"L(\d+)H(\d+)|ATTN(\d+)|MLP(\d+)(?:N(\d+))?")
"""What nodes are called: a head, an attention's output, an MLP's output or one of its neurons."""
HEAD, ATTENTION, MLP, NEURON = "head", "attention", "mlp", "neuron"
"""Kinds of nodes in the tables."""
ALL = "all"
"""Of the column ``target``: windows as recorded, each at its own reward-to-go, where none is asked for."""

ONE, EACH = "one", "each"
"""Of random directions: the same in all windows, or another in every window."""


class AblationMethod(enum.Enum):
    """What a node's output becomes: 0, its mean over windows of data, or its value in another of them."""

    zero = "zero"
    mean = "mean"
    resample = "resample"


class AblatedTokens(enum.Enum):
    """Where a node is ablated: at the last state token, or at every token that is not padding."""

    last = "last"
    all = "all"


@dataclass(frozen=True, kw_only=True)
class AblationSpec:
    """What is ablated, how, and what it is compared with."""

    contrast: Contrast
    methods: Annotated[tuple[AblationMethod, ...], NotEmpty("needs at least one method")]
    tokens: AblatedTokens
    neurons: tuple[Natural, ...]
    silent: tuple[str, ...]
    reference: Count
    donors: Count
    random_directions: RandomControls
    shown: Count
    min_ld_gap: Positive
    min_effect: Share
    tolerance: Positive
    seed: Seed
    at_once: Count = field(metadata=RUNTIME)

    @property
    def from_data(self) -> bool:
        """Whether a method takes values from windows of data."""
        return bool({AblationMethod.mean, AblationMethod.resample} & set(self.methods))

    def check(self) -> Iterator[tuple[str, str]]:
        """No method twice; windows to take values from; names of nodes."""
        if len(set(self.methods)) < len(self.methods):
            yield "methods", "names a method twice"
        if self.reference < 2 and self.from_data:
            yield (
                "reference",
                "one window of data has no mean and is every window's donor: at least 2",
            )
        for name in self.silent:
            if not NAME.fullmatch(name):
                yield "silent", f"'{name}' is no node; L1H0, ATTN1, MLP1 and MLP1N5 are"

    def misfits(self, sizes: Parts) -> Iterator[Problem]:
        """Nodes, layers and actions that a model does not have."""
        counts = {HEAD: sizes.n_heads, NEURON: sizes.d_mlp}
        for name in filter(NAME.fullmatch, self.silent):  # check() tells what is no name
            layer, kind, unit = place_of(name)
            if layer >= sizes.n_layers or unit >= counts.get(kind, 1):
                yield "silent", f"the model has no node {name}"
        yield from no_layers(sizes, "neurons", self.neurons)
        yield from no_contrast(sizes, self.contrast)


def place_of(name: str) -> tuple[int, str, int]:
    """Layer, kind and unit of a node by its name; the unit of an output is 0.

    Raises:
        ValueError: It is no node's name.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no node")
    layer, head, attention, mlp, neuron = match.groups()
    if layer is not None:
        return int(layer), HEAD, int(head)
    if attention is not None:
        return int(attention), ATTENTION, 0
    return (int(mlp), MLP, 0) if neuron is None else (int(mlp), NEURON, int(neuron))
