"""Attention by modality on the way to the decision, and how far reward-to-go moves it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.attention.spec import AttentionSpec
from dtx.analysis.core.analysis import Analysis, Need
from dtx.analysis.core.result import Result
from dtx.config.ranges import Natural
from dtx.dt.model_stage import ModelStage
from dtx.env.environment import Environment

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject
    from dtx.report import Page


@dataclass(frozen=True, kw_only=True)
class Attention(AttentionSpec, Analysis):
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
    cover: ClassVar[str] = "modality"
    needs: ClassVar[Mapping[str, Need]] = {"env": Need.DECISION}

    env: Environment
    dt: ModelStage
    checkpoint: Natural | None

    def compute(self) -> Result:
        """Compare the attention of all layouts and targets."""
        from dtx.analysis.attention.compute import compute
        from dtx.dt.load import load_at

        model = load_at(self.dt, self.checkpoint, self.env)
        assert self.env.decision is not None  # needs
        return compute(self, model, self.env.decision)

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``modality``, ``moved`` and ``maps``; all maps as a page."""
        from dtx.analysis.attention.page import AttentionPage
        from dtx.analysis.attention.plots import maps, modality, moved

        yield "modality", modality(result, self)
        yield "moved", moved(result, self)
        yield "maps", maps(result, self)
        yield "attention", AttentionPage(result, self, self.dt.label)

    def answers(self, subject: Subject) -> Iterator[pd.DataFrame]:
        """Where the heads of a known model look."""
        from dtx.analysis.attention.truth import answers

        return answers(subject)
