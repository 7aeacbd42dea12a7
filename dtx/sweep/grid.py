"""All jobs of a sweep, composed and checked in one process; each stage is counted once.

Hydra's override grammar defines the jobs. Hydra composes a config in about 85 ms; here the groups are
composed once for each combination of choices and plain fields are set in the result, which gives the same
configs (tested) about a hundred times faster.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from omegaconf import OmegaConf

from dtx.config.build import ConfigError
from dtx.config.compose import Experiment, compose, experiment, hydra_configs
from dtx.config.hydra_settings import refuse_settings
from dtx.errors import UserError
from dtx.running.plan import PlannedStage, missing, plan, stages
from dtx.stage import Stage
from dtx.store.store import Store
from dtx.sweep.parts import Watched
from dtx.text import first_line


@dataclass
class Job:
    """One combination of a sweep.

    Attributes:
        number: Its place in the sweep, from 0.
        overrides: All its overrides.
        swept: The swept ones by name: ``{"dt.seed": "3"}``.
        experiment: The composed experiment; None if it cannot be composed.
        error: Why it cannot be composed, or why it failed; one line for each error.
        status: ``cached``, ``ran``, ``pruned``, ``failed``, ``skipped``; empty before.
        log: File with the full output.
        watch: Watches it while it runs; None: nobody does.
    """

    number: int
    overrides: tuple[str, ...]
    swept: dict[str, str]
    experiment: Experiment | None = None
    error: str = ""
    status: str = ""
    log: str = ""
    watch: Watched | None = None

    @property
    def name(self) -> str:
        """The swept fields: ``dt.seed=3,dt.model.n_layers=2``."""
        return ",".join(f"{k}={v}" for k, v in self.swept.items()) or "defaults"

    def targets(self) -> list[Stage]:
        """The job's targets; empty if it cannot be composed."""
        return list(self.experiment.targets.values()) if self.experiment else []


@dataclass
class Sweep:
    """All jobs of a sweep.

    Attributes:
        overrides: From the command line.
        hydra: Those of them that configure Hydra (launcher, folders).
        config_dir: The user's own configs.
        jobs: In the order of Hydra's grid.
        swept: Names of the swept fields.
    """

    overrides: tuple[str, ...]
    hydra: tuple[str, ...]
    config_dir: Path | None
    jobs: list[Job]
    swept: tuple[str, ...]

    @property
    def first(self) -> Experiment:
        """The first job that can be composed; store and tracking are the same for all.

        Raises:
            UserError: No job can be composed.
        """
        for job in self.jobs:
            if job.experiment:
                return job.experiment
        errors = dict.fromkeys(line for job in self.jobs for line in job.error.splitlines())
        raise UserError("\n".join(errors))

    @property
    def identity(self) -> str:
        """16 hexadecimal digits, equal for sweeps with the same targets."""
        labels = sorted({t.label for job in self.jobs for t in job.targets()})
        return hashlib.sha256(" ".join(labels).encode()).hexdigest()[:16]

    @property
    def knows_its_jobs(self) -> bool:
        """Whether all jobs are known before any has run."""
        return True

    @property
    def here(self) -> bool:
        """Whether this machine runs the jobs; others ask for themselves what they can hold."""
        launchers = [value_of(o) for o in self.hydra if o.startswith("hydra/launcher=")]
        return not set(launchers) & _ELSEWHERE

    def store(self) -> Store:
        """The store of the sweep."""
        return Store.of(self.first.store)

    def targets(self) -> list[Stage]:
        """The targets of all jobs, each once."""
        return list({t.label: t for job in self.jobs for t in job.targets()}.values())

    def plan(self) -> list[PlannedStage]:
        """What a run would do with every stage."""
        return plan(self.targets(), self.store(), self.first.on_drift)

    def stages_of_jobs(self) -> dict[str, list[Job]]:
        """The jobs that need each stage, by its label."""
        jobs_of: dict[str, list[Job]] = {}
        for job in self.jobs:
            for stage in stages(job.targets()):
                jobs_of.setdefault(stage.label, []).append(job)
        return jobs_of

    def missing_of_jobs(
        self, store: Store, again: Mapping[str, list[str]]
    ) -> dict[int, list[Stage]]:
        """The stages that each job has to run, by its number."""
        return {job.number: missing(job.targets(), store, again) for job in self.jobs}

    def print_errors(self) -> int:
        """Print the errors of the jobs that cannot be composed, equal ones once; gives the exit status."""
        wrong: dict[str, list[Job]] = {}
        for job in self.jobs:
            if job.experiment is None:
                wrong.setdefault(job.error, []).append(job)
        for error, jobs in wrong.items():
            many = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
            for line in error.splitlines():
                print(f"dtx: error: {line} (job {jobs[0].name}{many})", file=sys.stderr)
        return 2 if wrong else 0


