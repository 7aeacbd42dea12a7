"""Memory with a fixed start on minigrid: the reference, registered with Gymnasium by ``memory.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
from minigrid.core.world_object import Ball, Key
from minigrid.envs.memory import MemoryEnv

from dtx.env.memory_layouts import LAYOUTS

VIEWS: dict[tuple, np.ndarray] = {}
"""Views that were drawn, by all that they show: few differ, and to draw one takes longer than a step."""
MOST_VIEWS = 20_000
"""Beyond so many (edited worlds) all are forgotten: a bound on memory, 3 MB."""


class MemoryFixedStart(MemoryEnv):
    """minigrid's Memory whose agent always starts at the corridor's left end.

    Args:
        size: Cells along a side of the world, odd.
        max_steps: Steps allowed in an episode.
        layout: Index into ``dtx.env.memory_layouts.LAYOUTS`` to play nothing else; None draws one for each
            episode.
        **kwargs: minigrid's own (render_mode).
    """

    def __init__(self, size: int, max_steps: int, layout: int | None = None, **kwargs: Any):
        if layout is not None and not 0 <= layout < len(LAYOUTS):
            raise ValueError(f"layout {layout} is not in 0..{len(LAYOUTS) - 1}")
        self.layout = layout
        super().__init__(size=size, max_steps=max_steps, **kwargs)

    def gen_obs(self) -> dict[str, Any]:
        """What minigrid gives, drawn once for everything that can be seen."""
        key = (
            tuple(None if cell is None else cell.encode() for cell in self.grid.grid),
            None if self.carrying is None else self.carrying.encode(),
            *map(int, self.agent_pos), int(self.agent_dir), self.agent_view_size,
            self.see_through_walls, self.grid.width,
        )  # fmt: skip
        if key not in VIEWS:
            if len(VIEWS) >= MOST_VIEWS:
                VIEWS.clear()
            VIEWS[key] = super().gen_obs()["image"]
        return {
            "image": VIEWS[key].copy(), "direction": self.agent_dir, "mission": self.mission,
        }  # fmt: skip

    def _gen_grid(self, width: int, height: int) -> None:
        super()._gen_grid(width, height)
        self.agent_pos = np.array((1, height // 2))
        if self.layout is None:
            return
        instruction, side = LAYOUTS[self.layout].split("/")
        matching, other = (Key, Ball) if instruction == "key" else (Ball, Key)
        # Arriving along the corridor the agent faces right, so its left is up.
        left, right = (width - 2, height // 2 - 2), (width - 2, height // 2 + 2)
        target, decoy = (left, right) if side == "left" else (right, left)
        self.grid.set(1, height // 2 - 1, matching("green"))
        self.grid.set(*target, matching("green"))
        self.grid.set(*decoy, other("green"))
        self.success_pos = (target[0], target[1] + (1 if side == "left" else -1))
        self.failure_pos = (decoy[0], decoy[1] + (-1 if side == "left" else 1))
