"""Hydra's launchers as dtx uses them: its own YAML for each, and one line for one that is not installed."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

from dtx.build import first_line
from dtx.config import CONF
from dtx.errors import UserError

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher
    from hydra.types import HydraContext
    from omegaconf import DictConfig

EXTRAS = {
    "hydra_joblib_launcher": "joblib",
    "hydra_submitit_launcher": "submitit",
    "hydra_ray_launcher": "ray",
}
"""The extra of dtx that installs a plugin, by its package in ``hydra_plugins``."""


def forget_schemas() -> None:
    """Take away the configs that the plugins register under the names of ours, which are whole.

    Hydra would validate ours against them, and warns that it will not do so for ever.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()  # plugins register when they are first looked for
    registered = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for ours in (CONF / "hydra" / "launcher").glob("*.yaml"):
        registered.pop(ours.name, None)


def launcher_of(config: DictConfig, context: HydraContext, task: Any) -> Launcher:
    """The launcher that a sweep's config chooses.

    Raises:
        UserError: It is not installed, or its config is wrong.
    """
    from hydra.core.plugins import Plugins
    from omegaconf import open_dict

    target = str(config.hydra.launcher._target_)
    plugin = target.split(".")[1]
    if plugin in EXTRAS:
        if not _installed(f"hydra_plugins.{plugin}"):
            extra = EXTRAS[plugin]
            raise UserError(f"hydra/launcher: {extra} is not installed; pip install 'dtx[{extra}]'")
        # Workers that each use all cores lose several times over. Worker processes inherit this.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers
    try:
        launcher = Plugins.instance().instantiate_launcher(context, task, config)
    except Exception as error:
        raise UserError(f"hydra.launcher: {first_line(error)}") from error
    with open_dict(config):  # workers compose again, and need no launcher of their own
        chosen = ("hydra/launcher=", "hydra.launcher.", "+hydra.launcher.", "++hydra.launcher.")
        told = config.hydra.overrides.hydra
        config.hydra.overrides.hydra = [o for o in told if not o.startswith(chosen)]
    return launcher


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that all plugins share
        return False