def read_sweep(overrides: Sequence[str], config_dir: Path | None = None) -> Sweep:
    """Expand a sweep's overrides into jobs and compose each.

    Raises:
        ConfigError: An override that cannot be read, or not swept.
    """
    refuse_settings(overrides, sweep=True)
    parsed = parse([*of_preset(overrides, config_dir), *overrides], config_dir)
    _refuse(parsed)
    to_hydra = [o for o in parsed if o.is_hydra_override()]
    to_jobs = [o for o in parsed if not o.is_hydra_override()]
    lines = tuple(str(o.input_line) for o in to_hydra)
    swept = tuple(o.get_key_element() for o in to_jobs if o.is_sweep_override())
    try:
        expanded = BasicSweeper.split_arguments(to_jobs, None)[0]
    except HydraException as error:
        raise ConfigError([("", first_line(error))]) from None
    if not expanded:
        raise ConfigError([(", ".join(swept), "no job: the sweep is over nothing")])
    compose_quickly = Composer(
        config_dir, [o for o in lines if o.lstrip("+").startswith(_SEARCH_PATH)]
    )
    jobs = []
    for number, texts in enumerate(expanded):
        values = dict(text.split("=", 1) for text in texts if "=" in text)
        job = Job(number, tuple(texts), {name: values[name] for name in swept})
        try:
            job.experiment = experiment(compose_quickly(texts), texts)
        except ConfigError as error:
            job.error, job.status = str(error), "failed"
        jobs.append(job)
    return Sweep(tuple(overrides), lines, config_dir, jobs, swept)


_ELSEWHERE = {"slurm", "ray"}
"""Launchers that take jobs to other machines."""
_SEARCH_PATH = "hydra.searchpath="
_OF_THE_SWEEP = ("store", "tracking", "on_error", "on_drift", "resources")
"""Settings that are those of the sweep as a whole."""


def _refuse(overrides: Sequence[Override]) -> None:
    """Refuse what a grid cannot do.

    Raises:
        ConfigError: Of every such override.
    """
    errors = []
    for override in overrides:
        name = override.key_or_group
        if name.startswith(("hydra/sweeper", "hydra.sweeper")):
            errors.append((name, "means nothing to a grid; for a search: hydra/sweeper=optuna"))
        elif override.value_type is ValueType.INTERVAL_SWEEP:
            errors.append((name, "a grid has no intervals; for a search: hydra/sweeper=optuna"))
    if errors:
        raise ConfigError(errors)
    refuse_values(overrides)


def refuse_values(overrides: Sequence[Override]) -> None:
    """Refuse several values for what all jobs of a sweep have in common.

    Raises:
        ConfigError: Of every such override.
    """
    errors = []
    for override in overrides:
        name = override.key_or_group
        if override.is_sweep_override() and name.split(".")[0] in _OF_THE_SWEEP:
            errors.append((name, "is the same for all jobs of a sweep: give one value"))
    if errors:
        raise ConfigError(errors)


def value_of(override: str) -> Any:
    """The value that an override sets, without its quotes."""
    return OverridesParser.create().parse_override(override).value()


def parse(overrides: Sequence[str], config_dir: Path | None) -> list[Override]:
    """Parse all overrides.

    Raises:
        ConfigError: With every override that cannot be parsed.
    """
    from hydra.core.global_hydra import GlobalHydra

    errors, parsed = [], []
    with hydra_configs(config_dir):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        for text in overrides:
            try:
                parsed += parser.parse_overrides([text])
            except HydraException as error:
                errors.append((text, first_line(error)))
    if errors:
        raise ConfigError(errors)
    return parsed


