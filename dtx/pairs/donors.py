"""Donors: runs in other worlds whose activations are the controls of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dtx.env.decision import Decision
from dtx.pairs.runs import Run
from dtx.pairs.spec import PairsSpec

DONORS = {"donor_clean": "clean", "donor_corrupt": "corrupt"}
"""Kinds of pairs, and the run of the pair whose answer the donor has."""


def donors(
    spec: PairsSpec,
    runs: Sequence[Run],
    pairs: Sequence[dict[str, Any]],
    only: int | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """For every edited pair two runs in other worlds: with the clean run's answer and with the corrupt run's.

    They are the clean run and the corrupt one of other pairs of the same edit, so that they are asked for
    what this pair's are. Where the environment names no decision, any other world's will do.

    Args:
        spec: What was declared. runs: All runs. pairs: All pairs so far.
        only: Only of the first so many edited pairs; they get the same as among all. None: of all.

    Returns:
        Rows of pairs, and of pairs that are not there.
    """
    rng = np.random.default_rng(spec.seed)
    edited = [pair for pair in pairs if pair["kind"] == "edit"]
    made: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for pair in edited[:only]:
        own = [runs[pair[end]] for end in ("clean", "corrupt")]
        for kind, side in DONORS.items():
            wanted = _turn(spec.env.decision, runs[pair[side]])
            fit = [
                other[side]
                for other in edited
                if _elsewhere(runs, other, pair, side)
                and _turn(spec.env.decision, runs[other[side]]) == wanted
            ]
            like = {run: edited_as(*own, runs[run]) for run in fit}
            # Best one that is like the same run in what was edited, too: both then lead to the same.
            fit = [run for run in fit if like[run] == side] or fit
            if not fit:
                of = {name: pair[name] for name in ("variant", "reward_to_go")}
                reason = f"no other world has a {side} run of as many steps with the same answer"
                refused.append({**of, "edit": f"{kind} of {pair['edit']}", "reason": reason})
                continue
            donor = fit[int(rng.integers(len(fit)))]
            about = {"pair": len(pairs) + len(made), "kind": kind, "of": pair["pair"]}
            made.append({**pair, **about, "clean": donor, "edit_as": like[donor]})
    return made, refused


def _elsewhere(runs: Sequence[Run], other: dict, pair: dict, side: str) -> bool:
    """Whether another pair is of the same edit, reward-to-go and length, in another world."""
    same = all(other[name] == pair[name] for name in ("edit", "reward_to_go", "states"))
    # Neither this pair's own clean run nor the corrupt one under another name.
    mine = [runs[pair[end]].seen.tobytes() for end in ("clean", "corrupt")]
    return same and runs[other[side]].seen.tobytes() not in mine


def _turn(decision: Decision | None, run: Run) -> int | None:
    """The right action in the state that the pair is about; None where the environment names none."""
    first, last = run.observations[0], run.observations[-1]
    if decision is None or not bool(decision.here(last)):
        return None
    right, _ = decision.turns(np.atleast_1d(decision.layout_of(first, last)))
    return int(right[0])


def edited_as(clean: Run, corrupt: Run, donor: Run) -> str:
    """Which run of a pair a donor is like in what the edit changed: ``clean``, ``corrupt`` or ``other``.

    Compared are reward-to-go and the cells of the world that the edit changed; the actions where no cell is;
    what is seen where no action is.
    """
    parts = [(run.grid, run.rewards_to_go) for run in (clean, corrupt, donor)]
    if np.array_equal(clean.grid, corrupt.grid):
        acted = clean.actions != corrupt.actions
        parts = [
            (np.array(run.actions) if acted else run.seen, run.rewards_to_go)
            for run in (clean, corrupt, donor)
        ]
    like = {"clean": True, "corrupt": True}
    for a, b, of_donor in zip(*parts, strict=True):
        differs = a != b
        like["clean"] &= np.array_equal(of_donor[differs], a[differs])
        like["corrupt"] &= np.array_equal(of_donor[differs], b[differs])
    return next((side for side, alike in like.items() if alike), "other")
