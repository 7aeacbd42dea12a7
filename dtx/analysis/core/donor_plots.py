"""Effects beside their controls, with what each of them must bring: small enough for a telephone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dtx.analysis.core.patching_spec import DONORS, EDIT, Direction
from dtx.analysis.core.plots import sentence_case, words
from dtx.analysis.core.result import Result
from dtx.figures import BLACK, BLUE, ORANGE, PHONE

WIDTH = PHONE
RESTORED = "restored logit difference (0-1)"
"""What figures call rho."""
DONOR_COLOURS = {None: BLACK, 1: BLUE, 0: ORANGE}
MARKS = {None: "o", 1: "^", 0: "v"}
WORDS = {
    None: "activations from the edit's other run",
    1: "control: unrelated layout, source run's answer (1 if it carries it)",
    0: "control: unrelated layout, base run's answer (0 if it carries it)",
}
DIRECTIONS = "denoise: clean activations into the corrupt run; noise: the reverse"


def condition_in_words(direction: str, target: float) -> str:
    """``RTG 0.892, denoise``."""
    return f"RTG {target:g}, {direction}"


def conditions(effects: pd.DataFrame, edit: str) -> list[tuple[str, float]]:
    """(direction, reward-to-go) in which an edit was measured, the highest reward-to-go first."""
    own = effects[(effects["edit"] == edit) & (effects["kind"] == EDIT) & effects["rho"].notna()]
    keys = own[["direction", "reward_to_go"]].drop_duplicates()
    keys = keys.sort_values("reward_to_go", ascending=False, kind="stable")
    return [(str(d), float(t)) for d, t in keys.itertuples(index=False)]


def finding(result: Result, edit: str, best: Sequence[tuple[pd.Series, str]]) -> str:
    """The strongest place in each condition with its number, and whether it exceeds its control.

    Args:
        result: Its claim ``EDIT_carried`` has the verdict.
        edit: Its name. best: An effect of each condition, and its place in words.
    """
    said: dict[str, dict[float, list[str]]] = {}
    for row, place in best:
        numbers = said.setdefault(place, {}).setdefault(row["reward_to_go"], [])
        numbers.append(f"{row['rho']:.2f} {row['direction']}")
    strongest = "; ".join(
        f"{place} " + ", ".join(f"{_together(each)} at RTG {t:g}" for t, each in by_target.items())
        for place, by_target in said.items()
    )
    verdict = [c.verdict.value for c in result.claims if c.id == f"{edit}_carried"]
    beyond = f". Beyond the control: {verdict[0]}" if verdict else ""
    return f"{sentence_case(words(edit))}: logit difference restored most by {strongest}{beyond}"


def _together(numbers: list[str]) -> str:
    """Both directions of one reward-to-go: one number where they agree in two decimals."""
    values = {number.split()[0] for number in numbers}
    return values.pop() if len(values) == 1 else " and ".join(numbers)


def beside_donors(
    axis: Axes,
    effects: pd.DataFrame,
    rows: Sequence[pd.Series],
    of: list[str],
    names: Sequence[str],
) -> None:
    """A line an effect: the edit's and those of its controls at the same place, and lines at 0 and 1.

    Args:
        axis: Where. effects: All of them. rows: Those of edits that are shown, from the top.
        of: Columns that say which place it is. names: Of the lines.
    """
    for expected in (0, 1):
        axis.axvline(expected, color=DONOR_COLOURS[expected], linewidth=1, linestyle="--", zorder=1)
    for y, row in enumerate(rows):
        same = ["edit", "direction", "reward_to_go", *of]
        here = effects[np.logical_and.reduce([effects[name] == row[name] for name in same])]
        for kind, up in zip((EDIT, *DONORS), (0.0, -0.24, 0.24), strict=True):
            for _, each in here[here["kind"] == kind].iterrows():
                expected = Direction(row["direction"]).expected(kind.removeprefix("donor_"))
                _effect(axis, each, y + up, expected)
    axis.set_xlim(-0.6, 1.6)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_yticks(range(len(names)), list(names), fontsize=7.5)
    axis.tick_params(axis="x", labelsize=7.5)
    axis.set_xlabel(f"{RESTORED}, 95% interval over layouts", fontsize=7.5)
    handles = [
        axis.plot([], [], MARKS[e], color=DONOR_COLOURS[e], markersize=5, label=said)[0]
        for e, said in WORDS.items()
    ]
    axis.figure.legend(handles=handles, loc="outside lower left", fontsize=7.5, handletextpad=0.2)


def _effect(axis: Axes, effect: pd.Series, y: float, expected: int | None) -> None:
    """A marker with its interval; what lies beyond the axis ends at its rim."""
    colour, ends = DONOR_COLOURS[expected], [effect["low"], effect["high"]]
    if np.isfinite(ends).all():
        axis.plot(np.clip(ends, -0.6, 1.6), [y, y], color=colour, lw=1.4, zorder=2)
    value = float(np.clip(effect["rho"], -0.58, 1.58))
    axis.plot(value, y, MARKS[expected], color=colour, markersize=5, zorder=3)
