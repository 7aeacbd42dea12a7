"""What the whole model decides in the windows, by reward-to-go: what a node can be needed for.

Letters: b window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.ablation.spec import ALL
from dtx.analysis.core.inputs import Contrast
from dtx.env.decision import Decision


@dataclass(frozen=True)
class Choice:
    """The model's decision.

    Attributes:
        group_b: (b,) name of each window's reward-to-go, or ``all`` where windows are as recorded.
        sign_b: (b,) +1 or -1: the side of the contrast that is the model's choice in a window.
        gap: By group: by how much the logit difference is on the side of the choice, mean over windows.
        by_turns: The choice is the right turn of every layout, or the wrong one of every layout: a model
            that prefers one side whatever the layout has a gap of 0. Else it is what a window prefers.
    """

    group_b: np.ndarray
    sign_b: np.ndarray
    gap: dict[str, float]
    by_turns: bool

    @property
    def groups(self) -> list[str]:
        """Their names, in the order of the windows."""
        return list(self.gap)


def turn_signs(
    decision: Decision | None, frame: pd.DataFrame, contrast: Contrast
) -> np.ndarray | None:
    """+1 (b,) where the right turn is the contrast's first action, -1 where it is the second.

    Returns:
        None where nothing is decided at a known place, or the contrast is not between the turns.
    """
    if decision is None or not frame.layout.ne("").all():
        return None
    index = frame.layout.map(list(decision.layouts).index).to_numpy()
    right, wrong = decision.turns(index)
    pos, neg = contrast.pos.number, contrast.neg.number
    if not (((right == pos) & (wrong == neg)) | ((right == neg) & (wrong == pos))).all():
        return None
    return np.where(right == pos, 1.0, -1.0)


def choice_of(ld_b: np.ndarray, frame: pd.DataFrame, turns_b: np.ndarray | None) -> Choice:
    """The choice of a model with these logit differences (b,).

    Args:
        ld_b: At the last state of the windows.
        frame: One row a window: layout, target.
        turns_b: See :func:`turn_signs`.
    """
    of_layouts = frame.layout.ne("").all()
    group_b = frame.target.map("{:g}".format).to_numpy() if of_layouts else np.full(len(frame), ALL)
    sign_b, gap = np.where(ld_b < 0, -1.0, 1.0), {}
    for group in dict.fromkeys(group_b):
        mine = group_b == group
        if turns_b is not None:
            towards_right = float((ld_b * turns_b)[mine].mean())
            sign_b[mine] = turns_b[mine] * (-1.0 if towards_right < 0 else 1.0)
        gap[str(group)] = float((ld_b * sign_b)[mine].mean())
    return Choice(group_b.astype(str), sign_b, gap, turns_b is not None)
