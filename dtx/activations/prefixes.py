"""The windows of demonstrations and their distinct prefixes: what a token's activation depends on.

With causal attention an activation follows from the tokens up to its own. Windows that begin alike share
activations: each distinct prefix is found once, with how often it occurs. Prefixes are compared token by
token, never by a hash.

Letters: w windows, l longest windows (that begin no other), p distinct prefixes, r stored rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dtx.activations.spec import SHARD
from dtx.dataset.episodes import Episodes
from dtx.dt.model_config import ModelConfig
from dtx.dt.tokens import ACTION, REWARD_TO_GO
from dtx.errors import UserError

_EPISODES, _OTHERS, _OWNER, _ORDER, _SHARDS, _DRAWN = range(6)
"""Streams of random numbers, so that one field changes no other's choice."""


def rng(seed: int, stream: int) -> np.random.Generator:
    """Random numbers for one purpose."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))


@dataclass(frozen=True)
class WindowList:
    """Windows of episodes.

    Attributes:
        episode: (w,) number of the episode. begin: (w,) its step at which the window starts.
        length: (w,) steps, at least 1. padding: (w,) steps of padding before them.
        row: (w,) place of the first step in the columns of the demonstrations.
    """

    episode: np.ndarray
    begin: np.ndarray
    length: np.ndarray
    padding: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, some: np.ndarray) -> WindowList:
        return WindowList(
            self.episode[some],
            self.begin[some],
            self.length[some],
            self.padding[some],
            self.row[some],
        )


def windows_of(
    episodes: Episodes, cfg: ModelConfig, count: int | None, others: int | None, seed: int
) -> WindowList:
    """One window of every episode, and some or all of the others, sorted by falling length.

    With right padding the one starts where the episode does, and others start later and are full. With left
    padding the one ends where the episode does, and others end earlier.

    Args:
        episodes: Demonstrations. cfg: Of the model that reads the windows.
        count: So many episodes, drawn by the seed; None: all.
        others: At most so many other windows of an episode, drawn by the seed; None: all.
        seed: Of both.

    Raises:
        UserError: The model cannot read the demonstrations.
    """
    length = np.asarray(episodes.length).astype(np.int64)
    if length.max(initial=0) > cfg.n_timesteps and cfg.time_embedding == "learned":
        raise UserError(
            f"activations.dataset: an episode lasts {length.max()} steps, but the model knows "
            f"{cfg.n_timesteps} timesteps; give the demonstrations that it was trained on"
        )
    if len(episodes.action) and episodes.action.max() >= cfg.n_actions:
        raise UserError(
            f"activations.dataset: there is an action {episodes.action.max()}, but the model has "
            f"{cfg.n_actions} actions; give the demonstrations that it was trained on"
        )
    chosen = np.arange(len(length))
    if count is not None and count < len(chosen):
        chosen = np.sort(rng(seed, _EPISODES).permutation(chosen)[:count])
    if not len(chosen):
        raise UserError("activations.dataset: there is no episode; record some")
    of = length[chosen]
    # Numbers of an episode's other windows: 1 is the second to start, or with left padding to end earlier.
    there = np.maximum(of - (1 if cfg.left_padding else cfg.n_steps), 0)
    which, number = _some(there, others, rng(seed, _OTHERS))
    episode = np.concatenate([chosen, chosen[which]])
    shift = np.concatenate([np.zeros(len(chosen), np.int64), number])
    if cfg.left_padding:
        stop = length[episode] - shift
        begin = np.maximum(stop - cfg.n_steps, 0)
    else:
        begin, stop = shift, np.minimum(length[episode], shift + cfg.n_steps)
    steps = stop - begin
    padding = cfg.n_steps - steps if cfg.left_padding else np.zeros_like(steps)
    row = np.asarray(episodes.start)[episode] + begin
    found = WindowList(episode, begin, steps, padding, row)
    return found[np.argsort(-steps, kind="stable")]


def _some(
    there: np.ndarray, most: int | None, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which episode, and number from 1, of at most ``most`` of each episode's other windows."""
    if most == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    which = np.repeat(np.arange(len(there)), there)
    number = np.arange(len(which)) - (np.cumsum(there) - there)[which] + 1
    if most is not None:
        drawn = np.lexsort((generator.random(len(which)), which))
        kept = np.sort(drawn[number <= most])  # numbers are places within an episode, too
        which, number = which[kept], number[kept]
    return which, number


