"""Act step by step without computing again what has not changed.

As long as a window has not begun to slide, and is not padded on the left, a step only adds tokens to it:
what the earlier ones put into attention, their keys and values, stays as it is, also where each token is
edited by itself (:class:`dtx.dt.edits.Depends`). So each distinct context keeps them, and only the new
tokens are computed. The contexts are a trie: each one goes on from a distinct one of the step before, and
where two part ways, the second gets a copy.

Shape suffixes: k contexts computed at once, c new tokens, n tokens so far, d model, h head, e head width,
a action.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.dt.context import Context
from dtx.dt.edits import Depends
from dtx.dt.history import History
from dtx.dt.layers import Block
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.model_config import ModelConfig

CHUNK = 128
"""Contexts computed at once: few enough for their activations to stay in the processor's cache."""
MEMORY = 1 << 30
"""Bytes of keys and values that are kept; contexts beyond it are computed anew at each step."""


class Player(Protocol):
    """What acts: a model, or one that is edited while it runs."""

    @property
    def cfg(self) -> ModelConfig:
        """How windows are made."""
        ...

    @property
    def by_token(self) -> DecisionTransformerModel | None:
        """The model that gives these logits, edited at most token by token; None if there is more to them."""
        ...

    @property
    def depends(self) -> Depends:
        """What the logits of a window depend on beside the weights; ``token`` if nothing edits the model."""
        ...

    def last_logits(self, context: Context, /) -> Tensor:
        """Logits (b, a) at the last state of windows."""
        ...


class Acting:
    """A player's logits along a history, every distinct context computed once where edits allow it.

    Args:
        player: In evaluation mode.
        history: Of n agents; it goes on by one step between two calls.
    """

    def __init__(self, player: Player, history: History):
        self.player, self.history = player, history
        self._kept: KeysAndValues | None = None
        model = player.by_token
        if model is not None and not player.cfg.left_padding:
            self._kept = KeysAndValues(model, history)

    def logits(self, who: np.ndarray) -> np.ndarray:
        """Logits (len(who), a) float64 at the last state of the agents ``who`` (indices)."""
        if self.player.depends > Depends.window:
            return self._each(who)
        first, index = self.history.distinct_contexts(who)
        leaders = who[first]
        if self._kept is not None and not self._kept.goes_on:
            self._kept = None  # the window slides from here on: all that was kept is out of date
        if self._kept is None:
            logits = self._anew(leaders)
        else:
            logits, stored = self._kept.step(leaders)
            if not stored.all():
                logits[~stored] = self._anew(leaders[~stored])
            self._kept.follow(who, index)
        return logits.double().numpy()[index]

    def _each(self, who: np.ndarray) -> np.ndarray:
        """Those of every agent by itself: its edit has random numbers of its own, or sees the others."""
        at_once = len(who) if self.player.depends is Depends.batch else CHUNK
        return self._anew(who, at_once).double().numpy()

    def _anew(self, leaders: np.ndarray, at_once: int | None = None) -> Tensor:
        size = at_once or CHUNK
        parts = [
            self.player.last_logits(self.history.context(leaders[begin : begin + size]))
            for begin in range(0, len(leaders), size)
        ]
        return torch.cat(parts)


