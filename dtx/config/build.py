"""Build typed, checked objects from a composed config, with all errors at once.

YAML names a class by ``_target_`` or leaves it to the field's type hint. Three forms of reference:
``agent: ${agent}`` is the stage configured at ``agent``; ``_base_: ${dt}`` starts from the config at ``dt``
and changes the fields that follow; ``analyses: others`` is all other members of the group, by name. Only
the project's and the user's own config folders come this way; configs found inside artefacts are data.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import inspect
import math
import re
import typing
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dtx.config.kinds import (
    alternatives,
    dotted,
    field_types,
    fits,
    is_component,
    is_kind,
    is_protocol,
    is_union,
    missing,
    words,
)
from dtx.config.own_classes import module_of
from dtx.config.protocols import misfit
from dtx.config.ranges import plain, problems
from dtx.errors import UserError
from dtx.stage import BEFORE, Stage
from dtx.text import first_line, printable, suggest

_REFERENCE = re.compile(r"^\$\{([A-Za-z_][\w.]*)\}$")
_ABSENT = object()
_OTHERS = "others"


class ConfigError(UserError):
    """All that is wrong with a config, one line an error."""

    def __init__(self, errors: Iterable[tuple[str, str]]):
        first: dict[str, str] = {}  # several objects may refer to one place
        for place, what in errors:
            first.setdefault(_printable(place), _printable(what))
        self.errors = list(first.items())
        super().__init__(
            "\n".join(f"{place}: {what}" if place else what for place, what in self.errors)
        )


class Builder:
    """Builds objects from a composed config, collecting errors instead of stopping at the first.

    Args:
        config: As Hydra composed it, or the same as plain values with references unresolved (faster:
            a sweep builds thousands of them).
    """

    def __init__(self, config: DictConfig | Mapping[str, Any]):
        plain = OmegaConf.to_container(config) if isinstance(config, DictConfig) else config
        self.config: Mapping[str, Any] = plain  # type: ignore[assignment]
        self.errors: list[tuple[str, str]] = []
        self.checking = True
        """Whether objects that are built say whether they fit together."""
        self._built: dict[str, Any] = {}
        self._under_way: list[str] = []

    def finish(self) -> None:
        """Raise all errors that were collected."""
        if self.errors:
            raise ConfigError(self.errors)

    def at(self, place: str, hint: Any) -> Any:
        """The object configured at a dotted place; built once."""
        if place in self._under_way:
            circle = [*self._under_way[self._under_way.index(place) :], place]
            return self._wrong(place, f"needs itself: {' -> '.join(circle)}")
        if place not in self._built:
            self._under_way.append(place)
            self._built[place] = self._convert(self._raw(place), hint, place)
            self._under_way.pop()
        return self._built[place]

    def _raw(self, place: str) -> Any:
        """The value at a place with its references still unresolved."""
        parent, _, leaf = place.rpartition(".")
        value = _child(self._select(parent) if parent else self.config, leaf)
        if value is _ABSENT:
            self.errors.append((place, "is referred to, but does not exist"))
            return None
        return value

    def _select(self, place: str) -> Any:
        """The value at a place; references on the way and at its end are followed."""
        node: Any = self.config
        for leaf in place.split("."):
            node = self._follow(_child(node, leaf))
        return node

    def _follow(self, node: Any, depth: int = 0) -> Any:
        reference = _REFERENCE.match(node) if isinstance(node, str) else None
        if reference is None or depth > 20:  # a circle: OmegaConf explains it
            return node
        target = _child(self.config, reference[1].split(".")[0])
        return target if target is _ABSENT else self._follow(self._select(reference[1]), depth + 1)

    def _convert(self, raw: Any, hint: Any, place: str) -> Any:
        hint = plain(hint)  # what a range allows is checked when the object is there
        if isinstance(raw, str) and "${" in raw:
            try:
                target = self._follow(raw)
            except RecursionError:
                return self._wrong(place, f"{raw} refers to itself")
            if isinstance(target, Mapping):
                return self._refer(raw, hint, place)
            if target is _ABSENT:
                return self._wrong(place, f"refers to {raw}, which does not exist")
            place = _origin(raw, place)
            try:
                raw = self._resolve(raw) if _unresolved(target) else target
            except RecursionError:
                return self._wrong(place, f"{raw} refers to itself")
            except OmegaConfBaseException as error:
                what = first_line(error)
                if "HydraConfig was not set" in what:
                    what = f"refers to {raw}, which is another one for each run: give the value"
                return self._wrong(place, what)
        if raw == "???":
            return self._wrong(place, "needs a value")
        origin = typing.get_origin(hint)
        if is_union(hint):
            return self._optional(raw, typing.get_args(hint), place)
        if isinstance(raw, dict) and (
            hint is object or "_target_" in raw or "_base_" in raw or is_component(hint)
        ):
            return self._component(raw, hint, place)
        if origin in (tuple, list):
            return self._sequence(raw, typing.get_args(hint), place, origin)
        if origin is dict:
            if raw == _OTHERS:
                return self._others(typing.get_args(hint)[1], place)
            if not isinstance(raw, dict):
                return self._wrong(place, f"a mapping from names to values is wanted, not {raw!r}")
            inner = typing.get_args(hint)[1]
            return {k: self._convert(v, inner, f"{place}.{k}") for k, v in raw.items()}
        if hint in (Any, object):
            return raw
        if is_kind(hint):
            return self._wrong(place, f"{words(hint)} is wanted, not {raw!r}")
        return self._scalar(raw, hint, place)

    def _others(self, hint: Any, place: str) -> dict[str, Any]:
        """What stands beside the object that a field at ``GROUP.NAME.FIELD`` belongs to."""
        group, own, _ = place.rsplit(".", 2) if place.count(".") >= 2 else ("", place, "")
        beside = self._select(group) if group else {}
        others = {name: self.at(f"{group}.{name}", hint) for name in beside if name != own}
        return {name: built for name, built in others.items() if built is not None}

    def _refer(self, raw: str, hint: Any, place: str) -> Any:
        """The object that ``${...}`` stands for, if it is of the kind wanted here."""
        kinds = [h for h in alternatives(hint) if h in (Any, object) or is_kind(h)]
        named = {"_target_", "_base_"} & self._follow(raw).keys()
        if not kinds or (is_protocol(kinds[0]) and not named):
            return self._wrong(place, f"{words(hint)} is wanted, not {raw}")
        # Built as what it is; whether it fits is said at this place, not where it is configured.
        target = raw[2:-1]
        built = self.at(target, object if named else hint)
        if not self.checking:
            return built
        if built is not None and is_protocol(kinds[0]) and (what := misfit(built, kinds[0])):
            # `env: ${env}` is where dtx's own configs refer to: the object is at fault, said once.
            at_fault = target if place.rpartition(".")[2] == target else place
            shown = dotted(type(built))
            return self._wrong(at_fault, f"{words(hint)} is wanted, not {shown}: {what}")
        if built is None or any(fits(type(built), h) for h in alternatives(hint)):
            return built
        return self._wrong(place, f"{words(hint)} is wanted, not {raw} ({dotted(type(built))})")

    def _resolve(self, raw: str) -> Any:
        """What OmegaConf makes of an interpolation that is more than a reference: ``${oc.env:USER}``."""
        probe = OmegaConf.create({"value": raw})
        probe._set_parent(OmegaConf.create(dict(self.config)))
        value = probe.value
        return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value

    def _optional(self, raw: Any, hints: tuple, place: str) -> Any:
        if raw is None:
            return None if type(None) in hints else self._wrong(place, "needs a value")
        some = [h for h in hints if h is not type(None)]
        return self._convert(raw, some[0], place)

    def _sequence(self, raw: Any, hints: tuple, place: str, kind: type) -> Any:
        if not isinstance(raw, list):
            return self._wrong(place, f"a list is wanted, not {raw!r}")
        if kind is tuple and Ellipsis not in hints and len(raw) != len(hints):
            return self._wrong(place, f"a list of {len(hints)} is wanted, not {raw!r}")
        each = hints if kind is tuple and Ellipsis not in hints else [hints[0]] * len(raw)
        pairs = enumerate(zip(raw, each, strict=True))
        return kind(self._convert(v, of, f"{place}[{i}]") for i, (v, of) in pairs)

    def _component(self, raw: dict, hint: Any, place: str) -> Any:
        origins = {k: f"{place}.{k}" for k in raw}
        if "_base_" in raw:
            if not self.checking:  # a variant of something that it need not fit
                return None
            raw, origins = self._rebase(raw, place)
        cls = self._class(raw.get("_target_"), hint, place)
        if cls is None:
            return None
        before = len(self.errors)
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for name in raw:
            if name not in fields and name not in ("_target_", "_base_"):
                self._wrong(
                    origins[name], f"{cls.__name__} has no such field{suggest(name, list(fields))}"
                )
        hints = field_types(cls)
        values = {}
        for name in fields:
            if name not in raw:
                known = fields[name].metadata
                if BEFORE in known:  # the YAML is older than the field
                    values[name] = known[BEFORE]
                else:
                    what = "needs a value (every field must be in the YAML)"
                    self._wrong(f"{place}.{name}", what)
                continue
            values[name] = self._convert(raw[name], hints[name], origins[name])
            if not dataclasses.is_dataclass(values[name]):
                origins[name] = _origin(raw[name], origins[name])
        if len(self.errors) > before or None in [
            values[n] for n in values if is_component(hints[n]) or is_protocol(hints[n])
        ]:
            return None
        built = cls(**values)
        if is_protocol(hint) and (what := misfit(built, hint)):
            self._wrong(place, f"{words(hint)} is wanted, not {dotted(cls)}: {what}")
        found = list(problems(built))
        if self.checking and not found:  # what numbers say together counts where each is possible
            found = list(_checked(built))
        for name, message in found:
            field, dot, rest = name.partition(".")
            self._wrong(origins.get(field, f"{place}.{field}") + dot + rest, message)
        return built

    def _rebase(
        self, raw: dict, place: str, seen: tuple[str, ...] = ()
    ) -> tuple[dict, dict[str, str]]:
        reference = _REFERENCE.match(str(raw["_base_"]))
        if not reference or reference[1] in seen:
            what = f"is in a circle: {' -> '.join(seen)}" if reference else "must be like ${dt}"
            self._wrong(f"{place}._base_", what)
            return {}, {}
        seen = (*seen, reference[1])
        base = self._raw(reference[1])
        if isinstance(base, str) and _REFERENCE.match(base):  # a reference to a reference
            return self._rebase({**raw, "_base_": base}, place, seen)
        if not isinstance(base, dict):
            self._wrong(f"{place}._base_", f"{reference[0]} has no fields to start from")
            return {}, {}
        origins = {k: f"{reference[1]}.{k}" for k in base}
        if "_base_" in base:
            base, origins = self._rebase(base, reference[1], seen)
        changes = {k: v for k, v in raw.items() if k != "_base_"}
        origins |= {k: f"{place}.{k}" for k in changes}
        return _merge(base, changes), origins

    def _class(self, target: Any, hint: Any, place: str) -> type | None:
        if target is None:
            named = is_component(hint) and not issubclass(hint, Stage)  # a stage names its class
            return hint if named else self._wrong(place, "needs a _target_")
        module, _, name = str(target).rpartition(".")
        try:
            cls = getattr(module_of(module), name)
        except (ImportError, AttributeError) as error:
            return self._wrong(f"{place}._target_", f"cannot import {target!r}: {error}")
        except Exception as error:  # whatever a user's own module does when it is imported
            reason = f"{type(error).__name__}: {error}"
            return self._wrong(f"{place}._target_", f"cannot import {target!r}: {reason}")
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
            return self._wrong(f"{place}._target_", f"{target} is not a dataclass")
        if inspect.isabstract(cls):
            names = ", ".join(sorted(cls.__abstractmethods__))
            return self._wrong(f"{place}._target_", f"{target} does not define {names}")
        if not fits(cls, hint):
            lacks = f": it has no {', '.join(missing(cls, hint))}" if is_protocol(hint) else ""
            return self._wrong(place, f"{words(hint)} is wanted, not {target}{lacks}")
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
        if hint in (int, float) and not isinstance(raw, bool):
            return self._number(raw, hint, place)
        if hint is str and isinstance(raw, str):
            return raw
        if hint is Path and isinstance(raw, str) and raw:
            return self._path(raw, place)
        return self._wrong(place, f"{words(hint)} is wanted, not {raw!r}")

    def _path(self, raw: str, place: str) -> Path | None:
        if "\0" in raw:
            return self._wrong(place, "a path cannot hold a character of code 0")
        try:
            return Path(raw).expanduser()
        except RuntimeError as error:  # ~somebody, who is nobody here
            return self._wrong(place, f"{raw}: {error}")

    def _number(self, raw: Any, hint: type, place: str) -> Any:
        value = raw
        if isinstance(raw, str) and re.fullmatch(r"\d{1,18}/[1-9]\d{0,17}", raw.replace(" ", "")):
            value = float(Fraction(raw.replace(" ", "")))
        if not isinstance(value, (int, float)):
            return self._wrong(place, f"{words(hint)} is wanted, not {raw!r}")
        if isinstance(value, float) and not math.isfinite(value):
            return self._wrong(place, f"{words(hint)} is wanted, not {raw!r}; it must be finite")
        if hint is int and isinstance(value, float) and not value.is_integer():  # 1e6 is one
            return self._wrong(place, f"{words(hint)} is wanted, not {raw!r}")
        if abs(value) >= 2**63 and (hint is int or isinstance(value, int)):
            return self._wrong(place, "is too large: whole numbers go up to 2**63 - 1")
        return hint(value)

    def _wrong(self, place: str, message: str) -> None:
        self.errors.append((place, message))


@typing.runtime_checkable
class Checked(typing.Protocol):
    """A dataclass that checks its values: every stage, and value classes that want to."""

    def check(self) -> Iterable[tuple[str, str]]:
        """Yield (field, what is wrong and what to do)."""
        ...


def _checked(built: Any) -> Iterable[tuple[str, str]]:
    """What an object itself finds wrong: capabilities that a stage's inputs lack, and its ``check()``."""
    if isinstance(built, Stage):
        yield from built.missing()
    if isinstance(built, Checked):
        yield from built.check()


def _printable(text: str) -> str:
    """One line of printable characters, not endless."""
    shown = printable(text).replace("\n", "\\n").replace("\t", "\\t")
    return shown if len(shown) <= 300 else f"{shown[:300]}..."


def _merge(base: dict, changes: dict) -> dict:
    merged = copy.deepcopy(base)
    for name, value in changes.items():
        both = isinstance(merged.get(name), dict) and isinstance(value, dict)
        merged[name] = _merge(merged[name], value) if both else value
    return merged


def _child(node: Any, leaf: str) -> Any:
    if isinstance(node, Mapping):
        return node.get(leaf, _ABSENT)
    if isinstance(node, list) and leaf.isdigit() and int(leaf) < len(node):
        return node[int(leaf)]
    return _ABSENT


def _origin(raw: Any, place: str) -> str:
    """Where a value is written: at ``place`` or, if it is ``${there}``, there."""
    reference = _REFERENCE.match(raw) if isinstance(raw, str) else None
    return reference[1] if reference else place


def _unresolved(value: Any) -> bool:
    if isinstance(value, list):
        return any(_unresolved(v) for v in value)
    return value is _ABSENT or (isinstance(value, str) and "${" in value)
