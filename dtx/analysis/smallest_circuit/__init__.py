"""The smallest circuit: how few edges are enough to keep what an edit changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.smallest_circuit.spec import SmallestCircuitSpec
from dtx.pairs.declared import Declared
from dtx.resources import Resources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject


@dataclass(frozen=True, kw_only=True)
class SmallestCircuit(SmallestCircuitSpec, OfModel):
    """Prune edges until nothing more can go; ``conf/analysis/smallest_circuit.yaml`` explains the fields.

    In a circuit every receiver reads the source run along the circuit's edges and the base run along all
    others (``denoise``: the clean run into the corrupt one; ``noise``: the reverse). f is the share of the
    logit difference between the two runs that comes about; a circuit is faithful if |1 - f| is small, so that
    too much counts as too little (Wang et al., 2022; edges as in Conmy et al., 2023). The search is greedy,
    from the whole model down, in blocks and then edge by edge: none of its edges can go alone, but a smaller
    circuit may exist. Every edit, reward-to-go and direction has its own.

    Beside it: what all other edges keep and how differently halves are missed (completeness), what each edge
    alone loses (minimality), circuits found on other layouts, MIB's CPR and CMD. Controls: random circuits of
    its size with as many edges between the same layers and inputs, among all edges and among its own nodes;
    the gaps of untrained models. Exact checks: the whole model keeps 1, no edge 0, removals in a batch are as
    alone.
    """

    question: ClassVar[str] = "Which circuit is enough?"
    headline: ClassVar[tuple[str, ...]] = ("*_edges", "*_held_out", "*_gap")
    version: ClassVar[int] = 2  # since circuits are pruned, two-sided and one a reward-to-go

    pairs: Declared

    def check(self) -> Iterator[tuple[str, str]]:
        """Names of edits; no direction twice."""
        known = list(self.pairs.edits)
        for name in self.edits or ():
            if name not in known:
                yield "edits", f"the pairs have no edit {name}; they have {', '.join(known)}"
        if len(set(self.directions)) < len(self.directions):
            yield "directions", "names a direction twice"

    def resources(self) -> Resources:
        """Every edge tried in every cell, on all layouts and on folds of them; random circuits."""
        edges = 1 if self.dt.sizes is None else self.dt.sizes.edges
        edits = len(self.pairs.edits if self.edits is None else self.edits)
        tried = 2 * edges * (1 + self.folds) + 20 * self.draws * (1 + self.folds)
        passes = edits * self.pairs.runs * len(self.directions) * (tried + self.untrained)
        return self.dt.passing(passes, self.pairs.longest, {"draws": 2 * self.draws})

    def compute(self) -> Result:
        """Prune."""
        from dtx.analysis.smallest_circuit.compute import compute

        every = self.pairs.source.variants == "all"
        return compute(self, self.model(), self.pairs.load(), every)

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """The edges of the smallest circuits of a known model."""
        from dtx.analysis.smallest_circuit.truth import answers

        return answers(subject)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``smallest_circuit``: faithfulness against the number of edges, beside random circuits."""
        from dtx.analysis.smallest_circuit.plots import draw

        yield "smallest_circuit", draw(result, self.faithfulness)