class KeysAndValues:
    """Keys and values of the distinct contexts of a growing history, one row each.

    Rows are kept without gaps, in blocks of ``CHUNK``, so that a block is computed in place.

    Args:
        model: Edited at most token by token; its windows are padded on the right.
        history: Whose contexts.
        memory: Bytes; see ``MEMORY``.
    """

    def __init__(self, model: DecisionTransformerModel, history: History, memory: int = MEMORY):
        self.model, self.history = model, history
        self.capacity = memory // bytes_of_row(model, history.horizon)
        self._steps = 0
        self._row_of_agent = np.full(len(history.observation), -1)
        self._blocks: list[Tensor] = []  # (layer, key or value, k, h, n, e)

    @property
    def goes_on(self) -> bool:
        """Whether the history's contexts are those that were kept and one step more."""
        return self._steps + 1 == self.history.step <= self.model.cfg.n_steps

    def step(self, leaders: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Compute the last step's tokens.

        Args:
            leaders: One agent for each distinct context.

        Returns:
            Logits (len(leaders), a), and which of these were computed, for there was a row, (...,) bool.
        """
        row = self._place(self._row_of_agent[leaders])
        self._steps += 1
        self._row_of_leader = row
        by_row = np.flatnonzero(row >= 0)[np.argsort(row[row >= 0])]
        logits = self.model.W_U.new_zeros(len(leaders), self.model.cfg.n_actions)
        for number, begin in enumerate(range(0, len(by_row), CHUNK)):
            here = by_row[begin : begin + CHUNK]
            logits[torch.from_numpy(here)] = self._compute(number, leaders[here])
        return logits, row >= 0

    def follow(self, who: np.ndarray, index: np.ndarray) -> None:
        """Say which of the leaders' contexts the agents ``who`` have: the others have none."""
        self._row_of_agent[:] = -1
        self._row_of_agent[who] = self._row_of_leader[index]

    def _place(self, parent: np.ndarray) -> np.ndarray:
        """Give contexts rows 0, 1, ... with their parents' keys and values; -1 where there is none.

        A parent's first child keeps its row, if that is not beyond the end; others get copies.
        """
        can = np.flatnonzero(parent >= 0) if self._steps else np.arange(len(parent))
        can = can[: self.capacity]
        source, row = parent[can], np.full(len(can), -1)
        if self._steps:
            kept, child = np.unique(source, return_index=True)
            row[child] = np.where(kept < len(can), kept, -1)
        free = np.setdiff1d(np.arange(len(can)), row)
        moved = np.flatnonzero(row < 0)
        row[moved] = free
        while len(self._blocks) * CHUNK < len(can):
            self._blocks.append(self._new_block())
        if self._steps:
            self._copy(source[moved], free)
        del self._blocks[-(-len(can) // CHUNK) :]
        placed = np.full(len(parent), -1)
        placed[can] = row
        return placed

    def _new_block(self) -> Tensor:
        cfg = self.model.cfg
        # Memory is taken up as it is written: what stays empty costs nothing.
        shape = (
            cfg.n_layers,
            2,
            CHUNK,
            cfg.n_heads,
            longest(cfg, self.history.horizon),
            cfg.d_head,
        )
        return torch.empty(shape, dtype=self.model.W_U.dtype)

    def _copy(self, source: np.ndarray, target: np.ndarray) -> None:
        n = self.model.cfg.layout.tokens(self._steps)
        for a in np.unique(source // CHUNK):
            for b in np.unique(target[source // CHUNK == a] // CHUNK):
                both = (source // CHUNK == a) & (target // CHUNK == b)
                old, new = (torch.from_numpy(x[both] % CHUNK) for x in (source, target))
                self._blocks[b][:, :, new, :, :n] = self._blocks[a][:, :, old, :, :n]

    def _compute(self, number: int, leaders: np.ndarray) -> Tensor:
        """Logits (k, a) of the contexts in a block's first k rows; their new keys and values are kept."""
        model, block_kv = self.model, self._blocks[number][:, :, : len(leaders)]
        n = model.cfg.layout.tokens(self._steps)
        c = n - model.cfg.layout.tokens(self._steps - 1) if self._steps > 1 else n
        # The last two steps hold the new tokens: the last action is one only now that a state follows.
        context = self.history.context(leaders, last=2)
        resid_kcd = model.hook_embed(model.embed(context)[:, -c:])
        if model.cfg.positional_embedding:
            resid_kcd = resid_kcd + model.hook_pos_embed(
                model.pos_embed.W_pos[n - c : n].expand_as(resid_kcd)
            )
        blocks: list[Block] = list(model.blocks)
        whole = (
            model.has_hooks
        )  # an edit may read one point and write another: each sees the same tokens
        for layer, block in enumerate(blocks):
            last = (
                layer == len(blocks) - 1 and not whole
            )  # of the last block only the last state is read
            resid_kcd = through(block, resid_kcd, block_kv[layer], n, last)
        return model.read(resid_kcd)[:, -1] if whole else model.read(resid_kcd[:, -1])


def through(block: Block, resid_kcd: Tensor, kept: Tensor, n: int, last: bool) -> Tensor:
    """A block's output at the new tokens, or at the last one alone, (k, c or 1, d).

    Args:
        block: Edited at most token by token.
        resid_kcd: The residual stream before it at the last c of n tokens.
        kept: (key or value, k, h, n or more, e) of the tokens before; those of the new ones are written here.
        n: Tokens in all.
        last: Only the last token is asked for.
    """
    c, attn = resid_kcd.shape[1], block.attn
    resid_kcd = block.hook_resid_pre(resid_kcd)
    x_kcd, *keys_values = block.attended(resid_kcd)
    points = (attn.hook_k, attn.hook_v)
    for i, (name, point, of_kcd) in enumerate(zip("KV", points, keys_values, strict=True)):
        kept[i, :, :, n - c : n] = point(attn.project(of_kcd, name)).transpose(1, 2)
    key_khne, value_khne = kept[:, :, :, :n]
    seen_cn = None
    if last:
        resid_kcd, x_kcd = resid_kcd[:, -1:], x_kcd[:, -1:]
    else:
        seen_cn = torch.ones(c, n, dtype=torch.bool).tril(n - c)
    query_khce = attn.hook_q(attn.project(x_kcd, "Q")).transpose(1, 2)
    z_khce = F.scaled_dot_product_attention(query_khce, key_khne, value_khne, attn_mask=seen_cn)
    return block.after(resid_kcd, attn.summed(z_khce.transpose(1, 2)))


def longest(cfg: ModelConfig, horizon: int) -> int:
    """Tokens of the longest context that an episode has before its window slides."""
    return cfg.layout.tokens(min(cfg.n_steps, horizon))


def bytes_of_row(model: DecisionTransformerModel, horizon: int) -> int:
    """What the keys and values of one context take up at most."""
    cfg = model.cfg
    numbers = cfg.n_layers * 2 * cfg.n_heads * cfg.d_head * longest(cfg, horizon)
    return numbers * model.W_U.element_size()


def contexts_kept(player: Player, horizon: int) -> int | None:
    """How many contexts' keys and values fit in ``MEMORY``.

    None where that bounds nothing: none are kept, or all targets share them, for reward-to-go is not read.
    """
    model = player.by_token
    if model is None or player.cfg.left_padding or not player.cfg.reward_to_go:
        return None
    return max(1, MEMORY // bytes_of_row(model, horizon))
