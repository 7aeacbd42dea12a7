"""Which rows a step of training reads: each counts as often as it occurs.

A row that occurs often is read several times a pass, so that no batch hangs on one row; its weight is shared
among those times. The order is a function of seed and step, so that training goes on anywhere.

Letters: r stored rows, n rows of a batch, d activation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtx.activations.stored import POOL, READ_TOGETHER, Activations, Part
from dtx.dictionary.spec import Split
from dtx.errors import UserError

MOST = 8.0
"""A row that weighs more than so many average rows is read several times a pass."""


@dataclass(frozen=True)
class Weights:
    """How often each row is read in a pass, and what it weighs then.

    Attributes:
        times: (r,) int32: readings a pass; 0: not a row to train on.
        weight: (r,) float32 of each reading; the mean over a pass is 1.
    """

    times: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, stored: Activations, held_out: Split) -> Weights:
        """Of the training part of a split.

        Raises:
            UserError: It has no rows.
        """
        rows = stored.rows(held_out.value, Part.TRAIN)
        if not len(rows):
            raise UserError(
                f"dictionary.held_out: no rows to train on in the split by {held_out.value}"
            )
        count = np.asarray(stored.columns["count"][rows], np.float64)
        times = np.zeros(len(stored), np.int32)
        weight = np.zeros(len(stored), np.float32)
        times[rows] = np.ceil(count / (MOST * count.mean()))
        weight[rows] = count / times[rows] * (times.sum() / count.sum())
        return cls(times, weight)

    @property
    def rows(self) -> int:
        """Distinct rows to train on."""
        return int((self.times > 0).sum())


@dataclass(frozen=True)
class Batch:
    """Rows of a step.

    Attributes:
        x: (n, d) float32 by hook. weight: (n,) float32. rows: (n,) numbers of the rows in the store.
    """

    x: dict[str, Tensor]
    weight: Tensor
    rows: np.ndarray


class Passes:
    """Batches by the number of the step.

    Args:
        stored: Activations.
        hooks: Those that are read.
        weights: Which rows how often.
        size: Rows of a batch; what fills none at the end of a pass is left out of it.
        seed: Of the order.

    Raises:
        UserError: A pass has fewer rows than a batch.
    """

    def __init__(
        self,
        stored: Activations,
        hooks: tuple[str, ...],
        weights: Weights,
        size: int,
        seed: int,
    ):
        self.stored, self.hooks, self.weights = stored, hooks, weights
        self.size, self.seed = size, seed
        self._in_block = np.add.reduceat(weights.times, _starts(stored), dtype=np.int64)
        self.batches = int(self._in_block.sum()) // size
        if not self.batches:
            raise UserError(
                f"dictionary.batch_size={size}: there are {weights.rows:,} rows to train on; "
                "choose a smaller batch, or store more activations"
            )
        self._pools: dict[tuple[int, int], tuple[np.ndarray, dict[str, np.ndarray]]] = {}
        self._order: tuple[int, np.ndarray, np.ndarray] | None = None

    def batch(self, step: int) -> Batch:
        """The rows of a step."""
        number, place = divmod(step, self.batches)
        blocks, begins = self._pass(number)
        begin, end = place * self.size, (place + 1) * self.size
        first = int(np.searchsorted(begins, begin, "right")) - 1
        last = int(np.searchsorted(begins, end - 1, "right")) - 1
        self._pools = {key: self._pools[key] for key in self._pools if key >= (number, first)}
        rows, parts = [], {hook: [] for hook in self.hooks}
        for pool in range(first, last + 1):
            there, x = self._pool(number, pool, blocks)
            some = slice(max(0, begin - begins[pool]), end - begins[pool])
            rows.append(there[some])
            for hook in self.hooks:
                parts[hook].append(x[hook][some])
        chosen = np.concatenate(rows)
        x = {h: torch.from_numpy(np.concatenate(p).astype(np.float32)) for h, p in parts.items()}
        return Batch(x, torch.from_numpy(self.weights.weight[chosen]), chosen)

    def _pass(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the blocks in a pass, and where in it each pool begins."""
        if self._order is None or self._order[0] != number:
            blocks = self._random(number, 0).permutation(len(self._in_block))
            pools = np.add.reduceat(self._in_block[blocks], np.arange(0, len(blocks), POOL))
            begins = np.cumsum(pools) - pools
            self._order = number, blocks, begins
        return self._order[1], self._order[2]

    def _pool(
        self, number: int, pool: int, blocks: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Rows of a pool in their order, and their values."""
        if (number, pool) not in self._pools:
            chosen, wanted = blocks[pool * POOL : (pool + 1) * POOL], self.weights.times > 0
            values: dict[str, np.ndarray] = {}
            rows = np.zeros(0, np.int64)
            for hook in self.hooks:
                read = [self.stored.block(hook, int(b), wanted) for b in chosen]
                values[hook] = np.concatenate([x for x, _ in read])
                rows = np.concatenate([r for _, r in read])
            order = np.repeat(np.arange(len(rows)), self.weights.times[rows])
            order = self._random(number, pool + 1).permutation(order)
            shuffled = {hook: x[order] for hook, x in values.items()}
            self._pools[number, pool] = rows[order], shuffled
        return self._pools[number, pool]

    def _random(self, number: int, part: int) -> np.random.Generator:
        return np.random.Generator(
            np.random.Philox(np.random.SeedSequence([self.seed, number, part]))
        )


def _starts(stored: Activations) -> np.ndarray:
    """First row of each block."""
    return np.arange(0, len(stored), READ_TOGETHER)


@dataclass(frozen=True)
class Scale:
    """How the activations of a hook are centred, and scaled to a mean squared norm of d, for training.

    Attributes:
        mean: (d,) of all readings of a pass. factor: Centred activations are multiplied by it.
    """

    mean: Tensor
    factor: float

    @classmethod
    def of(cls, stored: Activations, hook: str, weights: Weights, normalise: bool) -> Scale:
        """From all rows to train on, each counted as often as it occurs; factor 1 without ``normalise``.

        Raises:
            UserError: All vectors are equal, or one holds a number that is not finite.
        """
        d, wanted = stored.hooks[hook], weights.times > 0
        total, squares, norm = 0.0, 0.0, np.zeros(d)
        shift = None
        for number in range(stored.blocks):
            x, rows = stored.block(hook, number, wanted)
            if not len(rows):
                continue
            if not (finite := np.isfinite(x).all(1)).all():
                raise UserError(
                    f"{stored.folder.name}: row {rows[~finite][0]} of {hook} holds a number that is not "
                    f"finite; `dtx invalidate {stored.folder.name}` sets the activations aside"
                )
            weight = weights.weight[rows].astype(np.float64) * weights.times[rows]
            x = x.astype(np.float64)
            shift = x.mean(0) if shift is None else shift  # large means would cost digits
            x -= shift
            norm += weight @ x
            squares += float(weight @ np.einsum("nd,nd->n", x, x))
            total += float(weight.sum())
        assert shift is not None
        variance = squares / total - float((norm / total) @ (norm / total))
        if variance <= 1e-12 * (1 + float(shift @ shift)):
            raise UserError(f"dictionary.hooks: all stored vectors of {hook} are equal")
        mean = torch.from_numpy((shift + norm / total).astype(np.float32))
        return cls(mean, float((d / variance) ** 0.5) if normalise else 1.0)

    def __call__(self, x_nd: Tensor) -> Tensor:
        """Centred and scaled."""
        return (x_nd - self.mean) * self.factor


def require_distinct(stored: Activations, hook: str, weights: Weights, width: int) -> None:
    """Refuse a dictionary that is wider than there are distinct vectors to train it on.

    Raises:
        UserError: With both numbers.
    """
    known: set[bytes] = set()
    for number in range(stored.blocks):
        x, _ = stored.block(hook, number, weights.times > 0)
        known.update(row.tobytes() for row in x)
        if len(known) >= width:
            return
    raise UserError(
        f"dictionary.width={width}: {hook} has {len(known):,} distinct vectors to train on, fewer than "
        f"that; choose a smaller width, or store more activations"
    )
