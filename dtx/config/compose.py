"""Compose YAML with Hydra into a checked :class:`Experiment`; :mod:`dtx.config.build` makes the objects."""

from __future__ import annotations

import dataclasses
import enum
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from dtx.config.build import Builder, ConfigError
from dtx.config.parameters import Parameters
from dtx.config.unread import refuse_unread, without_effect
from dtx.stage import Stage
from dtx.text import first_line, suggest

_HERE = Path(__file__).resolve().parents[1]
CONF = next((p for p in (_HERE / "conf", _HERE.parent / "conf") if p.is_dir()), _HERE / "conf")
"""The folder of YAML: inside the installed package, or beside it in a clone."""

_OF_SWEEPS = ("hydra/launcher", "hydra.launcher", "hydra.sweep", "hydra/sweeper")
GROUPS = ("env", "agent", "dataset", "dt", "pairs", "analysis")
TARGETS = ("agent", "dataset", "dt", "analysis", "pairs")


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
    overrides: Sequence[str] = (), config_dir: Path | None = None, *, with_hydra: bool = False
) -> DictConfig:
    """Compose the config with command line overrides.

    Args:
        overrides: ``group=name``, ``field=value``.
        config_dir: The user's own configs.
        with_hydra: Give Hydra's own settings, too, under ``hydra``.

    Raises:
        ConfigError: Every override that cannot be applied, with a suggestion; or a file of the user's that
            cannot be read, or would not be.
    """
    from hydra import compose as hydra_compose

    if of_sweeps := [o for o in overrides if o.lstrip("+").startswith(_OF_SWEEPS)]:
        raise ConfigError([(o, "is for sweeps: add -m") for o in of_sweeps])
    if unread := [o for o in overrides if _is_hydras(o) and not _is_search_path(o)]:
        raise ConfigError([(o, "is a setting of Hydra's that dtx does not read") for o in unread])
    with hydra_configs(config_dir):
        _refuse_other_choices(overrides, config_dir)
        try:
            config = hydra_compose("config", [*overrides], return_hydra_config=True)
            # Hydra does not list the choices of a group of several; ours are named as their files.
            several = {"analysis": list(config.get("analysis") or ())}
            refuse_unread(config_dir, CONF, {**config.hydra.runtime.choices, **several})
            if not with_hydra:
                with open_dict(config):
                    del config["hydra"]
            return config
        except ConfigError:
            raise
        except failures() as error:
            errors, config = _blame(overrides, config_dir)
            if not errors:
                raise ConfigError([("", _said(error))]) from None
        try:  # what else is wrong, now that these are known
            if config is not None:
                experiment(config)
        except ConfigError as more:
            errors += more.errors
        raise ConfigError(errors)


