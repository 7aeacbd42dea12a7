"""Compose YAML with Hydra into a checked :class:`Experiment`; :mod:`dtx.config.build` makes the objects."""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from dtx.config.build import Builder, ConfigError
from dtx.config.hydra_settings import refuse_composed, refuse_settings
from dtx.config.mistakes import (
    blame,
    failures,
    refuse_other_choices,
    said,
    search_path_is_there,
)
from dtx.config.parameters import Parameters
from dtx.config.unread import refuse_unread, without_effect
from dtx.stage import Stage

_HERE = Path(__file__).resolve().parents[1]
CONF = next((p for p in (_HERE / "conf", _HERE.parent / "conf") if p.is_dir()), _HERE / "conf")
"""The folder of YAML: inside the installed package, or beside it in a clone."""

GROUPS = ("env", "agent", "dataset", "dt", "pairs", "activations", "dictionary", "analysis")
TARGETS = ("agent", "dataset", "dt", "analysis", "pairs", "activations", "dictionary")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """Where artefacts are kept: a folder, and an fsspec URL to share them at (null: none)."""

    path: Path
    remote: str | None

    def check(self) -> Iterator[tuple[str, str]]:
        """An empty text is no place."""
        if self.remote is not None and not self.remote.strip():
            yield "remote", "a URL or a path is wanted; null for none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where runs are shown, and whether models are registered there.

    ``uri: null`` means MLFLOW_TRACKING_URI, else ``mlflow.db`` beside the store.
    """

    enabled: bool
    uri: str | None
    experiment: str
    register: bool = False

    def check(self) -> Iterator[tuple[str, str]]:
        """MLflow refuses an experiment without a name."""
        if not self.experiment.strip():
            yield "experiment", "needs a name"


class OnError(enum.Enum):
    """After a failure: run what does not need the failed stage or job, or start nothing more."""

    CONTINUE = "continue"
    STOP = "stop"


class OnDrift(enum.Enum):
    """What to do with an artefact whose source code has changed since: see :mod:`dtx.running.drift`."""

    WARN = "warn"
    RERUN = "rerun"
    FAIL = "fail"


class OnShortage(enum.Enum):
    """What to do with stages that this machine cannot hold: see :mod:`dtx.running.room`."""

    REFUSE = "refuse"
    IGNORE = "ignore"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A composed and checked experiment: the stages to have, and where to keep and show them.

    ``raw`` is the composed config as plain values, references unresolved; ``overrides`` what the user gave.
    """

    name: str
    targets: dict[str, Stage]
    store: StoreConfig
    tracking: TrackingConfig
    on_error: OnError
    on_drift: OnDrift
    resources: OnShortage
    raw: Mapping[str, Any]
    overrides: tuple[str, ...]

    def config(self) -> dict[str, Any]:
        """The config with references resolved, as MLflow shows it."""
        return OmegaConf.to_container(OmegaConf.create(dict(self.raw)), resolve=True)  # type: ignore[return-value]

    def parameters(self) -> dict[str, str]:
        """Every value once, as text by ``group.field``; a reference to another place is shown as such."""
        return Parameters(self.raw).values


# --- composing ---------------------------------------------------------------------------------------


def compose(
    overrides: Sequence[str] = (),
    config_dir: Path | None = None,
    *,
    with_hydra: bool = False,
    sweep: bool = False,
) -> DictConfig:
    """Compose the config with command line overrides.

    Args:
        overrides: ``group=name``, ``field=value``.
        config_dir: The user's own configs.
        with_hydra: Give Hydra's own settings, too, under ``hydra``.
        sweep: Whether it is the config of a sweep's job.

    Raises:
        ConfigError: Every override that cannot be applied, with a suggestion; or a file of the user's that
            cannot be read, or would not be.
    """
    from hydra import compose as hydra_compose

    refuse_settings(overrides, sweep)
    folders = [CONF, *([config_dir] if config_dir else [])]
    with hydra_configs(config_dir):
        refuse_other_choices(overrides, folders)
        try:
            with search_path_is_there():
                config = hydra_compose("config", [*overrides], return_hydra_config=True)
            # Hydra does not list the choices of a group of several; ours are named as their files.
            several = {"analysis": list(config.get("analysis") or ())}
            folders += [Path(p.removeprefix("file://")) for p in config.hydra.searchpath]
            refuse_unread(folders, {**config.hydra.runtime.choices, **several})
            refuse_composed(config.hydra, sweep)
            if not with_hydra:
                with open_dict(config):
                    del config["hydra"]
            return config
        except ConfigError:
            raise
        except failures() as error:
            errors, config = blame(overrides, folders)
            if not errors:
                raise ConfigError([("", said(error))]) from None
        try:  # what else is wrong, now that these are known
            if config is not None:
                experiment(config)
        except ConfigError as more:
            errors += more.errors
        raise ConfigError(errors)


