"""Distinct states of the demonstrations, and what is known about each.

Letters: s state, e episode, y layout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dtx.analysis.core.channels import channel_name
from dtx.analysis.core.windows import cut, sampler
from dtx.dataset.episodes import Episodes
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel, ModelConfig
from dtx.dt.windows import Drawn, Sampler
from dtx.env.actions import Action
from dtx.env.decision import Decision

UNKNOWN, ELSEWHERE = "unknown", "elsewhere"
CHUNK = 256
"""Windows computed at once."""


@dataclass
class States:
    """States, each with the window that ends there.

    Attributes:
        drawn: The windows. sampler: Makes contexts of them.
        frame: One row a state: episode, step, reward_to_go, action_before, and facts by name.
        facts: Names of the columns that say what is known.
    """

    drawn: Drawn
    sampler: Sampler
    frame: pd.DataFrame
    facts: list[str]

    def first(self, count: int) -> States:
        """The first so many; they stand in random order."""
        d, part = self.drawn, slice(count)
        drawn = Drawn(d.row[part], d.begin[part], d.length[part])
        return States(drawn, self.sampler, self.frame.iloc[part], self.facts)

    def context(self, which: np.ndarray) -> Context:
        """The windows of some states, as long as the longest; shorter ones are padded on the right."""
        d = self.drawn
        context = self.sampler.context(Drawn(d.row[which], d.begin[which], d.length[which]))[0]
        if self.sampler.cfg.left_padding:
            return context
        return cut(context, int(d.length[which].max()))

    @torch.inference_mode()
    def activations(self, model: DecisionTransformerModel, layers: list[int]) -> np.ndarray:
        """(s, l, f) float32: the neurons at the state's token."""
        count, cfg = len(self.frame), model.cfg
        value_slf = np.zeros((count, len(layers), cfg.d_mlp), np.float32)
        order = np.argsort(self.drawn.length, kind="stable")  # equal lengths together waste least
        names = {f"blocks.{layer}.mlp.hook_post": i for i, layer in enumerate(layers)}
        for begin in range(0, count, CHUNK):
            which = order[begin : begin + CHUNK]
            _, cache = model.run_with_cache(self.context(which), names_filter=names.__contains__)
            at = torch.from_numpy(self.place(which))
            for name, i in names.items():
                value_slf[which, i] = cache[name][torch.arange(len(which)), at].numpy()
        return value_slf

    def place(self, which: np.ndarray) -> np.ndarray:
        """Place of the last state token in :meth:`context`'s windows."""
        cfg = self.sampler.cfg
        steps = self.drawn.length[which]
        if cfg.left_padding:
            steps = np.full_like(steps, cfg.n_steps)
        return cfg.layout.last_state(steps)


def states_of(
    episodes: Episodes,
    cfg: ModelConfig,
    decision: Decision | None,
    count: int,
    high: float,
    seed: int,
) -> States:
    """Draw distinct states of the training episodes; facts about layouts are known where there is a decision.

    Two states are the same if view, first view, reward-to-go (to .1) and the action before are: those that
    differ in the way between only say the same thing again. Each is there with one random window.
    """
    start, length = np.asarray(episodes.start), np.asarray(episodes.length)
    row = np.arange(len(episodes.observation))
    episode = np.repeat(np.arange(len(start)), length)
    kept = np.asarray(episodes.split)[episode] == 0
    row, episode = row[kept], episode[kept]
    order = np.random.default_rng(seed).permutation(len(row))
    row, episode = row[order], episode[order]
    step = row - start[episode]
    to_go = episodes.reward_to_go[row]
    before = np.where(step > 0, episodes.action[np.maximum(row - 1, 0)].astype(int), -1)
    keys = [episodes.observation[row], episodes.observation[start[episode]]]
    keys += [np.rint(to_go * 10).astype(int), before]
    _, first = np.unique(np.stack(keys, 1), axis=0, return_index=True)
    first = np.sort(first)[:count]  # in the random order
    row, episode, step = row[first], episode[first], step[first]
    begin = np.maximum(0, step + 1 - cfg.n_steps)
    steps = step + 1 - begin
    drawn = Drawn(row - steps + 1, begin, steps)
    frame = pd.DataFrame(
        {
            "episode": episode,
            "step": step,
            "row": row,
            "reward_to_go": to_go[first],
            "action_before": before[first],
        }
    )
    facts = _facts(frame, episodes, decision, high)
    frame = pd.concat([frame, pd.DataFrame(facts)], axis=1)
    return States(drawn, sampler(episodes, cfg), frame, list(facts))


def _facts(
    frame: pd.DataFrame, episodes: Episodes, decision: Decision | None, high: float
) -> dict[str, np.ndarray]:
    """What is known about each state, as words."""
    seen = episodes.observations[episodes.observation[frame.row]]
    asked = np.where(frame.reward_to_go >= high, "high", "low")
    names = np.array([action.value for action in Action] + ["none"])
    facts = {
        "reward-to-go": asked,
        "action before": names[frame.action_before],
        "ahead": np.array([channel_name(kind) for kind in range(11)])[seen[:, 3, 5, 0]],
    }
    if decision is None:
        return facts
    layout = layouts_of(episodes, decision, frame.episode.to_numpy())
    words = np.array([*decision.layouts, UNKNOWN])
    there = decision.here(seen)
    sides = np.array([name.partition("/") for name in words])
    facts["instruction"] = sides[layout, 0]
    facts["target side"] = np.where(sides[layout, 2] == "", UNKNOWN, sides[layout, 2])
    facts["decision square"] = np.where(there, "there", ELSEWHERE)
    deciding = np.char.add(np.char.add(words[layout], ", RTG "), asked)
    facts["decision"] = np.where(there, deciding, ELSEWHERE)
    return facts


def layouts_of(episodes: Episodes, decision: Decision, episode: np.ndarray) -> np.ndarray:
    """(s,) layout of each episode, -1 where neither its first view nor its decision tells."""
    firsts = []
    for layout in range(len(decision.layouts)):
        world = decision.make(layout)
        firsts.append(world.reset(seed=0)[0]["image"])
        world.close()
    firsts = np.stack(firsts)
    view = episodes.observations[episodes.observation[np.asarray(episodes.start)[episode]]]
    same_sy = (view[:, None] == firsts).all((-1, -2, -3))
    found = np.where(same_sy.sum(1) == 1, same_sy.argmax(1), -1)
    for s in np.flatnonzero(found < 0):  # larger worlds: the first view does not show the far end
        begin = episodes.start[episode[s]]
        rows = episodes.observation[begin : begin + episodes.length[episode[s]]]
        seen = episodes.observations[rows]
        at = np.flatnonzero(decision.here(seen))
        if len(at):
            found[s] = decision.layout_of(seen[0], seen[at[0]])
    return found
