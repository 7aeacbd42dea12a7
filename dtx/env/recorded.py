"""The environment that an artefact's record tells of, made from dtx's own configs.

A record is data: it names no class here. Its values are given to each config in ``conf/env`` that has just
these fields, checked like any value that a user writes, and the environment's id must be the recorded one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dtx.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from dtx.env.environment import Environment
    from dtx.stage import Stage


def environment(values: Mapping[str, Any], id: str | None, config_dir: Path | None) -> Any:
    """The environment with these settings, or None if no config has such fields, or several without an id do.

    Args:
        values: The settings as a record shows them.
        id: The environment's id, where that was recorded; settings alone may fit several configs.
        config_dir: The user's own configs.
    """
    from omegaconf import OmegaConf

    from dtx.config.build import Builder
    from dtx.config.compose import compose
    from dtx.config.options import options

    found = []
    overrides = [f"env.{name}={json.dumps(value)}" for name, value in values.items()]
    for option in options(config_dir).get("env", []):
        if OmegaConf.load(option.path).keys() - {"_target_"} != set(values):
            continue
        try:
            builder = Builder(compose([f"env={option.name}", *overrides], config_dir))
            built = builder.at("env", object)
            builder.finish()
        except UserError:
            continue
        if id in (None, built.id) and built not in found:
            found.append(built)
    return found[0] if len(found) == 1 else None


def overrides_of(env: Environment, config_dir: Path | None) -> list[str]:
    """Overrides that choose an environment on the command line: ``env=memory env.size=9``.

    Empty if it is none of the configs' environments.
    """
    import dataclasses

    from omegaconf import OmegaConf

    from dtx.config.options import options
    from dtx.stage import is_runtime

    kind = type(env)
    chosen = [f for f in dataclasses.fields(env) if not is_runtime(f)]  # type: ignore[arg-type]
    for option in options(config_dir).get("env", []):
        default = OmegaConf.to_container(OmegaConf.load(option.path))
        assert isinstance(default, dict)
        if default.get("_target_") != f"{kind.__module__}.{kind.__qualname__}":
            continue
        plain = (getattr(env, f.name) for f in chosen)
        values = {f.name: getattr(v, "value", v) for f, v in zip(chosen, plain, strict=True)}
        other = {name: value for name, value in values.items() if value != default.get(name)}
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in other.items()}
        return [f"env={option.name}", *(f"env.{name}={text}" for name, text in texts.items())]
    return []


def in_stages(stage: Stage) -> Any:
    """The environment of a stage, or of the nearest stage that it was made from; None if none has one."""
    todo = [stage]
    while todo:
        here = todo.pop(0)
        if (found := getattr(here, "env", None)) is not None:
            return found
        todo += here.inputs().values()
    return None


def recorded_id(folder: Path) -> str | None:
    """The id of the environment that demonstrations were recorded in; None if the folder holds none."""
    import pyarrow as pa

    path = folder / "episodes.arrow"
    if not path.is_file():
        return None
    with pa.memory_map(str(path)) as source:
        known = pa.ipc.open_file(source).schema.metadata or {}
    return known.get(b"env", b"").decode() or None


def chosen(name: str, config_dir: Path | None) -> Environment:
    """The environment of a config by name, with overrides: ``memory``, ``"memory env.size=9"``."""
    from dtx.config.build import Builder
    from dtx.config.compose import compose

    option, *overrides = name.split()
    builder = Builder(compose([f"env={option}", *overrides], config_dir))
    built = builder.at("env", object)
    builder.finish()
    return built
