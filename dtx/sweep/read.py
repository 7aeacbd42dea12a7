"""Read a sweep as the config chooses its sweeper: a grid (Hydra's basic sweeper) or a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dtx.config.build import ConfigError
from dtx.config.compose import failures, hydra_configs
from dtx.config.hydra_settings import refuse_settings
from dtx.sweep import grid
from dtx.sweep.grid import Sweep, parse
from dtx.sweep.launch import run_sweep
from dtx.sweep.search.rounds import run_search
from dtx.sweep.search.search import Search, read_search
from dtx.text import first_line, suggest

_BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
_SWEEPERS = ("basic", "optuna")
_CHOICES = ("experiment=", "hydra/sweeper", "hydra.searchpath=")


def read(overrides: Sequence[str], config_dir: Path | None = None) -> Sweep:
    """The jobs of a sweep, each composed and checked; of a search those of its trials so far.

    Raises:
        ConfigError: All that cannot be read.
    """
    refuse_settings(overrides, sweep=True)
    sweeper = _sweeper(overrides, config_dir)
    if sweeper is None:
        others = [o for o in overrides if not o.startswith("hydra/sweeper=")]
        return grid.read_sweep(others, config_dir)
    given = {o.split("=", 1)[0].lstrip("+") for o in overrides}
    params = [f"{k}={v}" for k, v in sweeper["params"].items() if k not in given]
    parsed = parse([*params, *overrides], config_dir)
    search_path = [o for o in overrides if o.lstrip("+").startswith("hydra.searchpath=")]
    search = read_search(sweeper, parsed, overrides, config_dir, search_path)
    search.open(make=False)
    return search


def run_jobs(sweep: Sweep) -> int:
    """Run a sweep or a search; gives the exit status."""
    return run_search(sweep) if isinstance(sweep, Search) else run_sweep(sweep)


def _sweeper(overrides: Sequence[str], config_dir: Path | None) -> Mapping[str, Any] | None:
    """``hydra.sweeper`` as composed; None for a grid.

    Raises:
        ConfigError: It cannot be composed, or is another one of Hydra's sweepers.
    """
    from hydra import compose

    chosen = [o for o in overrides if o.lstrip("+").startswith(_CHOICES)]
    fields = [o for o in overrides if o.lstrip("+~").startswith("hydra.sweeper.")]
    if not any("experiment=" in o or "sweeper" in o for o in chosen):
        return None
    with hydra_configs(config_dir):
        for choice in chosen:
            name = choice.partition("=")[2]
            if choice.startswith("hydra/sweeper=") and name not in _SWEEPERS:
                what = f"no sweeper {name!r}: basic (a grid) and optuna (a search) are there"
                raise ConfigError([("hydra/sweeper", what)])
            if choice.startswith("experiment=") and "," in choice:
                return None
        try:
            sweeper = compose("config", chosen, return_hydra_config=True).hydra.sweeper
        except failures() as error:
            if not any("sweeper" in o for o in chosen):
                return None  # what is wrong with the preset is said when the jobs are composed
            raise ConfigError([("hydra/sweeper", first_line(error))]) from None
        if sweeper.get("_target_") == _BASIC:
            return None
        errors = []
        for text in fields:
            try:
                compose("config", [*chosen, text], return_hydra_config=True)
            except failures() as error:
                name = text.split("=", 1)[0].lstrip("+~")
                *above, leaf = name.split(".")[2:]
                known = OmegaConf.select(sweeper, ".".join(above)) if above else sweeper
                names = [str(key) for key in known or () if str(key)[0] != "_"]
                unknown = leaf not in names
                what = f"no such field{suggest(leaf, names)}" if unknown else first_line(error)
                errors.append((name, what))
        if errors:
            raise ConfigError(errors)
        sweeper = compose("config", [*chosen, *fields], return_hydra_config=True).hydra.sweeper
    plain = OmegaConf.to_container(sweeper)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
