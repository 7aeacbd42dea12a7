"""What an analysis is: a question, what it needs, a function with a typed result, and figures of it."""

from __future__ import annotations

import abc
import enum
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Scoring
from dtx.report import Page, Report
from dtx.stage import Stage

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dtx.analysis.core.answers import Subject


class Need(enum.Enum):
    """What an analysis asks of the object in one of its fields, beyond its type."""

    DECISION = "decision"
    ROLES = "roles"
    KNOWN_CIRCUIT = "known circuit"

    def problem(self, value: Any) -> str | None:
        """Why an object cannot give it, and what to do; None if it can."""
        if self is Need.DECISION and value.decision is None:
            return (
                f"{type(value).__name__} names no decision (layouts, a routine, the step where it turns); "
                "use env=memory or another environment that does"
            )
        if self is Need.ROLES and value.roles is None:
            return f"{type(value).__name__} does not say which things of a world have which role"
        if self is Need.KNOWN_CIRCUIT and not value.circuit_is_known:
            return "its circuit is not known; planted and interchange models record theirs"
        return None


@dataclass(frozen=True, kw_only=True)
class Analysis(Stage, abc.ABC):
    """A stage that answers a question about demonstrations or a model.

    A subclass declares its fields and :meth:`compute`; usually :meth:`figures`. Everything else follows:
    ``result.json``, tables, figures, the line in the report, ``dtx redraw``.

    Attributes:
        question: What is asked, as a reader of the report would ask it.
        scoring: What the scorecard holds it to; None for an analysis that is not about one model.
        cover: The figure that stands for it in the gallery; by default the one of its name.
        needs: By field (``env``, ``pairs.env``): what its object must offer, checked before anything runs.
    """

    question: ClassVar[str] = ""
    needs: ClassVar[Mapping[str, Need]] = {}
    scoring: ClassVar[Scoring | None] = Scoring()
    cover: ClassVar[str] = ""

    @abc.abstractmethod
    def compute(self) -> Result:
        """What was found. Inputs are committed when this is called: use their ``load()``."""

    def figures(self, result: Result) -> Iterator[tuple[str, Figure | Page]]:
        """Yield (name, figure): a matplotlib figure, or a page that writes itself as HTML.

        Drawn from the result's metrics, tables and arrays alone, so that they can be drawn again.
        """
        yield from ()

    def curves(self, result: Result) -> Iterable[tuple[str, int, float]]:
        """What is best seen as a curve in MLflow: (name, step, value).

        The runs of jobs show it as the metric ``ANALYSIS NAME``; two jobs that are compared there lie in one
        chart. A step is a whole number: 100 times a return, a layer, a position.
        """
        return ()

    def answers(self, subject: Subject) -> Iterable[pd.DataFrame]:
        """What it answers about a model whose truth is known, for the scorecard; see core/answers.py."""
        return ()

    @final
    def run(self, out: Path) -> None:
        """Compute, write the result, draw; an interrupted run starts again."""
        self.compute().write(out, self.name)
        # What was written is what is drawn: `dtx redraw` then gives the same figures.
        self._draw(Result.read(out), out)

    @final
    def summary(self) -> str:
        """The finding, with the reasons if nothing is established."""
        return self.result().summary

    def result(self) -> Result:
        """What was found, from the committed artefact."""
        return Result.read(self.path)

    @final
    def redraw(self, folder: Path) -> None:
        """Draw the figures again from what is on record in a folder, in the place of those there."""
        result = Result.read(folder)
        shutil.rmtree(folder / "figures", ignore_errors=True)
        self._draw(result, folder)

    def missing(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what it cannot give) for every need that is not met."""
        for place, need in self.needs.items():
            value: Any = self
            for name in place.split("."):
                value = getattr(value, name) if value is not None else None
            if value is not None and (what := need.problem(value)):
                yield place, what

    def _draw(self, result: Result, out: Path) -> None:
        report = Report(out)
        for name, figure in self.figures(result):
            if isinstance(figure, Page):
                report.page(name, figure)
            else:
                report.figure(name, figure)
