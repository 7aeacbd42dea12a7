"""The panels of the explorer's page, one Python file and one JS file each; they are found by being here.

A panel's Python file has

- a docstring, whose first line says what the panel shows,
- ``TITLE``, ``CONTROL`` (what its numbers stand beside), ``SOURCE`` (the function of dtx that computes them),
  ``DOC`` (``page#section`` of the docs),
- ``WHEN``: ``key`` (with every key), ``idle`` (80 ms after the last one), ``long`` (with progress), ``once``
  (a model),
- ``NEEDS``: of ``pair``, ``reward_to_go``, ``decision``, ``world`` (a panel that asks for nothing but what
  :class:`dtx.app.subject.Subject` has shows models that read text too),
- ``FIRST``: whether it is open on the first page, ``SIZE``: ``half`` or ``wide``,
- ``Parameters``: a frozen dataclass whose fields :func:`choice`, :func:`number`, :func:`flag` and
  :func:`text` make,
- ``compute(moment, parameters)``: the data, plain values and arrays; of a long one a generator of
  (share done, data so far),
- optionally ``hooks(cfg)``: activations that it reads, so that one forward pass serves all panels,
- optionally ``overrides(parameters)``: those of ``dtx run`` with which an analysis computes the same numbers
  of the scene's pairs file.

Its JS file exports ``draw(root, data, look)`` and ``table(data, look)``, and, if the panel also plays without
a server, ``compute(moment, parameters)``. A user's own folder of such files is given by
``dtx app --panels DIR``.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from dtx.errors import UserError
from dtx.text import suggest

KEY, IDLE, LONG, ONCE = WHEN = ("key", "idle", "long", "once")
PAIR, REWARD_TO_GO, DECISION, WORLD = NEEDS = ("pair", "reward_to_go", "decision", "world")
NEEDED = {
    PAIR: "an edit: press a declared edit under the world, or a cell, an action or a reward-to-go",
    REWARD_TO_GO: "a model that reads reward-to-go",
    DECISION: "an environment that names its decision",
    WORLD: "a model that acts in a world",
}
"""What is missing where a need is not met, in words."""
LONGEST = 60
"""Characters of a text parameter."""
_TEXTS = ("TITLE", "CONTROL", "SOURCE", "DOC", "WHEN", "SIZE")


def choice(default: str, choices: Sequence[str], help: str) -> Any:
    """A parameter that is one of some words."""
    return dataclasses.field(
        default=default, metadata={"kind": "choice", "choices": list(choices), "help": help}
    )


def number(default: float, low: float, high: float, help: str) -> Any:
    """A parameter that is a number; a whole one where the default is."""
    return dataclasses.field(
        default=default, metadata={"kind": "number", "low": low, "high": high, "help": help}
    )


def flag(default: bool, help: str) -> Any:
    """A parameter that is on or off."""
    return dataclasses.field(default=default, metadata={"kind": "flag", "help": help})


def text(default: str, help: str) -> Any:
    """A parameter that is a short text, the name of a thing; what it names is looked up by ``compute``."""
    return dataclasses.field(default=default, metadata={"kind": "text", "help": help})


@dataclass(frozen=True)
class NoParameters:
    """Of a panel that has none."""


@dataclass(frozen=True)
class Panel:
    """A panel that was found.

    Attributes:
        name: Of its files. module: Its Python file. script: Its JS file.
    """

    name: str
    module: ModuleType
    script: Path

    @property
    def when(self) -> str:
        """When it is computed."""
        return self.module.WHEN

    @property
    def compute(self) -> Callable[[Any, Any], Any]:
        """Computes its data."""
        return self.module.compute

    def hooks(self, cfg: Any) -> set[str]:
        """Activations that it reads."""
        own = vars(self.module).get("hooks")
        return set() if own is None else set(own(cfg))

    def overrides(self, parameters: Any) -> list[str]:
        """Overrides of ``dtx run`` with which an analysis computes the same of a pairs file; else none."""
        own = vars(self.module).get("overrides")
        return [] if own is None else list(own(parameters))

    def about(self) -> dict[str, Any]:
        """What the page is told of it."""
        module = self.module
        return {
            "name": self.name,
            "title": module.TITLE,
            "help": (module.__doc__ or "").strip().splitlines()[0],
            "when": module.WHEN,
            "control": module.CONTROL,
            "source": module.SOURCE,
            "doc": module.DOC,
            "needs": list(module.NEEDS),
            "first": module.FIRST,
            "size": module.SIZE,
            "parameters": [
                {"name": f.name, "default": f.default, **f.metadata}
                for f in dataclasses.fields(module.Parameters)
            ],
        }

    def parameters(self, raw: Mapping[str, Any]) -> Any:
        """Parameters of plain values.

        Raises:
            UserError: One is unknown, of another type, or out of range.
        """
        known = {f.name: f for f in dataclasses.fields(self.module.Parameters)}
        values = {}
        for name, value in raw.items():
            if name not in known:
                raise UserError(f"{self.name}: no parameter {name!r}{suggest(name, list(known))}")
            values[name] = self._checked(known[name], value)
        return self.module.Parameters(**values)

    def _checked(self, field: dataclasses.Field, value: Any) -> Any:
        about, where = field.metadata, f"{self.name}.{field.name}"
        if about["kind"] == "choice":
            if value not in about["choices"]:
                raise UserError(f"{where}: {value!r} is none of {', '.join(about['choices'])}")
        elif about["kind"] == "flag":
            if not isinstance(value, bool):
                raise UserError(f"{where}: true or false is wanted, not {value!r}")
        elif about["kind"] == "text":
            if isinstance(value, int) and not isinstance(value, bool):
                value = str(value)  # a link writes a text of digits as it writes a number
            if not isinstance(value, str) or len(value) > LONGEST:
                raise UserError(f"{where}: a name of at most {LONGEST} characters is wanted")
        else:
            real = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not real or not math.isfinite(value):
                raise UserError(f"{where}: a number is wanted, not {value!r}")
            if not about["low"] <= value <= about["high"]:
                raise UserError(f"{where}: {value:g} is not in {about['low']:g}..{about['high']:g}")
            if isinstance(field.default, int):
                if value != int(value):
                    raise UserError(f"{where}: a whole number is wanted, not {value:g}")
                value = int(value)
        return value


def found(own: Path | None = None) -> dict[str, Panel]:
    """All panels by name: dtx's, then those in a user's folder.

    Raises:
        UserError: The folder is not there, or a panel lacks something.
    """
    here = Path(__file__).parent
    panels = {}
    for item in pkgutil.iter_modules([str(here)]):
        module = importlib.import_module(f"{__name__}.{item.name}")
        panels[item.name] = _panel(item.name, module, here / f"{item.name}.js")
    if own is not None:
        if not own.is_dir():
            raise UserError(f"--panels: no folder {own}")
        for path in sorted(own.glob("[a-z]*.py")):
            if path.stem in panels:
                raise UserError(f"{path}: dtx has a panel {path.stem}; choose another name")
            panels[path.stem] = _panel(path.stem, _imported(path), path.with_suffix(".js"))
    return panels


def _imported(path: Path) -> ModuleType:
    """A file of the user's as a module; nothing is written beside it."""
    module = ModuleType(f"dtx_own_panel_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look up what annotations name
    try:
        exec(compile(path.read_bytes(), path, "exec"), vars(module))
    except Exception as error:
        raise UserError(f"{path}: {type(error).__name__}: {error}") from error
    return module


def _panel(name: str, module: ModuleType, script: Path) -> Panel:
    has = vars(module)
    wrong = [
        what for what in (*_TEXTS, "NEEDS", "FIRST", "Parameters", "compute") if what not in has
    ]
    if not script.is_file():
        wrong.append(script.name)
    if not (module.__doc__ or "").strip():
        wrong.append("a docstring")
    if wrong:
        raise UserError(f"panel {name}: lacks {', '.join(wrong)}")
    for value, known in ((module.WHEN, WHEN), *((need, NEEDS) for need in module.NEEDS)):
        if value not in known:
            raise UserError(f"panel {name}: {value!r} is none of {', '.join(known)}")
    return Panel(name, module, script)
