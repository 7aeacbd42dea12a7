"""Path patching: along which edges, at which token, a counterfactual pair's difference travels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.analysis.path_patching.spec import EdgeTokens, PathPatchingSpec
from dtx.pairs.declared import Declared
from dtx.resources import Resources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject
    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class PathPatching(PathPatchingSpec, OfModel):
    """Patch every edge of the model; ``conf/analysis/path_patching.yaml`` explains it.

    An edge is what a sender (the embedding, a head, an MLP) wrote at a token and one receiver's input (q, k
    or v of a head, an MLP, the logits) reads there. All else that is read directly stays as in the base
    run; what follows from the receiver is computed anew, with LayerNorm. rho is as in activation patching.

    Source: Wang et al. (2022); edges as in Conmy et al. (2023). Controls: activations from an unrelated
    layout, and all edges with the same kind of receiver (what a random edge brings). Exact checks: all
    edges 1, none 0, all edges of a node the node's patch, what is no edge 0, the batched sweep against one
    plain forward pass an edge, and null pairs 0.
    """

    version: ClassVar[int] = (
        2  # since donors have an answer, and nothing is pooled over reward-to-go
    )
    question: ClassVar[str] = "Along which edges does the information flow?"
    headline: ClassVar[tuple[str, ...]] = ("*_best_rho", "*_random_95", "n_missing")
    cover: ClassVar[str] = "paths_instruction_flip"
    scoring: ClassVar[Scoring | None] = Scoring(by_ranking=True)

    pairs: Declared

    def check(self) -> Iterator[tuple[str, str]]:
        """Names of edits."""
        known = list(self.pairs.edits)
        for name in self.edits or ():
            if name not in known:
                yield "edits", f"the pairs have no edit {name}; they have {', '.join(known)}"

    def resources(self) -> Resources:
        """Every edge at every token of every pair."""
        sizes = self.dt.sizes
        edges = 1 if sizes is None else sizes.edges
        tokens = 1
        if sizes is not None and self.tokens is EdgeTokens.each:
            tokens = 1 + sizes.within(3 * self.pairs.longest)
        passes = self.pairs.most_pairs * edges * tokens / 4
        return self.dt.passing(passes, self.pairs.longest, {"at_once": min(self.at_once, passes)})

    def compute(self) -> Result:
        """Patch every edge."""
        from dtx.analysis.path_patching.compute import compute

        return compute(self, self.model(), self.pairs.load())

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """Mean effect of each edge at each token of a known model."""
        from dtx.analysis.path_patching.truth import answers

        return answers(subject)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``paths_EDIT``: the strongest edges by reward-to-go, beside donors; ``paths``: a page of all."""
        from dtx.analysis.path_patching.page import PathsPage
        from dtx.analysis.path_patching.plots import graphs

        yield from graphs(result)
        yield "paths", PathsPage(result, self.heading, self.direction.value)
