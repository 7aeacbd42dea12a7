"""Activation patching: which activations, at which token, carry what a counterfactual pair changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.activation_patching.spec import ActivationPatchingSpec
from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.pairs.declared import Declared
from dtx.resources import Resources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject
    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class ActivationPatching(ActivationPatchingSpec, OfModel):
    """Patch every node at every token of every pair; ``conf/analysis/activation_patching.yaml`` explains it.

    rho is the share of the difference between the two runs that a patch brings: 1 as if the whole run
    were the other one, 0 as if nothing were patched; missing where the runs differ by less than the pairs'
    ``min_ld_gap``. Everything is told by direction and reward-to-go, which it may depend on. Source: the
    MemoryDT study, activation patching on states and on reward-to-go. Controls: activations from other worlds
    with the clean run's answer and with the corrupt run's, beside every effect and claim. Exact checks:
    everything patched 1, nothing 0, the embedding of tokens that did not change 0, a patch between two equal
    runs 0.
    """

    version: ClassVar[int] = (
        2  # since donors have an answer, and nothing is pooled over reward-to-go
    )

    question: ClassVar[str] = "How does the information flow?"
    headline: ClassVar[tuple[str, ...]] = ("*_gap", "*_best_rho")
    cover: ClassVar[str] = "patching_instruction_flip"
    scoring: ClassVar[Scoring | None] = Scoring(by_ranking=True)

    pairs: Declared

    def resources(self) -> Resources:
        """Every node at every token of every pair, in every direction."""
        sizes = self.dt.sizes
        places = 1 if sizes is None else sizes.n_layers * sizes.within(3 * self.pairs.longest)
        heads = 1 if sizes is None else sizes.n_heads
        nodes = sum(heads if node.each_head else 1 for node in self.nodes)
        passes = 1 / 3 * self.pairs.most_pairs * places * nodes * len(self.directions)
        held = {"at_once": min(self.at_once, passes), "pairs": 2 * self.pairs.runs}
        return self.dt.passing(passes, self.pairs.longest, held)

    def compute(self) -> Result:
        """Patch everything and judge the claims."""
        from dtx.analysis.activation_patching.compute import compute

        return compute(self, self.model(), self.pairs.load())

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """Mean effect of each node at each token of a known model."""
        from dtx.analysis.activation_patching.truth import answers

        return answers(subject)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``patching_EDIT``: effects by reward-to-go, beside donors; ``patching``: a page of all."""
        from dtx.analysis.activation_patching.plots import heatmaps, page

        yield from heatmaps(result)
        yield "patching", page(result)
