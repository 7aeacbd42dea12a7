"""W4: QK and OV circuits by modality, composition of heads, singular values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.analysis.core.inputs import Inputs
from dtx.dt.model_stage import ModelStage
from dtx.dt.provider import check_checkpoint
from dtx.report import Report, read_metrics
from dtx.stage import Stage

TOLERANCE = 1e-5
"""How far a factorised attention score may be from the one at run time."""


@dataclass(frozen=True, kw_only=True)
class Circuits(Stage):
    """Attention read from folded weights; ``conf/analysis/circuits.yaml`` explains the fields.

    Control: the same architecture untrained. Exact check: the scores' parts, each a product of weights with
    one part of the query's and one of the key's residual stream, add to the score at run time.
    Emits tables ``modality``, ``parts``, ``ov``, ``composition``, ``singular``, figures and ``circuits/*``.
    """

    windows: Inputs
    dt: ModelStage
    checkpoint: int | None
    untrained: int
    resamples: int
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges."""
        yield from check_checkpoint(self.checkpoint)
        if self.resamples < 1:
            yield "resamples", "must be at least 1"
        for name in ("untrained", "seed"):
            if getattr(self, name) < 0:
                yield name, "must be 0 or more"

    def run(self, out: Path) -> None:
        """Measure; an interrupted run starts again, it takes seconds."""
        from dtx.analysis.circuits.compute import measure
        from dtx.analysis.circuits.plots import draw

        report = Report(out)
        tables, headline = measure(self)
        for name, table in tables.items():
            report.table(name, table)
        report.headline(headline)
        draw(report, tables)

    def summary(self) -> str:
        """Whether factorised scores are the real ones, and the strongest composition."""
        import pandas as pd

        n = read_metrics(self.path)
        error = n["circuits/identity_error"]
        if error is None or error >= TOLERANCE:
            return f"not established: factorised scores miss those at run time by {error}"
        found = pd.read_parquet(self.path / "tables" / "composition.parquet")
        found = found[found.model == "trained"].sort_values("score", ascending=False)
        if not len(found):
            return (
                f"factorised scores are those at run time ({error:.1e}); one layer, no composition"
            )
        best = found.iloc[0]
        said = (
            f"strongest composition {best.source} -> {best.target} ({best.kind}) {best.score:.3f}, "
            f"untrained at most {n['circuits/composition_untrained_max']:.3f}; factorised scores are those "
            f"at run time within {error:.1e} in {n['circuits/distinct_inputs']:.0f} distinct windows"
        )
        if not n["circuits/established"]:
            return f"not established: no pair of heads composes more than untrained ones; {said}"
        return said
