"""Any built-in analysis in small: on tiny demonstrations, a tiny model, and with few samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dtx.activations.windows import WindowActivations
from dtx.agent.agent import AgentStage
from dtx.analysis.core.analysis import Analysis
from dtx.config.compose import build_group
from dtx.dataset.dataset import Dataset
from dtx.dictionary.dictionary_stage import DictionaryStage
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.dt.model_stage import ModelStage
from dtx.pairs.declared import Declared
from dtx.stage import Stage

FEW = {
    "at_once": 64, "audited_windows": 8, "batch_size": 16, "control_episodes": 1, "controls": 20,
    "count": 8, "curve_episodes": 2, "demonstrations": 2, "episodes": 2, "features": 3, "greedy_episodes": 2,
    "held_out": 16, "most_steps": 4, "probed": 64, "random_directions": 20, "reference": 16,
    "resamples": 20, "sample": 300, "shown": 4, "states": 64, "steps": 3, "untrained": 19, "windows": 32,
}  # fmt: skip
"""Whole numbers of analyses by field: at most so many."""
FIRST = {"alphas": 2, "goals": 1, "methods": 2, "subsets": 1, "nodes": 3, "sites": 1}
"""Lists and mappings of analyses by field: the first so many entries."""
ONE_LAYER = {"hooks": ("blocks.0.hook_resid_post",)}
"""Fields of stored activations: the tiny model has one layer."""
NARROW = {"hooks": None, "width": (64,), "k": (4,)}
"""Fields of dictionaries, as far as a kind has them."""


def small(
    name: str, overrides: list[str], dataset: Dataset, dt: DecisionTransformer, agent: AgentStage
) -> Analysis:
    """The analysis as its YAML has it, of this model and these demonstrations, with few samples.

    Args:
        name: Of the analysis.
        overrides: That choose environment and pairs.
        dataset: In the place of every dataset. dt: Of every model; agent: Of every agent.
    """
    return replaced(build_group(f"analysis/{name}", overrides), dataset, dt, agent)


def replaced(value: Any, dataset: Dataset, dt: DecisionTransformer, agent: AgentStage) -> Any:
    """A value with other inputs in it, and its whole numbers made small."""
    if isinstance(value, Dataset):
        return dataset
    if isinstance(value, AgentStage):
        return agent
    if isinstance(value, ModelStage):
        return _model(value, dt)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {}
        for field in dataclasses.fields(value):
            old = getattr(value, field.name)
            new = replaced(old, dataset, dt, agent)
            if type(old) is int and field.name in FEW and not isinstance(value, Declared):
                new = min(old, FEW[field.name])
            if field.name in FIRST:
                new = _first(new, FIRST[field.name])
            changes[field.name] = new
        if isinstance(value, WindowActivations):
            changes |= ONE_LAYER
        if isinstance(value, DictionaryStage):
            changes |= {name: new for name, new in NARROW.items() if name in changes}
        return dataclasses.replace(value, **changes)
    if isinstance(value, Mapping):
        return {k: replaced(v, dataset, dt, agent) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(replaced(v, dataset, dt, agent) for v in value)
    return value


def _first(entries: Any, count: int) -> Any:
    if isinstance(entries, Mapping):
        return dict(list(entries.items())[:count])
    return entries[:count]


def _model(old: Stage, dt: DecisionTransformer) -> DecisionTransformer:
    """The tiny model; of a control (a clone, an untrained model) the control of the tiny one."""
    if isinstance(old, DecisionTransformer) and not old.steps:
        optimiser = dataclasses.replace(dt.optimiser, warm_up=0)
        return dataclasses.replace(dt, steps=0, optimiser=optimiser)
    if isinstance(old, DecisionTransformer) and not old.reward_to_go:
        return dataclasses.replace(dt, reward_to_go=False)
    return dt
