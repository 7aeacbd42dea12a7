"""W5: do folded, centred and re-read weights compute the same logits?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.analysis.core.inputs import Inputs
from dtx.dt.model_stage import ModelStage
from dtx.dt.provider import check_checkpoint
from dtx.report import Report, read_metrics
from dtx.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Equivalence(Stage):
    """Largest change of a logit; ``conf/analysis/equivalence.yaml`` explains the fields.

    Each step is tried on the model and on the same model with random LayerNorms and biases, for which
    folding is much to do. Control: folding that leaves out a matrix, which must be seen to be wrong.
    Emits the table ``differences``, a figure and ``health/*`` numbers.
    """

    windows: Inputs
    dt: ModelStage
    checkpoint: int | None
    tolerance: float
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges."""
        yield from check_checkpoint(self.checkpoint)
        if self.tolerance <= 0:
            yield "tolerance", "must be above 0"
        if self.seed < 0:
            yield "seed", "must be 0 or more"

    def run(self, out: Path) -> None:
        """Compare; an interrupted run starts again, it takes seconds."""
        from dtx.analysis.equivalence.compute import measure
        from dtx.analysis.equivalence.plots import draw

        report = Report(out)
        table, headline = measure(self)
        report.table("differences", table)
        report.headline(headline)
        draw(report, table, self)

    def summary(self) -> str:
        """Whether analyses may read folded weights."""
        n = read_metrics(self.path)
        said = (
            f"largest change of a logit {n['health/max_logit_diff']:.1e} (in float32 "
            f"{n['health/max_logit_diff_float32']:.1e}, the model's own rounding "
            f"{n['health/rounding_float32']:.1e}) in {n['health/distinct_inputs']:.0f} distinct windows"
        )
        wrong = n["health/wrong_fold_diff"]
        if wrong is not None:  # a model without LayerNorm has nothing to fold
            said += f"; a fold that leaves out a matrix: {wrong:.1e}"
        if not n["health/control_is_seen"]:
            return f"not established: the wrong fold is not seen to be wrong; {said}"
        verdict = (
            "processed weights are the same model" if n["health/equivalent"] else "NOT equivalent"
        )
        return f"{verdict}: {said}"
