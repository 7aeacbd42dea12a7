"""Runs through worlds of minigrid itself, and the ways to come to the step that a pair is about."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dtx.dataset.episodes import Episodes
from dtx.env.roles import Roles

Reached = Callable[[np.ndarray, int], bool]
"""Observation and number of steps taken, to whether this is the state that the pair is about."""
_SEARCHED = 20_000
"""Worlds that a search looks at before it gives up: some ten seconds."""


class Refused(Exception):
    """A run that cannot be part of a pair; says why, in words that pairs can be counted by."""


@dataclass
class Run:
    """A run up to the state that matters: t states, t - 1 actions.

    Attributes:
        observations: t times (7, 7, 3) uint8.
        actions: MiniGrid's. rewards: One an action.
        visible: Roles whose thing the agent sees, one set a state.
        picture: The world at the start, (pixels, pixels, 3) uint8.
        rewards_to_go: (t,) float32, filled in where a target is given.
    """

    observations: list[np.ndarray] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    visible: list[frozenset[str]] = field(default_factory=list)
    picture: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))
    rewards_to_go: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def seen(self) -> np.ndarray:
        """(t, 7, 7, 3) uint8."""
        return np.stack(self.observations)


class Policy(Protocol):
    """Acts in one world after the other."""

    def begin(self, world: Any, target: float) -> None:
        """A new episode; ``target`` is the reward-to-go asked for."""
        ...

    def act(self, observation: np.ndarray, reward_to_go: float) -> int | None:
        """The next action, or None if there is none."""
        ...


def copied(world: Any) -> Any:
    """A world that goes on the same way: grid, agent, random numbers."""
    shared = [getattr(world, name, None) for name in ("action_space", "observation_space", "spec")]
    walls = [thing for thing in world.grid.grid if thing is not None and thing.type == "wall"]
    return copy.deepcopy(world, {id(x): x for x in (*shared, *walls)})


def play(
    world: Any,
    roles: Roles,
    policy: Policy,
    reached: Reached | int,
    *,
    target: float,
    longest: int,
    may_end: bool = False,
) -> Run:
    """Act until the state that matters.

    Args:
        world: At its start; it is stepped.
        roles: Of the environment.
        policy: Acts.
        reached: Asked of every state; or the number of steps to take.
        target: Reward-to-go at the start; it falls by each reward.
        longest: Steps allowed.
        may_end: Go on even if the episode has ended.

    Raises:
        Refused: The state is not reached.
    """
    run, to_go = Run(picture=picture(world)), float(target)
    there = (lambda _, step: step == reached) if isinstance(reached, int) else reached
    observation = world.gen_obs()["image"]
    policy.begin(world, target)
    while True:
        run.observations.append(observation)
        run.visible.append(visible(world, roles, observation))
        run.rewards_to_go = np.append(run.rewards_to_go, np.float32(to_go))
        if there(observation, len(run.actions)):
            return run
        if len(run.actions) == longest:
            raise Refused(f"not reached within {longest} steps")
        action = policy.act(observation, to_go)
        if action is None:
            raise Refused(f"not reached when the actions ended, after {len(run.actions)} steps")
        observation, reward, terminated, truncated, _ = _step(world, action)
        run.actions.append(action)
        run.rewards.append(float(reward))
        to_go -= float(reward)
        if (terminated or truncated) and not may_end:
            raise Refused(f"the episode ended with step {len(run.actions)}")


def _step(world: Any, action: int) -> tuple:
    seen, *rest = world.step(action)
    return seen["image"], *rest


def visible(world: Any, roles: Roles, observation: np.ndarray) -> frozenset[str]:
    """Roles of which at least one thing is in view and not hidden."""
    found = {"agent"}
    for role, cells in roles.where(world).items():
        for cell in cells:
            place = world.relative_coords(*cell)
            if place is not None and observation[*place, 0] != 0:
                found.add(role)
    return frozenset(found)


def picture(world: Any) -> np.ndarray:
    """The world as minigrid draws it, what the agent sees highlighted, about 112 pixels wide."""
    return world.get_full_render(highlight=True, tile_size=max(4, round(112 / world.width)))


def view_picture(observation: np.ndarray, tile: int = 16) -> np.ndarray:
    """An observation as minigrid would draw it; cells not seen are dark."""
    from minigrid.core.grid import Grid

    grid, seen = Grid.decode(observation)
    hand = observation[3, 6, 0]
    if hand not in (5, 6, 7):  # an agent without a key, ball or box in hand is drawn as itself
        return grid.render(tile, agent_pos=(3, 6), agent_dir=3, highlight_mask=seen)
    return grid.render(tile, agent_pos=(-1, -1), agent_dir=3, highlight_mask=seen)


# --- policies ----------------------------------------------------------------------------------------


class Script:
    """Always the same actions."""

    def __init__(self, actions: Sequence[int]):
        self.actions = list(actions)

    def begin(self, world: Any, target: float) -> None:
        """Start from the first action."""
        self._left = deque(self.actions)

    def act(self, observation: np.ndarray, reward_to_go: float) -> int | None:
        """The next one."""
        return self._left.popleft() if self._left else None


class Search(Script):
    """The shortest way to the state that matters, found by trying all ways in the world itself."""

    def __init__(self, reached: Reached, n_actions: int, longest: int):
        super().__init__([])
        self.reached, self.n_actions, self.longest = reached, n_actions, longest

    def begin(self, world: Any, target: float) -> None:
        """Search.

        Raises:
            Refused: No way is found.
        """
        self._left = deque(self._way(world))

    def _way(self, world: Any) -> list[int]:
        """Breadth first, so the first way found is a shortest one; ties go to the smaller action."""
        todo, known = deque([(copied(world), ())]), {_fingerprint(world)}
        if self.reached(world.gen_obs()["image"], 0):
            return []
        while todo and len(known) < _SEARCHED:
            here, way = todo.popleft()
            if len(way) == self.longest:
                break
            for action in range(self.n_actions):
                there = copied(here)
                observation, _, terminated, truncated, _ = _step(there, action)
                mark = _fingerprint(there)
                if terminated or truncated or mark in known:
                    continue
                if self.reached(observation, len(way) + 1):
                    return [*way, action]
                known.add(mark)
                todo.append((there, (*way, action)))
        raise Refused(f"no way there of at most {self.longest} steps was found")


def _fingerprint(world: Any) -> tuple:
    """Equal for worlds that go on the same way."""
    held = world.carrying
    return (
        world.grid.encode().tobytes(),
        tuple(int(x) for x in world.agent_pos),
        int(world.agent_dir),
        None if held is None else (held.type, held.color),
        str(world.np_random.bit_generator.state),
    )


class Teacher:
    """A trained agent, which takes its most probable action."""

    def __init__(self, agent: Any):
        self.agent = agent

    def begin(self, world: Any, target: float) -> None:
        """Empty its memory."""
        self._memory = self.agent.initial_memory(1)

    def act(self, observation: np.ndarray, reward_to_go: float) -> int:
        """Its most probable action."""
        import torch

        with torch.inference_mode():
            seen = torch.from_numpy(observation[None].copy())
            logits, _, self._memory = self.agent.step(seen, self._memory)
        return int(logits[0].argmax())


class Model:
    """A Decision Transformer, which takes its most probable action that the task has."""

    def __init__(self, model: Any, horizon: int, n_actions: int):
        self.model, self.horizon, self.n_actions = model, horizon, n_actions

    def begin(self, world: Any, target: float) -> None:
        """Forget what was seen."""
        from dtx.dt.history import History

        self._history = History(self.model.cfg, 1, self.horizon + 1)

    def act(self, observation: np.ndarray, reward_to_go: float) -> int:
        """Its most probable action."""
        import torch

        with torch.inference_mode():
            self._history.see(observation[None], np.array([reward_to_go], np.float32))
            logits = self.model.last_logits(self._history.context(np.array([0])))
        action = int(logits[0, : self.n_actions].argmax())
        self._history.act(np.array([action]))
        return action


class Recorded(Script):
    """The actions of a recorded episode that saw exactly what this world shows, up to that state."""

    def __init__(self, episodes: Episodes, reached: Reached, longest: int):
        super().__init__([])
        self.episodes, self.reached, self.longest = episodes, reached, longest

    def begin(self, world: Any, target: float) -> None:
        """Look for the first such episode.

        Raises:
            Refused: None saw this.
        """
        e, first = self.episodes, world.gen_obs()["image"]
        same = (e.observations == first).all((1, 2, 3))
        for episode in np.flatnonzero(same[e.observation[e.start]]):
            way = self._follow(copied(world), int(e.start[episode]), int(e.length[episode]))
            if way is not None:
                self._left = deque(way)
                return
        raise Refused("no recorded episode saw what this world shows")

    def _follow(self, world: Any, start: int, length: int) -> list[int] | None:
        e, observation = self.episodes, world.gen_obs()["image"]
        for step in range(min(length, self.longest + 1)):
            if (e.observations[e.observation[start + step]] != observation).any():
                return None
            if self.reached(observation, step):
                return e.action[start : start + step].astype(int).tolist()
            observation = _step(world, int(e.action[start + step]))[0]
        return None
