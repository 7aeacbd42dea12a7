"""How the episode ends if the model plays on from here, greedily: as it is, without a part, or pushed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtx.analysis.ablation.nodes import AblatedNode, nodes_of
from dtx.analysis.steering.edits import ActivationEdit, Steered, residual
from dtx.analysis.steering.methods import random_like
from dtx.analysis.steering.spec import Tokens
from dtx.app.moment import Moment, Side, window
from dtx.app.panels import LONG, WORLD, number, text
from dtx.app.play import Side as Played
from dtx.app.play import longer
from dtx.app.scene import LETTERS
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.errors import UserError
from dtx.text import suggest

TITLE = "Play on"
WHEN = LONG
NEEDS = (WORLD,)
CONTROL = (
    "The model as it is; beside a part that is taken out, the next part of its kind; beside a push, one in a "
    "random direction of the same length."
)
SOURCE = "dtx.analysis.ablation.nodes.AblatedNode.silence"
DOC = "gallery.md#ablation"
FIRST = False
SIZE = "half"
Policy = Callable[[Context], Tensor]
"""A window to logits (1, a) at its last state."""


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    without: str = text(
        "", "A head, an attention or an MLP whose output is 0: L0H0, L1 MLP; empty: none"
    )
    push: float = number(
        0.0, -8.0, 8.0, "Add so much of (original - edited) at the last state before the last layer; 0: none"
    )  # fmt: skip


def compute(moment: Moment, parameters: Parameters) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield (share done, data) after each run.

    Returns:
        ``runs``: of each ``side`` and ``who`` plays ``actions`` (letters, from the cursor on), ``over``
        (success, failure, limit), ``return`` of the whole episode, ``steps`` of it, ``control``: whether it
        is one; ``horizon``.

    Raises:
        UserError: The part or the push is not there.
    """
    policies = _policies(moment, parameters)
    runs: list[dict[str, Any]] = []
    whole = len(policies) * len(moment.sides)
    for side in moment.sides.values():
        for who, (policy, control) in policies.items():
            runs.append(
                {"side": side.name, "who": who, "control": control, **_run(moment, side, policy)}
            )
            yield len(runs) / whole, {"runs": list(runs), "horizon": moment.environment.horizon}
            if moment.stop():
                return


def _policies(moment: Moment, parameters: Parameters) -> dict[str, tuple[Policy, bool]]:
    """Who plays, and whether it is a control."""
    model = moment.model
    found: dict[str, tuple[Policy, bool]] = {"as it is": (model.last_logits, False)}
    if parameters.without:
        node, other = _nodes(model, parameters.without)
        found[f"without {node.name}"] = (_without(model, node), False)
        if other is not None:
            found[f"without {other.name}"] = (_without(model, other), True)
    if parameters.push:
        edit = _push(moment).at(parameters.push)
        random = random_like(edit, model, torch.Generator().manual_seed(0))
        found[f"pushed by {parameters.push:g}"] = (Steered(model, edit).last_logits, False)
        found["pushed at random"] = (Steered(model, random).last_logits, True)
    return found


def _nodes(model: DecisionTransformerModel, name: str) -> tuple[AblatedNode, AblatedNode | None]:
    """The part with a name, and the next one of its kind in its layer, else in the model."""
    every = nodes_of(model, ())
    names = [node.name for node in every]
    if name not in names:
        raise UserError(f"play_on.without: no part {name!r}{suggest(name, names)}")
    node = every[names.index(name)]
    kind = [other for other in every if other.kind == node.kind]
    near = [other for other in kind if other.layer == node.layer]
    group = near if len(near) > 1 else kind
    other = group[(group.index(node) + 1) % len(group)]
    return node, None if other == node else other


def _without(model: DecisionTransformerModel, node: AblatedNode) -> Policy:
    def logits(context: Context) -> Tensor:
        with model.hooks(fwd_hooks=[node.silence()]):
            return model.last_logits(context)

    return logits


def _push(moment: Moment) -> ActivationEdit:
    """The difference of both runs at the last state before the last layer."""
    if moment.edited is None:
        raise UserError("play_on.push: the difference of both runs needs an edit; make one")
    hook = residual(moment.cfg.n_layers - 1)
    original, edited = (
        side.activations({hook})[hook][0, -1] for side in (moment.original, moment.edited)
    )
    return ActivationEdit("last state", hook, Tokens.last_state, vector=original - edited)


def _run(moment: Moment, side: Side, policy: Policy) -> dict[str, Any]:
    """Play on from the cursor to the end of the episode."""
    played, cfg = moment.played, moment.cfg
    actions = tuple(side.run.actions)
    before = len(actions)
    state = longer(played, side.name, actions)
    while not state.frames[-1].over and not _beyond(cfg, state) and not moment.stop():
        with torch.no_grad():
            logits = policy(window(moment.model, state.run(state.states)))[0]
        actions = (*actions, int(logits.argmax()))
        state = longer(played, side.name, actions)
    return {
        "actions": "".join(LETTERS[action] for action in actions[before:]),
        "over": state.frames[-1].over or None,
        "return": float(np.sum(state.rewards)),
        "steps": len(state.actions),
    }


def _beyond(cfg: Any, state: Played) -> bool:
    """Whether the model knows no timestep as late."""
    return cfg.time_embedding == "learned" and state.states > cfg.n_timesteps
