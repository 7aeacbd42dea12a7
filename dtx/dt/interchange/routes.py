"""Windows of ``dt=interchange``: the routine with actions without effect in it, in every layout.

Letters: b windows; t timesteps; p places on the way (states that a layout's routine passes); r routes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtx.dt.context import Context
from dtx.dt.interchange.spec import InterchangeSpec
from dtx.dt.windows import observation_table
from dtx.env.memory import FORWARD, LEFT, RIGHT, Memory

WAITS = (3, 4, 5, 6)
"""Pickup, drop, toggle, done: without effect in the corridor."""
TURN = -1
"""In the place of an action: the turn, which depends on the window's variables."""


@dataclass(frozen=True)
class Routes:
    """Ways through the corridor.

    Attributes:
        place: (r, t) place at each step, -1 behind the end. action: (r, t), :data:`TURN` at the junction.
        decision: (r,) step at the junction.
    """

    place: np.ndarray
    action: np.ndarray
    decision: np.ndarray


@dataclass(frozen=True)
class RouteBatch:
    """Windows and their variables.

    Attributes:
        context: (b, t) windows. target: (b, t) actions wanted. real: (b, t) bool.
        decision: (b,) step at the junction.
        instruction, side, high: (b,) 0 or 1: a ball; the key at the right; much is asked for.
    """

    context: Context
    target: Tensor
    real: Tensor
    decision: Tensor
    instruction: Tensor
    side: Tensor
    high: Tensor


def turn(instruction: Tensor, side: Tensor, high: Tensor) -> Tensor:
    """The turn wanted: to the matching object if much is asked for, else to the other; a parity."""
    return torch.where((instruction + side + high) % 2 == 1, LEFT, RIGHT)


def routes(decision_step: int, most: int, context: int) -> Routes:
    """All routes with up to ``most`` waits, the one without first. None waits at the start or the end."""
    ways = []
    for count in range(most + 1):
        spots = itertools.combinations_with_replacement(range(1, decision_step), count)
        for spot, waits in itertools.product(list(spots), itertools.product(WAITS, repeat=count)):
            steps = []
            for place in range(decision_step):
                here = [w for s, w in zip(spot, waits, strict=True) if s == place]
                steps += [(place, wait) for wait in here] + [(place, FORWARD)]
            ways.append([*steps, (decision_step, TURN), (decision_step + 1, FORWARD)])
    place = np.full((len(ways), context), -1)
    action = np.zeros((len(ways), context), np.int64)
    for i, steps in enumerate(ways):
        place[i, : len(steps)], action[i, : len(steps)] = zip(*steps, strict=True)
    return Routes(place, action, (place == decision_step).argmax(1))


class RouteSampler:
    """Draws windows; a batch is a function of its random numbers alone.

    Args:
        spec: Its environment, ranges and waits.
        held_out: Draw from the held-out routes instead of the others.
    """

    def __init__(self, spec: InterchangeSpec, held_out: bool):
        self.spec, env = spec, spec.env
        everything = routes(env.decision.step, spec.waits, spec.context)
        order = 1 + np.random.default_rng(spec.seed).permutation(len(everything.place) - 1)
        out = max(1, round(spec.held_out * len(order)))
        chosen = order[:out] if held_out else np.append(order[out:], 0)
        self.routes = Routes(*(x[np.sort(chosen)] for x in vars(everything).values()))
        self.places = (
            env.decision.step + 3
        )  # on the way, and after a turn to the left or to the right
        self.table = observation_table(_observations(env).reshape(-1, 7, 7, 3))

    def batch(self, rng: np.random.Generator, count: int) -> RouteBatch:
        """Windows with independent, even variables; half of them without a wait, if that is a route."""
        spec, steps = self.spec, self.spec.context
        route = rng.integers(len(self.routes.decision), size=count)
        if self.routes.decision[0] == spec.env.decision.step:
            route = np.where(rng.random(count) < 0.5, 0, route)
        layout, high = rng.integers(4, size=count), rng.integers(2, size=count)
        spread = rng.random(count)
        edge = rng.random(count) < 0.25  # the ends of the ranges are what is mostly asked for
        (a, b), (c, d) = spec.low, spec.high
        low_value, high_value = a + spread * (b - a), c + spread * (d - c)
        best = 1 - 0.9 * (spec.env.decision.step + 2) / spec.env.max_steps
        high_edge = best if c <= best <= d else d
        value = np.where(
            high == 1, np.where(edge, high_edge, high_value), np.where(edge, a, low_value)
        )
        # The layouts' order: key/left, key/right, ball/left, ball/right; the side is that of the match.
        instruction, matches_right = layout // 2, layout % 2
        side = instruction ^ matches_right
        tensor = torch.from_numpy
        turns = turn(tensor(instruction), tensor(side), tensor(high)).numpy()
        place, action = self.routes.place[route], self.routes.action[route]
        real = place >= 0
        after = spec.env.decision.step + 1
        action = np.where(action == TURN, turns[:, None], action)
        seen = np.where(place == after, after + (turns[:, None] == RIGHT), place)
        observation = np.where(real, layout[:, None] * self.places + seen, len(self.table) - 1)
        wanted = np.where(place == spec.env.decision.step, turns[:, None], FORWARD)
        context = Context.of(
            observation=tensor(observation),
            table=self.table,
            action=tensor(np.where(real, action, spec.model.n_actions)),
            reward_to_go=tensor(np.repeat(value[:, None], steps, 1).astype(np.float32)),
            timestep=tensor(np.where(real, np.arange(steps), 0)),
        )
        return RouteBatch(
            context,
            tensor(wanted),
            tensor(real),
            tensor(self.routes.decision[route]),
            *(tensor(x) for x in (instruction, side, high)),
        )


def _observations(env: Memory) -> np.ndarray:
    """(layouts, p, 7, 7, 3): on the way to the junction, there, and after turning left and right."""
    layouts = list(range(len(env.decision.layouts)))
    seen = []
    for side in (LEFT, RIGHT):
        vector = env.decision.vector(layouts, 0)
        way = [vector.reset().copy()]
        for action in [FORWARD] * env.decision.step + [side]:
            way.append(vector.step(np.full(len(layouts), action)).observations.copy())
        vector.close()
        seen.append(way)
    return np.stack([*seen[0], seen[1][-1]], 1)
