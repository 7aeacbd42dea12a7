"""The settings of ablation, and the names of nodes; ``conf/analysis/ablation.yaml`` explains the settings."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from dtx.analysis.core.controls import RandomControls
from dtx.analysis.core.inputs import Contrast
from dtx.analysis.core.parts import Parts, Problem, no_contrast, no_layers
from dtx.config.ranges import Count, Natural, NotEmpty, Positive, Seed, Share
from dtx.dt.names import HEAD, NEURON, part_of
from dtx.stage import RUNTIME

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
            if part_of(name) is None:
                yield "silent", f"'{name}' is no node; L1H0, L1 attention, L1 MLP and L1N5 are"

    def misfits(self, sizes: Parts) -> Iterator[Problem]:
        """Nodes, layers and actions that a model does not have."""
        counts = {HEAD: sizes.n_heads, NEURON: sizes.d_mlp}
        for name in self.silent:
            part = part_of(name)
            if part is None:  # check() tells what is no name
                continue
            if part.layer >= sizes.n_layers or part.unit >= counts.get(part.kind, 1):
                yield "silent", f"the model has no node {name}"
        yield from no_layers(sizes, "neurons", self.neurons)
        yield from no_contrast(sizes, self.contrast)
