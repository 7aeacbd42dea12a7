"""The settings of ablation, and the names of nodes; ``conf/analysis/ablation.yaml`` explains the settings."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from dtx.analysis.core.controls import RandomControls
from dtx.analysis.core.inputs import Contrast
from dtx.config.ranges import Count, Natural, NotEmpty, Positive, Seed, Share
from dtx.stage import RUNTIME

if TYPE_CHECKING:
    from dtx.dt.model_config import ModelConfig
    from dtx.dt.sizes import Sizes


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

    def check(self) -> Iterator[tuple[str, str]]:
        """No method twice; names of nodes."""
        if len(set(self.methods)) < len(self.methods):
            yield "methods", "names a method twice"
        for name in self.silent:
            if not NAME.fullmatch(name):
                yield "silent", f"'{name}' is no node; L1H0, ATTN1, MLP1 and MLP1N5 are"

    def misfits(self, model: ModelConfig | Sizes) -> Iterator[tuple[str, str]]:
        """Nodes and layers that a model does not have."""
        for name in self.silent:
            if not (match := NAME.fullmatch(name)):
                continue
            head_layer, head, attention, mlp, neuron = match.groups()
            layer = int(head_layer or attention or mlp)
            units = model.n_heads if head else model.d_mlp
            if layer >= model.n_layers or int(head or neuron or 0) >= units:
                yield "silent", f"the model has no node {name}"
        if self.neurons and max(self.neurons) >= model.n_layers:
            wanted = max(self.neurons)
            yield "neurons", f"the model has layers 0 to {model.n_layers - 1}, not {wanted}"
