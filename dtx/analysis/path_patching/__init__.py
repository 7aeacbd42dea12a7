"""Path patching: along which edges, at which token, a counterfactual pair's difference travels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.analysis.path_patching.spec import PathPatchingSpec
from dtx.config.ranges import Natural
from dtx.dt.model_stage import ModelStage
from dtx.pairs.declared import Declared

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject
    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class PathPatching(PathPatchingSpec, Analysis):
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
    cover: ClassVar[str] = "paths_instruction_flip"
    scoring: ClassVar[Scoring | None] = Scoring(by_ranking=True)

    dt: ModelStage
    checkpoint: Natural | None
    pairs: Declared

    def check(self) -> Iterator[tuple[str, str]]:
        """Names of edits."""
        known = list(self.pairs.edits)
        for name in self.edits or ():
            if name not in known:
                yield "edits", f"the pairs have no edit {name}; they have {', '.join(known)}"

    def compute(self) -> Result:
        """Patch every edge."""
        from dtx.analysis.path_patching.compute import compute
        from dtx.dt.load import load_at

        return compute(self, load_at(self.dt, self.checkpoint), self.pairs.load())

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """Mean effect of each edge at each token of a known model."""
        from dtx.analysis.path_patching.truth import answers

        return answers(subject)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``paths_EDIT``: the strongest edges by reward-to-go, beside donors; ``paths``: a page of all."""
        from dtx.analysis.path_patching.page import PathsPage
        from dtx.analysis.path_patching.plots import graphs

        yield from graphs(result)
        yield "paths", PathsPage(result, self.dt.label, self.direction.value)
