"""C2, C3: which activations, at which token, carry what a counterfactual pair changes."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dtx.analysis.core.claims import write_claims
from dtx.dt.model_stage import ModelStage
from dtx.dt.provider import check_checkpoint, load_at
from dtx.pairs.declared import Declared
from dtx.report import Report, read_metrics
from dtx.stage import RUNTIME, Stage


class Direction(enum.Enum):
    """``denoise``: clean activations into the corrupt run. ``noise``: corrupt ones into the clean run."""

    denoise = "denoise"
    noise = "noise"


class Node(enum.Enum):
    """What is patched at a token: the residual stream, a component's output, or each head's parts."""

    resid_pre = "resid_pre"
    attn_out = "attn_out"
    resid_mid = "resid_mid"
    mlp_out = "mlp_out"
    resid_post = "resid_post"
    z = "z"
    q = "q"
    k = "k"
    v = "v"
    pattern = "pattern"


def check_sweep(stage: Any) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the numbers that every sweep of patches has."""
    if stage.tolerance <= 0:
        yield "tolerance", "must be above 0"
    for name in ("resamples", "windows"):
        if getattr(stage, name) < 1:
            yield name, "must be at least 1"
    if stage.seed < 0:
        yield "seed", "must be 0 or more"


@dataclass(frozen=True, kw_only=True)
class ActivationPatching(Stage):
    """Patch every node at every token of every pair; ``conf/analysis/activation_patching.yaml`` explains it.

    rho is the share of the difference between the two runs that a patch brings: 1 as if the whole run
    were the other one, 0 as if nothing were patched; missing where the runs differ by less than the pairs'
    ``min_ld_gap``. Controls: a null pair, in which every patch must change nothing, and a donor from another
    world. Exact checks: everything 1, nothing 0, the embedding of a token that did not change 0.
    """

    dt: ModelStage
    checkpoint: int | None
    pairs: Declared
    direction: Direction
    nodes: tuple[Node, ...]
    tolerance: float
    resamples: int
    seed: int
    windows: int = field(metadata=RUNTIME)

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges."""
        yield from check_checkpoint(self.checkpoint)
        if not self.nodes:
            yield "nodes", "needs at least one of " + ", ".join(node.value for node in Node)
        yield from check_sweep(self)

    def run(self, out: Path) -> None:
        """Write tables ``patches``, ``effects``, ``sets``, ``runs``, the claims, figures, the headline."""
        from dtx.analysis.activation_patching.claims import claims
        from dtx.analysis.activation_patching.compute import headline, measure
        from dtx.analysis.activation_patching.plots import draw

        pairs = self.pairs.load()
        found = measure(self, load_at(self.dt, self.checkpoint), pairs)
        report = Report(out)
        for name, table in found.tables.items():
            report.table(name, table)
        numbers = headline(self, found)
        report.headline(numbers)
        write_claims(report, claims(found.tables), self._failed(numbers))
        draw(report, found)

    def summary(self) -> str:
        """Where each edit's effect lies before the last layer's end, or what failed."""
        import pandas as pd

        from dtx.analysis.activation_patching.claims import strongest

        n = read_metrics(self.path)
        if failed := self._failed(n):
            return f"not established: {'; '.join(failed)}"
        effects = pd.read_parquet(self.path / "tables" / "effects.parquet")
        said = []
        for edit in effects["edit"].drop_duplicates():
            best = strongest(effects, edit)
            if best is None:
                said.append(f"{edit}: the runs differ by less than the gap")
                continue
            beside = "" if best.control is None else f" (shuffled donor there {best.control:.2f})"
            what = "most by" if best.established else "not established, most by"
            said.append(f"{edit}: {what} {best.name} at {best.token}, rho {best.rho:.2f}{beside}")
        return "; ".join(said)

    def _failed(self, n: Mapping[str, float | None]) -> list[str]:
        """The exact check and the control that did not hold, of the headline numbers."""
        failed = []
        for name in ("identity_error", "null_change"):
            error = n[f"patching/{name}"]
            if error is None:
                return ["in no pair do the two runs differ by min_ld_gap"]
            if error > self.tolerance:
                failed.append(f"{name.replace('_', ' ')} {error:.2g} is above {self.tolerance:g}")
        return failed
