"""C5: along which edges, at which token, does a counterfactual pair's difference travel."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dtx.analysis.core.patching_spec import Direction
from dtx.dt.model_stage import ModelStage
from dtx.dt.provider import check_checkpoint, load_at
from dtx.pairs.declared import Declared
from dtx.report import Report, read_metrics
from dtx.stage import RUNTIME, Stage


class Tokens(enum.Enum):
    """``each``: an edge at every token alone, and at all together. ``together``: only the latter."""

    each = "each"
    together = "together"


@dataclass(frozen=True, kw_only=True)
class PathPatching(Stage):
    """Patch every edge of the model; ``conf/analysis/path_patching.yaml`` explains it.

    An edge is what a sender (the embedding, a head, an MLP) wrote at a token and one receiver's input (q, k
    or v of a head, an MLP, the logits) reads there. All else that is read directly stays as in the base
    run; what follows from the receiver is computed anew, with LayerNorm. rho is as in activation patching.

    Controls: donors from another world, all edges with the same kind of receiver (what a random edge
    brings), null pairs. Exact checks: all edges 1, none 0, all edges of a node the node's patch, what is
    no edge 0, and the batched sweep against one plain forward pass an edge.
    """

    dt: ModelStage
    checkpoint: int | None
    pairs: Declared
    edits: tuple[str, ...] | None
    direction: Direction
    tokens: Tokens
    tolerance: float
    resamples: int
    seed: int
    windows: int = field(metadata=RUNTIME)

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges, and names of edits."""
        yield from check_checkpoint(self.checkpoint)
        known = list(self.pairs.edits)
        for name in self.edits or ():
            if name not in known:
                yield "edits", f"the pairs have no edit {name}; they have {', '.join(known)}"
        if self.edits is not None and not self.edits:
            yield "edits", "needs at least one of " + ", ".join(known) + "; null takes all"

    def run(self, out: Path) -> None:
        """Write tables ``edges``, ``important``, ``identities`` and ``runs``, figures and headline."""
        from dtx.analysis.path_patching.compute import headline, measure
        from dtx.analysis.path_patching.page import Page
        from dtx.analysis.path_patching.plots import draw

        report = Report(out)
        found = measure(self, load_at(self.dt, self.checkpoint), self.pairs.load(), report)
        for name, table in found.tables.items():
            report.table(name, table)
        report.headline(headline(self, found))
        draw(report, found)
        report.page("paths", Page(found, self.dt.label))

    def summary(self) -> str:
        """The strongest edges of each edit, or what failed."""
        import pandas as pd

        n = read_metrics(self.path)
        for name in ("identity_error", "null_change"):
            error = n[f"paths/{name}"]
            if error is None:
                return "not established: in no pair do the two runs differ by min_ld_gap"
            if error > self.tolerance:
                return f"not established: {name.replace('_', ' ')} {error:.2g} is above {self.tolerance:g}"
        important = pd.read_parquet(self.path / "tables" / "important.parquet")
        said = []
        for edit, mine in important.groupby("edit", sort=False):
            own, control = (n.get(f"paths/{edit}_{name}") for name in ("best_rho", "control_rho"))
            best = ", ".join(_named(edge) for edge in mine.head(3).itertuples())
            what = ""
            if own is not None and control is not None:
                best += f" (shuffled donor at the first {control:.2f})"
                what = "" if own > control else "not established, most by "
            said.append(f"{edit}: {what}{best}")
        return "; ".join(said) or "not established: in no pair do the two runs differ by min_ld_gap"


def _named(edge: Any) -> str:
    """``embed > L1 H0 v at S1 1.00``."""
    read = f" {edge.input}" if edge.input in ("q", "k", "v") else ""
    return f"{edge.sender} > {edge.receiver}{read} at {edge.token} {edge.rho:.2f}"
