"""The settings of attribution patching; ``conf/analysis/attribution_patching.yaml`` explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dtx.analysis.activation_patching.spec import NodesSpec
from dtx.analysis.core.patching_spec import Direction
from dtx.config.ranges import Count, Natural, Positive, Seed

NODE_METHODS = {
    "attribution_patching": "attribution patching",
    "integrated_inputs": "integrated gradients, input path",
    "integrated": "integrated gradients, activation path",
}
"""Estimates of a node: (source - base) times the gradient of LD in the base run (Nanda, 2023), times its mean
over runs whose embedding lies between the two (Hanna et al., 2024), or times its mean over runs in which the
activation itself does, at all tokens and heads at once (Marks et al., 2024)."""
EDGE_METHODS = {"eap": "EAP", "eap_ig": "EAP-IG"}
"""Estimates of an edge: what the sender changes, times the gradient at the receiver's input in the base run
(Syed et al., 2023), or its mean over runs whose embedding lies between the two (Hanna et al., 2024)."""
INTEGRATED = ("integrated_inputs", "integrated", "eap_ig")
"""Methods that sum over steps."""
PARTS = {"nodes": NODE_METHODS, "edges": EDGE_METHODS}
"""Methods by the table that they are in."""
EXACT = 1e-4
"""How far what is linear may be off, as a share of rho: float32 sums."""


@dataclass(frozen=True, kw_only=True)
class AttributionPatchingSpec(NodesSpec):
    """What is estimated, and how much of it is compared with exact patches."""

    direction: Direction
    steps: Count
    most_steps: Count
    convergence: Positive
    edges: Natural
    top: Count
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """Steps that can be doubled."""
        if self.most_steps < self.steps:
            yield "most_steps", f"must be at least steps ({self.steps})"
