"""Every analysis on models whose circuit is known, and on models in which there is nothing to find."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring, Wrong
from dtx.analysis.scorecard.spec import T0, T1, T4, ScorecardSpec
from dtx.dt.model_stage import ModelStage
from dtx.stage import Stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dtx.analysis.scorecard.compute import Case


@dataclass(frozen=True, kw_only=True)
class Negative:
    """A model in which there is nothing to find, and what counts as having found it."""

    model: ModelStage
    wrong: Wrong


@dataclass(frozen=True)
class Cell:
    """One analysis of one model."""

    model: str
    analysis: str
    stage: Analysis
    dt: ModelStage


@dataclass(frozen=True, kw_only=True)
class Scorecard(ScorecardSpec, Analysis):
    """Compare what analyses say with what is true; ``conf/analysis/scorecard.yaml`` explains the fields.

    Its inputs are the analyses, each of each model: they are planned, cached and made again one by one.
    Exact checks: every check of every analysis, and that compiled models (T0) come out exactly. Controls:
    the ranking in a model trained to a circuit (T1), and false positives in the negatives (T4).
    """

    question: ClassVar[str] = "Do the analyses find what is known to be there, and nothing else?"
    scoring: ClassVar[Scoring | None] = None

    known: dict[str, ModelStage]
    negatives: dict[str, Negative]
    analyses: dict[str, Analysis]

    @cached_property
    def cells(self) -> list[Cell]:
        """Every analysis of every model that is not skipped."""
        models = {**self.known, **{name: n.model for name, n in self.negatives.items()}}
        return [
            Cell(model, analysis, with_model(template, dt), dt)
            for model, dt in models.items()
            for analysis, template in self.analyses.items()
            if analysis not in self.skip.get(model, ())
        ]

    def inputs(self) -> dict[str, Stage]:
        """The analyses of the models; the templates, whose model is another, are none."""
        cells = {f"{cell.model}.{cell.analysis}": cell.stage for cell in self.cells}
        return {**cells, **{f"known.{name}": dt for name, dt in self.known.items()}}

    def check(self) -> Iterator[tuple[str, str]]:
        """Names, and models that record their circuit."""
        for name, model in self.known.items():
            if not model.circuit_is_known:
                yield (
                    f"known.{name}",
                    "its circuit is not known; planted and interchange models record theirs",
                )
        if both := set(self.known) & set(self.negatives):
            yield "negatives", f"{', '.join(sorted(both))} is among the known models, too"
        for name, analysis in self.analyses.items():
            if not reads_model(analysis):
                yield f"analyses.{name}", "has no field dt: it does not look at one model"
        for model, names in self.skip.items():
            if model not in {*self.known, *self.negatives}:
                yield "skip", f"there is no model {model!r}"
            for name in names:
                if name not in self.analyses:
                    yield "skip", f"{model}: there is no analysis {name!r}"

    def compute(self) -> Result:
        """Score what the analyses found."""
        from dtx.analysis.scorecard.compute import compute

        return compute(self, [self._case(cell) for cell in self.cells])

    def figures(self, result: Result) -> Iterator[tuple[str, Figure]]:
        """``scorecard``: analyses down, models and measures across."""
        from dtx.analysis.scorecard.plots import draw

        yield "scorecard", draw(result, self)

    def _case(self, cell: Cell) -> Case:
        from dtx.analysis.core.answers import Subject, answers_of
        from dtx.analysis.scorecard.compute import Case

        negative = self.negatives.get(cell.model)
        circuit = None if negative else cell.dt.circuit()
        subject = Subject(
            result=cell.stage.result(),
            model=cell.dt.model_config(),
            circuit=circuit,
            wrong=negative.wrong if negative else None,
            positive=self.positive,
        )
        return Case(
            model=cell.model,
            kind=T4 if circuit is None else T0 if circuit.kind == "planted" else T1,
            analysis=cell.analysis,
            scoring=cell.stage.scoring or Scoring(),
            subject=subject,
            answers=answers_of(subject, cell.stage.answers(subject), cell.stage.true_of_planted),
        )


def reads_model(analysis: Stage) -> bool:
    """Whether an analysis, or one that it reads, looks at a model: it has a field ``dt``."""
    values = {f.name: getattr(analysis, f.name) for f in dataclasses.fields(analysis)}
    return "dt" in values or any(
        isinstance(v, Analysis) and reads_model(v) for v in values.values()
    )


def with_model(analysis: Analysis, dt: ModelStage) -> Analysis:
    """The same analysis of another model."""
    values = {f.name: getattr(analysis, f.name) for f in dataclasses.fields(analysis)}
    if "dt" in values:
        return dataclasses.replace(analysis, dt=dt)
    inner = {
        name: with_model(value, dt)
        for name, value in values.items()
        if isinstance(value, Analysis) and reads_model(value)
    }
    return dataclasses.replace(analysis, **inner)
