"""Play episodes in minigrid's own worlds and record all that is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from dtx.dataset.episodes import Outcome
from dtx.dt.context import Context
from dtx.dt.history import History
from dtx.dt.incremental import Acting
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import uniforms
from dtx.env.environment import Environment
from dtx.env.vector import seeds

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv


@dataclass(frozen=True)
class Scene:
    """A world as it is drawn.

    Attributes:
        grid: (w, h, 3) uint8, minigrid's encoding of all cells.
        seen: (w, h) bool, the cells that the agent sees.
        agent: Its column, row and direction.
        carries: Type of what it holds; empty: nothing.
    """

    grid: np.ndarray
    seen: np.ndarray
    agent: tuple[int, int, int]
    carries: str

    def same(self, other: Scene) -> bool:
        """Whether two worlds are drawn alike."""
        return (
            np.array_equal(self.grid, other.grid)
            and np.array_equal(self.seen, other.seen)
            and (self.agent, self.carries) == (other.agent, other.carries)
        )


@dataclass
class Episode:
    """What was done and seen in one episode of t steps.

    Attributes:
        layout: Number of the layout or world.
        target: Reward-to-go at the start.
        scenes: t + 1 worlds, before each action and at the end.
        to_go: Reward-to-go at each step.
        probabilities: (a,) float64 at each step.
        actions: Taken.
        rewards: Received.
        outcome: How it ended.
        contexts: What the model read at each step, as bytes that tell distinct ones apart.
    """

    layout: int
    target: float
    scenes: list[Scene] = field(default_factory=list)
    to_go: list[float] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    outcome: Outcome = Outcome.TRUNCATED
    contexts: list[bytes] = field(default_factory=list)

    @property
    def total(self) -> float:
        """The return."""
        return float(np.float32(sum(map(np.float32, self.rewards), np.float32(0))))


@dataclass
class Plays:
    """Episodes, and the contexts of all of them at every step."""

    episodes: list[Episode]
    contexts: list[Context]


@torch.inference_mode()
def play(
    model: DecisionTransformerModel,
    env: Environment,
    places: Sequence[tuple[int, float]],
    *,
    seed: int,
    greedy: bool,
    actions: Sequence[Sequence[int]] | None = None,
) -> Plays:
    """Play one episode in each place.

    Args:
        model: Gives the probabilities.
        env: Where.
        places: (n,) layout or world, and reward-to-go at the start.
        seed: Of sampled actions, which depend on the world's number, and of worlds without layouts.
        greedy: Take the most probable action instead of sampling.
        actions: Take these, (n, t of the episode), whatever the model would.
    """
    n, horizon = len(places), env.horizon
    worlds = [world(env, layout, seed) for layout, _ in places]
    episodes = [Episode(layout, target) for layout, target in places]
    numbers = np.array([layout for layout, _ in places])
    uniform = None if greedy else uniforms(seed, numbers, horizon)
    to_go = np.array([target for _, target in places], np.float32)
    history = History(model.cfg, n, horizon)
    acting, contexts = Acting(model, history), []
    observations = np.stack([w.gen_obs()["image"] for w in worlds])
    playing = np.arange(n)
    for step in range(horizon):
        history.see(observations, to_go)
        probabilities = _softmax(acting.logits(playing))
        contexts.append(history.context(playing))
        taken = np.zeros(n, np.int64)
        for row, number in enumerate(playing):
            episode, chances = episodes[number], probabilities[row]
            taken[number] = (
                actions[number][step]
                if actions is not None
                else chances.argmax()
                if uniform is None
                else min(int((chances.cumsum() <= uniform[number, step]).sum()), len(chances) - 1)
            )
            episode.scenes.append(scene(worlds[number]))
            episode.to_go.append(float(to_go[number]))
            episode.probabilities.append(chances)
            episode.contexts.append(_context(history, number))
            episode.actions.append(int(taken[number]))
        history.act(taken)
        going_on = []
        for number in playing:
            seen, reward, terminated, truncated, _ = worlds[number].step(int(taken[number]))
            episode = episodes[number]
            observations[number] = seen["image"]
            episode.rewards.append(float(np.float32(reward)))
            to_go[number] -= np.float32(reward)
            if terminated:
                episode.outcome = Outcome.SUCCESS if float(reward) > 0 else Outcome.WRONG
            if terminated or truncated or step + 1 == horizon:
                episode.scenes.append(scene(worlds[number]))
            else:
                going_on.append(number)
        playing = np.array(going_on, np.int64)
        if not len(playing):
            break
    for each in worlds:
        each.close()
    return Plays(episodes, contexts)


def world(env: Environment, number: int, seed: int) -> MiniGridEnv:
    """A fresh world: a layout of the environment, or the one of a number where it has none."""
    if env.decision is not None:
        made = env.decision.make(number)
        made.reset(seed=seed % 2**31)
    else:
        made = env.make()
        made.reset(seed=seeds(seed, number + 1)[number])
    inner: MiniGridEnv = made.unwrapped  # type: ignore[assignment]
    return inner


def scene(world: MiniGridEnv) -> Scene:
    """The world as it is now."""
    _, visible = world.gen_obs_grid()
    size = world.agent_view_size
    seen = np.zeros((world.width, world.height), bool)
    corner = world.agent_pos + world.dir_vec * (size - 1) - world.right_vec * (size // 2)
    for right, back in zip(*np.nonzero(visible), strict=True):
        x, y = corner - world.dir_vec * back + world.right_vec * right
        if 0 <= x < world.width and 0 <= y < world.height:
            seen[x, y] = True
    x, y = (int(p) for p in world.agent_pos)
    carries = world.carrying.type if world.carrying is not None else ""
    return Scene(world.grid.encode(), seen, (x, y, int(world.agent_dir)), carries)


def _context(history: History, number: int) -> bytes:
    steps = slice(0, history.step)
    parts = (history.reward_to_go, history.observation, history.action)
    return b"".join(part[number, steps].tobytes() for part in parts)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponential = np.exp(logits - logits.max(-1, keepdims=True))
    return exponential / exponential.sum(-1, keepdims=True)
