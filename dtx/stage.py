"""What a stage is, and what identifies it.

A stage is a frozen dataclass that turns its inputs into files. A field that holds another stage is an
input, so the nesting of the config is the graph. Fields have no defaults: every value is in the YAML.
This module and every module that defines a stage import quickly (no torch), so that planning is quick.

A stage of one's own imports :class:`Stage`, :data:`RUNTIME` and :data:`CHECKPOINT` from here, types of its
fields from :mod:`dtx.config.ranges`, and what it needs of :class:`dtx.report.Report`,
:func:`dtx.figures.new`, :mod:`dtx.statistics`, :func:`dtx.progress.progress` and
:class:`dtx.errors.UserError`. An analysis derives from :class:`dtx.analysis.core.analysis.Analysis` instead.
"""

from __future__ import annotations

import dataclasses
import enum
import fnmatch
import functools
import hashlib
import inspect
import json
import typing
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from dtx.errors import UserError
from dtx.report import read_metrics
from dtx.resources import Resources

RUNTIME = {"runtime": True}
"""Field metadata: the field says how to compute (device, batch of environments at evaluation), not what."""


BEFORE = "before"


def added(before: Any) -> dict[str, Any]:
    """Field metadata: the field is newer than the first artefacts, which were made as if it were ``before``.

    With that value it is left out of the key, so that those artefacts are found again. YAML that is older
    than the field, and lacks it, means that value.
    """
    return {BEFORE: before}


TARGET = "_target_"
"""Under this name YAML and records name the class of a value."""
CHECKPOINT = "resume.ckpt"
"""File in which a stage may keep its state to resume from; it is removed when the stage is committed."""


class Artefacts(Protocol):
    """Finds the artefacts of stages: the store in use."""

    def artefact(self, stage: Stage) -> Path:
        """Folder of a committed artefact."""
        ...


_artefacts: Artefacts | None = None


