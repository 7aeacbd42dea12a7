"""From the policy of a model in all poses to the numbers that claims compare between models.

Letters: c compared targets (low, high), y layouts, p poses, a actions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.core.policies import entropy, jensen_shannon
from dtx.analysis.psychology.measure import between_layouts
from dtx.analysis.psychology.poses import FORWARD, Poses
from dtx.analysis.psychology.spec import PsychologySpec
from dtx.env.decision import Decision

LOW, HIGH = 0, 1
"""Places of the compared targets."""


@dataclass(frozen=True)
class PolicyNumbers:
    """Of one model at the low and the high target.

    Attributes:
        routine_share: (c,) share of layouts in which the most probable action is the routine's throughout.
        routine_probability: (c,) probability of the routine's action at its states, mean over layouts.
        divergence: (c, p) between layouts that ask for different turns.
        forward_there: (y,) P(forward) at the decision at the high target; forward_after_right, _wrong: (y,)
            after that turn was forced. NaN where the context does not reach.
        entropy: (c, y, p) nats. non_kinetic: (c, y, p) probability of actions that do not move.
        between: Divergence of the two targets' policies at the decision, mean over layouts; NaN as above.
    """

    routine_share: np.ndarray
    routine_probability: np.ndarray
    divergence: np.ndarray
    forward_there: np.ndarray
    forward_after_right: np.ndarray
    forward_after_wrong: np.ndarray
    entropy: np.ndarray
    non_kinetic: np.ndarray
    between: float

    @property
    def walks_on(self) -> np.ndarray:
        """(y,) by how much P(forward) rises with the wrong turn."""
        return self.forward_after_wrong - self.forward_there

    def difference(self, values: np.ndarray, where: np.ndarray) -> np.ndarray:
        """Low minus high at some (y, p), flat."""
        return (values[LOW] - values[HIGH])[where]

    def beside_routine(self, on: np.ndarray) -> float:
        """Entropy off the routine minus that on it, at the low target."""
        return float(self.entropy[LOW][~on].mean() - self.entropy[LOW][on].mean())


def numbers_of(decision: Decision, poses: Poses, probability: np.ndarray) -> PolicyNumbers:
    """Reduce a policy.

    Args:
        decision: Layouts, routine, turns.
        poses: Where.
        probability: (c, y, p, a).
    """
    share, chance = _routine(decision, poses, probability)
    there = poses.after(decision.routine(0)[: decision.step])
    between = (
        float("nan")
        if there is None
        else float(jensen_shannon(probability[LOW, :, there], probability[HIGH, :, there]).mean())
    )
    right, wrong = decision.turns(range(len(decision.layouts)))
    forward = {
        name: _forward_after(decision, poses, probability[HIGH], turns)
        for name, turns in (("there", None), ("right", right), ("wrong", wrong))
    }
    return PolicyNumbers(
        routine_share=share,
        routine_probability=chance,
        divergence=between_layouts(decision, probability),
        forward_there=forward["there"],
        forward_after_right=forward["right"],
        forward_after_wrong=forward["wrong"],
        entropy=entropy(probability),
        non_kinetic=probability[..., FORWARD + 1 :].sum(-1),
        between=between,
    )


def _routine(
    decision: Decision, poses: Poses, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How the policy follows the routine at its states: greedily, and in probability."""
    greedy, chance = [], []
    for layout in range(len(decision.layouts)):
        actions = decision.routine(layout)
        places = [poses.after(actions[:step]) for step in range(len(actions))]
        known = [(p, a) for p, a in zip(places, actions, strict=True) if p is not None]
        at, want = (list(x) for x in zip(*known, strict=True))
        policy = probability[:, layout, at]  # c s a
        greedy.append((policy.argmax(-1) == want).all(-1))
        chance.append(policy[:, range(len(at)), want].mean(-1))
    return np.mean(greedy, 0), np.mean(chance, 0)


def blind_routine(decision: Decision) -> float:
    """Share of layouts whose routine the best policy follows that cannot tell layouts apart.

    A model that has no decision can do no better: what it does must exceed this.
    """
    routines = Counter(tuple(decision.routine(y)) for y in range(len(decision.layouts)))
    return max(routines.values()) / len(decision.layouts)


def _forward_after(
    decision: Decision, poses: Poses, policy: np.ndarray, turns: np.ndarray | None
) -> np.ndarray:
    """(y,) P(forward) at the decision square, after a turn there if one is given."""
    values = []
    for layout in range(len(decision.layouts)):
        way = decision.routine(layout)[: decision.step]
        place = poses.after(way if turns is None else [*way, int(turns[layout])])
        values.append(np.nan if place is None else policy[layout, place, FORWARD])
    return np.array(values)


@dataclass(frozen=True)
class Squares:
    """Where a model decides.

    Attributes:
        poses: How many are over the threshold. cells: Of these. before_turn: How many of the cells have
            one before the routine's turn.
    """

    poses: int
    cells: list[tuple[int, int]]
    before_turn: int


def decision_squares(
    spec: PsychologySpec, divergence: pd.DataFrame, model: str, target: float
) -> Squares:
    """The poses over the threshold, and their cells."""
    rows = divergence[(divergence.model == model) & (divergence.target == target)]
    over = rows[rows.divergence > spec.threshold]
    before = over[over.before_turn]
    return Squares(
        poses=len(over),
        cells=sorted(set(zip(over.x.tolist(), over.y.tolist(), strict=True))),
        before_turn=len(before[["x", "y"]].drop_duplicates()),
    )
