"""W3: how much each neuron's output weights raise each action's logit, by layer and over training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.analysis.core.inputs import Inputs
from dtx.dt.model_stage import ModelStage
from dtx.dt.provider import check_checkpoint
from dtx.env.actions import Action
from dtx.report import Report
from dtx.stage import Stage

TOLERANCE = 1e-5
"""How far activations times congruence may be from what the MLP adds to the logits."""


@dataclass(frozen=True, kw_only=True)
class Congruence(Stage):
    """C = W_out W_U; ``conf/analysis/congruence.yaml`` explains the fields.

    Control: the same architecture untrained, and the checkpoints. Exact check: the sum of activations times
    C, plus the bias, is the MLP's direct logit attribution, with raw and with folded weights.
    Emits tables ``congruence``, ``growth``, ``claims``, a figure and ``congruence/*`` numbers.
    """

    windows: Inputs
    dt: ModelStage
    checkpoint: int | None
    actions: tuple[Action, ...]
    untrained: int
    resamples: int
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges."""
        yield from check_checkpoint(self.checkpoint)
        if not self.actions or len(set(self.actions)) < len(self.actions):
            yield "actions", "needs at least one action, and none twice"
        if self.resamples < 1:
            yield "resamples", "must be at least 1"
        for name in ("seed", "untrained"):
            if getattr(self, name) < 0:
                yield name, "must be 0 or more"

    def run(self, out: Path) -> None:
        """Measure; an interrupted run starts again, it takes seconds."""
        from dtx.analysis.congruence.compute import measure
        from dtx.analysis.congruence.plots import draw
        from dtx.analysis.core.claims import write_claims

        report = Report(out)
        results = measure(self)
        report.table("congruence", results.table)
        report.table("growth", results.growth)
        report.headline(results.headline)
        write_claims(report, [results.claim], results.failed)
        draw(report, results, self)

    def summary(self) -> str:
        """The claim with its verdict."""
        from dtx.analysis.core.claims import summarise

        return summarise(self.path)
