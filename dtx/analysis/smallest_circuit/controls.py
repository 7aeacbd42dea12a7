"""What a circuit is compared with: random edges in its structure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from dtx.analysis.smallest_circuit.masked import MaskedRuns

OVERLAP = 0.5
"""Largest expected share of a circuit's edges that a random one has, too (2026-11-30): random circuits that
are mostly the circuit itself could not fail."""
TRIES = 20
"""Draws for each random circuit, until it is another one than the circuit."""


def strata(runs: MaskedRuns) -> list[np.ndarray]:
    """(r, s) numbers of what edges have in common, each coarser than the one before.

    Layer and kind of the sender with layer and input of the receiver; both layers; nothing.
    """
    by_kind = _numbered(
        [(r.layer, r.input) for r in runs.receivers], [(s.layer, s.kind) for s in runs.senders]
    )
    by_depth = _numbered([r.layer for r in runs.receivers], [s.layer for s in runs.senders])
    return [by_kind, by_depth, np.zeros_like(by_kind)]


def _numbered(of_r: list, of_s: list) -> np.ndarray:
    keys = [[(r, s) for s in of_s] for r in of_r]
    number = {key: i for i, key in enumerate(sorted({key for row in keys for key in row}))}
    return np.array([[number[key] for key in row] for row in keys])


def same_nodes(runs: MaskedRuns, mask_nrs: np.ndarray) -> np.ndarray:
    """All cells (n, r, s) between nodes of a circuit, at tokens at which the circuit has an edge."""
    sends_s, tokens_n = mask_nrs.any((0, 1)), mask_nrs.any((1, 2))
    reads = {r.name for r, used in zip(runs.receivers, mask_nrs.any((0, 2)), strict=True) if used}
    reads_r = np.array([r.name in reads for r in runs.receivers])
    return runs.cells_nrs & tokens_n[:, None, None] & reads_r[None, :, None] & sends_s


def controls(
    runs: MaskedRuns, mask_nrs: np.ndarray, among_nrs: np.ndarray, draws: int, seed: int
) -> list[np.ndarray]:
    """Random circuits that are another one than a circuit, in its structure as far as that leaves a choice.

    Args:
        runs: The pairs. mask_nrs: The circuit. among_nrs: Cells that are drawn from, the circuit's included.
        draws: How many. seed: Of the draws.

    Returns:
        As many edges in each stratum as the circuit has, by the finest strata in which random ones share less
        than :data:`OVERLAP` of its edges; none where there are no such strata.
    """
    for stratum in strata(runs):
        wanted, there = (_counts(stratum, x) for x in (mask_nrs, among_nrs))
        again = (wanted**2 / np.maximum(there, 1)).sum()
        if wanted.any() and again < OVERLAP * wanted.sum():
            drawn = matched(mask_nrs, among_nrs, stratum, draws * TRIES, seed)
            others = (circuit for circuit in drawn if not np.array_equal(circuit, mask_nrs))
            return list(itertools.islice(others, draws))
    return []


def _counts(stratum: np.ndarray, mask_nrs: np.ndarray) -> np.ndarray:
    cells = np.argwhere(mask_nrs)
    return np.bincount(stratum[cells[:, 1], cells[:, 2]], minlength=stratum.max() + 1)


def matched(
    mask_nrs: np.ndarray, among_nrs: np.ndarray, stratum_rs: np.ndarray, draws: int, seed: int
) -> Iterator[np.ndarray]:
    """Random circuits (n, r, s) with as many edges in each stratum as a circuit has."""
    rng = np.random.default_rng(seed)
    cells = np.argwhere(among_nrs)
    of_cell, wanted = stratum_rs[cells[:, 1], cells[:, 2]], _counts(stratum_rs, mask_nrs)
    there = {k: np.flatnonzero(of_cell == k) for k in np.flatnonzero(wanted)}
    for _ in range(draws):
        parts = [rng.choice(place, wanted[k], replace=False) for k, place in there.items()]
        drawn = np.zeros_like(mask_nrs)
        drawn[tuple(cells[np.concatenate([np.zeros(0, int), *parts])].T)] = True
        yield drawn
