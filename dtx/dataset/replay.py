"""Where the worlds stood at each step of episodes of which only views and actions were kept.

A task with a decision has a few layouts, each with one start, and what an action does follows from the
state alone. So all states that can be reached are found once in each layout, and an episode's layout is the
one that gives all its views.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dtx.dataset.episodes import Episodes, Outcome
from dtx.env.environment import Environment
from dtx.env.facts import StateTable, put, states_of
from dtx.env.roles import world_of
from dtx.errors import UserError

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

MOST_STATES = 20_000
"""Of a layout; beyond it the task is none that can be played again so."""


class _Layout:
    """All states that can be reached in a layout, numbered from the start, 0.

    Attributes:
        columns: The columns of poses, (states,) each.
        next: (states, actions) int64, where an action leads; what ends an episode leads nowhere, -1.
        reward: (states, actions) bool, whether the action ends the episode with reward.
        views: (states, 7, 7, 3) uint8.
    """

    def __init__(self, env: Environment, layout: int, table: StateTable):
        decision = env.decision
        assert decision is not None
        made = decision.make(layout)
        made.reset(seed=0)
        world = world_of(made)
        names = list(table.read([world]))
        numbers = {(start := self._now(table, world)): 0}
        states, following, rewarded, views = [start], [], [], []
        for number in range(MOST_STATES):
            if number == len(states):
                break
            leads, pays = [], []
            for action in range(env.n_actions):
                self._put(table, world, names, states[number])
                if not action:
                    views.append(world.gen_obs()["image"])
                _, reward, ended, _, _ = world.step(action)
                pays.append(ended and float(reward) > 0)
                if ended:
                    leads.append(-1)
                    continue
                after = self._now(table, world)
                if after not in numbers:
                    numbers[after] = len(states)
                    states.append(after)
                leads.append(numbers[after])
            following.append(leads)
            rewarded.append(pays)
        else:
            raise UserError(
                f"{env.id} has more than {MOST_STATES} states; its episodes are not replayed"
            )
        made.close()
        self.columns = dict(zip(names, np.array(states).T, strict=True))
        self.next, self.reward = np.array(following), np.array(rewarded)
        self.views = np.stack(views)

    @staticmethod
    def _now(table: StateTable, world: MiniGridEnv) -> tuple[int, ...]:
        return tuple(int(column[0]) for column in table.read([world]).values())

    @staticmethod
    def _put(
        table: StateTable, world: MiniGridEnv, names: list[str], state: tuple[int, ...]
    ) -> None:
        columns = {name: np.array([value]) for name, value in zip(names, state, strict=True)}
        put(world, states_of(table.grids, columns), 0)
        world.step_count = 0


def replayed(
    episodes: Episodes, env: Environment, name: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The distinct grids, and the columns of poses at each of the N steps.

    Args:
        episodes: Played in ``env``.
        env: A task with a decision.
        name: Of the dataset, for errors.

    Raises:
        UserError: Episodes that no layout, or more than one, gives.
    """
    assert env.decision is not None
    table, n = StateTable(), len(episodes.action)
    count = len(episodes.start)
    found, fits = {}, np.zeros(count, np.int64)
    for layout in range(len(env.decision.layouts)):
        known = _Layout(env, layout, table)
        state, fitting = _along(episodes, known)
        fits += fitting
        which = np.repeat(fitting, episodes.length)
        for column, values in known.columns.items():
            found.setdefault(column, np.zeros(n, values.dtype))[which] = values[state[which]]
    for wrong, what in ((fits == 0, "no layout"), (fits > 1, "several layouts")):
        if wrong.any():
            raise UserError(
                f"{name}: {int(wrong.sum())} of {count} episodes fit {what} of {env.id}, so that their "
                "worlds are not known; record again with dataset.facts=true"
            )
    return table.grids, found


def _along(episodes: Episodes, layout: _Layout) -> tuple[np.ndarray, np.ndarray]:
    """The state of each step if the episodes were of a layout, (N,), and which of them can be, (E,) bool."""
    known = {view.tobytes(): i for i, view in enumerate(episodes.observations)}
    view = np.array([known.get(v.tobytes(), -1) for v in np.ascontiguousarray(layout.views)])
    state = np.zeros(len(episodes.action), np.int64)
    fits = np.ones(len(episodes.start), bool)
    here = np.zeros(len(episodes.start), np.int64)
    for step in range(int(episodes.length.max(initial=0))):
        there = np.flatnonzero((episodes.length > step) & fits)
        row = episodes.start[there] + step
        fits[there] = (here[there] >= 0) & (view[here[there]] == episodes.observation[row])
        there = there[fits[there]]
        row = episodes.start[there] + step
        state[row] = here[there]
        here[there] = layout.next[here[there], episodes.action[row]]
    last = episodes.start + episodes.length - 1
    ended = episodes.outcome != Outcome.TRUNCATED
    success = episodes.outcome == Outcome.SUCCESS
    action = np.minimum(episodes.action[last], layout.next.shape[1] - 1)
    fits &= ~ended | (here < 0)
    fits &= layout.reward[state[last], action] == success
    return state, fits
