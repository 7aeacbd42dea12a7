"""Take edges out of a model until nothing more can go without losing the difference between two runs.

The search is greedy and goes from the whole model down, as ACDC (Conmy et al., 2023) does, in blocks first:

1. cells in blocks of up to :data:`LARGEST`, the weakest by slope first (attribution at the circuit as it is
   by then, as EAP-IG attributes along a path; Hanna et al., 2024);
2. whole inputs, senders at a token, edges at all tokens, inputs at a token: each one's removal is measured;
3. single cells: each one's removal is measured, until none can go.

Slopes and single removals only order what is tried: every step is measured, and kept only if the circuit is
faithful after it. Cells are chosen so that what they move in each pair's share adds up to little: the search
is for an order in which errors do not pile up, and two-sided faithfulness is what is held.

Shape suffixes: p pairs, k candidates, n tokens, r receivers' inputs, s senders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dtx.analysis.smallest_circuit.masked import MaskedRuns

LARGEST = 0.05
"""Share of a circuit that is taken out at once (2026-11-29: at .1 circuits come out a fifth larger, at .03 as
large in twice the time)."""
DRIFT = 0.5
"""Share of the allowed distance that a step by slope may use up by its own estimate."""
BLOCKS = ((1,), (0, 2), (1, 2), (0, 1))
"""Axes (token, input, sender) on which a block has one place: inputs, senders at a token, edges, inputs at a
token."""
NOISE = 1e-6
"""Slopes up to this are rounding errors of float32 (2026-11-30; ties of that size are no edges)."""
GROWTH = 1.5
"""After a step that held the next one may be so much larger, after one that did not half as large."""


def distance(kept: np.ndarray) -> np.ndarray:
    """|1 - f| (...), the mean over pairs of what circuits keep (..., p): too much counts as too little."""
    return np.abs(1 - kept).mean(-1)


@dataclass
class Pruning:
    """A search for the smallest circuit of some pairs.

    Attributes:
        runs: The pairs. allowed: Largest distance of a circuit that counts as faithful.
        mask_nrs: The circuit by now. removed: Cells (cells, 3) that were taken out, in order.
        measured: Circuits that were run. lost_pk: Share of each pair that each cell's removal took when cells
            were last measured one by one: in the circuit that was found, if it is. alone_k: Which could go.
    """

    runs: MaskedRuns
    allowed: float
    mask_nrs: np.ndarray = field(init=False)
    removed: list[np.ndarray] = field(init=False, default_factory=list)
    measured: int = field(init=False, default=0)
    lost_pk: np.ndarray = field(init=False)
    alone_k: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.mask_nrs = self.runs.cells_nrs.copy()
        self.lost_pk, self.alone_k = np.zeros((len(self.runs.span), 0)), np.zeros(0, bool)

    def search(self) -> np.ndarray:
        """The smallest circuit (n, r, s) that was found."""
        self._by_slope(self.allowed, DRIFT * self.allowed)
        for axes in (*BLOCKS, (0, 1, 2)):
            self._by_removal(axes)
        return self.mask_nrs.copy()

    def order(self) -> np.ndarray:
        """All cells (cells, 3), the last that would be taken out first: what was kept, then what was removed.

        Below the smallest circuit, cells go by slope without regard to faithfulness.
        """
        kept, removed = self.mask_nrs.copy(), list(self.removed)
        while self.mask_nrs.any():
            cells, _, lost_pk = self._slopes()
            weakest = np.argsort(np.abs(lost_pk).mean(0), kind="stable")
            self._take(cells[weakest[: max(1, len(cells) // 5)]])
        order = np.concatenate([np.zeros((0, 3), int), *self.removed])[::-1]
        self.mask_nrs, self.removed = kept, removed
        return order

    def _slopes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells of the circuit (k, 3), what it keeps (p,), and what each one's removal would take (p, k)."""
        kept_p, lost_pk = self.runs.slopes(self.mask_nrs)
        self.measured += 1
        return np.argwhere(self.mask_nrs), kept_p, lost_pk

    def _by_slope(self, allowed: float, drift: float) -> None:
        share = LARGEST
        while self.mask_nrs.any():
            cells, kept_p, lost_pk = self._slopes()
            most = max(1, int(share * len(cells)))
            # What does nothing to any pair does not count: it goes at once, if it can.
            tried = most + int((np.abs(lost_pk).max(0) <= NOISE).sum())
            while True:
                chosen = balanced(lost_pk, kept_p, tried, drift)
                if not len(chosen):
                    return
                if self._try([cells[chosen]], allowed):
                    share = min(LARGEST, share * GROWTH)
                    break
                if len(chosen) == 1:
                    return
                tried = min(most, len(chosen) // 2) if tried > most else len(chosen) // 2
                share = tried / len(cells)

    def _by_removal(self, axes: tuple[int, ...]) -> None:
        """Measure every block's removal, take out what can go together, and again until nothing goes."""
        single = len(axes) == 3
        while self.mask_nrs.any():
            blocks = grouped(np.argwhere(self.mask_nrs), axes)
            before = int(self.mask_nrs.sum())
            (kept_p,) = self.runs.kept([self.mask_nrs])
            without_kp = self.runs.kept_without(self.mask_nrs, blocks)
            self.measured += len(blocks) + 1
            self.lost_pk = (kept_p - without_kp).T
            self.alone_k = distance(without_kp) <= self.allowed
            self._together(blocks, self.lost_pk, self.alone_k)
            gone = before - int(self.mask_nrs.sum())
            # Blocks are a preparation: they are not measured anew for the last few.
            if not gone or (not single and gone < LARGEST * before):
                return

    def _together(
        self, blocks: Sequence[np.ndarray], lost_pk: np.ndarray, alone_k: np.ndarray
    ) -> None:
        """Take out blocks of which each one alone can go, as many as can go together."""
        left = alone_k.copy()
        most = max(1, int(2 * LARGEST * len(blocks)))
        failed = 0
        while left.any() and failed < PATIENCE:
            (kept_p,) = self.runs.kept([self.mask_nrs])
            where = np.flatnonzero(left)
            chosen = where[balanced(lost_pk[:, where], kept_p, most, self.allowed)]
            if not len(chosen):
                return
            if self._try([blocks[i] for i in chosen], self.allowed):
                left[chosen] = False
                failed = 0
            elif len(chosen) == 1:
                left[chosen] = False
                failed += 1
            else:
                most = max(1, len(chosen) // 2)

    def _try(self, blocks: Sequence[np.ndarray], allowed: float) -> bool:
        """Take blocks out if the circuit is faithful without them."""
        cells = np.concatenate(list(blocks))
        without = self.mask_nrs.copy()
        without[tuple(cells.T)] = False
        self.measured += 1
        if distance(self.runs.kept([without]))[0] > allowed:
            return False
        self._take(cells)
        return True

    def _take(self, cells: np.ndarray) -> None:
        self.mask_nrs[tuple(cells.T)] = False
        self.removed.append(cells)


PATIENCE = 6
"""Single blocks that in a row cannot go before what is left is measured anew."""


def balanced(lost_pk: np.ndarray, kept_p: np.ndarray, most: int, drift: float) -> np.ndarray:
    """Candidates to take out together, the weakest first, whose estimated sum keeps the pairs near 1.

    Args:
        lost_pk: What each one's removal takes from each pair's share. kept_p: The shares by now.
        most: So many at most.
        drift: Estimated distance from 1 up to which a candidate may lead; one that leads nearer always may.

    Returns:
        Places of the chosen candidates.
    """
    chosen: list[int] = []
    off_p = 1 - kept_p
    now = np.abs(off_p).mean()
    for place in np.argsort(np.abs(lost_pk).max(0), kind="stable"):
        then_p = off_p + lost_pk[:, place]
        then = np.abs(then_p).mean()
        if then <= max(drift, now):
            off_p, now = then_p, then
            chosen.append(int(place))
            if len(chosen) == most:
                break
    return np.array(chosen, int)


def grouped(cells: np.ndarray, axes: Sequence[int]) -> list[np.ndarray]:
    """Cells (cells, 3) in blocks that share their places on some axes."""
    if not len(cells):
        return []
    _, group = np.unique(cells[:, list(axes)], axis=0, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    ends = np.flatnonzero(np.diff(group.reshape(-1)[order])) + 1
    return np.split(cells[order], ends)
