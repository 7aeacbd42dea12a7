"""What the raw input of a token tells: a control for what its activations tell.

Letters: r rows, c columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise

import numpy as np

from dtx.dataset.episodes import Episodes
from dtx.dt.fact_kinds import Rows, action_name, reward_to_go_at, thresholds
from dtx.dt.tokens import ACTION, KINDS, REWARD_TO_GO
from dtx.env.encoding import OFFSETS, SIZE, VIEW, flatten, one_hot
from dtx.env.facts import DOOR_STATES, OBJECTS

_COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
"""MiniGrid's colours by index."""


class RawInputs:
    """Yields (name, (r,) column of zeros and ones).

    Args:
        rows: r. episodes: Demonstrations.
        least: A timestep has a column of its own if it is that of such a share of the tokens.
    """

    def __init__(self, rows: Rows, episodes: Episodes, least: float):
        self.rows, self.episodes, self.least = rows, episodes, least

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        yield from self._of_view()
        yield from self._of_token()

    def columns(self) -> np.ndarray:
        """(r, c) uint8, all of them."""
        names = [name for name, _ in self]
        found = np.zeros((len(self.rows), len(names)), np.uint8, order="F")
        for i, (_, column) in enumerate(self):
            found[:, i] = column
        return found

    @cached_property
    def to_go(self) -> np.ndarray:
        """(r,) reward-to-go at each row's step."""
        return reward_to_go_at(self.episodes, self.rows)

    @cached_property
    def action(self) -> np.ndarray:
        """(r,) the action of each row's step."""
        return np.asarray(self.episodes.action)[self.rows.at]

    def _of_view(self) -> Iterator[tuple[str, np.ndarray]]:
        """Channels of the view that differ between views, each once."""
        views, index = np.unique(self.rows.view, return_inverse=True)
        seen = views >= 0
        if not seen.any():
            return
        table = np.zeros((len(views), SIZE), np.uint8)
        table[seen] = flatten(one_hot(np.asarray(self.episodes.observations)[views[seen]]))
        kept = np.flatnonzero(table[seen].any(0) & ~table[seen].all(0))
        _, first = np.unique(table[:, kept], axis=1, return_index=True)
        for channel in kept[np.sort(first)]:
            yield _channel_name(int(channel)), table[index, channel]

    def _of_token(self) -> Iterator[tuple[str, np.ndarray]]:
        rows, to_go = self.rows, self.to_go
        for kind in KINDS:
            if 0 < (is_kind := rows.of_kind(kind)).mean() < 1:
                yield f"token {kind}", is_kind
        own = rows.of_kind(REWARD_TO_GO)
        if own.any():
            yield from _binned("own reward-to-go", to_go, thresholds(to_go, rows.weight, True), own)
        acts = rows.of_kind(ACTION)
        for action in np.unique(self.action[acts]).tolist():
            yield f"own action = {action_name(action)}", acts & (self.action == action)
        everywhere = np.ones(len(rows), bool)
        yield from _binned("own step", rows.step, thresholds(rows.step, rows.weight), everywhere)
        steps, index = np.unique(rows.step, return_inverse=True)
        share = np.bincount(index, weights=rows.weight) / rows.weight.sum()
        for number in np.flatnonzero((share >= self.least) & (share < 1)).tolist():
            yield f"own step = {steps[number]}", index == number


def _binned(
    name: str, values: np.ndarray, edges: list[float], where: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """``name >= t`` for each threshold, and the bins between them, at some rows."""
    for edge in edges:
        yield f"{name} >= {edge:g}", where & (values >= edge)
    bounds = [-np.inf, *sorted(edges), np.inf]
    for low, high in pairwise(bounds):
        yield f"{name} in [{low:g}, {high:g})", where & (values >= low) & (values < high)


def _channel_name(channel: int) -> str:
    """``view 3,5 = ball`` of one of the 980 channels of a flattened view."""
    index, place = divmod(channel, VIEW * VIEW)
    at = f"view {place // VIEW},{place % VIEW}"
    if index < OFFSETS[1]:
        return f"{at} = {OBJECTS[index]}"
    if index < OFFSETS[2]:
        return f"{at} is {_COLOURS[index - OFFSETS[1]]}"
    return f"{at} is {DOOR_STATES[index - OFFSETS[2]]}"
