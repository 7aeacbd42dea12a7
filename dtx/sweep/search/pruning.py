"""A trial's training curve is reported to Optuna while it is written; a trial that falls behind ends."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.errors import Pruned, UserError
from dtx.report import curves_shown_to, read_curves
from dtx.sweep.search.settings import Direction, Pruner
from dtx.text import suggest

if TYPE_CHECKING:
    from optuna import Trial


@dataclass(frozen=True)
class Watch:
    """Watches the job of one trial, in the process that runs it; it can be pickled.

    Attributes:
        storage: URL of the study's database.
        study: Its name.
        number: Of the trial.
        label: Of the stage whose curve is reported.
        pruner: Says which curve, and when to end.
        direction: Of the search. The curve may have another one.
    """

    storage: str
    study: str
    number: int
    label: str
    pruner: Pruner
    direction: Direction

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Report the curve that is written in the block.

        Raises:
            Pruned: In the stage, which keeps what it has as after an interruption.
        """
        from dtx.sweep.search.study import load, running_trial

        study = load(self.storage, self.study, self.pruner.make())
        trial = running_trial(study, self.number)
        reported = set(study.trials[self.number].intermediate_values)

        def show(folder: Path, step: int, values: Mapping[str, float]) -> None:
            if folder.name == self.label:
                self._report(trial, step, values, reported)

        with curves_shown_to(show):
            yield

    def curve(self, folder: Path) -> dict[int, float]:
        """The curve of a finished stage, as it is reported: by step."""
        points = read_curves(folder) if folder.is_dir() else []
        name = self.pruner.curve
        return {int(p["step"]): self._signed(p[name]) for p in points if p.get(name) is not None}

    def _signed(self, value: float) -> float:
        """A value of the curve in the search's direction."""
        return value if self.pruner.direction is self.direction else -value

    def _report(
        self, trial: Trial, step: int, values: Mapping[str, float], reported: set[int]
    ) -> None:
        curve = self.pruner.curve
        if curve not in values:
            where = f"hydra.sweeper.pruner.curve: {self.label} writes no curve {curve!r}"
            raise UserError(where + suggest(curve, sorted(values)))
        value = float(values[curve])
        if step not in reported:  # by a run of this trial that was killed
            reported.add(step)
            trial.report(self._signed(value), step)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pruners that are given few trials
            if trial.should_prune():
                raise Pruned(f"{curve} {value:.4g} at step {step}")
