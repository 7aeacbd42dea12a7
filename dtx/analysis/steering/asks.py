"""Is an edit nothing but another reward-to-go? Compare it with the same model asked for that one.

An edit and a request are alike if the residual stream at the last state, where the edit is and after every
block from there on, is where the request brings it, and if the policies agree. The request that fits best is
taken, in each of the windows' own reward-to-go alone: this favours "asks", so that what is called something
else is.

Shape suffixes: b window, d model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtx.analysis.steering.edits import ActivationEdit
from dtx.analysis.steering.methods import divergence
from dtx.analysis.steering.runs import Runs
from dtx.dt.model import DecisionTransformerModel


@dataclass(frozen=True)
class Likeness:
    """How far one request accounts for an edit.

    Attributes:
        asked: The request, a reward-to-go.
        remaining: Squared distance from the edited to the asked stream, as a share of that from the edited
            to the unedited one; mean over the points. 0: the same activations; 1: nothing is accounted for.
        cosine: Between both changes of the stream; mean over the points.
        kl: KL(asked || edited) of the policies in nats, mean over windows.
        windows: How many.
    """

    asked: float
    remaining: float
    cosine: float
    kl: float
    windows: int


def likeness(
    model: DecisionTransformerModel,
    runs: Sequence[Runs],
    edit: ActivationEdit,
    reward_to_go: float,
    compared: Sequence[float],
) -> Likeness | None:
    """The request that fits an edit best.

    Args:
        model: That is edited.
        runs: Of the windows that shall change and of those that shall not; a request would change both.
        edit: With its size.
        reward_to_go: Of the windows that are looked at.
        compared: The requests.

    Returns:
        None if the edit changes nothing in the windows.
    """
    points = [run.points([edit])[0] for run in runs]
    # Where a condition of ours keeps an edit away, a request under that condition would not be made either.
    chosen = [_windows(run, edit, reward_to_go) for run in runs]
    edited = _together(points, chosen)
    base = _together([run.unedited(edit.layer) for run in runs], chosen)
    size = [float((e - b).pow(2).sum()) for e, b in zip(edited, base, strict=True)]
    used = [i for i, s in enumerate(size) if s > 0]
    if not used:
        return None
    found = []
    for asked in compared:
        other = _together([run.asked(asked, edit.layer) for run in runs], chosen)
        rests = [float((edited[i] - other[i]).pow(2).sum()) / size[i] for i in used]
        cosines = [_cosine(edited[i] - base[i], other[i] - base[i]) for i in used]
        kl_b = divergence(*(model.read(s[-1]).log_softmax(-1) for s in (other, edited)))
        found.append(
            Likeness(asked, float(np.mean(rests)), float(np.mean(cosines)), float(kl_b.mean()),
                     len(kl_b))
        )  # fmt: skip
    return min(found, key=lambda one: one.remaining)


def _windows(runs: Runs, edit: ActivationEdit, reward_to_go: float) -> np.ndarray:
    declared = np.array([place != "demonstrations" for place in runs.column("place")])
    own = np.array(runs.column("reward_to_go"), float)
    there = runs.edited(edit).numpy() if edit.only_if is not None else np.ones(len(runs), bool)
    return declared & np.isclose(own, reward_to_go) & there


def _together(points: list[list[Tensor]], chosen: list[np.ndarray]) -> list[Tensor]:
    return [
        torch.cat([part[torch.from_numpy(rows)] for part, rows in zip(parts, chosen, strict=True)])
        for parts in zip(*points, strict=True)
    ]


def _cosine(a: Tensor, b: Tensor) -> float:
    norms = float(a.norm() * b.norm())
    return float((a * b).sum()) / norms if norms > 0 else 0.0
