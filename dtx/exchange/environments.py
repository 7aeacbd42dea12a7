"""Find environments: of a stage, of an artefact's record, or by the name of a config.

A record is data: no class that it names is imported. Its values are given to each config in ``conf/env`` that
has just these fields, checked like any value that a user writes. The environment must then be of the recorded
class, or, where an earlier version of dtx recorded none, have the recorded id.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtx.agent.agent import AgentStage
from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage
from dtx.env.environment import Environment
from dtx.errors import UserError
from dtx.exchange.origin import Origin
from dtx.files import taken_from
from dtx.pairs.declared import Declared
from dtx.stage import TARGET, Stage, identity_name, is_runtime


def of_artefact(origin: Origin, label: str) -> Environment | None:
    """The environment of an artefact's task; None if neither a stage nor a record names it.

    Args:
        origin: The artefact.
        label: Of the artefact.
    """
    own = origin.record.get("config", {}).get("env")
    if isinstance(own, dict) and TARGET in own:
        env = of_record(own, None, origin.config_dir)
        if env is not None:
            return env
    if origin.stage is not None and (env := of_stage(origin.stage)) is not None:
        return env
    records = {label: origin.record, **origin.records}
    for record in records.values():
        values = record.get("config", {}).get("env")
        if isinstance(values, dict):
            return of_record(values, _known_id(origin, records), origin.config_dir)
    return origin.env


def _known_id(origin: Origin, records: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The id of the environment that an artefact, or one that it was made from, recorded."""
    ids = [record["env_id"] for record in records.values() if record.get("env_id")]
    if origin.store is not None:
        ids += filter(None, (recorded_id(origin.store.root / label) for label in records))
    return ids[0] if ids else None


def of_record(
    values: Mapping[str, Any], id: str | None, config_dir: Path | None
) -> Environment | None:
    """The environment with recorded settings; None if no config makes it, or several without an id do.

    Args:
        values: The settings as a record has them.
        id: The environment's id, where that was recorded: without a class, settings may fit several configs.
        config_dir: The user's own configs.
    """
    from omegaconf import OmegaConf

    from dtx.config.options import options

    fields = {name: value for name, value in values.items() if name != TARGET}
    overrides = [f"env.{name}={json.dumps(value)}" for name, value in fields.items()]
    fitting: list[Environment] = []
    for option in options(config_dir).get("env", []):
        if OmegaConf.load(option.path).keys() - {TARGET} != set(fields):
            continue
        try:
            env = _built([f"env={option.name}", *overrides], config_dir)
        except UserError:
            continue
        recorded, own = (
            (values[TARGET], identity_name(type(env))) if TARGET in values else (id, env.id)
        )
        if recorded in (None, own) and env not in fitting:
            fitting.append(env)
    return fitting[0] if len(fitting) == 1 else None


def of_stage(stage: Stage) -> Environment | None:
    """The environment of a stage, or of the nearest stage that it was made from; None if none has one."""
    todo = [stage]
    while todo:
        nearest = todo.pop(0)
        if isinstance(nearest, (Dataset, AgentStage, ModelStage, Declared)):
            env = nearest.environment
            if env is not None:
                return env
        todo += nearest.inputs().values()
    return None


def of_config(name: str, config_dir: Path | None) -> Environment:
    """The environment of a config by name, with overrides: ``memory``, ``"memory env.size=9"``."""
    option, *overrides = name.split()
    return _built([f"env={option}", *overrides], config_dir)


def overrides_of(env: Environment, config_dir: Path | None) -> list[str]:
    """Overrides that choose an environment on the command line: ``env=memory env.size=9``.

    Empty if it is none of the configs' environments.
    """
    from omegaconf import OmegaConf

    from dtx.config.options import options

    values = _identifying(env)
    for option in options(config_dir).get("env", []):
        default = OmegaConf.to_container(OmegaConf.load(option.path))
        assert isinstance(default, dict)
        if default.get(TARGET) != f"{type(env).__module__}.{type(env).__qualname__}":
            continue
        changed = {name: value for name, value in values.items() if value != default.get(name)}
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in changed.items()}
        return [f"env={option.name}", *(f"env.{name}={text}" for name, text in texts.items())]
    return []


def recorded_id(folder: Path) -> str | None:
    """The id of the environment that demonstrations were recorded in; None if the folder holds none."""
    import pyarrow as pa

    path = folder / "episodes.arrow"
    if not path.is_file():
        return None
    with taken_from(path), pa.memory_map(str(path)) as source:
        known = pa.ipc.open_file(source).schema.metadata or {}
        return known.get(b"env", b"").decode() or None


def _identifying(env: Environment) -> dict[str, Any]:
    """Its settings as YAML has them, those aside that do not say what is computed."""
    assert dataclasses.is_dataclass(env)
    values = {f.name: getattr(env, f.name) for f in dataclasses.fields(env) if not is_runtime(f)}
    return {k: v.value if isinstance(v, enum.Enum) else v for k, v in values.items()}


def _built(overrides: list[str], config_dir: Path | None) -> Environment:
    from dtx.config.build import Builder
    from dtx.config.compose import compose

    builder = Builder(compose(overrides, config_dir))
    env = builder.at("env", Environment)
    builder.finish()
    return env
