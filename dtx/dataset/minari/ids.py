"""Ids of Minari datasets, and of the environments that they were recorded in."""

from __future__ import annotations

import re


def wrong_id(name: str) -> str | None:
    """What is wrong with a Minari id; None if nothing is."""
    if re.fullmatch(r"([-\w]+/)*[-\w]+-v\d+", name):
        if len(name.partition("/")[0]) == 1 and name.count("/") == 1:
            return f"{name!r} is not a Minari id: a namespace has two characters or more"
        return None
    return f"{name!r} is not a Minari id: NAME-vNUMBER, with namespaces before it (minigrid/fourrooms-v0)"


def choice_of(env: str) -> str:
    """Overrides that choose the environment of a Gymnasium id."""
    if match := re.fullmatch(r"dtx/MemoryS(\d+)FixedStart-v0", env):
        return f"env=memory env.size={match[1]}"
    if match := re.fullmatch(r"MiniGrid-Dynamic-Obstacles(-Random)?-(\d+)x\2-v0", env):
        start = " env.random_start=true" if match[1] else ""
        return f"env=dynamic_obstacles env.size={match[2]}{start}"
    return f"env=minigrid env.id={env}"