def of_preset(overrides: Sequence[str], config_dir: Path | None) -> list[str]:
    """Sweeps and launcher of the chosen preset that the user does not override."""
    chosen = [o for o in overrides if o.startswith("experiment=") and "," not in o]
    if not chosen:
        return []
    hydra = compose(chosen, config_dir, with_hydra=True, sweep=True).hydra
    given = {o.split("=", 1)[0].lstrip("+") for o in overrides}
    params = OmegaConf.to_container(hydra.sweeper.params or OmegaConf.create({}))
    assert isinstance(params, dict)
    if (launcher := hydra.runtime.choices["hydra/launcher"]) != "basic":
        params["hydra/launcher"] = launcher
    return [f"{name}={value}" for name, value in params.items() if name not in given]


_ABSENT = object()


class Composer:
    """Composes jobs that differ in few overrides; gives plain values, references unresolved."""

    def __init__(self, config_dir: Path | None, search_path: Sequence[str] = ()):
        self.config_dir, self.search_path = config_dir, search_path
        self._composed: dict[tuple[str, ...], Mapping[str, Any] | ConfigError] = {}
        self._parser = OverridesParser.create()
        self._values: dict[str, Any] = {}

    def __call__(self, overrides: Sequence[str]) -> Mapping[str, Any]:
        plain, values = [], {}
        for text in overrides:
            name, _, value = text.partition("=")
            if self._sets_a_field(name):
                values[name] = value
            else:
                plain.append(text)
        base = self._compose(tuple(plain))
        config: dict[str, Any] = dict(base)
        names = list(values)
        for name, value in values.items():
            nested = any(other != name and other.startswith(f"{name}.") for other in names)
            if nested or not self._set(config, base, name, value):
                self._explain(base, plain, name, value)
                return self._compose(tuple(overrides))
        return config

    def _explain(self, base: Mapping, plain: Sequence[str], name: str, value: str) -> None:
        """Let Hydra report what is wrong with an override, once for all jobs that have it.

        Raises:
            ConfigError: The field is not there, or does not take the value.
        """
        node: Any = base
        for part in name.split("."):
            node = node.get(part, _ABSENT) if isinstance(node, Mapping) else _ABSENT
        # The message about a missing field does not depend on the value.
        place = (*plain, f"{name}={'0' if node is _ABSENT else value}")
        self._compose(place)

    def _compose(self, overrides: tuple[str, ...]) -> Mapping[str, Any]:
        if overrides not in self._composed:
            try:
                config = OmegaConf.to_container(
                    compose([*self.search_path, *overrides], self.config_dir, sweep=True)
                )
                assert isinstance(config, dict)
                self._composed[overrides] = {str(name): value for name, value in config.items()}
            except ConfigError as error:
                self._composed[overrides] = error
        known = self._composed[overrides]
        if isinstance(known, ConfigError):
            raise known
        return known

    def _sets_a_field(self, name: str) -> bool:
        return ("." in name and name.replace(".", "").replace("_", "").isalnum()) or name == "seed"

    def _set(self, config: dict, base: Mapping, name: str, text: str) -> bool:
        """Set a scalar where a scalar stands, copying what is shared with ``base`` on the way."""
        try:
            value = self._value(f"{name}={text}")
        except HydraException:
            return False
        *path, leaf = name.split(".")
        node, shared = config, base
        for part in path:
            inner = node.get(part)
            if not isinstance(inner, dict):
                return False
            if inner is shared.get(part):
                node[part] = inner = dict(inner)
            node, shared = inner, shared.get(part, {})
        compound = (dict, list)
        if leaf not in node or isinstance(node[leaf], compound) or isinstance(value, compound):
            return False
        node[leaf] = value
        return True

    def _value(self, override: str) -> Any:
        if override not in self._values:
            self._values[override] = self._parser.parse_override(override).value()
        return self._values[override]
