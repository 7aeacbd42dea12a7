"""The best action in every pose of the world, each reached by the shortest way of turns and steps."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dtx.analysis.core.policies import entropy
from dtx.analysis.psychology.measure import policies
from dtx.analysis.psychology.poses import LEFT, Poses, reach_from
from dtx.app.moment import Moment, window
from dtx.app.panels import IDLE, WORLD, NoParameters
from dtx.app.play import at_cursor, declared
from dtx.errors import UserError
from dtx.pairs.apply import edit_world
from dtx.pairs.edits import STATE_OPS
from dtx.pairs.runs import Run, copied

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

TITLE = "Policy field"
WHEN = IDLE
NEEDS = (WORLD,)
CONTROL = (
    "The same in the edited world. The ways are the shortest, not those of the timeline: what is seen on the "
    "way is part of what the model is given."
)
SOURCE = "dtx.analysis.psychology.measure.policies"
DOC = "gallery.md#psychology"
FIRST = False
SIZE = "half"
TOLERANCE = 1e-5
Parameters = NoParameters
KEPT = 16
"""Worlds whose poses are kept."""


def compute(moment: Moment, parameters: NoParameters) -> dict[str, Any]:
    """The policy in every pose, at the reward-to-go that each run asks for at its start.

    Returns:
        ``width``, ``height``, ``actions``; of each side ``reward_to_go``, ``grid`` (w, h, 3) as MiniGrid
        encodes it, ``pose`` (p, 3): x, y, direction; ``steps`` (p,) from the start, ``probability`` (p, a),
        ``best`` (p,) action, ``entropy`` (p,) in nats, and ``decision`` (p,): whether the agent decides there
        (never, where the environment names no such place).

    Raises:
        UserError: Things of this world move by themselves, so that a pose does not say what is seen.
    """
    data: dict[str, Any] = {"actions": list(moment.actions), "edited": None}
    errors = []
    for name, side in moment.sides.items():
        start = float(side.run.rewards_to_go[0])
        world = _world(moment, name)
        poses = _poses(world, moment.cfg.n_steps - 1)
        probability = policies(moment.model, poses, [start])[0, 0]
        start_of_run = Run([world.gen_obs()["image"]], rewards_to_go=np.float32([start]))
        with torch.no_grad():
            own = moment.model.last_logits(window(moment.model, start_of_run))[0].softmax(-1)
        errors.append(float(np.abs(probability[poses.actions.index(())] - own.numpy()).max()))
        decision = moment.environment.decision
        last = np.stack([seen[-1] for seen in poses.observations[0]])
        data |= {"width": world.width, "height": world.height}
        data[name] = {
            "reward_to_go": start,
            "grid": world.grid.encode(),
            "pose": np.array(poses.pose, np.int32),
            "steps": np.array([len(way) for way in poses.actions], np.int32),
            "probability": probability,
            "best": probability.argmax(-1),
            "entropy": entropy(probability),
            "decision": np.zeros(len(last), bool) if decision is None else decision.here(last),
        }
    error = float(np.max(errors))
    data["check"] = {
        "name": "where the run starts it is the model's policy there",
        "error": error,
        "tolerance": TOLERANCE,
        "holds": error <= TOLERANCE,
    }
    return data


def _world(moment: Moment, side: str) -> MiniGridEnv:
    """A side's world at its start."""
    world = moment.world()
    if side == "edited":
        edits = [
            at_cursor(edit, moment.played.cursor)
            for edit in declared(moment.scene.edits, moment.place)
        ]
        of_world = [edit for edit in edits if edit.op in STATE_OPS]
        if of_world:
            edit_world(world, of_world, moment.place.roles)
    return world


class _Known:
    """Poses that were searched, by the world: the search takes longer than the policies."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple, Poses] = OrderedDict()
        self._lock = Lock()  # two lanes compute

    def __call__(self, world: MiniGridEnv, longest: int) -> Poses:
        place = (*map(int, world.agent_pos), int(world.agent_dir))
        key = (type(world), world.grid.encode().tobytes(), place, longest)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = _searched(world, longest)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]


_poses = _Known()


def _searched(world: MiniGridEnv, longest: int) -> Poses:
    turned = copied(world)
    turned.step(LEFT)
    if not np.array_equal(turned.grid.encode(), world.grid.encode()):
        raise UserError(
            "policy_field: things of this world move by themselves, so a pose does not say what is seen"
        )
    return reach_from([(copied(world), world.gen_obs()["image"])], longest)
