"""Tiny models in stages, and the stored activations of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dtx.activations.stored import Activations
from dtx.activations.windows import WindowActivations
from dtx.config.compose import build_group
from dtx.dataset.episodes import Episodes
from dtx.dt import model as models
from dtx.dt.context import Context
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.windows import observation_table
from tests.dt.toy import TINY, Recorded


@dataclass(frozen=True, kw_only=True)
class Fresh(DecisionTransformer):
    """A tiny model with random weights, times a factor."""

    factor: float = 1.0

    def run(self, out: Path) -> None:
        network = DecisionTransformerModel(self.model_config())
        (out / "checkpoints").mkdir()
        models.initialise(network, None, 0.3, self.seed + 1)
        models.save_weights(network, out / "checkpoints" / "step-000000.safetensors")
        models.initialise(network, None, 0.3, self.seed)
        with torch.no_grad():
            network.embed.W_S.mul_(self.factor)
        models.save(network, out)


def fresh(*overrides: str, **changes: Any) -> Fresh:
    """A stage with a tiny model; windows are of four steps."""
    stage = build_group("dt/memory_dt", [*TINY, *overrides])
    fields = {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage)}
    return Fresh(**{**fields, "dataset": Recorded(), **changes})


def stage(*overrides: str, dt: Fresh | None = None, **changes: Any) -> WindowActivations:
    """Stored activations of a tiny model on random demonstrations."""
    built = build_group("activations/windows", [*overrides])
    return dataclasses.replace(built, dt=dt or fresh(), dataset=Recorded(), **changes)


def made(folder: Path, what: WindowActivations) -> Activations:
    """The stored activations of a stage, in a store of its own with what it reads."""
    from dtx.running.provenance import provenance
    from dtx.store.store import Store, used

    store = Store(folder)
    with used(store):
        for one in (what.dataset, what.dt, what):
            with store.work(one) as work:
                if work is not None:
                    one.run(work)
                    store.commit(one, work, provenance(one))
        return what.load()


def alone(model: DecisionTransformerModel, episodes: Episodes, row: Any, hook: str) -> torch.Tensor:
    """One row again, token by token from the demonstrations: its prefix and nothing behind it.

    ``row`` is a line of the table of tokens.
    """
    cfg, steps = model.cfg, int(row.step - row.start + 1)
    first = int(episodes.start[row.episode])
    to_go = [
        float(episodes.reward[first + step : first + int(episodes.length[row.episode])].sum())
        for step in range(row.start, row.step + 1)
    ]
    places = [first + step for step in range(row.start, row.step + 1)]
    pad = int(row.padding)
    blank = len(episodes.observations)
    actions = [int(episodes.action[place]) for place in places]
    # What is behind the token must not matter: another action, and the window goes on with anything.
    more = cfg.n_steps - pad - steps if pad else 1
    context = Context.of(
        layout=cfg.layout,
        observation=torch.tensor(
            [[blank] * pad + [int(episodes.observation[p]) for p in places] + [0] * more]
        ),
        table=observation_table(episodes.observations),
        action=torch.tensor([[cfg.n_actions] * pad + actions + [1] * more]),
        reward_to_go=torch.tensor([[to_go[0]] * pad + to_go + [0.5] * more]),
        timestep=torch.tensor(
            [[0] * pad + list(range(row.start, row.step + 1)) + [row.step] * more]
        ),
    )
    if context["timestep"].shape[1] > cfg.n_steps:
        for name in ("observation", "action", "reward_to_go", "timestep"):
            context[name] = context[name][:, : cfg.n_steps]
    _, cache = model.run_with_cache(context, names_filter=hook)
    return cache[hook].flatten(2)[0, cfg.layout.place(row.kind, pad + steps - 1)]
