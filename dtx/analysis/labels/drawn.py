"""Stored rows as texts: the view drawn with letters, and what else stands at the token."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dtx.dataset.episodes import Episodes
from dtx.dt.tokens import ACTION, KINDS
from dtx.env.actions import Action
from dtx.env.facts import OBJECTS

LETTERS = {"unseen": "?", "empty": ".", "wall": "#", "floor": ".", "agent": "^"}
"""Of what lies in a cell; other things are the first letter of their name."""


def texts(episodes: Episodes, columns: Mapping[str, np.ndarray], rows: np.ndarray) -> list[str]:
    """Some rows as texts.

    Args:
        episodes: The demonstrations. columns: Of the stored tokens. rows: (n,) numbers of rows.
    """
    start = np.asarray(episodes.start)
    step = start[columns["episode"][rows]] + columns["step"][rows]
    to_go = episodes.reward_to_go[step]
    shown = []
    for row, at, given in zip(rows, step, to_go, strict=True):
        kind = KINDS[columns["kind"][row]]
        taken = list(Action)[int(episodes.action[at])].value if kind == ACTION else "-"
        words = f"token {kind}, step {columns['step'][row] + 1}, reward-to-go {given:.2f}, action {taken}"
        shown.append(f"{words}\n{view(episodes.observations[episodes.observation[at]])}")
    return shown


def view(observation: np.ndarray) -> str:
    """A view (7, 7, 3) as seven lines of letters; the agent stands in the middle of the last and looks up."""
    letters = np.array([LETTERS.get(name, name[0].upper()) for name in OBJECTS])
    drawn = letters[np.minimum(observation[..., 0], len(OBJECTS) - 1)].T
    drawn[6, 3] = LETTERS["agent"]
    return "\n".join("".join(line) for line in drawn)
