"""Compose YAML with Hydra and build typed, checked objects from it, with all errors at once.

YAML names a class by ``_target_`` or leaves it to the field's type hint. Two forms of reference:
``agent: ${agent}`` is the stage configured at ``agent``; ``_base_: ${dt}`` starts from the config at ``dt``
and changes the fields that follow. Only the project's and the user's own config folders are read here;
configs found inside artefacts are data and never come this way.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import enum
import importlib
import re
import types
import typing
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dtx.errors import UserError
from dtx.stage import Stage

_HERE = Path(__file__).resolve().parent
CONF = next((p for p in (_HERE / "conf", _HERE.parent / "conf") if p.is_dir()), _HERE / "conf")
"""The folder of YAML: inside the installed package, or beside it in a clone."""

_REFERENCE = re.compile(r"^\$\{([A-Za-z_][\w.]*)\}$")
TARGETS = ("agent", "dataset", "dt", "analysis")


class ConfigError(UserError):
    """All that is wrong with a config, one line an error."""

    def __init__(self, errors: Iterable[tuple[str, str]]):
        first: dict[str, str] = {}  # a place that several objects refer to is told once
        for place, what in errors:
            first.setdefault(place, what)
        self.errors = list(first.items())
        super().__init__(
            "\n".join(f"{place}: {what}" if place else what for place, what in self.errors)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """Where artefacts are kept."""

    path: Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where runs are shown. ``uri: null`` means MLFLOW_TRACKING_URI, else ``mlflow.db`` beside the store."""

    enabled: bool
    uri: str | None
    experiment: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A composed and checked experiment: the stages to have, and where to keep and show them."""

    name: str
    targets: dict[str, Stage]
    store: StoreConfig
    tracking: TrackingConfig
    config: dict[str, Any]


# --- composing ---------------------------------------------------------------------------------------


def compose(overrides: Sequence[str] = (), config_dir: Path | None = None) -> DictConfig:
    """Compose the config with command line overrides.

    Raises:
        ConfigError: Every override that cannot be applied, with a suggestion.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException

    extra = [f"hydra.searchpath=[file://{config_dir.resolve()}]"] if config_dir else []
    folders = [CONF, *([config_dir] if config_dir else [])]
    failures = (HydraException, OmegaConfBaseException, ValueError)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return hydra_compose("config", [*extra, *overrides])
        except failures as error:
            everything: Exception = error
        # Which of them? Choices of groups come first: fields are there or not depending on them.
        errors, known = [], extra
        for override in sorted(overrides, key=lambda o: not _is_choice(o, folders)):
            try:
                hydra_compose("config", [*known, override])
                known = [*known, override]
            except failures as error:
                errors.append(_explain(override, error, hydra_compose("config", known), folders))
        if not errors:
            raise ConfigError([("", _first_line(everything))])
        try:  # what else is wrong, now that these are known
            experiment(hydra_compose("config", known))
        except ConfigError as more:
            errors += more.errors
        raise ConfigError(errors)


def _is_choice(override: str, folders: Sequence[Path]) -> bool:
    group = override.split("=")[0].lstrip("+~").split("@")[0]
    return any((folder / group).is_dir() for folder in folders)


def _explain(
    override: str, error: Exception, config: DictConfig, folders: Sequence[Path]
) -> tuple[str, str]:
    name = override.split("=", 1)[0].lstrip("+~")
    if "=" not in override and not override.startswith("~"):
        return override, "an override has the form name=value"
    if _is_choice(override, folders):
        group = name.split("@")[0]
        known = sorted({p.stem for folder in folders for p in (folder / group).glob("*.yaml")})
        choices = override.split("=", 1)[-1].strip("[] ").split(",")
        wrong = next((c.strip() for c in choices if c.strip() not in known), None)
        if wrong is not None:
            return name, f"no config {wrong!r} in conf/{group}{_suggest(wrong, known)}"
    message = _first_line(error)
    if "Could not override" in message or "not in struct" in message:
        node: Any = config
        for leaf in name.split("."):
            if not isinstance(node, DictConfig) or leaf not in node:
                known = list(node) if isinstance(node, DictConfig) else []
                return name, f"no such field{_suggest(leaf, known)}"
            node = node._get_node(leaf)
    return override, message


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _suggest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (there are: {', '.join(map(str, known))})" if known else ""


