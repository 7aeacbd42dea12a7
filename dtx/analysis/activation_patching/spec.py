"""The settings of activation patching; ``conf/analysis/activation_patching.yaml`` explains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dtx.analysis.core.patching_spec import Node, SweepSpec
from dtx.config.ranges import NotEmpty

NODES = NotEmpty("needs at least one of " + ", ".join(node.value for node in Node))


@dataclass(frozen=True, kw_only=True)
class ActivationPatchingSpec(SweepSpec):
    """What is patched."""

    nodes: Annotated[tuple[Node, ...], NODES]
