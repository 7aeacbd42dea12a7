"""W1, W2: geometry of the embeddings, and principal components of subsets as maps of the view."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage
from dtx.dt.provider import check_checkpoint
from dtx.report import Report, read_metrics
from dtx.stage import Stage

TOLERANCE = 1e-9
"""How far shares may be from adding to 1, and numbers from those of the relabelled table."""


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Some channels at some cells of the view."""

    channels: tuple[str, ...]
    cells: tuple[tuple[int, int], ...] | None

    def check(self) -> Iterator[tuple[str, str]]:
        """Cells of the view, and at least one channel."""
        if not self.channels:
            yield "channels", "needs at least one object, colour or door state"
        for cell in self.cells or ():
            if not all(0 <= place < 7 for place in cell):
                yield "cells", f"{list(cell)} is outside the 7x7 view: columns and rows are 0 to 6"


@dataclass(frozen=True, kw_only=True)
class Embeddings(Stage):
    """Norms, cosines, principal components; ``conf/analysis/embeddings.yaml`` explains the fields.

    Controls: Gaussian tables of the same norms, random subsets of the same size. Exact checks: relabelling
    the channels changes no number, the components' shares add to 1.
    Emits tables ``norms``, ``pairs``, ``components``, ``maps``, figures and ``embeddings/*`` numbers.
    """

    dataset: Dataset
    dt: ModelStage
    checkpoint: int | None
    antipodal: float
    subsets: dict[str, Subset]
    controls: int
    resamples: int
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges."""
        yield from check_checkpoint(self.checkpoint)
        if not -1 < self.antipodal < 0:
            yield "antipodal", "is the cosine of opposite directions: between -1 and 0"
        if not self.subsets:
            yield "subsets", "needs at least one subset of channels"
        if self.controls < 20:
            yield "controls", "a 95% quantile needs at least 20"
        if self.resamples < 1:
            yield "resamples", "must be at least 1"
        if self.seed < 0:
            yield "seed", "must be 0 or more"

    def run(self, out: Path) -> None:
        """Measure; an interrupted run starts again, it takes seconds."""
        from dtx.analysis.embeddings.compute import measure
        from dtx.analysis.embeddings.plots import draw

        report = Report(out)
        results = measure(self)
        for name in ("norms", "pairs", "components", "maps"):
            report.table(name, getattr(results, name))
        report.headline(results.headline)
        draw(report, results)

    def summary(self) -> str:
        """What stands out against the controls."""
        n = read_metrics(self.path)
        error = n["embeddings/identity_error"]
        if error is None or error >= TOLERANCE:
            return f"not established: relabelled or summed, numbers differ by {error}"
        pairs, chance = n["embeddings/antipodal_pairs"], n["embeddings/antipodal_random_95"]
        verdict = (
            "" if (pairs or 0) > (chance or 0) else "not established: no more than by chance; "
        )
        said = [
            f"{verdict}{pairs:.0f} antipodal pairs in one cell (Gaussian: at most {chance:.0f})"
        ]
        said += [
            f"{name}: PC1+2 {n[f'embeddings/{name}_pc12']:.0%} (random subsets "
            f"{n[f'embeddings/{name}_random_95']:.0%})"
            for name in self.subsets
            if n.get(f"embeddings/{name}_pc12") is not None
        ]
        return f"{', '.join(said)}; {n['embeddings/channels']:.0f} channels that occur"
