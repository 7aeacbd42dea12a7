"""Demonstrations of real tasks by agents that act at random, with the stored activations of tiny models."""

from __future__ import annotations

import dataclasses
from typing import Any

from dtx.activations.windows import WindowActivations
from dtx.config.compose import build_group
from dtx.dataset.rollouts import Rollouts, Share
from dtx.running.plan import stages
from dtx.running.provenance import provenance
from dtx.stage import Stage
from dtx.store.store import Store, used
from tests.activations.toy import fresh, stage
from tests.agents import Constant

WORLDS = {
    "memory": ["env=memory", "env.max_steps=20"],
    "door_key": ["env=door_key", "env.size=5", "env.max_steps=40"],
    "dynamic_obstacles": ["env=dynamic_obstacles"],
}

LOGITS = {
    "memory": (0.5, 0.5, 3.0, -1.0, -1.0, -1.0, -1.0),
    "door_key": (0.5, 0.5, 1.5, 1.0, 0.0, 1.0, 0.0),
    "dynamic_obstacles": (0.5, 0.5, 1.5),
}


def demonstrations(task: str = "memory", episodes: int = 60, **changes: Any) -> Rollouts:
    """Episodes of a task; facts are recorded but in Memory, which is played again."""
    env = build_group(f"env/{task}", WORLDS[task][1:])
    logits = LOGITS[task][: env.n_actions]
    values: dict[str, Any] = {
        "env": env, "agent": Constant(logits=logits), "episodes": episodes,
        "mixture": (Share(temperature=1, share=1),), "environments": 8, "validation": 0.1, "seed": 0,
        "facts": task != "memory",
    }  # fmt: skip
    return Rollouts(**{**values, **changes})


def activations(
    task: str = "memory", *overrides: str, data: Rollouts | None = None, **changes: Any
) -> WindowActivations:
    """Stored activations of a tiny model on :func:`demonstrations`; ``overrides`` are of the model."""
    data = data or demonstrations(task)
    actions = f"dt.model.n_actions={data.env.n_actions}"
    model = fresh(actions, *overrides, dataset=data)
    return dataclasses.replace(stage(), dt=model, dataset=data, **changes)


def run(store: Store, *what: Stage) -> None:
    """Run stages with all that they read, without a runner's record."""
    with used(store):
        for one in stages(what):
            with store.work(one) as work:
                if work is not None:
                    one.run(work)
                    store.commit(one, work, provenance(one))