def _refuse_other_choices(overrides: Sequence[str], config_dir: Path | None) -> None:
    """Hydra would end in a defect of its own for a choice that is no name.

    Raises:
        ConfigError: Every group for which something else than a name or a list of names is chosen.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import QuotedString

    folders = [CONF, *([config_dir] if config_dir else [])]
    parser, errors = OverridesParser.create(), []
    for override in overrides:
        with suppress(*failures()):  # what cannot be read is explained later
            if _is_choice(override, folders):
                value = parser.parse_override(override).value()
                wrong = isinstance(value, dict)
                if isinstance(value, list):
                    wrong = not all(isinstance(name, (str, QuotedString)) for name in value)
                if wrong:
                    text = "the name of a config, or a list of names ([one,two]), is wanted"
                    errors.append((override.split("=", 1)[0].lstrip("+~"), text))
    if errors:
        raise ConfigError(errors)


def failures() -> tuple[type[Exception], ...]:
    """What Hydra raises for overrides, and for files that cannot be read."""
    from hydra.errors import HydraException

    read = (YAMLError, ValueError, OSError, RecursionError)
    return HydraException, OmegaConfBaseException, AssertionError, *read  # Hydra asserts choices


def _blame(
    overrides: Sequence[str], config_dir: Path | None
) -> tuple[list[tuple[str, str]], DictConfig | None]:
    """Which overrides cannot be applied, and the config with the others; None if there is none.

    Choices of groups come first, because fields are there or not depending on them.
    """
    from hydra import compose as hydra_compose
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser

    folders = [CONF, *([config_dir] if config_dir else [])]
    known = [o for o in overrides if _is_search_path(o)]
    errors: list[tuple[str, str]] = []
    try:
        config = hydra_compose("config", known)
    except failures() as error:
        return [(o, _said(error)) for o in known[:1]], None
    fields = []
    for override in overrides:
        if override in known:
            continue
        if not _is_choice(override, folders):
            fields.append(override)
            continue
        try:
            config = hydra_compose("config", [*known, override])
            known.append(override)
        except failures() as error:
            errors.append(_explain(override, error, config, folders))
    parser = OverridesParser.create()
    for override in fields:
        try:
            (parsed,) = parser.parse_overrides([override])
            if parsed.is_sweep_override():
                raise ValueError("multirun")
            ConfigLoaderImpl._apply_overrides_to_config([parsed], config)
        except failures() as error:
            errors.append(_explain(override, error, config, folders))
    return errors, config


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


def _is_hydras(override: str) -> bool:
    return override.lstrip("+~").startswith(("hydra.", "hydra/", "hydra="))


def _is_search_path(override: str) -> bool:
    return override.split("=", 1)[0].lstrip("+") == "hydra.searchpath"


def _said(error: Exception) -> str:
    """One line of what Hydra, OmegaConf or PyYAML says, with the file and line if it is one's."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: {error.problem}; correct the YAML there"
    if isinstance(error, UnicodeDecodeError):
        return "a config is not UTF-8 text"
    return first_line(error)


def _is_choice(override: str, folders: Sequence[Path]) -> bool:
    group = override.split("=")[0].lstrip("+~").split("@")[0]
    named = re.fullmatch(r"\w+(/\w+)*", group)
    return named is not None and any((folder / group).is_dir() for folder in folders)


def _explain(
    override: str, error: Exception, config: DictConfig, folders: Sequence[Path]
) -> tuple[str, str]:
    name = override.split("=", 1)[0].lstrip("+~")
    if not name or ("=" not in override and not override.startswith("~")):
        return override.strip() or repr(override), "an override has the form name=value"
    if _is_choice(override, folders):
        group = name.split("@")[0]
        known = sorted({p.stem for folder in folders for p in (folder / group).glob("*.yaml")})
        choices = override.split("=", 1)[-1].strip("[] ").split(",")
        wrong = next((c.strip() for c in choices if c.strip() not in known), None)
        if wrong is not None:
            return name, f"no config {wrong!r} in conf/{group}{suggest(wrong, known)}"
    from hydra.errors import OverrideParseException

    message = _said(error)
    if "multirun" in str(error):
        return name, f"several values make a sweep: add -m (dtx run -m {override}); a list is [1,2]"
    if isinstance(error, OverrideParseException):
        what = message.removeprefix("LexerNoViableAltException: ").removeprefix(override)
        hint = "quote a value that holds special characters: 'name=\"value\"'"
        return override, f"cannot be read{': ' if what else ''}{what}; {hint}"
    if "Could not override" in message or "not in struct" in message:
        node: Any = config
        for leaf in name.split("."):
            if not isinstance(node, DictConfig) or leaf not in node:
                known = [k for k in node if k[0] != "_"] if isinstance(node, DictConfig) else []
                return name, f"no such field{suggest(leaf, known)}"
            node = node._get_node(leaf)
    return override, message


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
    builder.errors += without_effect(raw, {*kinds, *GROUPS, "target", "seed", "hydra"})
    _build_the_others(builder)
    builder.finish()
    return Experiment(targets=targets, raw=raw, overrides=tuple(overrides), **rest)


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
    built = builder.at(f"analysis.{name}" if group == "analysis" else group, object)
    builder.finish()
    return built
