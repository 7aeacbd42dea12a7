"""Worlds of an environment, and these as edited, each as a table: see :mod:`dtx.app.file.tables`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dtx.app.file.tables import Pool, Table
from dtx.app.frames import exact
from dtx.app.places import Place, world_at_start
from dtx.app.play import declared
from dtx.app.training_data import TrainingData
from dtx.pairs.apply import edit_world
from dtx.pairs.distance import distances
from dtx.pairs.edits import STATE_OPS, Impossible
from dtx.pairs.runs import Run, act_once, copied

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv


class Worlds:
    """The tables of some worlds of an environment, and of these worlds as edited.

    Args:
        place: The environment.
        names: Of its worlds.
        edits: Lists of operations; those that are not of the world are left out.

    Raises:
        UserError: A world is no table.
    """

    def __init__(self, place: Place, names: Sequence[str], edits: Sequence[Sequence[Mapping]]):
        self.place = place
        self.pool = Pool(place.environment.n_actions, place.environment.horizon)
        self.tables: list[Table] = []
        self._complements: list[str | None] = []
        self._starts: list[MiniGridEnv] = []
        of_world = [[dict(e) for e in one if e["op"] in STATE_OPS] for one in edits]
        distinct = [one for i, one in enumerate(of_world) if one and one not in of_world[:i]]
        self.worlds = {name: self._world(name, distinct) for name in names}

    def values(self, data: TrainingData | None) -> dict[str, Any]:
        """As ``play.js`` reads it; with training data each view's distance from the nearest one there."""
        env = self.place.environment
        shared = self.pool.arrays()
        distance, decides = None, np.zeros(len(shared["views"]), bool)
        if env.decision is not None:
            decides = env.decision.here(shared["views"])
        if data is not None:
            distance = distances(shared["views"], data.observations).astype(np.int32)
        return {
            "id": self.place.id,
            "n_actions": env.n_actions,
            "horizon": env.horizon,
            "decision": env.decision is not None,
            "pool": {
                **shared,
                "curves": exact(shared["curves"]),
                "distance": distance,
                "decides": decides,
            },
            "worlds": self.worlds,
            "tables": [
                {**table.arrays(), "complement": complement}
                for table, complement in zip(self.tables, self._complements, strict=True)
            ],
        }

    def _world(self, name: str, edits: Sequence[Sequence[Mapping]]) -> dict[str, Any]:
        start = world_at_start(self.place, name)
        found: dict[str, Any] = {"table": self._table(start, name), "edits": []}
        for operations in edits:
            known: dict[str, Any] = {"operations": operations, "table": None, "impossible": None}
            try:
                edited = copied(start)
                edit_world(edited, declared(operations, self.place), self.place.roles)
                known["table"] = self._table(edited, f"{name}, edited")
            except Impossible as reason:
                known["impossible"] = str(reason)
            found["edits"].append(known)
        return found

    def _table(self, world: MiniGridEnv, name: str) -> int:
        table = self.pool.table(world, name)
        roles = self.place.environment.roles
        complement = None if roles is None else roles.complement
        first = self.pool.views.arrays[table.view[0]]
        self.tables.append(table)
        self._starts.append(copied(world))
        self._complements.append(None if complement is None else complement(first))
        return len(self.tables) - 1

    def differing(self, rng: np.random.Generator, walks: int) -> int:
        """Steps at which random walks to the end of an episode are not those of minigrid: 0 if all is well.

        Args:
            walks: In each world.
        """
        numbers = np.repeat(np.arange(len(self.tables)), walks)
        return sum(self._differing(int(number), rng) for number in numbers)

    def _differing(self, number: int, rng: np.random.Generator) -> int:
        table, now, state, wrong = self.tables[number], copied(self._starts[number]), 0, 0
        for step in range(1, self.pool.horizon + 1):
            action = int(rng.integers(self.pool.n_actions))
            view, reward, terminated, truncated = act_once(now, action)
            known = self.pool.curves[table.reward[state, action]][step]
            state = int(table.next[state, action])
            wrong += not (
                known == reward
                and np.array_equal(self.pool.grids.arrays[table.grid[state]], now.grid.encode())
                and np.array_equal(self.pool.views.arrays[table.view[state]], view)
                and tuple(table.agent[state]) == (*now.agent_pos, now.agent_dir)
                and (table.next[state, 0] < 0) == terminated
                and truncated == (step == self.pool.horizon)
            )
            if terminated or truncated:
                break
        return wrong

    def walk(self, rng: np.random.Generator, states: int) -> tuple[np.ndarray, Run]:
        """A random walk of at most so many states: numbers of its views (t,), and the run."""
        table = self.tables[rng.integers(len(self.tables))]
        state, at, actions, rewards = 0, [0], [], []
        while len(at) < states and table.next[state, 0] >= 0:
            action = int(rng.integers(self.pool.n_actions))
            rewards.append(float(self.pool.curves[table.reward[state, action]][len(at)]))
            state = int(table.next[state, action])
            actions.append(action)
            at.append(state)
        views = table.view[at]
        start = np.float32(rng.uniform(-1, 1))
        to_go = (start - np.cumsum([0.0, *rewards])).astype(np.float32)
        observations = [self.pool.views.arrays[view] for view in views]
        return views, Run(
            observations=observations, actions=actions, rewards=rewards, rewards_to_go=to_go
        )
