"""The smallest circuit: how few edges are enough to keep what an edit changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.path_patching import PathPatching
from dtx.analysis.path_patching.spec import EdgeTokens
from dtx.analysis.smallest_circuit.spec import SmallestCircuitSpec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject


@dataclass(frozen=True, kw_only=True)
class SmallestCircuit(SmallestCircuitSpec, Analysis):
    """Rank edges at tokens by path patching; ``conf/analysis/smallest_circuit.yaml`` explains the fields.

    In a circuit every receiver reads the clean run along the circuit's edges and the corrupt run along all
    others; its faithfulness is the share of the logit difference between the two runs that is left (Wang et
    al., 2022; edges as in Conmy et al., 2023). The circuit is a ranking cut off, not a search over subsets:
    a smaller one may exist. Control: random circuits of the same size, of edges whose sender differs between
    the runs. Exact checks: the whole model keeps 1, no edge at all 0.
    """

    question: ClassVar[str] = "Which circuit is enough?"

    paths: PathPatching

    def check(self) -> Iterator[tuple[str, str]]:
        """Edges are ranked at every token."""
        if self.paths.tokens is not EdgeTokens.each:
            yield "paths.tokens", "must be each: edges are ranked at every token"

    def compute(self) -> Result:
        """Cut the ranking off at growing sizes."""
        from dtx.analysis.smallest_circuit.compute import compute
        from dtx.dt.load import load_at

        paths = self.paths
        ranking = paths.result().tables["edges"]
        model = load_at(paths.dt, paths.checkpoint)
        return compute(self, model, paths.pairs.load(), ranking, paths.edits)

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """The edges of the smallest circuit of a known model."""
        from dtx.analysis.smallest_circuit.truth import answers

        return answers(subject, self.paths.result().tables["runs"])

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``smallest_circuit``: faithfulness against the number of edges, beside random circuits."""
        from dtx.analysis.smallest_circuit.plots import draw

        yield "smallest_circuit", draw(result, self.faithfulness)
