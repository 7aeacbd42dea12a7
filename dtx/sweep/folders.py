"""Folders of a sweep: ``multirun/DATE/TIME``, in it one for each job that has something to run.

Jobs have their numbers, from 0. Stages that jobs share are run before them; their logs are in ``shared``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf, open_dict

from dtx.config.build import ConfigError
from dtx.config.compose import hydra_configs
from dtx.config.hydra_settings import of_hydra
from dtx.errors import UserError
from dtx.report import write_atomically
from dtx.running.output import in_yaml, log_name, made, setting
from dtx.sweep.launchers import compose_launcher

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

    from dtx.sweep.grid import Job, Sweep

_DEFAULT = "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}"
_NUMBER = "${hydra.job.num}"


@dataclass(frozen=True)
class Folders:
    """Where a sweep and its jobs write.

    Attributes:
        sweep: Of the whole sweep.
        jobs: By the job's number, of the jobs that have something to run.
        log: Name of each job's log.
        settings: Hydra's settings as the user gave them, by name; launchers get others.
    """

    sweep: Path
    jobs: dict[int, Path]
    log: str
    settings: dict[str, Any]

    def shared(self, label: str) -> Path:
        """Of a stage that several jobs share."""
        return self.sweep / "shared" / label

    def add(self, sweep: Sweep, numbers: Iterable[int]) -> None:
        """Name and make the folders of jobs that have none yet.

        Raises:
            ConfigError: A name that cannot be resolved, or one folder for two jobs.
            UserError: A folder cannot be made.
        """
        new = [number for number in numbers if number not in self.jobs]
        names = _names(sweep, new, self.settings["sweep"]["subdir"])
        known = {number: str(path.relative_to(self.sweep)) for number, path in self.jobs.items()}
        _refuse_one_for_two({**known, **names})
        for number, name in names.items():
            if name != str(number):  # it may be too long, or below a file
                with _cannot_write(self.sweep):
                    (self.sweep / name).mkdir(parents=True, exist_ok=True)
            self.jobs[number] = self.sweep / name


def make_folders(sweep: Sweep, numbers: Iterable[int]) -> Folders:
    """Make the sweep's folder, with Hydra's ``multirun.yaml``, and those of the first jobs.

    Args:
        sweep: Its overrides and preset may name the folders.
        numbers: The jobs that have something to run.

    Raises:
        ConfigError: A name that cannot be resolved, or one folder for two jobs.
        UserError: The folder cannot be written.
    """
    from hydra.core.global_hydra import GlobalHydra

    with hydra_configs(sweep.config_dir):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = compose_launcher(hydra, [*sweep.hydra, *sweep.first.overrides])
        given: Any = OmegaConf.to_container(config.hydra)  # references unresolved
        folder = Path(setting(config, "hydra.sweep.dir")).expanduser().absolute()
        log = log_name(config)
    numbers = list(numbers)
    _refuse_one_for_two(_names(sweep, numbers, given["sweep"]["subdir"]))
    with _cannot_write(folder):
        folder = made(folder, new=given["sweep"]["dir"] == _DEFAULT)
        given["overrides"]["task"] = [o for o in sweep.overrides if not of_hydra(o)]
        hydras = OmegaConf.create({"hydra": given})
        write_atomically(folder / "multirun.yaml", in_yaml(hydras))
    kept = ("sweep", "launcher", "output_subdir", "hydra_logging", "job_logging")
    settings = {**{name: given[name] for name in kept}, "overrides.hydra": list(sweep.hydra)}
    folders = Folders(folder, {}, log, settings)
    folders.add(sweep, numbers)
    return folders


@contextmanager
def _cannot_write(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot write {error.filename or folder}: {error.strerror}"
        raise UserError(f"{what}; other names: hydra.sweep.dir, hydra.sweep.subdir") from None


def _names(sweep: Sweep, numbers: Sequence[int], subdir: str) -> dict[int, str]:
    """The names of jobs' folders, by number."""
    if subdir == _NUMBER:
        return {number: str(number) for number in numbers}
    from hydra.core.global_hydra import GlobalHydra

    with hydra_configs(sweep.config_dir):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = compose_launcher(hydra, [*sweep.hydra, *sweep.first.overrides])
        return {number: _name(sweep.jobs[number], hydra, config) for number in numbers}


def _name(job: Job, hydra: Hydra, config: DictConfig) -> str:
    """The name of a job's folder in the sweep's, as Hydra's launchers make it."""
    composed = hydra.config_loader.load_sweep_config(config, list(job.overrides))
    with open_dict(composed):
        composed.hydra.job.num, composed.hydra.job.id = job.number, str(job.number)
    return setting(composed, "hydra.sweep.subdir")


def _refuse_one_for_two(names: Mapping[int, str]) -> None:
    jobs: dict[str, int] = {}
    for number, name in names.items():
        if (other := jobs.setdefault(name, number)) != number:
            text = f"jobs {other} and {number} would both write to {name}: add {_NUMBER} to it"
            raise ConfigError([("hydra.sweep.subdir", text)])
