"""C6: how few edges are enough to keep what an edit changes, beside random circuits of the same size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.analysis.path_patching import PathPatching, Tokens
from dtx.dt.provider import load_at
from dtx.report import Report, read_metrics
from dtx.stage import Stage


@dataclass(frozen=True, kw_only=True)
class SmallestCircuit(Stage):
    """Rank edges at tokens by path patching; ``conf/analysis/smallest_circuit.yaml`` explains the fields.

    In a circuit every receiver reads the clean run along the circuit's edges and the corrupt run along all
    others; its faithfulness is the share of the logit difference between the two runs that is left (Wang et
    al., 2022; edges as in Conmy et al., 2023). The circuit is a ranking cut off, not a search over subsets:
    a smaller one may exist. Control: random circuits of the same size, of edges whose sender differs between
    the runs. Exact checks: the whole model keeps 1, no edge at all 0.
    """

    paths: PathPatching
    faithfulness: float
    draws: int
    tolerance: float
    resamples: int
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges, and edges told apart by token."""
        if not 0 < self.faithfulness <= 1:
            yield "faithfulness", "is a share: above 0 and at most 1"
        for name in ("draws", "resamples"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        if self.tolerance <= 0:
            yield "tolerance", "must be above 0"
        if self.seed < 0:
            yield "seed", "must be 0 or more"
        if self.paths.tokens is not Tokens.each:
            yield "paths.tokens", "must be each: edges are ranked at every token"

    def run(self, out: Path) -> None:
        """Write tables ``curve`` and ``circuit``, a figure and the headline."""
        from dtx.analysis.smallest_circuit.compute import headline, measure
        from dtx.analysis.smallest_circuit.plots import draw

        model = load_at(self.paths.dt, self.paths.checkpoint)
        found = measure(self, model, self.paths.pairs.load())
        report = Report(out)
        for name, table in found.tables.items():
            report.table(name, table)
        report.headline(headline(self, found))
        draw(report, found, self.faithfulness)

    def summary(self) -> str:
        """The size of each edit's circuit beside random ones, or what failed."""
        n = read_metrics(self.path)
        error = n["circuit/identity_error"]
        if error is None:
            return "not established: in no pair do the two runs differ by min_ld_gap"
        if error > self.tolerance:
            return f"not established: identity error {error:.2g} is above {self.tolerance:g}"
        edits = [k[len("circuit/") : -len("_edges")] for k in n if k.endswith("_edges")]
        said = []
        for edit in edits:
            size, all_edges = n[f"circuit/{edit}_edges"], n[f"circuit/{edit}_of"]
            kept, chance = n[f"circuit/{edit}_faithfulness"], n[f"circuit/{edit}_random_max"]
            if size is None or kept is None or chance is None:
                said.append(f"{edit}: the runs differ by less than the gap")
            elif chance >= self.faithfulness:
                said.append(
                    f"{edit}: not established, random circuits of {size:.0f} edges keep {chance:.2f}"
                )
            else:
                said.append(
                    f"{edit}: {size:,.0f} of {all_edges:,.0f} edges at tokens keep {kept:.2f} "
                    f"(random ones at most {chance:.2f})"
                )
        return "; ".join(said)
