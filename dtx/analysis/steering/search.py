"""Choose edits on training windows; random vectors are chosen in the same way, from as many.

Shape suffixes: e edit, b window, a action.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dtx.analysis.steering.edits import ActivationEdit
from dtx.analysis.steering.methods import EMBED, candidates, divergence, random_like
from dtx.analysis.steering.runs import Runs
from dtx.analysis.steering.spec import Goal, SteeringMethod, SteeringSpec
from dtx.analysis.steering.windows import CHANGE, DEMONSTRATIONS, KEEP, GoalWindows
from dtx.dt.model import DecisionTransformerModel

COST = 0.1
"""Success that a side effect of ``max_side_effect`` costs when sites and sizes are chosen."""


class Split:
    """The training or the held-out windows of a goal.

    Args:
        model: Without hooks.
        windows: Of the goal.
        held_out: Which of them.
    """

    def __init__(self, model: DecisionTransformerModel, windows: GoalWindows, held_out: bool):
        self.change = Runs(model, windows.part(CHANGE, held_out))
        kept = windows.part(KEEP, held_out)
        self.keep = Runs(model, kept)
        made = [b for b in kept.batches if DEMONSTRATIONS not in set(b.table["place"])]
        self.made = Runs(model, GoalWindows(made))  # and not recorded

    def reached(self, edits: Sequence[ActivationEdit]) -> tuple[np.ndarray, np.ndarray]:
        """Success and probability (e, b) in the windows that shall change."""
        steered_eba, goal_b = self.change.log_p(edits), self.change.wanted.argmax(-1)
        index = goal_b.expand(len(edits), -1).unsqueeze(-1)
        probability = steered_eba.exp().gather(-1, index)[..., 0]
        return (steered_eba.argmax(-1) == goal_b).numpy(), probability.double().numpy()

    def side_effects(self, edits: Sequence[ActivationEdit]) -> np.ndarray:
        """KL (e, b) in the windows where nothing may change."""
        if not len(self.keep):
            return np.zeros((len(edits), 0))
        each = divergence(self.keep.base, self.keep.log_p(edits))
        return each.clamp(min=0).double().numpy()  # rounding may bring it below


@dataclass(frozen=True)
class Tried:
    """A candidate on training windows.

    Attributes:
        edit: With its size.
        success: Share of the windows that shall change. probability: Mean.
        kl: Mean, in nats; NaN where it was not needed, for the score could not be the best.
        score: Success less the side effect's cost; NaN as well.
    """

    edit: ActivationEdit
    success: float
    probability: float
    kl: float
    score: float


def best(spec: SteeringSpec, split: Split, edits: Sequence[ActivationEdit]) -> list[Tried]:
    """All candidates, the best one first: by score, then by probability.

    A score is at most the success, so that side effects are computed only as long as they can decide.
    """
    success_eb, probability_eb = split.reached(edits)
    success_e, probability_e = success_eb.mean(1), probability_eb.mean(1)
    scored, rest = [], []
    highest = -np.inf
    for number in np.lexsort((-probability_e, -success_e)):
        success, probability = float(success_e[number]), float(probability_e[number])
        kl = score = np.nan
        if success >= highest:
            kl_b = split.side_effects([edits[number]])[0]
            kl = float(kl_b.mean()) if len(kl_b) else np.nan
            score = success - (COST * kl / spec.max_side_effect if len(kl_b) else 0.0)
            highest = max(highest, score)
        (rest if np.isnan(score) else scored).append(
            Tried(edits[number], success, probability, kl, score)
        )
    return sorted(scored, key=lambda t: (-t.score, -t.probability)) + rest


def sizes(spec: SteeringSpec, edit: ActivationEdit) -> list[ActivationEdit]:
    """A candidate at all sizes; a part of the model held at what it would be has its natural size."""
    part = edit.vector is None and edit.hook != EMBED
    return [edit.at(a) for a in ((1.0,) if part else spec.alphas) if a]


def places(
    spec: SteeringSpec, model: DecisionTransformerModel, goal: Goal, windows: GoalWindows
) -> dict[SteeringMethod, list[ActivationEdit]]:
    """Every method's candidates at size 1."""
    found: dict[SteeringMethod, list[ActivationEdit]] = {}
    for method, edit in candidates(spec, model, goal, windows):
        found.setdefault(method, []).append(edit)
    return found


def random_searches(
    spec: SteeringSpec,
    model: DecisionTransformerModel,
    split: Split,
    edits: Sequence[ActivationEdit],
    largest: float,
    generator: torch.Generator,
) -> Iterator[Tried]:
    """The best of as many random vectors, at the same places and chosen alike; once a control.

    Args:
        spec: How many searches, and sizes.
        model: That is edited.
        split: Training windows.
        edits: The candidates whose places and norms they have.
        largest: Size of the edit that they are compared with: theirs are at most that.
        generator: Of the directions.
    """
    for _ in range(spec.controls):
        others = [random_like(edit, model, generator) for edit in edits]
        sized = [one for other in others for one in sizes(spec, other) if one.alpha <= largest]
        yield best(spec, split, sized or others)[0]
