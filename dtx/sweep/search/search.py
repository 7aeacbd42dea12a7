"""A search as a sweep: its jobs are the trials of a study, and each round adds some."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hydra.core.override_parser.types import Override

from dtx.config.build import Builder, ConfigError
from dtx.config.compose import Experiment, experiment
from dtx.running.plan import stages
from dtx.stage import Stage
from dtx.sweep.grid import Composer, Job, Sweep, refuse_values
from dtx.sweep.search.pruning import Watch
from dtx.sweep.search.settings import SearchSettings
from dtx.sweep.search.space import Parameter, space
from dtx.sweep.search.study import Study, TrialRecord, open_study
from dtx.tracking.uri import absolute, uri_of

DATABASE = "optuna.db"
"""File of the studies, beside the store."""


@dataclass
class Search(Sweep):
    """A search; its jobs are the trials so far.

    Attributes:
        settings: What is searched for, and how.
        fixed: The other overrides of every trial.
        space: What is searched over.
        samples: Experiments at the ends of the space; nothing of them is run.
        trials: The trial of each job, by the job's number.
        watches: What watches the jobs that may be pruned, by their numbers.
    """

    settings: SearchSettings
    fixed: tuple[str, ...]
    space: list[Parameter]
    samples: list[Experiment]
    compose_quickly: Composer
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    watches: dict[int, Watch] = field(default_factory=dict)

    @property
    def first(self) -> Experiment:
        """An experiment with the settings that all trials have."""
        return self.samples[0]

    @property
    def identity(self) -> str:
        """16 hexadecimal digits, equal for searches that go on with the same study."""
        return hashlib.sha256(f"{self.storage} {self.name}".encode()).hexdigest()[:16]

    @property
    def knows_its_jobs(self) -> bool:
        """Each trial follows from the results of those before."""
        return False

    @cached_property
    def name(self) -> str:
        """The study's: given, or one that follows from what is searched."""
        if self.settings.study_name is not None:
            return self.settings.study_name
        sampler = self.settings.sampler
        searched = [
            *(self.settings.metric, self.settings.direction.value),
            *(repr(sampler), [parameter.recorded() for parameter in self.space]),
            sorted(o for o in self.fixed if not o.startswith(_NOT_SEARCHED)),
        ]
        digest = hashlib.sha256(json.dumps(searched).encode()).hexdigest()
        return f"{self.first.name}-{digest[:8]}"

    @property
    def storage(self) -> str:
        """URL of the study's database."""
        given = self.settings.storage
        return absolute(given) if given else uri_of(self.store().root.parent / DATABASE)

    def open(self, *, make: bool) -> Study | None:
        """The study; its trials that have ended become the jobs. None if it is not there, and not made."""
        study = open_study(self.storage, self.name, self.settings, self.space, make=make)
        self.jobs.clear()
        self.trials.clear()
        self.watches.clear()
        for trial in study.ended() if study else ():
            if trial.state != "failed":  # it is tried again
                self.add(trial)
        return study

    def add(self, trial: TrialRecord) -> Job:
        """A trial becomes a job."""
        texts = [*self.fixed, *(f"{name}={value}" for name, value in trial.values.items())]
        status = {"complete": "cached", "pruned": "pruned"}.get(trial.state, "")
        job = Job(len(self.jobs), tuple(texts), dict(trial.values), status=status)
        try:
            job.experiment = experiment(self.compose_quickly(texts), texts)
            if self.settings.pruner and trial.state == "running":
                job.watch = self._watch(job.experiment, trial.number)
                self.watches[job.number] = job.watch
        except ConfigError as error:
            job.error, job.status = str(error), "failed"
        self.jobs.append(job)
        self.trials[job.number] = trial
        return job

    def shared(self) -> list[Stage]:
        """The stages that are the same at all ends of the space, inputs first."""
        every = [stages(sample.targets.values()) for sample in self.samples]
        common = set.intersection(*({s.label for s in some} for some in every))
        return [stage for stage in every[0] if stage.label in common]

    def _watch(self, what: Experiment, number: int) -> Watch:
        pruner = self.settings.pruner
        assert pruner is not None
        label = _stage_at(pruner.stage, what).label
        return Watch(self.storage, self.name, number, label, pruner, self.settings.direction)


_NOT_SEARCHED = ("store.", "tracking.", "on_error=", "on_drift=", "resources=")
"""Overrides that change nothing in the results."""


def read_search(
    sweeper: Mapping,
    parsed: Sequence[Override],
    overrides: Sequence[str],
    config_dir: Path | None,
    search_path: Sequence[str],
) -> Search:
    """Read a search, and try out the ends of its space without running anything.

    Args:
        sweeper: ``hydra.sweeper`` as composed.
        parsed: All overrides, with those of the preset.
        overrides: From the command line.
        config_dir: The user's own configs.
        search_path: Overrides that name further folders of configs.

    Raises:
        ConfigError: All that is wrong with the settings and the space.
    """
    builder = Builder({"hydra": {"sweeper": sweeper}})
    settings = builder.at("hydra.sweeper", SearchSettings)
    builder.finish()
    refuse_values(parsed)
    to_jobs = [o for o in parsed if not o.is_hydra_override()]
    lines = [str(o.input_line) for o in parsed if o.is_hydra_override()]
    fixed = tuple(str(o.input_line) for o in to_jobs if not o.is_sweep_override())
    searched = space([o for o in to_jobs if o.is_sweep_override()])
    compose_quickly = Composer(config_dir, search_path)
    samples = _samples(searched, fixed, compose_quickly)
    search = Search(
        tuple(overrides),
        tuple(o for o in lines if not o.lstrip("+").startswith(("hydra/sweeper", "hydra.sweeper"))),
        config_dir,
        [],
        tuple(parameter.name for parameter in searched),
        settings,
        fixed,
        searched,
        samples,
        compose_quickly,
    )
    if settings.pruner:
        _stage_at(settings.pruner.stage, search.first)
    return search


def _samples(
    searched: Sequence[Parameter], fixed: Sequence[str], compose_quickly: Composer
) -> list[Experiment]:
    """Experiments with every choice and both ends of every interval, one field changed at a time.

    Raises:
        ConfigError: With every value that a field does not take.
    """
    found: list[Experiment] = []
    errors: list[tuple[str, str]] = []
    usual = {parameter.name: parameter.extremes()[0] for parameter in searched}
    points = [usual]
    points += [{**usual, p.name: value} for p in searched for value in p.extremes()[1:]]
    for point in points:
        texts = [*fixed, *(f"{name}={value}" for name, value in point.items())]
        try:
            found.append(experiment(compose_quickly(texts), texts))
        except ConfigError as error:
            errors += error.errors
    if errors:
        raise ConfigError(errors)
    return found


def _stage_at(place: str, what: Experiment) -> Stage:
    """The stage at a place of the config.

    Raises:
        ConfigError: There is none that the targets need.
    """
    builder = Builder(what.raw)
    built = builder.at(place, object) if place.split(".")[0] in what.raw else None
    needed = {stage.label for stage in stages(what.targets.values())}
    if not isinstance(built, Stage) or built.label not in needed:
        what_to_do = f"{place} is no stage that runs here; dt or agent is one"
        raise ConfigError([("hydra.sweeper.pruner.stage", what_to_do)])
    return built
