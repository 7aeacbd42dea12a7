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

ROUNDING = 1e-10
"""2026-11-30: a squared change below this share of the stream's is none: float32 rounds at 1e-14 to 1e-12."""


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
    compared: Sequence[float],
    at: Sequence[float],
) -> list[Likeness | None]:
    """The request that fits an edit best, for each reward-to-go of the windows.

    Args:
        model: That is edited.
        runs: Of the made windows that shall change and of those that shall not; a request would change both.
        edit: With its size.
        compared: The requests.
        at: Reward-to-go of the windows; those of each are looked at alone.

    Returns:
        None where the edit changes nothing.
    """
    edited = _together([run.points([edit])[0] for run in runs])
    base = _together([run.unedited(edit.layer) for run in runs])
    asked = {value: _together([run.asked(value, edit.layer) for run in runs]) for value in compared}
    found = []
    for value in at:
        # Where a condition of ours keeps an edit away, a request under it would not be made either.
        rows = torch.from_numpy(np.concatenate([_windows(run, edit, value) for run in runs]))
        one = [point[rows] for point in edited]
        own = [point[rows] for point in base]
        others = {request: [p[rows] for p in points] for request, points in asked.items()}
        found.append(_closest(model, one, own, others))
    return found


def _closest(
    model: DecisionTransformerModel,
    edited: list[Tensor],
    base: list[Tensor],
    asked: dict[float, list[Tensor]],
) -> Likeness | None:
    size = [float((e - b).pow(2).sum()) for e, b in zip(edited, base, strict=True)]
    used = [i for i, b in enumerate(base) if size[i] > ROUNDING * float(b.pow(2).sum())]
    if not used:
        return None
    log_p = model.read(edited[-1]).log_softmax(-1)
    found = []
    for request, other in asked.items():
        rests = [float((edited[i] - other[i]).pow(2).sum()) / size[i] for i in used]
        cosines = [_cosine(edited[i] - base[i], other[i] - base[i]) for i in used]
        kl_b = divergence(model.read(other[-1]).log_softmax(-1), log_p)
        remaining, cosine, kl = (float(np.mean(x)) for x in (rests, cosines, kl_b.numpy()))
        found.append(Likeness(request, remaining, cosine, kl, len(kl_b)))
    return min(found, key=lambda one: one.remaining)


def _windows(runs: Runs, edit: ActivationEdit, reward_to_go: float) -> np.ndarray:
    own = np.array(runs.column("reward_to_go"), float)
    there = runs.edited(edit).numpy() if edit.only_if is not None else np.ones(len(runs), bool)
    return np.isclose(own, reward_to_go) & there


def _together(points: list[list[Tensor]]) -> list[Tensor]:
    return [torch.cat(parts) for parts in zip(*points, strict=True)]


def _cosine(a: Tensor, b: Tensor) -> float:
    norms = float(a.norm() * b.norm())
    return float((a * b).sum()) / norms if norms > 0 else 0.0
