"""Every analysis on models whose circuit is known, and on models in which there is nothing to find."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from dtx.activations.windows import WindowActivations
from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring, Wrong
from dtx.analysis.scorecard.spec import T0, T1, T4, ScorecardSpec
from dtx.config.ranges import Positive
from dtx.dictionary.dictionary_stage import DictionaryStage
from dtx.dt.model_stage import ModelStage
from dtx.errors import UserError
from dtx.pairs.declared import Declared
from dtx.stage import Stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dtx.analysis.scorecard.gates import Case
    from dtx.report import Page


TARGETS = (0.0, 0.9)
"""Reward-to-go at which a negative's own decision is measured: a failure's, and about the best."""


@dataclass(frozen=True, kw_only=True)
class Negative:
    """A model in which there is nothing to find, and what counts as having found it.

    Attributes:
        min_ld_gap: In the place of the pairs' own, which none of its pairs might reach: then nothing would be
            measured, and nothing could be found wrongly.
    """

    model: ModelStage
    wrong: Wrong
    min_ld_gap: Positive


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
    Exact checks: every check of every analysis, that compiled models (T0) come out exactly, and that no
    statement about them is false. Controls: the ranking in a model trained to a circuit (T1), false positives
    in the negatives (T4), analysis by analysis and part by part, and of all statements about a negative.
    """

    question: ClassVar[str] = "Do the analyses find what is known to be there, and nothing else?"
    headline: ClassVar[tuple[str, ...]] = (
        "gates_held",
        "gates_failed",
        "t1_auroc",
        "t4_false_positives",
    )
    scoring: ClassVar[Scoring | None] = None

    known: dict[str, ModelStage]
    negatives: dict[str, Negative]
    analyses: dict[str, Analysis]

    @cached_property
    def cells(self) -> list[Cell]:
        """Every analysis of every model that is not skipped."""
        models = {**self.known, **{name: n.model for name, n in self.negatives.items()}}
        return [
            Cell(model, analysis, with_model(template, dt, self._gap(model)), dt)
            for model, dt in models.items()
            for analysis, template in self.analyses.items()
            if analysis not in self.skip.get(model, ())
        ]

    def _gap(self, model: str) -> float | None:
        return self.negatives[model].min_ld_gap if model in self.negatives else None

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
        for cell in self.cells:
            for field, what in (*cell.stage.missing(), *cell.stage.check()):
                yield f"analyses.{cell.analysis}.{field}", f"of {cell.model}: {what}"
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

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """``scorecard``: gates by analysis, as a figure; every score, as a page."""
        from dtx.analysis.scorecard.plots import draw, page

        yield "scorecard", draw(result)
        yield "scorecard", page(result)

    def _case(self, cell: Cell) -> Case:
        from dtx.analysis.core.answers import Subject, answers_of
        from dtx.analysis.scorecard.claims import truth_of
        from dtx.analysis.scorecard.gates import Case

        negative = self.negatives.get(cell.model)
        circuit = None if negative else cell.dt.circuit()
        subject = Subject(
            result=cell.stage.result(),
            model=cell.dt.model_config(),
            circuit=circuit,
            wrong=negative.wrong if negative else None,
            positive=self.gates.found.value,
            decision=own_decision(cell.dt) if negative else None,
        )
        return Case(
            model=cell.model,
            kind=T4 if circuit is None else T0 if circuit.kind == "planted" else T1,
            analysis=cell.analysis,
            scoring=cell.stage.scoring or Scoring(),
            subject=subject,
            answers=answers_of(
                subject,
                cell.stage.answers(subject),
                lambda claim: truth_of(cell.analysis, claim, circuit),
            ),
        )


_S = TypeVar("_S", bound=Stage)
OF_A_MODEL = (Analysis, DictionaryStage, WindowActivations)
"""Stages that are of a model if they read one: what is asked of another model is asked of others of these."""


def reads_model(stage: Stage) -> bool:
    """Whether an analysis, or one of what it reads, looks at a model: it has a field ``dt``."""
    values = {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage)}
    return "dt" in values or any(
        isinstance(v, OF_A_MODEL) and reads_model(v) for v in values.values()
    )


def own_decision(dt: ModelStage) -> float:
    """Logits by which a decision of its own would move a model's logit difference.

    Its most differing pair of actions, in the mean over layouts at the decision: from one's lead over the
    other to the reverse. What a negative is asked about may move its logits by next to nothing; what counts
    as found is measured on this scale, not on that of a trained model.
    """
    from dtx.dt.rollout import decision_contexts

    env = dt.environment
    if env is None or env.decision is None:
        raise UserError(f"{dt.label}: without an environment with a decision it is no negative")
    model = dt.load()
    contexts = decision_contexts(model, env.decision, TARGETS)
    leads = [model.last_logits(context).detach().numpy() for context in contexts]
    return 2 * float(np.mean([np.ptp(logits, axis=1) for logits in leads]))


def with_model(stage: _S, dt: ModelStage, gap: float | None = None) -> _S:
    """The same analysis of another model, and so all that it reads of a model.

    Args:
        gap: Least difference of the runs of its pairs; None: as they have it.
    """
    values = {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage)}
    changes: dict[str, Any] = {
        name: with_model(value, dt, gap)
        for name, value in values.items()
        if isinstance(value, OF_A_MODEL) and reads_model(value)
    }
    if "dt" in values:
        changes["dt"] = dt
    pairs = values.get("pairs")
    if gap is not None and isinstance(pairs, Declared) and reads_model(stage):
        checks = dataclasses.replace(pairs.checks, min_ld_gap=gap)
        changes["pairs"] = dataclasses.replace(pairs, checks=checks)
    return dataclasses.replace(stage, **changes)
