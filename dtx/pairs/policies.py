"""Ways to come to the step that a pair is about: who acts up to there."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dtx.agent.agent import Agent
from dtx.dataset.episodes import Episodes
from dtx.pairs.runs import Reached, Refused, act_once, copied

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

    from dtx.dt.model import DecisionTransformerModel

_SEARCHED = 20_000
"""Worlds that a search looks at before it gives up: some ten seconds."""


class Script:
    """Always the same actions."""

    def __init__(self, actions: Sequence[int]):
        self.actions = list(actions)

    def begin(self, world: MiniGridEnv, target: float, given: Mapping[int, int]) -> None:
        """Start from the first action."""
        self._left = deque(given.get(step, action) for step, action in enumerate(self.actions))

    def act(self, observation: np.ndarray, reward_to_go: float) -> int | None:
        """The next one."""
        return self._left.popleft() if self._left else None


class Search(Script):
    """The shortest way to the state that matters, found by trying all ways in the world itself."""

    def __init__(self, reached: Reached, n_actions: int, longest: int):
        super().__init__([])
        self.reached, self.n_actions, self.longest = reached, n_actions, longest

    def begin(self, world: MiniGridEnv, target: float, given: Mapping[int, int]) -> None:
        """Search; behind a given action search anew, from where it leads.

        Raises:
            Refused: No way is found.
        """
        way = self._way(world, 0)
        for step in sorted(given):
            if step >= len(way):  # the state is reached before
                break
            here, way, over = copied(world), [*way[:step], given[step]], False
            for action in way:
                _, _, terminated, truncated = act_once(here, action)
                over = over or terminated or truncated
            if over:  # nothing leads on from here
                break
            way += self._way(here, len(way))
        self._left = deque(way)

    def _way(self, world: MiniGridEnv, taken: int) -> list[int]:
        """Breadth first, so the first way found is a shortest one; ties go to the smaller action.

        ``taken`` steps lead to the world as it is; they count for what is reached, and as steps allowed.
        """
        todo: deque[tuple[MiniGridEnv, tuple[int, ...]]] = deque([(copied(world), ())])
        known = {_fingerprint(world)}
        if self.reached(world.gen_obs()["image"], taken):
            return []
        while todo and len(known) < _SEARCHED:
            here, way = todo.popleft()
            if taken + len(way) == self.longest:
                break
            for action in range(self.n_actions):
                there = copied(here)
                observation, _, terminated, truncated = act_once(there, action)
                mark = _fingerprint(there)
                if terminated or truncated or mark in known:
                    continue
                if self.reached(observation, taken + len(way) + 1):
                    return [*way, action]
                known.add(mark)
                todo.append((there, (*way, action)))
        raise Refused(f"no way there of at most {self.longest} steps was found")


def _fingerprint(world: MiniGridEnv) -> tuple:
    """Equal for worlds that go on the same way."""
    held = world.carrying
    return (
        world.grid.encode().tobytes(),
        tuple(int(x) for x in world.agent_pos),
        int(world.agent_dir),
        None if held is None else (held.type, held.color),
        str(world.np_random.bit_generator.state),
    )


class AgentPolicy:
    """A trained agent, which takes its most probable action."""

    def __init__(self, agent: Agent):
        self.agent = agent

    def begin(self, world: MiniGridEnv, target: float, given: Mapping[int, int]) -> None:
        """Empty its memory."""
        self._memory, self._given, self._step = self.agent.initial_memory(1), given, 0

    def act(self, observation: np.ndarray, reward_to_go: float) -> int:
        """Its most probable action, or the one that is given."""
        import torch

        with torch.inference_mode():
            seen = torch.from_numpy(observation[None].copy())
            logits, _, self._memory = self.agent.step(seen, self._memory)
        self._step += 1
        return self._given.get(self._step - 1, int(logits[0].argmax()))


class ModelPolicy:
    """A Decision Transformer, which takes its most probable action that the task has."""

    def __init__(self, model: DecisionTransformerModel, horizon: int, n_actions: int):
        self.model, self.horizon, self.n_actions = model, horizon, n_actions

    def begin(self, world: MiniGridEnv, target: float, given: Mapping[int, int]) -> None:
        """Forget what was seen."""
        from dtx.dt.history import History

        self._history, self._given = History(self.model.cfg, 1, self.horizon + 1), given

    def act(self, observation: np.ndarray, reward_to_go: float) -> int:
        """Its most probable action, or the one that is given."""
        import torch

        with torch.inference_mode():
            self._history.see(observation[None], np.array([reward_to_go], np.float32))
            logits = self.model.last_logits(self._history.context(np.array([0])))
        preferred = int(logits[0, : self.n_actions].argmax())
        action = self._given.get(self._history.step - 1, preferred)
        self._history.act(np.array([action]))
        return action


class EpisodePolicy(Script):
    """The actions of a recorded episode that saw exactly what this world shows, up to that state.

    Where an action is given, an episode in which it was taken.
    """

    def __init__(self, episodes: Episodes, reached: Reached, longest: int):
        super().__init__([])
        self.episodes, self.reached, self.longest = episodes, reached, longest

    def begin(self, world: MiniGridEnv, target: float, given: Mapping[int, int]) -> None:
        """Look for the first such episode.

        Raises:
            Refused: None saw this.
        """
        e, first = self.episodes, world.gen_obs()["image"]
        same = (e.observations == first).all((1, 2, 3))
        for episode in np.flatnonzero(same[e.observation[e.start]]):
            start, length = int(e.start[episode]), int(e.length[episode])
            way = self._follow(copied(world), start, length, given)
            if way is not None:
                self._left = deque(way)
                return
        raise Refused("no recorded episode saw what this world shows")

    def _follow(
        self, world: MiniGridEnv, start: int, length: int, given: Mapping[int, int]
    ) -> list[int] | None:
        e, observation = self.episodes, world.gen_obs()["image"]
        for step in range(min(length, self.longest + 1)):
            if (e.observations[e.observation[start + step]] != observation).any():
                return None
            if self.reached(observation, step):
                return e.action[start : start + step].astype(int).tolist()
            action = int(e.action[start + step])
            if action != given.get(step, action):
                return None
            observation = act_once(world, action)[0]
        return None
