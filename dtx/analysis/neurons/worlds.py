"""What states look like: the agent's view, and the world played again from its layout.

Letters: v views, w worlds.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from dtx.analysis.neurons.states import States, layouts_of
from dtx.dataset.episodes import Episodes
from dtx.env.decision import Decision
from dtx.pairs.runs import picture

NO_WORLD = -1
"""Of a state whose world cannot be known."""


def views_and_worlds(
    states: States, which: np.ndarray, episodes: Episodes, decision: Decision | None
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """What some states look like, each view and world once.

    Args:
        states: All states.
        which: Numbers of those that are looked at; some may stand there several times.
        episodes: Where the states are from.
        decision: Whose layouts the worlds are made of; None: no world is known.

    Returns:
        One row a state: view and first_view (of its window), places in ``views``; world, a place in
        ``worlds`` or :data:`NO_WORLD`. And the arrays: ``views`` (v, 7, 7, 3) uint8 observations, ``worlds``
        (w, height, width, 3) uint8 pictures.
    """
    rows = np.stack([states.frame["row"].to_numpy()[which], states.drawn.row[which]])
    seen, place = np.unique(episodes.observation[rows], return_inverse=True)
    view, first_view = place.reshape(rows.shape)
    known: dict[bytes, int] = {}
    pictures: list[np.ndarray] = []
    world_of: dict[int, int] = {}
    for state in np.unique(which).tolist():
        drawn = world_picture(episodes, decision, states.frame.iloc[state])
        if drawn is None:
            world_of[state] = NO_WORLD
            continue
        world_of[state] = known.setdefault(drawn.tobytes(), len(pictures))
        if world_of[state] == len(pictures):
            pictures.append(drawn)
    looks = {"view": view, "first_view": first_view, "world": [world_of[s] for s in which.tolist()]}
    return pd.DataFrame(looks), {
        "views": np.asarray(episodes.observations[seen]),
        "worlds": _stacked(pictures),
    }


def world_picture(
    episodes: Episodes, decision: Decision | None, state: pd.Series
) -> np.ndarray | None:
    """The world at a state, played again from its layout; None where that cannot be known."""
    if decision is None:
        return None
    layout = int(layouts_of(episodes, decision, np.array([state.episode]))[0])
    if layout < 0:
        return None
    world = decision.make(layout)
    seen = world.reset(seed=0)[0]["image"]
    begin = int(episodes.start[state.episode])
    for action in episodes.action[begin : begin + int(state.step)]:
        seen = world.step(int(action))[0]["image"]
    drawn = picture(world.unwrapped)
    world.close()
    same = (seen == episodes.observations[episodes.observation[int(state.row)]]).all()
    return drawn if same else None  # another start than the layout's: the picture would be wrong


def _stacked(pictures: list[np.ndarray]) -> np.ndarray:
    """One array of pictures; smaller ones are at the top left."""
    shapes = np.array([drawn.shape[:2] for drawn in pictures], np.int64).reshape(-1, 2)
    stacked = np.zeros((len(pictures), *shapes.max(0, initial=0), 3), np.uint8)
    for i, drawn in enumerate(pictures):
        stacked[i, : drawn.shape[0], : drawn.shape[1]] = drawn
    return stacked
