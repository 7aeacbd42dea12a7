"""The study: suggested trials and results, in Optuna's database. Only this folder uses Optuna."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dtx.errors import UserError
from dtx.sweep.search.settings import SearchSettings
from dtx.sweep.search.space import Parameter
from dtx.text import first_line
from dtx.tracking.uri import database_of

if TYPE_CHECKING:
    import optuna

_AGAIN, _ERROR, _SEARCHED = "again", "error", "searched"  # names of attributes
_WAIT = 60.0  # seconds for the lock of an SQLite database


@dataclass(frozen=True)
class TrialRecord:
    """A trial of the study.

    Attributes:
        number: Its number in the study.
        values: Of the searched fields, as overrides write them.
        state: ``complete``, ``pruned`` or ``failed``; ``running`` if it has not ended.
        value: Of the metric; None if it is not complete.
        error: Why it failed.
    """

    number: int
    values: dict[str, str]
    state: str
    value: float | None = None
    error: str = ""


class Study:
    """A study with its space.

    Args:
        study: Optuna's.
        settings: Of the search.
        space: What is searched over.
    """

    def __init__(self, study: optuna.Study, settings: SearchSettings, space: Sequence[Parameter]):
        self.study, self.settings, self.space = study, settings, space

    def ended(self) -> list[TrialRecord]:
        """The trials that have ended. A failed one that was begun again is not among them."""
        begun_again = {trial.user_attrs.get(_AGAIN) for trial in self.study.trials}
        states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        return [
            TrialRecord(
                trial.number,
                self._values(trial.number),
                states[trial.state.name],
                trial.value if trial.state.name == "COMPLETE" else None,
                str(trial.user_attrs.get(_ERROR, "")),
            )
            for trial in self.study.trials
            if trial.state.is_finished() and trial.number not in begun_again
        ]

    def left(self) -> int:
        """Trials that have to end until there are ``n_trials``."""
        return max(0, self.settings.n_trials - len(self.ended()))

    def try_failed_again(self) -> None:
        """Suggest the values of failed trials again, as new trials; once each."""
        for record in self.ended():
            if record.state == "failed":
                params = self.study.trials[record.number].params
                self.study.enqueue_trial(params, user_attrs={_AGAIN: record.number})

    def next_round(self) -> list[TrialRecord]:
        """The trials to run now: those that an earlier command left, then new ones; none at the end.

        Rounds are cut at multiples of ``n_jobs``, so that a study that goes on after a kill suggests new
        values from the same results as one that was not killed.
        """
        most, left = self.settings.n_jobs, self.left()
        count = len(self.study.trials)
        begun = [t.number for t in self.study.trials if t.state.name == "RUNNING"]
        waiting = sum(t.state.name == "WAITING" for t in self.study.trials)
        new = waiting or (-count % most if begun else most - count % most)
        numbers = begun[: min(most, left)]
        for _ in range(min(new, most - len(numbers), left - len(numbers))):
            self.study.sampler = self.settings.sampler.make(len(self.study.trials))
            numbers.append(self.study.ask().number)
        return [TrialRecord(number, self._suggested(number), "running") for number in numbers]

    def trial(self, number: int) -> optuna.Trial:
        """A trial that runs."""
        return running_trial(self.study, number)

    def complete(self, number: int, value: float, curve: Mapping[int, float]) -> None:
        """A trial has ended with a value; its curve is added, should its stage have been there already."""
        known = self.study.get_trials(deepcopy=False)[number].intermediate_values
        running = self.trial(number)
        for step in sorted(curve.keys() - known.keys()):
            running.report(curve[step], step)
        self.study.tell(number, value)

    def pruned(self, number: int) -> None:
        """A trial was ended early."""
        self.study.tell(number, state=_state("PRUNED"))

    def failed(self, number: int, error: str) -> None:
        """A trial failed."""
        self.trial(number).set_user_attr(_ERROR, error[:2000])
        self.study.tell(number, state=_state("FAIL"))

    def _values(self, number: int) -> dict[str, str]:
        """The values of a trial that has ended."""
        params = self.study.trials[number].params
        return {p.name: p.written(params[p.name]) for p in self.space if p.name in params}

    def _suggested(self, number: int) -> dict[str, str]:
        """The values of a trial that runs; those that a kill kept from being suggested are suggested now."""
        self.study.sampler = self.settings.sampler.make(number)
        running = self.trial(number)
        return {p.name: p.written(p.suggest(running)) for p in self.space}


def open_study(
    storage: str, name: str, settings: SearchSettings, space: Sequence[Parameter], *, make: bool
) -> Study | None:
    """The study of a name in a database.

    Args:
        storage: URL of the database.
        name: Of the study.
        settings: Of the search.
        space: What is searched over.
        make: Make it if it is not there; else None is given.

    Raises:
        UserError: Optuna is not installed, the database cannot be used, or the study is of another search.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError("hydra/sweeper: optuna is not installed; pip install 'dtx[optuna]'")
    if not make and (path := database_of(storage)) is not None and not path.exists():
        return None
    import optuna

    searched = {
        "metric": settings.metric,
        "direction": settings.direction.value,
        "space": [parameter.recorded() for parameter in space],
    }
    with _errors_of(storage):
        database = _storage(storage)
        if name not in optuna.get_all_study_names(database):
            if not make:
                return None
            study = optuna.create_study(
                storage=database, study_name=name, direction=settings.direction.value
            )
            study.set_user_attr(_SEARCHED, searched)
        study = optuna.load_study(storage=database, study_name=name)
    if study.user_attrs.get(_SEARCHED, searched) != searched:
        raise UserError(
            f"hydra.sweeper.study_name: {name} is a search for another metric or in another space; "
            "give another name"
        )
    return Study(study, settings, space)


def load(storage: str, name: str, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    """A study that is there, for one of its trials.

    Raises:
        UserError: The database cannot be used.
    """
    import optuna

    with _errors_of(storage):
        return optuna.load_study(storage=_storage(storage), study_name=name, pruner=pruner)


def running_trial(study: optuna.Study, number: int) -> optuna.Trial:
    """A trial that has not ended, also one that an earlier process began."""
    import optuna

    return optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def _storage(url: str) -> optuna.storages.BaseStorage:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    waiting = {"connect_args": {"timeout": _WAIT}} if url.startswith("sqlite") else {}
    return optuna.storages.RDBStorage(url, engine_kwargs=waiting)


@contextlib.contextmanager
def _errors_of(storage: str) -> Iterator[None]:
    """Say in one line what a database refuses, or that a URL is none."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, ValueError, RuntimeError, ImportError) as error:
        raise UserError(f"hydra.sweeper.storage: {storage}: {first_line(error)}") from error


def _state(name: str) -> optuna.trial.TrialState:
    import optuna

    return optuna.trial.TrialState[name]
