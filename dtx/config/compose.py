"""Compose YAML with Hydra into a checked :class:`Experiment`; :mod:`dtx.config.build` makes the objects."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dtx.config.build import Builder, ConfigError
from dtx.stage import Stage
from dtx.text import first_line, suggest

_HERE = Path(__file__).resolve().parents[1]
CONF = next((p for p in (_HERE / "conf", _HERE.parent / "conf") if p.is_dir()), _HERE / "conf")
"""The folder of YAML: inside the installed package, or beside it in a clone."""

_OF_SWEEPS = ("hydra/launcher", "hydra.launcher", "hydra.sweep", "hydra/sweeper")
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
    """Where runs are shown. ``uri: null`` means MLFLOW_TRACKING_URI, else ``mlflow.db`` beside the store."""

    enabled: bool
    uri: str | None
    experiment: str

    def check(self) -> Iterator[tuple[str, str]]:
        """MLflow refuses an experiment without a name."""
        if not self.experiment.strip():
            yield "experiment", "needs a name"


class OnError(enum.Enum):
    """After a failure: run what does not need the failed stage or job, or start nothing more."""

    CONTINUE = "continue"
    STOP = "stop"


class OnDrift(enum.Enum):
    """What to do with an artefact whose source code has changed since: see :mod:`dtx.run.drift`."""

    WARN = "warn"
    RERUN = "rerun"
    FAIL = "fail"


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
    raw: Mapping[str, Any]
    overrides: tuple[str, ...]

    def config(self) -> dict[str, Any]:
        """The config with references resolved, as MLflow shows it."""
        return OmegaConf.to_container(OmegaConf.create(dict(self.raw)), resolve=True)  # type: ignore[return-value]

    def parameters(self) -> dict[str, str]:
        """Every value once, as text by ``group.field``; a reference to another place is shown as such."""
        return dict(_parameters(self.raw, self.config()))


def _parameters(raw: Any, resolved: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(raw, Mapping) and raw:
        for name, inner in raw.items():
            yield from _parameters(inner, resolved[name], f"{place}.{name}" if place else str(name))
    else:
        yield place, str(raw if isinstance(resolved, Mapping) else resolved)


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
        ConfigError: Every override that cannot be applied, with a suggestion.
    """
    from hydra import compose as hydra_compose
    from hydra.errors import HydraException

    extra = [f"hydra.searchpath=[file://{config_dir.resolve()}]"] if config_dir else []
    folders = [CONF, *([config_dir] if config_dir else [])]
    failures = (HydraException, OmegaConfBaseException, ValueError)
    if of_sweeps := [o for o in overrides if o.lstrip("+").startswith(_OF_SWEEPS)]:
        raise ConfigError([(o, "is for sweeps: add -m") for o in of_sweeps])
    with hydra_configs():
        try:
            return hydra_compose("config", [*extra, *overrides], return_hydra_config=with_hydra)
        except failures as error:
            everything: Exception = error
        # Which of them? Choices of groups come first: fields are there or not depending on them.
        errors, known, config = [], extra, None
        ordered = sorted(overrides, key=lambda o: not _is_choice(o, folders))
        for number, override in enumerate(ordered, 1):
            try:
                if number == len(ordered) and not errors:
                    raise everything  # all others compose: it is this one, and need not be tried
                config = hydra_compose("config", [*known, override])
                known = [*known, override]
            except failures as error:
                config = config or hydra_compose("config", known)
                errors.append(_explain(override, error, config, folders))
        if not errors or config is None:
            raise ConfigError([("", first_line(everything))])
        try:  # what else is wrong, now that these are known
            experiment(config)
        except ConfigError as more:
            errors += more.errors
        raise ConfigError(errors)


def hydra_configs() -> AbstractContextManager[None]:
    """Hydra initialised on dtx's configs, the lists that follow from dtx's own analyses among them."""
    from hydra import initialize_config_dir

    from dtx.analysis.core.listing import offer_lists

    offer_lists()
    return initialize_config_dir(str(CONF), version_base="1.3")


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

    message = first_line(error)
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
    }
    rest = {place: builder.at(place, kind) for place, kind in kinds.items()}
    builder.finish()
    return Experiment(targets=targets, raw=raw, overrides=tuple(overrides), **rest)


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
