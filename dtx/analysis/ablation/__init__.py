"""C1: which heads, attention outputs, MLPs and neurons the decision needs."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dtx.analysis.core.inputs import Contrast, Inputs
from dtx.dt.load import check_checkpoint
from dtx.dt.model_stage import ModelStage
from dtx.report import Report, read_metrics
from dtx.stage import RUNTIME, Stage

NAME = re.compile(r"L(\d+)H(\d+)|ATTN(\d+)|MLP(\d+)(?:N(\d+))?")
"""What nodes are called: a head, an attention's output, an MLP's output or one of its neurons."""


class Method(enum.Enum):
    """What a node's output becomes: 0, its mean over windows of data, or its value in another of them."""

    zero = "zero"
    mean = "mean"
    resample = "resample"


class Place(enum.Enum):
    """Where a node is ablated: at the last state token, or at every token that is not padding."""

    last = "last"
    all = "all"


@dataclass(frozen=True, kw_only=True)
class Ablation(Stage):
    """Ablate every node, one at a time; ``conf/analysis/ablation.yaml`` explains the fields.

    Control: random directions, as far from the node's output as the ablation is, and the other nodes of
    the kind; a node is *needed* only beyond both. Exact checks: resampling a window from itself changes
    nothing, all heads together are their attention's output and all neurons their MLP's.
    Emits tables ``windows``, ``effects``, ``ranking``, a heatmap and ``ablation/*`` numbers.
    """

    windows: Inputs
    dt: ModelStage
    checkpoint: int | None
    contrast: Contrast
    methods: tuple[Method, ...]
    tokens: Place
    neurons: tuple[int, ...]
    silent: tuple[str, ...]
    reference: int
    donors: int
    random_directions: int
    shown: int
    tolerance: float
    resamples: int
    seed: int
    chunk: int = field(metadata=RUNTIME)

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges."""
        yield from check_checkpoint(self.checkpoint)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            yield "methods", "needs at least one method, and none twice"
        if any(layer < 0 for layer in self.neurons):
            yield "neurons", "are layers, counted from 0"
        for name in self.silent:
            if not NAME.fullmatch(name):
                yield "silent", f"'{name}' is no node; L1H0, ATTN1, MLP1 and MLP1N5 are"
        for name in ("reference", "donors", "shown", "resamples", "chunk"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        if self.random_directions < 20:
            yield "random_directions", "a 95% quantile needs at least 20"
        if self.tolerance <= 0:
            yield "tolerance", "must be above 0"
        if self.seed < 0:
            yield "seed", "must be 0 or more"

    def run(self, out: Path) -> None:
        """Measure; an interrupted run starts again, it takes less than a minute."""
        from dtx.analysis.ablation.compute import measure
        from dtx.analysis.ablation.plots import draw

        results = measure(self)
        report = Report(out)
        for name in ("windows", "effects", "ranking"):
            report.table(name, getattr(results, name))
        report.headline(results.headline)
        draw(report, results, self)

    def summary(self) -> str:
        """The nodes that are needed, by each method; or what failed."""
        import pandas as pd

        n = read_metrics(self.path)
        for name in ("self_change", "identity_error"):
            error = n[f"ablation/{name}"]
            if error is None or error > self.tolerance:
                return (
                    f"not established: {name.replace('_', ' ')} {error} is above {self.tolerance:g}"
                )
        ranking = pd.read_parquet(self.path / "tables" / "ranking.parquet")
        said = []
        for method, mine in ranking.groupby("method", sort=False):
            needed = mine[mine.needed]
            if not len(needed):
                top = mine.iloc[0]
                said.append(
                    f"{method}: not established, no node beyond random ones (the largest, {top['name']}: "
                    f"{top.change:+.2f}, random directions {top.random_95:.2f})"
                )
                continue
            few = ", ".join(f"{r['name']} {r.change:+.2f}" for _, r in needed.head(4).iterrows())
            said.append(f"{method}: {len(needed)} of {len(mine)} nodes needed, most {few}")
        ld = n["ablation/ld"]
        return f"of a {self.contrast} logit difference of {ld:.2f}; " + "; ".join(said)