@contextmanager
def hydra_configs(config_dir: Path | None = None) -> Iterator[None]:
    """Hydra initialised on dtx's configs and the user's own.

    The lists that follow from dtx's own analyses are among them. Hydra looks for plugins without the working
    directory: nothing there is run by a command that only reads.
    """
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.version import setbase

    from dtx.analysis.core.listing import offer_lists

    offer_lists()
    setbase("1.3")
    places = list(sys.path)
    sys.path[:] = [place for place in places if place not in ("", str(Path.cwd()))]
    try:
        Plugins.instance()
    finally:
        sys.path[:] = places
    path = create_config_search_path(str(CONF))
    if config_dir:  # as an object: a folder's name may mean something to the grammar of overrides
        path.prepend("own", f"file://{config_dir.resolve()}", anchor="schema")
    earlier = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    Hydra.create_main_hydra2(task_name="dtx", config_search_path=path)
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = earlier


# --- building ----------------------------------------------------------------------------------------


def experiment(config: DictConfig | Mapping[str, Any], overrides: Sequence[str] = ()) -> Experiment:
    """Build and check everything that a composed config names.

    Args:
        config: Composed; a DictConfig or plain values with references unresolved.
        overrides: What it was composed with, kept for the record.

    Raises:
        ConfigError: All unknown fields, wrong types, missing values and failed checks.
    """
    builder = Builder(config)
    raw = builder.config
    target = raw.get("target")
    if target not in TARGETS:
        raise ConfigError([("target", f"one of {', '.join(TARGETS)} is wanted, not {target!r}")])
    if target == "analysis" and not (isinstance(raw.get("analysis"), dict) and raw["analysis"]):
        raise ConfigError([("analysis", "at least one is wanted: analysis=[calibration]")])
    # `analysis` holds one stage a name, the other groups are one stage each.
    places = (
        {name: f"analysis.{name}" for name in raw["analysis"]}
        if target == "analysis"
        else {target: target}
    )
    targets = {name: builder.at(place, Stage) for name, place in places.items()}
    kinds = {
        "name": str,
        "store": StoreConfig,
        "tracking": TrackingConfig,
        "on_error": OnError,
        "on_drift": OnDrift,
        "resources": OnShortage,
    }
    rest = {place: builder.at(place, kind) for place, kind in kinds.items()}
    builder.errors += without_effect(raw, {*kinds, *GROUPS, "target", "seed", "hydra", "note"})
    _build_the_others(builder)
    builder.finish()
    own = {name: value for name, value in raw.items() if name != "hydra"}
    return Experiment(targets=targets, raw=own, overrides=tuple(overrides), **rest)


def _build_the_others(builder: Builder) -> None:
    """Build what the target does not reach, so that nothing in it is wrong without a word.

    Whether it would fit together is not asked: a target that ends before the model can have any environment.
    """
    builder.checking = False
    for group in GROUPS:
        if builder.errors:  # what follows from it would be wrong as well
            return
        content = builder.config.get(group)
        if group == "analysis" and isinstance(content, Mapping):
            for name in content:
                builder.at(f"analysis.{name}", object)
        elif content is not None:
            builder.at(group, object)


def build_group(option: str, overrides: Sequence[str] = ()) -> Any:
    """Build one group's object from its YAML: ``build_group("agent/ppo", ["agent.frames=1000"])``.

    ``option`` is ``group/name``; the rest of the config has its defaults.
    """
    group, name = option.split("/")
    choice = f"{group}=[{name}]" if group == "analysis" else f"{group}={name}"
    config = compose([choice, *overrides])
    builder = Builder(config)
    # An analysis stands where its YAML puts it, which need not be its name.
    place = f"analysis.{next(iter(config.analysis))}" if group == "analysis" else group
    built = builder.at(place, object)
    builder.finish()
    return built