class Contents:
    """What the tokens of windows hold, as whole numbers.

    Args:
        episodes: Demonstrations. cfg: Of the model.
    """

    def __init__(self, episodes: Episodes, cfg: ModelConfig):
        self.layout = cfg.layout
        self.columns: dict[str, np.ndarray] = {}
        for kind in self.layout.kinds:
            if kind == REWARD_TO_GO:
                self.columns[kind] = np.unique(episodes.reward_to_go, return_inverse=True)[1]
            else:
                self.columns[kind] = episodes.action if kind == ACTION else episodes.observation
        most = max((int(c.max(initial=0)) for c in self.columns.values()), default=0)
        self.distinct = most + 1

    def levels(self, windows: WindowList) -> Iterator[np.ndarray]:
        """For the first token, the second, ...: the prefix (k,) of each window that has this token.

        Windows are sorted by falling length. Prefixes of a level are numbered from 0, in an order that does
        not depend on which windows there are beside those that begin others.
        """
        per, tokens_w = self.layout.per_step, self.layout.tokens(windows.length)
        starts = windows.begin * (int(windows.padding.max(initial=0)) + 1) + windows.padding
        prefix_k: np.ndarray = np.unique(starts, return_inverse=True)[1]
        for place in range(int(tokens_w[0])):
            there = int(np.searchsorted(-tokens_w, -place, side="left"))
            code_k = self.columns[self.layout.kind(place)][windows.row[:there] + place // per]
            joint_k = prefix_k[:there] * self.distinct + code_k
            prefix_k = np.unique(joint_k, return_inverse=True)[1]
            yield prefix_k


@dataclass(frozen=True)
class Rows:
    """The distinct prefixes in the order in which they are stored.

    Attributes:
        windows: l windows to compute, in the order of the shards.
        window: (r,) whose window the row is taken from. place: (r,) token of that window, without padding.
        prefix: (r,) number of the prefix, which no seed changes.
        count: (r,) how often the prefix occurs. held_out: (r,) how often in held-out episodes.
        shards: Bounds of the shards among the rows; the first is 0, the last r.
        tokens: Real tokens of these kinds in all windows.
        all_windows: How many windows there are, equal ones and beginnings of others counted.
    """

    windows: WindowList
    window: np.ndarray
    place: np.ndarray
    prefix: np.ndarray
    count: np.ndarray
    held_out: np.ndarray
    shards: np.ndarray
    tokens: int
    all_windows: int

    def __len__(self) -> int:
        return len(self.prefix)


def rows_of(
    contents: Contents,
    windows: WindowList,
    held_out: np.ndarray,
    kinds: tuple[str, ...],
    seed: int,
    shard: int = SHARD,
) -> Rows:
    """Find the distinct prefixes, choose a window for each, and put them in order.

    Args:
        contents: Of the tokens. windows: Sorted by falling length.
        held_out: (episodes,) bool, which count as held out.
        kinds: Of tokens whose rows are stored.
        seed: Of the order, and of the window that a prefix is taken from.
        shard: Rows of a shard, about.
    """
    counts, held, ends_w = _counted(contents, windows, held_out[windows.episode])
    # A window that begins another one has all its prefixes there; of equal ones the first is enough.
    ends_w[np.setdiff1d(np.arange(len(windows)), np.unique(ends_w, return_index=True)[1])] = -1
    longest = windows[np.flatnonzero(ends_w >= 0)]
    window, place, prefix = _chosen(contents, longest, kinds, [len(c) for c in counts], seed)
    order, number = _ordered(window, len(longest), seed)
    window = number[window]
    bounds = _bounds(np.bincount(window), shard)
    sorted_r = np.argsort(window, kind="stable")[_shuffled_within(bounds, seed)]
    window, place, prefix = window[sorted_r], place[sorted_r], prefix[sorted_r]
    del sorted_r
    count, held_out = np.concatenate(counts)[prefix], np.concatenate(held)[prefix]
    return Rows(
        windows=longest[order],
        window=window,
        place=place,
        prefix=prefix,
        count=count,
        held_out=held_out,
        shards=bounds,
        tokens=int(count.sum()),
        all_windows=len(windows),
    )


def _chosen(
    contents: Contents,
    longest: WindowList,
    kinds: tuple[str, ...],
    prefixes: Sequence[int],
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(r,) a window drawn among those that have the prefix, the place in it, and the prefix; by level.

    ``prefixes``: how many each level has.
    """
    generator, offset = rng(seed, _OWNER), 0
    window, place, prefix = [], [], []
    for n, prefix_k in enumerate(contents.levels(longest)):
        if contents.layout.kind(n) in kinds:
            drawn = generator.permutation(len(prefix_k))
            first = drawn[np.unique(prefix_k[drawn], return_index=True)[1]]
            window.append(first.astype(np.int32))
            place.append(np.full(len(first), n, np.int16 if n < 2**15 else np.int64))
            prefix.append(np.arange(offset, offset + len(first)))
        offset += prefixes[n]
    return np.concatenate(window), np.concatenate(place), np.concatenate(prefix)


def _counted(
    contents: Contents, windows: WindowList, held_out_w: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """By level, how often each prefix occurs, and in held-out windows; (w,) the prefix, over all levels, at
    which a window ends, or -1 where another window goes on from there."""
    counts: list[np.ndarray] = []
    held: list[np.ndarray] = []
    ends_w = np.full(len(windows), -1, np.int64)
    tokens_w, offset = contents.layout.tokens(windows.length), 0
    for place, prefix_k in enumerate(contents.levels(windows)):
        counts.append(np.bincount(prefix_k).astype(np.int32))
        kept = prefix_k[held_out_w[: len(prefix_k)]]
        held.append(np.bincount(kept, minlength=len(counts[-1])).astype(np.int32))
        on = int(np.searchsorted(-tokens_w, -place - 1, side="left"))
        goes_on = np.zeros(len(counts[-1]), bool)
        goes_on[prefix_k[:on]] = True
        ending = np.arange(on, len(prefix_k))
        last = ending[~goes_on[prefix_k[ending]]]
        ends_w[last] = offset + prefix_k[last]
        offset += len(counts[-1])
    return counts, held, ends_w


def _ordered(window: np.ndarray, windows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The windows from which rows are taken in a random order, and (l,) the number of each in it."""
    order = rng(seed, _ORDER).permutation(windows)
    used = np.zeros(windows, bool)
    used[window] = True
    order = order[used[order]]
    number = np.full(windows, -1, np.int32)
    number[order] = np.arange(len(order))
    return order, number


def _bounds(rows_l: np.ndarray, shard: int) -> np.ndarray:
    """Where shards end among the rows: with the window with which they are full."""
    stops = np.cumsum(rows_l)
    full = np.searchsorted(stops, np.arange(shard, stops[-1], shard))
    return np.unique([0, *stops[full], stops[-1]])


def _shuffled_within(bounds: np.ndarray, seed: int) -> np.ndarray:
    """A random order of all rows that leaves each in its shard."""
    generator = rng(seed, _SHARDS)
    parts = [begin + generator.permutation(end - begin) for begin, end in pairwise(bounds)]
    return np.concatenate(parts)


def drawn_share(count: int, share: float, seed: int, what: int) -> np.ndarray:
    """(count,) bool: a share of things, drawn by the seed; ``what`` keeps draws of different things apart."""
    order = rng(seed, _DRAWN + what).permutation(count)
    return order < round(share * count)