# --- building ----------------------------------------------------------------------------------------


def experiment(config: DictConfig) -> Experiment:
    """Build and check everything that a composed config names.

    Raises:
        ConfigError: All unknown fields, wrong types, missing values and failed checks.
    """
    builder = Builder(config)
    target = config.get("target")
    if target not in TARGETS:
        raise ConfigError([("target", f"one of {', '.join(TARGETS)} is wanted, not {target!r}")])
    # `analysis` holds one stage a name, the other groups are one stage each.
    places = (
        {name: f"analysis.{name}" for name in config.analysis}
        if target == "analysis"
        else {target: target}
    )
    targets = {name: builder.at(place, Stage) for name, place in places.items()}
    store = builder.at("store", StoreConfig)
    tracking = builder.at("tracking", TrackingConfig)
    builder.finish()
    plain = OmegaConf.to_container(config, resolve=True)
    return Experiment(
        name=str(config.name), targets=targets, store=store, tracking=tracking, config=plain
    )  # type: ignore[arg-type]


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


class Builder:
    """Builds objects from a composed config, collecting errors instead of stopping at the first."""

    def __init__(self, config: DictConfig):
        self.config = config
        self.errors: list[tuple[str, str]] = []
        self._built: dict[str, Any] = {}

    def finish(self) -> None:
        """Raise all errors met."""
        if self.errors:
            raise ConfigError(self.errors)

    def at(self, place: str, hint: Any) -> Any:
        """The object configured at a dotted place; built once."""
        if place not in self._built:
            self._built[place] = self._convert(self._raw(place), hint, place)
        return self._built[place]

    def _raw(self, place: str) -> Any:
        """The value at a place with its references still unresolved."""
        parent, _, leaf = place.rpartition(".")
        node = OmegaConf.select(self.config, parent) if parent else self.config
        if not isinstance(node, DictConfig) or leaf not in node:
            self.errors.append((place, "is referred to, but is not there"))
            return None
        child = node._get_node(leaf)
        if OmegaConf.is_config(child) and not child._is_interpolation():  # type: ignore[union-attr]
            return OmegaConf.to_container(child, resolve=False)  # type: ignore[arg-type]
        return child._value()  # type: ignore[union-attr]

    def _convert(self, raw: Any, hint: Any, place: str) -> Any:
        if isinstance(raw, str) and "${" in raw:
            reference = _REFERENCE.match(raw)
            target = reference and OmegaConf.select(self.config, reference[1])
            if reference and isinstance(target, DictConfig):
                return self.at(reference[1], hint)
            try:
                raw = self._resolve(raw)
            except OmegaConfBaseException as error:
                return self._wrong(place, _first_line(error))
        if raw == "???":
            return self._wrong(place, "needs a value")
        origin = typing.get_origin(hint)
        if origin in (typing.Union, types.UnionType):
            return self._optional(raw, typing.get_args(hint), place)
        if isinstance(raw, dict) and (
            hint is object or "_target_" in raw or "_base_" in raw or _is_component(hint)
        ):
            return self._component(raw, hint, place)
        if origin in (tuple, list):
            return self._sequence(raw, typing.get_args(hint)[0], place, origin)
        if origin is dict:
            if not isinstance(raw, dict):
                return self._wrong(place, f"names with values are wanted, not {raw!r}")
            inner = typing.get_args(hint)[1]
            return {k: self._convert(v, inner, f"{place}.{k}") for k, v in raw.items()}
        if hint in (Any, object):
            return raw
        if _is_component(hint):
            return self._wrong(place, f"a {hint.__name__} is wanted, not {raw!r}")
        return self._scalar(raw, hint, place)

    def _resolve(self, raw: str) -> Any:
        probe = OmegaConf.create({"value": raw})
        probe._set_parent(self.config)
        return probe.value

    def _optional(self, raw: Any, hints: tuple, place: str) -> Any:
        if raw is None:
            return None if type(None) in hints else self._wrong(place, "needs a value")
        some = [h for h in hints if h is not type(None)]
        return self._convert(raw, some[0], place)

    def _sequence(self, raw: Any, inner: Any, place: str, kind: type) -> Any:
        if not isinstance(raw, list):
            return self._wrong(place, f"a list is wanted, not {raw!r}")
        return kind(self._convert(v, inner, f"{place}[{i}]") for i, v in enumerate(raw))

    def _component(self, raw: dict, hint: Any, place: str) -> Any:
        origins = {k: f"{place}.{k}" for k in raw}
        if "_base_" in raw:
            raw, origins = self._rebase(raw, place)
        cls = self._class(raw.get("_target_"), hint, place)
        if cls is None:
            return None
        before = len(self.errors)
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for name in raw:
            if name not in fields and name not in ("_target_", "_base_"):
                self._wrong(
                    origins[name], f"{cls.__name__} has no such field{_suggest(name, list(fields))}"
                )
        hints = typing.get_type_hints(cls)
        values = {}
        for name in fields:
            if name not in raw:
                self._wrong(f"{place}.{name}", "needs a value (every field stands in the YAML)")
                continue
            values[name] = self._convert(raw[name], hints[name], origins[name])
        if len(self.errors) > before or None in [
            values[n] for n in values if _is_component(hints[n])
        ]:
            return None
        built = cls(**values)
        for name, message in getattr(built, "check", lambda: ())():
            field, dot, rest = name.partition(".")
            self._wrong(origins.get(field, f"{place}.{field}") + dot + rest, message)
        return built

    def _rebase(self, raw: dict, place: str) -> tuple[dict, dict[str, str]]:
        reference = _REFERENCE.match(str(raw["_base_"]))
        if not reference:
            self._wrong(f"{place}._base_", "a reference such as ${dt} is wanted")
            return {}, {}
        base = self._raw(reference[1])
        if isinstance(base, str) and _REFERENCE.match(base):  # a reference to a reference
            return self._rebase({**raw, "_base_": base}, place)
        base = base if isinstance(base, dict) else {}
        origins = {k: f"{reference[1]}.{k}" for k in base}
        if "_base_" in base:
            base, origins = self._rebase(base, reference[1])
        changes = {k: v for k, v in raw.items() if k != "_base_"}
        origins |= {k: f"{place}.{k}" for k in changes}
        return _merge(base, changes), origins

    def _class(self, target: Any, hint: Any, place: str) -> type | None:
        if target is None:
            return hint if _is_component(hint) else self._wrong(place, "needs a _target_")
        module, _, name = str(target).rpartition(".")
        try:
            cls = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            return self._wrong(f"{place}._target_", f"cannot import {target!r}: {error}")
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
            return self._wrong(f"{place}._target_", f"{target} is not a dataclass")
        if _is_component(hint) and not issubclass(cls, hint):
            return self._wrong(place, f"a {hint.__name__} is wanted, not {target}")
        return cls

    def _scalar(self, raw: Any, hint: Any, place: str) -> Any:
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            try:
                return hint(raw)
            except ValueError:
                values = [str(e.value) for e in hint]
                return self._wrong(place, f"one of {', '.join(values)} is wanted, not {raw!r}")
        if hint is bool and isinstance(raw, bool):
            return raw
        if hint is int and not isinstance(raw, bool):
            if isinstance(raw, int):
                return raw
            if isinstance(raw, float) and raw.is_integer():  # 1e6
                return int(raw)
        if hint is float and not isinstance(raw, bool):
            if isinstance(raw, (int, float)):
                return float(raw)
            if isinstance(raw, str) and re.fullmatch(r"\d+/[1-9]\d*", raw.replace(" ", "")):
                return float(Fraction(raw.replace(" ", "")))
        if hint is str and isinstance(raw, str):
            return raw
        if hint is Path and isinstance(raw, str):
            return Path(raw)
        names = {
            bool: "true or false",
            int: "a whole number",
            float: "a number",
            str: "text",
            Path: "a path",
        }
        return self._wrong(
            place, f"{names.get(hint, getattr(hint, '__name__', hint))} is wanted, not {raw!r}"
        )

    def _wrong(self, place: str, message: str) -> None:
        self.errors.append((place, message))


def _is_component(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _merge(base: dict, changes: dict) -> dict:
    merged = copy.deepcopy(base)
    for name, value in changes.items():
        both = isinstance(merged.get(name), dict) and isinstance(value, dict)
        merged[name] = _merge(merged[name], value) if both else value
    return merged
