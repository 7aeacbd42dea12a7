"""Where a scene plays: an environment by its config's name, its worlds, and what is declared of it."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from dtx.config.options import Option, options
from dtx.env.actions import ACTIONS
from dtx.env.environment import Environment
from dtx.env.roles import Roles
from dtx.errors import UserError
from dtx.exchange.environments import of_config, overrides_of
from dtx.pairs.worlds import name_problems, named_world
from dtx.text import suggest

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

_VALUE = re.compile(r"[A-Za-z0-9_.-]{1,60}", re.ASCII)


@dataclass(frozen=True)
class Declared:
    """What ``conf/pairs`` declares for an environment.

    Attributes:
        edits: Operations by name. contrast: The two actions. gap: Smallest difference of LD at which rho
            means something.
    """

    edits: Mapping[str, list[dict[str, Any]]]
    contrast: tuple[str, str]
    gap: float


@dataclass(frozen=True)
class Place:
    """An environment as the page knows it.

    Attributes:
        id: A config's name with the fields that differ from it: ``door_key,size=6``.
    """

    id: str
    environment: Environment
    declared: Declared = field(compare=False)

    @property
    def roles(self) -> Roles:
        """The roles of its things.

        Raises:
            UserError: It names none, so its worlds cannot be edited.
        """
        roles = self.environment.roles
        if roles is None:
            raise UserError(f"env: {self.id} does not say which things of a world have which role")
        return roles

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of its actions by number."""
        return ACTIONS[: self.environment.n_actions]

    @property
    def worlds(self) -> tuple[str, ...]:
        """Names of its layouts; empty where each seed is a world of its own."""
        decision = self.environment.decision
        return () if decision is None else tuple(decision.layouts)

    def known(self, world: str) -> str:
        """The name of a world, or of the first one for an empty name.

        Raises:
            UserError: There is no such world.
        """
        world = world or next(iter(self.worlds), "seed:0")
        for problem in name_problems(self.environment, [world]):
            raise UserError(f"world: {problem}")
        return world

    def about(self) -> dict[str, Any]:
        """What the page is told of it."""
        env, roles = self.environment, self.environment.roles
        return {
            "id": self.id,
            "title": self.id.replace(",", ", ").replace("_", " "),
            "gym": env.id,
            "n_actions": env.n_actions,
            "horizon": env.horizon,
            "worlds": list(self.worlds),
            "seeds": True,
            "contrast": list(self.declared.contrast),
            "gap": self.declared.gap,
            "edits": [
                {"name": name, "title": name.replace("_", " "), "operations": operations}
                for name, operations in self.declared.edits.items()
            ],
            "roles": [] if roles is None else list(roles.names),
            "complement": roles is not None and roles.complement is not None,
        }


_COMPOSING = Lock()
"""Hydra composes by a state of the whole process, and two lanes ask at once."""


def place(id: str, config_dir: Path | None = None) -> Place:
    """The place with an id.

    Raises:
        UserError: No such config or field, or a value that the environment does not take.
    """
    with _COMPOSING:
        return _place(id, config_dir)


@functools.lru_cache(32)
def _place(id: str, config_dir: Path | None) -> Place:
    name, *fields = id.split(",")
    known = {option.name: option for option in options(config_dir).get("env", [])}
    if name not in known:
        raise UserError(f"env: no environment {name!r}{suggest(name, list(known))}")
    overrides = []
    for given in fields:
        key, _, value = given.partition("=")
        if key not in (there := _fields(known[name])):
            raise UserError(f"env: {name} has no field {key!r}{suggest(key, sorted(there))}")
        if not _VALUE.fullmatch(value):
            raise UserError(f"env: {key}={value!r} is no plain value")
        overrides.append(f"env.{given}")
    return of_environment(of_config(" ".join([name, *overrides]), config_dir), config_dir)


def of_environment(environment: Environment, config_dir: Path | None = None) -> Place:
    """The place of an environment.

    Raises:
        UserError: No config of ``conf/env`` makes it.
    """
    overrides = overrides_of(environment, config_dir)
    if not overrides:
        raise UserError(f"{environment.id} is the environment of no config in conf/env")
    name = overrides[0].removeprefix("env=")
    changed = [override.removeprefix("env.") for override in overrides[1:]]
    return Place(",".join([name, *changed]), environment, _declared(name, environment, config_dir))


def _fields(option: Option) -> set[str]:
    from omegaconf import OmegaConf

    return {str(key) for key in OmegaConf.load(option.path)} - {"_target_"}


def _declared(name: str, environment: Environment, config_dir: Path | None) -> Declared:
    """The edits of all pairs files of an environment; the first file's contrast."""
    from omegaconf import OmegaConf

    edits: dict[str, list[dict[str, Any]]] = {}
    contrasts, gaps = [], []
    every = options(config_dir)
    default = next(option.name for option in every["env"] if option.default)
    for option in every.get("pairs", []):
        raw = OmegaConf.to_container(OmegaConf.load(option.path))
        if not isinstance(raw, dict) or _env_of(raw, default) != name:
            continue
        for edit, operations in (raw.get("edits") or {}).items():
            edits.setdefault(str(edit), operations)
        contrast = raw.get("contrast") or {}
        contrasts.append((contrast.get("pos"), contrast.get("neg")))
        gaps.append((raw.get("checks") or {}).get("min_ld_gap", 0.5))
    actions = ACTIONS[: environment.n_actions]
    fitting = [pair for pair in contrasts if set(pair) <= set(actions)]
    return Declared(edits, fitting[0] if fitting else (actions[0], actions[1]), (gaps or [0.5])[0])


def _env_of(raw: Mapping[str, Any], default: str) -> str:
    """The name of the environment that a pairs file chooses; ``default`` where it leaves that open."""
    for entry in raw.get("defaults", []):
        if isinstance(entry, Mapping):
            for key, value in entry.items():
                if str(key).removeprefix("override ").startswith("/env"):
                    return str(value)
    return default


@functools.lru_cache(64)
def world_at_start(where: Place, name: str) -> MiniGridEnv:
    """A world of minigrid between two steps, shared: copy it before it is stepped or edited."""
    return named_world(where.environment, name)
