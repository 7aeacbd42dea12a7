"""MiniGrid's actions by name and number."""

from __future__ import annotations

import enum


class Action(enum.Enum):
    """MiniGrid's actions; the place in this list is the action's number."""

    left = "left"
    right = "right"
    forward = "forward"
    pickup = "pickup"
    drop = "drop"
    toggle = "toggle"
    done = "done"

    @property
    def number(self) -> int:
        """The number that the environment knows the action by."""
        return list(Action).index(self)


ACTIONS = tuple(action.value for action in Action)
"""Names by number."""
