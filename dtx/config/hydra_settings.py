"""Hydra's own settings (``hydra.*``): which dtx reads, and what to do instead of the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dtx.config.build import ConfigError

OF_RUNS = {"hydra.run.dir": "folder of a run; outputs/DATE/TIME"}
OF_BOTH = {
    "hydra.output_subdir": "folder of config.yaml, hydra.yaml and overrides.yaml in it; null: none",
    "hydra.job.name": "name of the log, without .log",
    "hydra.job.config.override_dirname": "how ${hydra.job.override_dirname} is written",
    "hydra.mode": "RUN, or MULTIRUN: as -m",
    "hydra.searchpath": "[file://FOLDER,pkg://PACKAGE]: more configs",
}
OF_SWEEPS = {
    "hydra.sweep.dir": "folder of a sweep; multirun/DATE/TIME",
    "hydra.sweep.subdir": "folder of a job in it; the job's number",
    "hydra/launcher": "joblib, slurm, ray: where jobs run",
    "hydra.launcher": "the launcher's settings",
    "hydra/sweeper": "what makes the jobs",
    "hydra.sweeper": "the sweeper's settings",
}
_LOGGING = (
    "dtx prints by itself, not through logging: leave it out; what is printed is in the log, too"
)
_CALLBACKS = (
    "dtx calls none: leave them out; what ran is in MLflow, and in done.json of each artefact"
)
INSTEAD = {
    "hydra.job.chdir": "a run stays in the working folder, and relative paths with it: leave it out",
    "hydra.verbose": "there are no levels of detail; HYDRA_FULL_ERROR=1 shows where an error is raised",
    "hydra.callbacks": _CALLBACKS,
    "hydra/callbacks": _CALLBACKS,
    "hydra/job_logging": _LOGGING,
    "hydra.job_logging": _LOGGING,
    "hydra/hydra_logging": _LOGGING,
    "hydra.hydra_logging": _LOGGING,
    "hydra.job.env_set": "give it in the shell, where workers find it, too: NAME=VALUE dtx run ...",
    "hydra.job.env_copy": "workers have the shell's variables: leave it out",
}
"""What dtx does not do, and what to do instead. A value that asks for nothing (null, false) is accepted."""


def of_hydra(override: str) -> bool:
    """Whether an override sets something of Hydra's."""
    return override.lstrip("+~").startswith(("hydra.", "hydra/", "hydra="))


def refuse_settings(overrides: Sequence[str], sweep: bool) -> None:
    """Refuse overrides of Hydra's settings that would do nothing.

    Args:
        overrides: All; those of the experiment are left alone.
        sweep: Whether they are a sweep's.

    Raises:
        ConfigError: Each of them, with what to do.
    """
    errors = []
    for override in filter(of_hydra, overrides):
        name = override.split("=", 1)[0].lstrip("+~").split("@")[0]
        if _among(name, OF_RUNS) and sweep:
            errors.append((override, "is for a single run; of a sweep: hydra.sweep.dir=FOLDER"))
        elif _among(name, OF_SWEEPS) and not sweep:
            errors.append((override, "is for sweeps: add -m"))
        elif (instead := _among(name, INSTEAD)) and _asks(override):
            errors.append((name, instead))
        elif not any(_among(name, known) for known in (OF_RUNS, OF_BOTH, OF_SWEEPS, INSTEAD)):
            errors.append(
                (override, "is a setting of Hydra's that dtx does not read: leave it out")
            )
    modes = [mode for mode in map(_mode, overrides) if mode]
    if sweep and modes[-1:] == ["RUN"]:
        errors.append(("hydra.mode=RUN", "is a single run; -m is a sweep: leave one of them out"))
    if errors:
        raise ConfigError(errors)


def refuse_composed(hydra: DictConfig, sweep: bool) -> None:
    """Refuse the same where a preset sets it.

    Raises:
        ConfigError: Each setting, with what to do.
    """
    errors = []
    for name, instead in INSTEAD.items():
        if "/" in name:
            if hydra.runtime.choices.get(name) not in (None, "default"):
                errors.append((name, instead))
        elif "logging" not in name and OmegaConf.select(hydra, name.removeprefix("hydra.")):
            errors.append((name, instead))
    if not sweep and str(hydra.mode).endswith("MULTIRUN"):
        errors.append(("hydra.mode", "the config that you chose is a sweep: add -m"))
    if errors:
        raise ConfigError(errors)


def asks_for_a_sweep(overrides: Sequence[str]) -> bool:
    """Whether ``hydra.mode=MULTIRUN`` is among the overrides, which means -m."""
    return [mode for mode in map(_mode, overrides) if mode][-1:] == ["MULTIRUN"]


def in_words() -> Iterator[str]:
    """Lines for ``dtx run --hydra-help``."""
    for title, settings in (
        ("Hydra's settings that dtx reads", OF_BOTH | OF_RUNS),
        ("and of sweeps (-m)", OF_SWEEPS),
        ("Not read, and refused", INSTEAD),
    ):
        yield f"{title}:"
        yield from (f"  {name:36} {what}" for name, what in settings.items())
        yield ""


def _among(name: str, settings: dict[str, str]) -> str | None:
    """What a table says of a setting, or of the place that it is in."""
    return next(
        (
            what
            for known, what in settings.items()
            if name == known or name.startswith((f"{known}.", f"{known}/"))
        ),
        None,
    )


def _asks(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        value: Any = OverridesParser.create().parse_override(override).value()
    except (HydraException, RecursionError):  # explained later
        return True
    return value not in (None, False, [], {}, "")


def _mode(override: str) -> str:
    name, _, value = override.partition("=")
    return value.strip("'\"").upper() if name.lstrip("+") == "hydra.mode" else ""
