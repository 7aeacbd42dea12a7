"""Attention by modality on the way to the decision, and how far reward-to-go moves it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.attention.spec import AttentionSpec
from dtx.analysis.core.analysis import Need
from dtx.analysis.core.of_model import OfModel
from dtx.analysis.core.result import Result
from dtx.env.environment import Environment
from dtx.resources import Resources

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject
    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class Attention(AttentionSpec, OfModel):
    """Attention on the way to the decision; ``conf/analysis/attention.yaml`` explains the fields.

    Windows: every layout at every target, after the routine's actions up to the decision. Beside a head's
    pattern stands its *effect*: how far the logits move, as a share of their size, with even attention, or
    with that of the other target, in its place. Claims need both: a head that writes nothing may look
    anywhere. Controls: the same architecture untrained, by the same statistic (the best head against the best
    head of each), and attention spread evenly over what may be seen. Claims about reward-to-go have no object
    where it does not change the decision. Exact checks: each token's attention adds up to 1, and none goes to
    later tokens.
    """

    version: ClassVar[int] = 2  # since effects stand beside patterns
    question: ClassVar[str] = "Where do tokens look, and does reward-to-go move it?"
    headline: ClassVar[tuple[str, ...]] = (
        "specificity_l0_high",
        "effect_l0_high",
        "tv_l0",
        "switching_heads",
    )
    acts_in: ClassVar[str] = "env"
    cover: ClassVar[str] = "modality"
    needs: ClassVar[Mapping[str, Need]] = {"env": Need.DECISION}

    env: Environment

    def resources(self) -> Resources:
        """Every layout at every target, with every head's attention changed, in every model."""
        sizes, decision = self.dt.sizes, self.env.decision
        heads = 1 if sizes is None else sizes.n_layers * sizes.n_heads
        windows = len(self.targets) * (len(decision.layouts) if decision else 1)
        steps = decision.step + 1 if decision else None
        return self.dt.passing(
            windows * (1 + 2 * heads) * (1 + self.untrained), steps, {"targets": windows}
        )

    def compute(self) -> Result:
        """Compare the attention of all layouts and targets."""
        from dtx.analysis.attention.compute import compute

        model = self.model()
        assert self.env.decision is not None  # needs
        return compute(self, model, self.env.decision)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``modality``, ``moved`` and ``maps``; all maps as a page."""
        from dtx.analysis.attention.page import AttentionPage
        from dtx.analysis.attention.plots import maps, modality, moved

        yield "modality", modality(result, self)
        yield "moved", moved(result, self)
        yield "maps", maps(result, self)
        yield "attention", AttentionPage(result, self.heading, self)

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """Where the heads of a known model look."""
        from dtx.analysis.attention.truth import answers

        return answers(subject)
