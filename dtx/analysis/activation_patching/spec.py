"""The settings of activation patching; ``conf/analysis/activation_patching.yaml`` explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from dtx.analysis.core.patching_spec import Direction, Node, SweepSpec
from dtx.config.ranges import NotEmpty

NODES = NotEmpty("needs at least one of " + ", ".join(node.value for node in Node))
DIRECTIONS = NotEmpty("needs denoise, noise or both")


@dataclass(frozen=True, kw_only=True)
class NodesSpec(SweepSpec):
    """Which activations are patched."""

    nodes: Annotated[tuple[Node, ...], NODES]


@dataclass(frozen=True, kw_only=True)
class ActivationPatchingSpec(NodesSpec):
    """What is patched into what."""

    directions: Annotated[tuple[Direction, ...], DIRECTIONS]

    def check(self) -> Iterator[tuple[str, str]]:
        """A direction twice."""
        if len(set(self.directions)) < len(self.directions):
            yield "directions", "names one twice"
