"""States of episodes that the model played itself, at known places of the routine, and their windows.

Letters: e episodes, k states or pairs of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.recorder import Recorder
from dtx.analysis.core.windows import cut, sampling
from dtx.analysis.countdown.naming import StepsNamed
from dtx.analysis.countdown.spec import CountdownSpec
from dtx.dataset.episodes import Episodes
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.model_config import ModelConfig
from dtx.dt.rollout import Played, rollout
from dtx.dt.windows import Drawn, Sampler
from dtx.env.decision import Decision
from dtx.env.encoding import distinct
from dtx.env.vector import Step


class Witness(Recorder):
    """A vector environment that remembers observations, actions and rewards."""

    def reset(self) -> np.ndarray:
        """Begin a new episode everywhere."""
        observations = super().reset()
        self.observations, self.rewards = [observations.copy()], []
        return observations

    def step(self, actions: np.ndarray) -> Step:
        """Act once everywhere."""
        step = super().step(actions)
        self.observations.append(step.observations.copy())
        self.rewards.append(step.reward.copy())
        return step


@dataclass(frozen=True)
class OwnPlay:
    """Episodes that a model played.

    Attributes:
        episodes: As recorded demonstrations have them. target: (e,) what was asked for. layout: (e,).
    """

    episodes: Episodes
    target: np.ndarray
    layout: np.ndarray


def play(spec: CountdownSpec, model: DecisionTransformerModel, decision: Decision) -> OwnPlay:
    """Sampled episodes at every target, the same number in each layout."""
    layouts = np.arange(len(decision.layouts)).repeat(spec.episodes)
    target = np.repeat(np.array(spec.targets, np.float32), len(layouts))
    layout = np.tile(layouts, len(spec.targets))
    world = Witness(decision.vector(layout.tolist(), spec.seed))
    numbers = np.tile(np.arange(len(layouts)), len(spec.targets))
    played = rollout(model, world, target, seed=spec.seed, episode=numbers)
    world.close()
    return OwnPlay(as_episodes(world, played), target, layout)


def as_episodes(world: Witness, played: Played) -> Episodes:
    """What was seen, as recorded episodes."""
    real = np.arange(len(world.actions)) < played.length[:, None]
    table, rows = distinct(np.stack(world.observations[:-1], 1)[real])
    return Episodes(
        observations=table,
        observation=rows.astype(np.int32),
        action=np.stack(world.actions, 1)[real].astype(np.uint8),
        reward=np.stack(world.rewards, 1)[real],
        start=np.cumsum(played.length) - played.length,
        length=played.length.astype(np.int32),
        outcome=played.outcome,
        temperature=np.ones(len(real), np.float32),
        split=np.zeros(len(real), np.uint8),
    )


def on_routine(decision: Decision, own: OwnPlay) -> pd.DataFrame:
    """Steps at which the agent sees what it sees on the routine: there the next action is known.

    Returns:
        One row a step: episode, step, target, layout, place (on the routine), action, needed (steps that the
        shortest way from there takes).
    """
    rows = []
    step_of = np.concatenate([np.arange(n) for n in own.episodes.length])
    episode_of = np.repeat(np.arange(len(own.target)), own.episodes.length)
    for layout in range(len(decision.layouts)):
        routine, seen = decision.routine(layout), _seen(decision, layout)
        here = np.flatnonzero(own.layout[episode_of] == layout)
        looks = own.episodes.observations[own.episodes.observation[here]]
        for place, view in enumerate(seen):
            if sum((view == other).all() for other in seen) > 1:
                continue  # two places of the routine look alike
            same = here[(looks == view).all((1, 2, 3))]
            rows.append(pd.DataFrame({
                "episode": episode_of[same], "step": step_of[same], "layout": layout, "place": place,
                "action": routine[place], "needed": len(routine) - place,
            }))  # fmt: skip
    table = pd.concat(rows, ignore_index=True)
    table.insert(2, "target", own.target[table.episode].astype(float).round(6))
    return table


def _seen(decision: Decision, layout: int) -> np.ndarray:
    """Observations before every action of the routine."""
    world = decision.vector([layout], 0)
    seen = [world.reset()[0].copy()]
    for action in decision.routine(layout)[:-1]:
        seen.append(world.step(np.array([action])).observations[0].copy())
    world.close()
    return np.stack(seen)


def pairs(
    spec: CountdownSpec, named: StepsNamed, states: pd.DataFrame, horizon: int, timesteps: int
) -> pd.DataFrame:
    """States with another number of steps left than their own, and with donors; see ``spec.SAME_STEPS``.

    Kept are changes that leave time for the shortest way from there, that some success has, and whose clock
    the model knows.

    Returns:
        One row a state and shift: the columns of ``states``, left, shift, asked (the reward-to-go that leaves
        ``left + shift`` steps), donor_episode, donor_step, donor_same, donor_receiver (its reward-to-go with
        as many steps left as the changed and the unchanged run; NaN without a donor).
    """
    rng = np.random.default_rng(spec.seed)
    left = named.steps(states.target) - states.step
    states = states.assign(left=left).loc[left.round(6) >= states.needed]
    # As many from each place of the routine, as far as there are.
    chosen = states.iloc[rng.permutation(len(states))]
    turn = chosen.groupby(["target", "place"]).cumcount()
    chosen = chosen.iloc[np.argsort(turn, kind="stable")].groupby("target").head(spec.states)
    table = chosen.merge(pd.Series(spec.shifts, name="shift"), how="cross")
    table["asked"] = named.target(table.step + table.left + table["shift"])
    total = table.step + table.left + table["shift"]
    clock = table.step - table["shift"]
    kept = (
        (table.left + table["shift"] >= table.needed - 1e-6)
        & total.between(named.shortest, named.longest)
        & clock.between(0, min(horizon, timesteps) - 1)
    )
    return _with_donors(named, states, table[kept].reset_index(drop=True), rng)


def _with_donors(
    named: StepsNamed, states: pd.DataFrame, table: pd.DataFrame, rng: np.random.Generator
) -> pd.DataFrame:
    found = np.full((len(table), 4), np.nan)
    at_place = dict(iter(states.groupby(["layout", "place"])))
    for k, row in enumerate(table.itertuples()):
        others = at_place[row.layout, row.place]
        step = others.step.to_numpy()
        totals = [step + row.left + shift for shift in (row.shift, 0)]
        fits = (step != row.step) & (others.episode != row.episode)
        for total in totals:
            fits &= (total >= named.shortest) & (total <= named.longest)
        if fits.any():
            i = rng.choice(np.flatnonzero(fits))
            asked = [float(named.target(total[i])) for total in totals]
            found[k] = others.episode.iloc[i], step[i], *asked
    names = ["donor_episode", "donor_step", "donor_same", "donor_receiver"]
    return table.assign(**dict(zip(names, found.T, strict=True)))


class Windows:
    """Windows of episodes that end at chosen steps, as long as they naturally are.

    Args:
        cfg: Of the model that reads them.
        episodes: Where they are cut from.
    """

    def __init__(self, cfg: ModelConfig, episodes: Episodes):
        self.cfg, self.episodes = cfg, episodes
        self.sampler = Sampler(episodes, cfg, sampling(cfg), 0)

    def ending_at(
        self, episode: np.ndarray, step: np.ndarray, target: np.ndarray
    ) -> Iterator[tuple[np.ndarray, Context]]:
        """Yield (indices into the arguments (k,), windows of equal length), asked for ``target`` (k,)."""
        begin = np.maximum(0, step + 1 - self.cfg.n_steps)
        length = step + 1 - begin
        start = np.asarray(self.episodes.start)[episode]
        for steps in np.unique(length):
            here = np.flatnonzero(length == steps)
            drawn = Drawn((start + begin)[here], begin[here], length[here])
            context = self.sampler.context(drawn)[0]
            if not self.cfg.left_padding:
                context = cut(context, int(steps))
            asked = torch.from_numpy(np.asarray(target, np.float32)[here])
            context["reward_to_go"] = asked[:, None].expand_as(context["timestep"]).contiguous()
            yield here, context
