"""Effects beside what donors bring, with what each of them must bring: small enough for a telephone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dtx.analysis.core.patching_spec import DONORS, EDIT, Direction

WIDTH = 4.4
"""Inches: at 390 pixels a point is more than a pixel."""
COLOURS = {None: "#1b1f2a", 1: "#2a6f97", 0: "#d1803a"}
MARKS = {None: "o", 1: "^", 0: "v"}
WORDS = {
    None: "the edit",
    1: "donor with the source run's answer: 1 where the answer is carried",
    0: "donor with the base run's answer: 0 where the answer is carried",
}


def conditions(effects: pd.DataFrame, edit: str) -> list[tuple[str, float]]:
    """(direction, reward-to-go) in which an edit was measured, the highest reward-to-go first."""
    own = effects[(effects["edit"] == edit) & (effects["kind"] == EDIT) & effects["rho"].notna()]
    keys = own[["direction", "reward_to_go"]].drop_duplicates()
    keys = keys.sort_values("reward_to_go", ascending=False, kind="stable")
    return [(str(d), float(t)) for d, t in keys.itertuples(index=False)]


def beside_donors(
    axis: Axes,
    effects: pd.DataFrame,
    rows: Sequence[pd.Series],
    of: list[str],
    names: Sequence[str],
) -> None:
    """A line an effect: the edit's rho and that of its donors at the same place, and lines at 0 and 1.

    Args:
        axis: Where. effects: All of them. rows: Those of edits that are shown, from the top.
        of: Columns that say which place it is. names: Of the lines.
    """
    for expected in (0, 1):
        axis.axvline(expected, color=COLOURS[expected], linewidth=1, linestyle="--", zorder=1)
    for y, row in enumerate(rows):
        same = ["edit", "direction", "reward_to_go", *of]
        here = effects[np.logical_and.reduce([effects[name] == row[name] for name in same])]
        for kind, up in zip((EDIT, *DONORS), (0.0, -0.24, 0.24), strict=True):
            for _, each in here[here["kind"] == kind].iterrows():
                expected = Direction(row["direction"]).expected(kind.removeprefix("donor_"))
                colour = COLOURS[expected]
                ends = [each["low"], each["high"]]
                if np.isfinite(ends).all():
                    axis.plot(
                        np.clip(ends, -0.6, 1.6), [y + up] * 2, color=colour, lw=1.4, zorder=2
                    )
                mark = MARKS[expected]
                axis.plot(each["rho"], y + up, mark, color=colour, markersize=5, zorder=3)
    axis.set_xlim(-0.6, 1.6)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_yticks(range(len(names)), list(names), fontsize=7.5)
    axis.tick_params(axis="x", labelsize=7.5)
    axis.set_xlabel("rho, 95% interval over layouts", fontsize=8)
    handles = [
        axis.plot([], [], MARKS[e], color=COLOURS[e], markersize=5, label=words)[0]
        for e, words in WORDS.items()
    ]
    axis.figure.legend(handles=handles, loc="outside lower left", fontsize=7.5, handletextpad=0.2)