def read_from(artefacts: Artefacts | None) -> None:
    """Set where :attr:`Stage.path` and every ``load()`` read from; :mod:`dtx.store.store` calls this."""
    global _artefacts
    _artefacts = artefacts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of an experiment.

    A subclass declares its fields (no defaults), :meth:`run`, and usually ``load()``, which gives
    consumers the stage's product (an agent, episodes, a model) from its committed artefact.

    Attributes:
        version: Raise it when the same config should give another artefact (a bug was fixed).
        headline: Metrics that stand for the result, most important first, by full name (``agent/success``);
            an analysis names its own without its name (``success_high``). Where names depend on the config,
            a pattern stands for all that match (``*_gap``). Tables and sweeps show these.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[tuple[str, ...]] = ()

    def run(self, out: Path) -> None:
        """Compute the artefact and write its files under ``out``.

        ``out`` may hold what an interrupted run left there: continue from it, or ignore it.
        Inputs are committed when this is called; use their ``load()`` or ``path``.
        """
        raise TypeError(f"{type(self).__name__} does not say how to run")

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong and what to do) for values that the fields' types do not rule out.

        Called while the config is built, before anything runs. What one value alone may be is better said
        by its type (:mod:`dtx.config.ranges`); this is for what several values say together.
        """
        yield from ()

    def missing(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what its object lacks and what to do) for objects without a needed capability.

        An environment without a decision has the right type and still cannot be used by a stage that needs
        one. Called while the config is built; analyses derive it from their ``needs``.
        """
        yield from ()

    def resources(self) -> Resources:
        """Memory, disk and time that it needs, estimated from the sizes in its config; nothing is read.

        What cannot fit on the machine is refused before anything runs. The default says nothing beyond what
        any process needs.
        """
        return Resources()

    def remark(self) -> str:
        """What `dtx plan` says of the stage beside why it is made: that its settings make it slow, say."""
        return ""

    def headline_metrics(self) -> dict[str, float | None]:
        """The metrics of :attr:`headline` by full name, from the committed artefact; None: missing there."""
        return self.headline_of(read_metrics(self.path))

    def headline_of(self, metrics: Mapping[str, float | None]) -> dict[str, float | None]:
        """Those of an artefact's metrics that :attr:`headline` names, by full name; None: missing.

        A pattern that nothing matches gives nothing.
        """
        chosen: dict[str, float | None] = {}
        for name in (name if "/" in name else f"{self.name}/{name}" for name in self.headline):
            if "*" in name:
                chosen.update({k: metrics[k] for k in fnmatch.filter(metrics, name)})
            else:
                chosen[name] = metrics.get(name)
        return chosen

    def summary(self) -> str:
        """One sentence on what came out, for the final table and the run's description.

        Called when the artefact is committed. The default shows the first headline numbers.
        """
        numbers = {k: v for k, v in read_metrics(self.path).items() if v is not None}
        return ", ".join(
            f"{k.split('/')[-1].replace('_', ' ')} {v:.3g}" for k, v in list(numbers.items())[:4]
        )

    @property
    def name(self) -> str:
        """The name of the file that defines the stage: ``ppo``, ``rollouts``, ``calibration``."""
        return type(self).__module__.rsplit(".", 1)[-1]

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits: a hash of name, version, identity fields and the inputs' keys."""
        canonical = json.dumps(identity(self, nested=False), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @cached_property
    def label(self) -> str:
        """Folder name in the store: ``ppo-3f0c…``."""
        return f"{self.name}-{self.key}"

    @property
    def path(self) -> Path:
        """Folder of the committed artefact in the current store.

        Raises:
            dtx.errors.UserError: The stage has not been run in this store.
        """
        if _artefacts is None:
            raise UserError(
                "no store is open: import dtx.store.store, and use(Store(FOLDER)) first"
            )
        return _artefacts.artefact(self)

    def derived(self) -> Mapping[str, Stage]:
        """Further stages that this one reads, by a name: they follow from its fields and nobody sets them.

        A control that must be like an input in all but one thing (an untrained network's own dictionary) is
        made from that input. Its name is no field's.
        """
        return {}

    def inputs(self) -> dict[str, Stage]:
        """The stages that this one reads, by field (``controls.untrained``: nested); derived ones, too."""
        return self._inputs

    @cached_property
    def _inputs(self) -> dict[str, Stage]:
        inputs = {}
        for field in dataclasses.fields(self):
            inputs.update(_stages_in(getattr(self, field.name), field.name))
        inputs.update(self.derived())
        return inputs

    def config(self) -> dict[str, Any]:
        """All fields as plain values, inputs as their labels; what ``done.json`` and MLflow show.

        A nested value names its class under ``_target_``, as YAML does, where the field's type leaves it
        open: ``env: {_target_: dtx.env.memory.Memory, size: 7, ...}``. Records of earlier versions have no
        such names.
        """
        return _fields_of(self)

    def source_file(self) -> Path:
        """The file that defines the stage."""
        return Path(inspect.getfile(type(self)))


def is_runtime(field: dataclasses.Field) -> bool:
    """Whether the field is left out of the key."""
    return bool(field.metadata.get("runtime"))


def _is_as_before(field: dataclasses.Field, value: Any) -> bool:
    """Whether a field that was added later has the value that stands for how it was before."""
    return BEFORE in field.metadata and value == field.metadata[BEFORE]


def identity(value: Any, *, nested: bool = True) -> Any:
    """Reduce a value to what identifies it, as JSON. A nested stage counts by its key alone."""
    if isinstance(value, Stage) and nested:
        return {"stage": value.name, "key": value.key}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {
            f.name: identity(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not is_runtime(f) and not _is_as_before(f, getattr(value, f.name))
        }
        more: dict[str, Any] = {"version": value.version} if isinstance(value, Stage) else {}
        if isinstance(value, Stage) and (derived := value.derived()):
            more["derived"] = identity(derived)
        return {"type": identity_name(kind), **more, "fields": fields}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): identity(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [identity(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 1 and 1.0 in a config mean the same
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a config value cannot be a {type(value).__name__}: {value!r}")


def identity_name(kind: type) -> str:
    """The name of a class in keys: where it is defined, or its own ``identity_name`` if it has moved since.

    A class that moves to another module keeps its keys with one line:
    ``identity_name: ClassVar[str] = "dtx.old_module.Name"``. Subclasses do not inherit it. For a stage the
    last part of the module's name must stay, too: it is the stage's name.
    """
    return vars(kind).get("identity_name", f"{kind.__module__}.{kind.__qualname__}")


def _stages_in(value: Any, place: str) -> Iterator[tuple[str, Stage]]:
    if isinstance(value, Stage):
        yield place, value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _stages_in(getattr(value, field.name), f"{place}.{field.name}")
    elif isinstance(value, Mapping):
        for k, v in value.items():
            yield from _stages_in(v, f"{place}.{k}")
    elif isinstance(value, (list, tuple)):
        for i, v in enumerate(value):
            yield from _stages_in(v, f"{place}.{i}")


def _fields_of(value: Any) -> dict[str, Any]:
    known = _declared(type(value))
    fields = [f.name for f in dataclasses.fields(value)]
    return {name: _plain(getattr(value, name), known.get(name)) for name in fields}


def _plain(value: Any, declared: type | None) -> Any:
    """A value of a field as JSON has it; ``declared`` is the class that the field's type names."""
    if isinstance(value, Stage):
        return value.label
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        named = {} if kind is declared else {TARGET: identity_name(kind)}
        return named | _fields_of(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): _plain(v, declared) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, declared) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value


@functools.cache
def _declared(kind: type) -> dict[str, type]:
    """The dataclass that the type of each field names, where it names just one."""
    try:
        hints = typing.get_type_hints(kind)
    except NameError:  # a class in a function, whose types are not to be found
        return {}
    classes = {name: set(_classes(hint)) for name, hint in hints.items()}
    return {name: some.pop() for name, some in classes.items() if len(some) == 1}


def _classes(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for inner in typing.get_args(hint):
        yield from _classes(inner)
