"""C4: effects of patches estimated from gradients, beside what exact patching measures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dtx.analysis.activation_patching import Direction, Node, check_sweep
from dtx.dt.model_stage import ModelStage
from dtx.dt.provider import check_checkpoint, load_at
from dtx.pairs.declared import Declared
from dtx.report import Report, read_metrics
from dtx.stage import RUNTIME, Stage

EXACT = 1e-4
"""How far what is linear may be off, as a share of rho: float32 sums."""
NODE_METHODS = {
    "attribution_patching": "attribution patching",
    "integrated_inputs": "integrated over inputs",
    "integrated": "integrated over itself",
}
"""Estimates of a node: (source - base) times the gradient of LD in the base run (Nanda, 2023), times its mean
over runs whose embedding lies between the two (Hanna et al., 2024), or times its mean over runs in which the
activation itself does, at all tokens and heads at once (Marks et al., 2024)."""
EDGE_METHODS = {"eap": "EAP", "eap_ig": "EAP-IG"}
"""Estimates of an edge: what the sender changes, times the gradient at the receiver's input in the base run
(Syed et al., 2023), or its mean over runs whose embedding lies between the two (Hanna et al., 2024)."""


@dataclass(frozen=True, kw_only=True)
class AttributionPatching(Stage):
    """Estimate all nodes and edges; ``conf/analysis/attribution_patching.yaml`` explains it.

    Controls: estimates paired with exact values at random, estimates for donors from other worlds against
    the exact values of the edit, and null pairs, where every estimate must be 0. Exact checks: integrated
    gradients over the embedding add to the whole difference (but for the steps taken), and a sender's edges
    add to its node.
    """

    dt: ModelStage
    checkpoint: int | None
    pairs: Declared
    direction: Direction
    nodes: tuple[Node, ...]
    steps: int
    most_steps: int
    edges: int
    top: int
    tolerance: float
    resamples: int
    seed: int
    windows: int = field(metadata=RUNTIME)

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges."""
        yield from check_checkpoint(self.checkpoint)
        if not self.nodes:
            yield "nodes", "needs at least one of " + ", ".join(node.value for node in Node)
        yield from check_sweep(self)
        for name in ("steps", "top"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        if self.most_steps < self.steps:
            yield "most_steps", f"must be at least steps ({self.steps})"
        if self.edges < 0:
            yield "edges", "must be 0 or more"

    def run(self, out: Path) -> None:
        """Write ``nodes``, ``edges``, ``estimated_edges``, ``agreement``, ``runs``, figures, headline."""
        from dtx.analysis.attribution_patching.compute import headline, measure
        from dtx.analysis.attribution_patching.plots import draw

        pairs = self.pairs.load()
        found = measure(self, load_at(self.dt, self.checkpoint), pairs)
        report = Report(out)
        for name, table in found.tables.items():
            report.table(name, table)
        report.headline(headline(found))
        draw(report, found)

    def summary(self) -> str:
        """Each method's r with exact patching, or what failed."""
        n = read_metrics(self.path)
        limits = {"null_change": EXACT, "edge_sum_error": EXACT, "identity_error": self.tolerance}
        for name, limit in limits.items():
            error = n.get(f"attribution_patching/{name}")
            if name == "identity_error" and error is None:
                return "not established: in no pair do the two runs differ by min_ld_gap"
            if error is not None and error > limit:
                hint = "; more most_steps lower it" if name == "identity_error" else ""
                return f"not established: {name.replace('_', ' ')} {error:.2g} is above {limit:g}{hint}"
        said = {"nodes": self._said(n, NODE_METHODS), "edges": self._said(n, EDGE_METHODS)}
        return "r with exact patching: " + "; ".join(
            f"{part}: {', '.join(found)}" for part, found in said.items() if found
        )

    def _said(self, n: dict[str, float | None], methods: dict[str, str]) -> list[str]:
        """Of each method: r with its interval, unless random pairings or other worlds' donors reach it."""
        said = []
        for method, words in methods.items():
            r, low, high, random, donor = (
                n.get(f"attribution_patching/{method}_{x}")
                for x in ("r", "r_low", "r_high", "random_r_high", "donor_r")
            )
            if r is None:
                continue
            told = f"{words} {r:.2f}"
            if low is None or high is None or random is None or low <= random:
                told += f" (not established: random pairings reach {random})"
            elif donor is not None and donor >= r:
                told += f" (not established: donors from other worlds give {donor:.2f})"
            else:
                told += f" [{low:.2f}, {high:.2f}]"
            said.append(told)
        return said
