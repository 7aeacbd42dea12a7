"""The instruments themselves: every analysis on models whose answer is known, and on models without one."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dtx.dt.model_stage import ModelStage
from dtx.report import Report, read_metrics
from dtx.stage import Stage


class Wrong(enum.Enum):
    """What an analysis must not find in a negative: anything at all, or an effect of reward-to-go."""

    everything = "everything"
    reward_to_go = "reward_to_go"


@dataclass(frozen=True, kw_only=True)
class Negative:
    """A model in which there is nothing to find, and what counts as having found it."""

    model: ModelStage
    wrong: Wrong


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One analysis of one model."""

    model: str
    analysis: str
    stage: Stage


@dataclass(frozen=True, kw_only=True)
class Scorecard(Stage):
    """Compare what analyses say with what is true; ``conf/analysis/scorecard.yaml`` explains the fields.

    Its inputs are the analyses, each of each model: they are planned, cached and made again one by one.
    T0 (planted) must come out exactly, T1 (trained to a circuit) by area under the ROC curve, and T4
    (negatives) with few false positives. Emits tables ``scores``, ``answers``, ``gates``, a figure,
    ``scorecard/*`` numbers.
    """

    known: dict[str, ModelStage]
    negatives: dict[str, Negative]
    analyses: dict[str, Stage]
    skip: dict[str, tuple[str, ...]]
    positive: float
    least_auroc: float
    most_false_positives: float
    tolerance: float
    resamples: int
    seed: int

    @cached_property
    def cells(self) -> list[Cell]:
        """Every analysis of every model that is not skipped."""
        models = {**self.known, **{name: n.model for name, n in self.negatives.items()}}
        return [
            Cell(
                model=model,
                analysis=analysis,
                stage=on(template, dt),
            )
            for model, dt in models.items()
            for analysis, template in self.analyses.items()
            if analysis not in self.skip.get(model, ())
        ]

    def inputs(self) -> dict[str, Stage]:
        """The analyses of the models; the templates, whose model is another, are none."""
        cells = {f"{cell.model}.{cell.analysis}": cell.stage for cell in self.cells}
        return {**cells, **{f"known.{name}": dt for name, dt in self.known.items()}}  # type: ignore[dict-item]

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges, names, and models that tell their circuit."""
        for name, model in self.known.items():
            if not hasattr(model, "circuit"):
                yield (
                    f"known.{name}",
                    "its circuit is not known; planted and interchange models tell theirs",
                )
        if both := set(self.known) & set(self.negatives):
            yield "negatives", f"{', '.join(sorted(both))} is among the known models, too"
        for name, analysis in self.analyses.items():
            if not looks(analysis):
                yield f"analyses.{name}", "has no field dt: it does not look at one model"
        for model, names in self.skip.items():
            if model not in {*self.known, *self.negatives}:
                yield "skip", f"there is no model {model!r}"
            for name in names:
                if name not in self.analyses:
                    yield "skip", f"{model}: there is no analysis {name!r}"
        for name in ("positive", "tolerance"):
            if getattr(self, name) <= 0:
                yield name, "must be above 0"
        for name in ("least_auroc", "most_false_positives"):
            if not 0 <= getattr(self, name) <= 1:
                yield name, "is a share: between 0 and 1"
        if self.resamples < 1:
            yield "resamples", "must be at least 1"
        if self.seed < 0:
            yield "seed", "must be 0 or more"

    def run(self, out: Path) -> None:
        """Read the analyses' tables and score them; an interrupted run starts again, it takes seconds."""
        from dtx.analysis.scorecard.plots import draw
        from dtx.analysis.scorecard.scores import measure

        report = Report(out)
        found = measure(self)
        for name in ("scores", "answers", "gates"):
            report.table(name, getattr(found, name))
        report.headline(found.headline)
        draw(report, found.scores, self)

    def summary(self) -> str:
        """Which gates hold, and what the others miss by."""
        import pandas as pd

        gates = pd.read_parquet(self.path / "tables" / "gates.parquet")
        n = read_metrics(self.path)
        said = []
        for gate, mine in gates.groupby("gate", sort=False):
            failed = mine[~mine["holds"]]
            told = "; ".join(f"{r.analysis} on {r.model}: {r.found}" for r in failed.itertuples())
            share = f"{len(mine) - len(failed)} of {len(mine)}"
            said.append(f"{gate} {share}" + (f" (not: {told})" if len(failed) else ""))
        verdict = "all gates hold" if n["scorecard/gates_failed"] == 0 else "not established"
        return f"{verdict}: " + ", ".join(said)


def looks(analysis: Stage) -> bool:
    """Whether an analysis, or one that it stands on, looks at a model."""
    values = {f.name: getattr(analysis, f.name) for f in dataclasses.fields(analysis)}
    return "dt" in values or any(isinstance(v, Stage) and looks(v) for v in values.values())


def on(analysis: Stage, dt: ModelStage) -> Stage:
    """The same analysis of another model."""
    values = {f.name: getattr(analysis, f.name) for f in dataclasses.fields(analysis)}
    if "dt" in values:
        return dataclasses.replace(analysis, dt=dt)  # type: ignore[call-arg]
    inner = {k: on(v, dt) for k, v in values.items() if isinstance(v, Stage) and looks(v)}
    return dataclasses.replace(analysis, **inner)
