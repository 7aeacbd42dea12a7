"""Training windows: which are drawn at a step, and how they become a batch.

Everything is vectorised over windows, and a batch is a function of (seed, step) alone.
Letters: e episodes, w windows of a batch, k steps of all its windows one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dtx.dataset.episodes import Episodes, rewards_to_go
from dtx.dt.context import Context, Packed
from dtx.dt.layers import Group, Packing
from dtx.dt.model_config import ModelConfig
from dtx.dt.spec import Balance, Windows
from dtx.dt.tokens import TokenLayout
from dtx.env.encoding import flatten, one_hot
from dtx.errors import UserError
from dtx.training.ranks import ALONE, Rank


@dataclass(frozen=True)
class Drawn:
    """Windows: ``length`` real steps of an episode from its step ``begin`` on.

    Attributes:
        row: (w,) place of the first real step in the columns. begin: (w,) its timestep.
        length: (w,) real steps, at least 1.
    """

    row: np.ndarray
    begin: np.ndarray
    length: np.ndarray


class Sampler:
    """Draws windows of one split and assembles batches.

    Args:
        episodes: The demonstrations.
        cfg: The model that will read the windows (tokens, padding, longest window).
        windows: How windows are drawn.
        split: 0 for training episodes, 1 for validation.
        returns: (e,) by which windows are balanced; None: the episodes' own.

    Raises:
        UserError: The split has no episode, or an episode outlasts the time embedding.
    """

    def __init__(
        self,
        episodes: Episodes,
        cfg: ModelConfig,
        windows: Windows,
        split: int,
        returns: np.ndarray | None = None,
    ):
        self.cfg, self.windows = cfg, windows
        self.observations = episodes.observations
        self.observation, self.action = episodes.observation, episodes.action
        self.start, self.length = np.asarray(episodes.start), np.asarray(episodes.length)
        self.reward_to_go = rewards_to_go(episodes.reward, self.start, self.length)
        if self.length.max(initial=0) > cfg.n_timesteps:
            raise UserError(
                f"dt.model.n_timesteps: {cfg.n_timesteps} timesteps are known, but an episode lasts "
                f"{self.length.max()}; raise it to the environment's step limit"
            )
        chosen = np.flatnonzero(np.asarray(episodes.split) == split)
        if not len(chosen):
            name = ("training", "validation")[split]
            raise UserError(
                f"dataset: no {name} episode to draw windows from; record more episodes"
            )
        by = episodes.returns if returns is None else returns
        groups = _balanced(windows.balance, np.asarray(episodes.outcome), by, chosen)
        self._strata = list(self._stratify(groups))
        if not self._strata:
            raise UserError(
                f"dt.windows.first_share: {windows.first_share:g}, but no episode is longer than the "
                f"{cfg.n_steps} steps of a window, so none starts later; raise it or lower windows.context"
            )
        share = np.array([share for share, _, _ in self._strata])
        self._bounds = np.cumsum(share / share.sum())

    def _stratify(self, groups: list[tuple[float, np.ndarray]]):
        """Yield (share, episodes, whether windows start later than the episode)."""
        first = self.windows.first_share
        for share, episodes in groups:
            if self.cfg.left_padding:
                if len(episodes):
                    yield share, episodes, False
                continue
            longer = episodes[self.length[episodes] > self.cfg.n_steps]
            if len(episodes) and first:
                yield share * first, episodes, False
            if len(longer) and first < 1:
                yield share * (1 - first), longer, True

    def draw(self, rng: np.random.Generator, count: int) -> Drawn:
        """Draw windows; the strata get their shares of ``count`` to within one window."""
        place = (np.arange(count) + rng.random()) / count
        stratum = np.minimum(np.searchsorted(self._bounds, place), len(self._strata) - 1)
        first, second = rng.random(count), rng.random(count)
        episode, begin = np.zeros(count, np.int64), np.zeros(count, np.int64)
        for i, (_, episodes, later) in enumerate(self._strata):
            chosen_w = stratum == i
            if self.cfg.left_padding:
                # Any step may be a window's last, so long episodes count for more.
                steps = np.cumsum(self.length[episodes])
                last = (first[chosen_w] * steps[-1]).astype(np.int64)
                which = np.searchsorted(steps, last, side="right")
                begin[chosen_w] = last - (steps[which] - self.length[episodes][which])
                at_end = second[chosen_w] < self.windows.end_share
                final = self.length[episodes][which] - 1
                begin[chosen_w] = np.where(at_end, final, begin[chosen_w])
            else:
                which = (first[chosen_w] * len(episodes)).astype(np.int64)
                if later:
                    starts = self.length[episodes[which]] - self.cfg.n_steps
                    begin[chosen_w] = 1 + (second[chosen_w] * starts).astype(np.int64)
            episode[chosen_w] = episodes[which]
        if self.cfg.left_padding:
            length = np.minimum(begin + 1, self.cfg.n_steps)
            begin = begin + 1 - length
        else:
            length = np.minimum(self.length[episode] - begin, self.cfg.n_steps)
            length = self._cut(rng, length)
        return Drawn(self.start[episode] + begin, begin, length)

    def _cut(self, rng: np.random.Generator, length: np.ndarray) -> np.ndarray:
        """End the windows (w,) that are not to be whole after ``cut`` steps, or at a step drawn evenly.

        The step must not depend on the episode's own length: that would favour actions after which episodes
        go on, or end.
        """
        chosen = self.windows
        if chosen.whole_share == 1:
            return length  # as before there were cuts: no random number more
        last: int | np.ndarray = chosen.cut or 0
        if chosen.cut is None:
            last = 1 + (rng.random(len(length)) * self.cfg.n_steps).astype(np.int64)
        whole = rng.random(len(length)) < chosen.whole_share
        return np.where(whole, length, np.minimum(length, last))

    def batch(self, seed: int, step: int, count: int, rank: Rank = ALONE) -> Packed:
        """The training batch of a step, or a rank's share of it: a pure function of the arguments."""
        key = np.array([seed, step], np.uint64)
        return self.pack(self.draw(np.random.Generator(np.random.Philox(key=key)), count), rank)

    def pack(self, drawn: Drawn, rank: Rank = ALONE) -> Packed:
        """Assemble windows without padding between them, equal windows once with their number.

        Ranks deal the distinct windows out like cards, so that all get as many long ones.
        """
        drawn, weight = self._merge(drawn)
        total = np.float32((weight * drawn.length).sum())
        if rank.count > 1:
            drawn, weight = _share(drawn, weight, rank)
        cfg, layout = self.cfg, self.cfg.layout
        per = layout.per_step
        pad_w = cfg.n_steps - drawn.length if cfg.left_padding else np.zeros_like(drawn.length)
        steps_w = drawn.length + pad_w
        within_k, window_k = _ragged(steps_w)
        real_k = within_k >= pad_w[window_k]
        row_k = drawn.row[window_k] + np.maximum(within_k - pad_w[window_k], 0)
        table_k, table = self._table(self.observation[row_k], real_k)
        action_k = np.where(real_k, self.action[row_k], cfg.n_actions).astype(np.int64)
        values, value_k = np.unique(self.reward_to_go[row_k], return_inverse=True)

        contents = [table_k, len(table) + action_k]
        if cfg.reward_to_go:
            contents.insert(0, len(table) + cfg.n_actions + 1 + value_k)
        time_k = np.where(real_k, drawn.begin[window_k] + within_k - pad_w[window_k], 0)
        kept = np.ones((len(row_k), per), bool)
        # A window's last action is not a token.
        kept[np.cumsum(steps_w) - 1, layout.first_state + 1 :] = False
        kept = kept.ravel()
        place = (within_k[:, None] * per + np.arange(per)).ravel()[kept]
        is_state = np.tile(np.arange(per) == layout.first_state, len(row_k))[kept]
        tensor = torch.from_numpy
        return Packed(
            table=table,
            reward_to_go=tensor(values),
            content=tensor(np.stack(contents, 1).ravel()[kept]),
            timestep=tensor(np.repeat(time_k, per)[kept]),
            place=tensor(place),
            packing=Packing(_groups(steps_w, layout), tensor(np.flatnonzero(is_state)), layout),
            target=tensor(np.where(real_k, action_k, 0)),
            weight=tensor((weight[window_k] * real_k).astype(np.float32)),
            total=torch.tensor(total),
            windows=int(weight.sum()),
        )

    def context(self, drawn: Drawn) -> tuple[Context, torch.Tensor, torch.Tensor]:
        """The same windows padded to the longest the model takes, in the order drawn.

        Returns:
            The context, actions (w, t) int64 taken at its states, and (w, t) bool: a real step.
        """
        cfg = self.cfg
        pad_w = cfg.n_steps - drawn.length if cfg.left_padding else np.zeros_like(drawn.length)
        within = np.arange(cfg.n_steps)[None, :] - pad_w[:, None]
        real = (within >= 0) & (within < drawn.length[:, None])
        row = drawn.row[:, None] + np.clip(within, 0, drawn.length[:, None] - 1)
        index, table = self._table(self.observation[row.ravel()], real.ravel())
        action = np.where(real, self.action[row], cfg.n_actions).astype(np.int64)
        tensor = torch.from_numpy
        context = Context.of(
            layout=cfg.layout,
            observation=tensor(index.reshape(real.shape)),
            table=table,
            action=tensor(action),
            reward_to_go=tensor(self.reward_to_go[row]),
            timestep=tensor(np.where(real, drawn.begin[:, None] + within, 0)),
        )
        return context, tensor(np.where(real, action, 0)), tensor(real)

    def mean_one_hot(self) -> torch.Tensor:
        """Mean flattened observation (c,) over the steps of the windows' episodes."""
        episodes = np.concatenate([episodes for _, episodes, later in self._strata if not later])
        within, which = _ragged(self.length[episodes])
        rows = self.observation[self.start[episodes][which] + within]
        count = np.bincount(rows, minlength=len(self.observations)).astype(np.float32)
        seen = np.flatnonzero(count)
        share = torch.from_numpy(count[seen] / count.sum())
        return share @ observation_table(self.observations[seen])[:-1]

    def _table(self, observation: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
        """Rows of a table of the distinct observations at hand; padding gets its zero last row."""
        used, index = np.unique(observation, return_inverse=True)
        return np.where(real, index, len(used)), observation_table(self.observations[used])

    def _merge(self, drawn: Drawn) -> tuple[Drawn, np.ndarray]:
        """The distinct windows sorted by length, and (w,) how often each was drawn."""
        within_k, window_k = _ragged(drawn.length)
        row_k = drawn.row[window_k] + within_k
        step_k = np.stack(
            [
                self.observation[row_k].astype(np.uint64),
                self.action[row_k].astype(np.uint64),
                self.reward_to_go[row_k].view(np.uint32).astype(np.uint64),
                (drawn.begin[window_k] + within_k).astype(np.uint64),
            ],
            axis=1,
        )
        hashed_k = (step_k * _ODD[within_k % len(_ODD)]).sum(1, dtype=np.uint64)
        first_k = np.cumsum(drawn.length) - drawn.length
        hashed_w = np.add.reduceat(hashed_k, first_k) + drawn.length.astype(np.uint64)
        _, kept, inverse = np.unique(hashed_w, return_index=True, return_inverse=True)
        same = kept[inverse]
        if (drawn.length[same] == drawn.length).all():
            twin_k = first_k[same][window_k] + within_k
            if (step_k[twin_k] == step_k).all():
                count = np.bincount(inverse, minlength=len(kept))
                order = np.lexsort((kept, drawn.length[kept]))
                kept, count = kept[order], count[order]
                return Drawn(drawn.row[kept], drawn.begin[kept], drawn.length[kept]), count
        order = np.argsort(drawn.length, kind="stable")  # two windows share a hash: merge none
        parts = (drawn.row[order], drawn.begin[order], drawn.length[order])
        return Drawn(*parts), np.ones(len(order), np.int64)


_ODD = np.random.Generator(np.random.Philox(key=[0, 1])).integers(
    1 << 62, size=(64, 4), dtype=np.uint64
) * np.uint64(2) + np.uint64(1)
"""Random odd multipliers by place in the window and column: equal sums mean equal windows, bar chance."""


TENTHS = 10
"""Into how many equal parts of their range the returns of successes are divided, to be drawn alike."""


def _balanced(
    balance: Balance, outcome: np.ndarray, returns: np.ndarray, chosen: np.ndarray
) -> list[tuple[float, np.ndarray]]:
    """Shares of windows, and the episodes (numbers among ``chosen``) that each is drawn from.

    Which returns are drawn how often does not change what follows from a history and its reward-to-go.
    """
    of = outcome[chosen]
    if balance is Balance.none:
        return [(1.0, chosen)]
    if balance is Balance.outcome:
        return [(1 / 3, chosen[of == kind]) for kind in range(3)]
    failures, successes = chosen[of != 0], chosen[of == 0]
    if balance is Balance.success or not len(successes):
        return [(1 / 2, successes), (1 / 2, failures)]
    values = returns[successes]
    width = max(float(np.ptp(values)), 1e-9)
    tenth = np.minimum(((values - values.min()) / width * TENTHS).astype(int), TENTHS - 1)
    parts = [successes[tenth == part] for part in np.unique(tenth)]
    evenly = [(1 / 4 / len(parts), part) for part in parts]
    return [(1 / 4, successes), *evenly, (1 / 2, failures)]


def observation_table(observations: np.ndarray) -> torch.Tensor:
    """Flattened one-hots (u + 1, c) float32 of distinct observations; the last row is zero."""
    encoded = flatten(one_hot(observations)).astype(np.float32)
    return torch.from_numpy(np.concatenate([encoded, np.zeros_like(encoded[:1])]))


def _share(drawn: Drawn, weight: np.ndarray, rank: Rank) -> tuple[Drawn, np.ndarray]:
    """Every ``count``-th window, still sorted by length; nothing left is a window that counts 0 times."""
    kept = np.arange(rank.number, len(weight), rank.count)
    counts = weight[kept]
    if not len(kept):
        kept, counts = np.zeros(1, np.int64), np.zeros(1, np.int64)
    return Drawn(drawn.row[kept], drawn.begin[kept], drawn.length[kept]), counts


def _ragged(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place within its window, and the window, of every step of windows laid end to end."""
    window = np.repeat(np.arange(len(lengths)), lengths)
    return np.arange(len(window)) - (np.cumsum(lengths) - lengths)[window], window


def _groups(steps_w: np.ndarray, layout: TokenLayout) -> tuple[Group, ...]:
    """Groups of equally long windows, which are sorted by length."""
    lengths, counts = np.unique(steps_w, return_counts=True)
    return tuple(
        Group(count, layout.tokens(steps), steps)
        for steps, count in zip(lengths.tolist(), counts.tolist(), strict=True)
    )
