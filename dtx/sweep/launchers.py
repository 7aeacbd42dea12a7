"""Hydra's launchers with dtx's YAML for each, and a one-line error for one that is not installed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psutil

from dtx.config.compose import CONF
from dtx.errors import UserError
from dtx.running.signals import set_handlers
from dtx.sweep import after_ray
from dtx.text import first_line

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.plugins.launcher import Launcher
    from hydra.types import HydraContext
    from omegaconf import DictConfig

EXTRAS = {
    "hydra_joblib_launcher": "joblib",
    "hydra_submitit_launcher": "submitit",
    "hydra_ray_launcher": "ray",
}
"""The extra of dtx that installs a plugin, by its package in ``hydra_plugins``."""


def compose_launcher(hydra: Hydra, overrides: Sequence[str]) -> DictConfig:
    """The config of a sweep's launcher.

    Raises:
        UserError: An override cannot be applied.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    # Our YAML is complete. Hydra would validate it against the schema that a plugin registers under the same
    # name, which is deprecated and raises a warning.
    Plugins.instance()  # plugins register when they are first looked for
    registered = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for ours in (CONF / "hydra" / "launcher").glob("*.yaml"):
        registered.pop(ours.name, None)
    try:
        return hydra.compose_config("config", list(overrides), RunMode.MULTIRUN, from_shell=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"hydra.launcher: {first_line(error)}") from error


def launcher_of(
    config: DictConfig, context: HydraContext, task: Callable[[DictConfig], Mapping[str, Any]]
) -> Launcher:
    """The launcher that a sweep's config chooses.

    Raises:
        UserError: It is not installed, or its config is wrong.
    """
    from hydra.core.plugins import Plugins
    from omegaconf import OmegaConf, open_dict

    target = str(config.hydra.launcher._target_)
    plugin = target.split(".")[1]
    if plugin in EXTRAS:
        if not _installed(f"hydra_plugins.{plugin}"):
            extra = EXTRAS[plugin]
            raise UserError(f"hydra/launcher: {extra} is not installed; pip install 'dtx[{extra}]'")
        # Workers that each use all cores are several times slower. Worker processes inherit this.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        if plugin == "hydra_ray_launcher":
            _start_ray(config.hydra.launcher.ray.init)
        launcher = Plugins.instance().instantiate_launcher(context, task, config)
    except Exception as error:
        raise UserError(f"hydra.launcher: {first_line(error)}") from error
    with open_dict(config):  # workers compose again, and need no launcher of their own
        chosen = ("hydra/launcher=", "hydra.launcher.", "+hydra.launcher.", "++hydra.launcher.")
        given: Any = OmegaConf.to_container(config.hydra.overrides.hydra)  # references unresolved
        config.hydra.overrides.hydra = [o for o in given if not str(o).startswith(chosen)]
    return launcher


def _start_ray(arguments: DictConfig) -> None:
    """Join or start a cluster before the plugin does, and end the sweep at signals.

    Ray aborts at SIGTERM, and while it waits only a KeyboardInterrupt gets through.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send statistics
    import ray
    from omegaconf import OmegaConf

    if ray.is_initialized():
        return
    options = OmegaConf.to_container(arguments, resolve=True)
    assert isinstance(options, dict)
    context = ray.init(**{str(name): value for name, value in options.items()})
    if any(child.name().startswith("gcs_server") for child in psutil.Process().children()):
        command = [sys.executable, "-m", after_ray.__name__, context.address_info["session_dir"]]
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    if threading.current_thread() is threading.main_thread():
        set_handlers(signal.default_int_handler)  # until the runner restores them


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that all plugins share is not there either
        return False
