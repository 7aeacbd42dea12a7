"""A4: dashboards of neurons: what makes each fire, drawn, what it decodes, what it does to the logits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.dataset.dataset import Dataset
from dtx.dt.load import check_checkpoint
from dtx.dt.model_stage import ModelStage
from dtx.env.environment import Environment
from dtx.report import Report, read_metrics
from dtx.stage import Stage

NAME = re.compile(r"MLP(\d+)N(\d+)")
"""What a neuron is called."""


@dataclass(frozen=True, kw_only=True)
class Neurons(Stage):
    """Neurons of the MLPs, one by one; ``conf/analysis/neurons.yaml`` explains the fields.

    Control: random states beside the strongest ones, and the same neuron of an untrained model. Exact
    checks: what is shown is what the model does with that window alone, and activations times congruence
    are what the MLP adds to the logits. Emits tables ``neurons``, ``facts``, ``states``, a page, a figure
    and ``neurons/*`` numbers.
    """

    env: Environment
    dataset: Dataset
    dt: ModelStage
    checkpoint: int | None
    layers: tuple[int, ...] | None
    neurons: int
    named: tuple[str, ...]
    states: int
    shown: int
    high: float
    untrained: int
    tolerance: float
    resamples: int
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges."""
        yield from check_checkpoint(self.checkpoint)
        if self.layers is not None and (not self.layers or min(self.layers) < 0):
            yield "layers", "are numbers from 0; null for all layers"
        for name in self.named:
            if not NAME.fullmatch(name):
                yield "named", f"'{name}' is no neuron; MLP1N5 is"
        for name in ("neurons", "shown", "resamples"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        if self.states < 2 * self.shown:
            yield "states", f"must be at least twice what is shown, {2 * self.shown}"
        if self.tolerance <= 0:
            yield "tolerance", "must be above 0"
        for name in ("untrained", "seed"):
            if getattr(self, name) < 0:
                yield name, "must be 0 or more"

    def run(self, out: Path) -> None:
        """Measure and draw; an interrupted run starts again, it takes less than a minute."""
        from dtx.analysis.neurons.compute import measure
        from dtx.analysis.neurons.plots import draw

        results = measure(self)
        report = Report(out)
        report.table("neurons", results.neurons)
        report.table("facts", results.facts)
        report.table("states", results.shown)
        report.headline(results.headline)
        draw(report, results, self)

    def summary(self) -> str:
        """How selective the neurons are beside untrained ones, and the first of them; or what failed."""
        import pandas as pd

        n = read_metrics(self.path)
        error = n["neurons/identity_error"]
        if error is None or error > self.tolerance:
            return f"not established: what is shown differs by {error} from the model's own activations"
        own, fresh = n["neurons/selectivity"], n["neurons/selectivity_untrained"]
        found = (
            f"selectivity {own:.2f} against {fresh:.2f} untrained (difference "
            f"[{n['neurons/difference_low']:+.2f}, {n['neurons/difference_high']:+.2f}]) in "
            f"{n['neurons/distinct_inputs']:.0f} distinct states"
        )
        if not n["neurons/established"]:
            return f"not established: untrained neurons are as selective: {found}"
        table = pd.read_parquet(self.path / "tables" / "neurons.parquet")
        first = table[table.model == "trained"].sort_values("rank").iloc[0]
        return (
            f"{found}; {first['name']}: {first.fact} {first.selectivity:.2f}, most at {first.peak}"
        )
