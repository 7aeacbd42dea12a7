"""The Memory task of the MemoryDT study: an instruction seen at the start decides a turn much later.

The agent starts at the left end of a corridor, facing along it, beside the *instruction*: a key or a
ball. At the far end a junction has a key on one side and a ball on the other, and stepping towards the
one that matches the instruction succeeds. The shortest way, the *routine*, is straight to the junction,
turn, one step: 6 steps in the 7x7 world, whose reward with 50 steps allowed is 1 - .9*6/50 = .892.

In the 7x7 world the view from the start already shows one of the two objects at the junction; which is
right still has to be remembered, for from the junction the instruction is out of sight.

A *layout* is one of four: what the instruction is, and on which side of the junction (as seen by the
agent arriving there) the object that matches it lies. Only this file and ``memory_task.py`` know Memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dtx.env.minigrid import chosen
from dtx.env.roles import Cell, Predicate, Unsettled, agent_cell
from dtx.env.vector import Backend, VectorEnv
from dtx.errors import UserError

if TYPE_CHECKING:
    import gymnasium

LEFT, RIGHT, FORWARD = 0, 1, 2
"""MiniGrid's actions that matter here."""
WALL, KEY, BALL = 2, 5, 6
"""MiniGrid's object indices that matter here."""
LAYOUTS = ("key/left", "key/right", "ball/left", "ball/right")
"""Instruction / side of the matching object; the index of a layout is its place here."""
SIZES = (7, 9, 11, 13)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory with a fixed start.

    Attributes:
        size: Cells along a side of the world: 7, 9, 11 or 13.
        max_steps: Steps allowed in an episode.
        backend: What runs many copies.
    """

    size: int
    max_steps: int
    backend: Backend

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong and what to do)."""
        if self.size not in SIZES:
            yield "size", f"{self.size} is no size of Memory; choose one of {SIZES}"
        if self.max_steps < self.size - 1:
            yield "max_steps", f"{self.max_steps} is less than the {self.size - 1} steps needed"

    @property
    def id(self) -> str:
        """Our Gymnasium id of the task, registered by :func:`register`."""
        return f"dtx/MemoryS{self.size}FixedStart-v0"

    @property
    def n_actions(self) -> int:
        """7: left, right, forward, pickup (acts as toggle), drop, toggle, done."""
        return 7

    @property
    def horizon(self) -> int:
        """Steps allowed in an episode."""
        return self.max_steps

    @property
    def decision(self) -> MemoryDecision:
        """The junction; see :class:`dtx.env.decision.Decision`."""
        return MemoryDecision(self)

    @property
    def decision_step(self) -> int:
        """Actions of the routine before its turn: the corridor's length, 4 in the 7x7 world."""
        return self.size - 3

    def layouts(self) -> list[str]:
        """The four layouts by name; a layout's index is its place in this list."""
        return list(LAYOUTS)

    def correct_turn(self, layouts: np.ndarray | Sequence[int]) -> np.ndarray:
        """The action (LEFT or RIGHT) that leads to the matching object, by layout index (n,)."""
        return np.where(np.asarray(layouts) % 2 == 0, LEFT, RIGHT)

    def wrong_turn(self, layouts: np.ndarray | Sequence[int]) -> np.ndarray:
        """The action (LEFT or RIGHT) that leads to the other object, by layout index (n,)."""
        return np.where(np.asarray(layouts) % 2 == 0, RIGHT, LEFT)

    def routine(self, layout: int) -> list[int]:
        """The actions of the shortest way to success."""
        turn = int(self.correct_turn([layout])[0])
        return [FORWARD] * self.decision_step + [turn, FORWARD]

    def at_decision(self, observations: np.ndarray) -> np.ndarray:
        """Whether the agent stands at the junction facing along the corridor.

        There left or right, then forward, ends the episode. With ``step == decision_step`` it is also
        on the routine: nothing else gets there that early.

        Args:
            observations: (..., 7, 7, 3) uint8.

        Returns:
            (...) bool.
        """
        objects = observations[..., 0]
        ahead, left, right = objects[..., 3, 5], objects[..., 1, 6], objects[..., 5, 6]
        # Facing back from the junction shows the two objects as well, but the corridor ahead.
        return (ahead == WALL) & np.isin(left, (KEY, BALL)) & np.isin(right, (KEY, BALL))

    def instruction(self, first_observations: np.ndarray) -> np.ndarray:
        """The instruction's object index (KEY or BALL) in observations at the start, (...) uint8."""
        return first_observations[..., 2, 6, 0]

    def layout_of(self, first_observations: np.ndarray, at_junction: np.ndarray) -> np.ndarray:
        """Layout index from an episode's first observation and one where :meth:`at_decision`.

        Args:
            first_observations: (..., 7, 7, 3) uint8.
            at_junction: (..., 7, 7, 3) uint8.

        Returns:
            (...) int64.
        """
        instruction = self.instruction(first_observations)
        matches_right = at_junction[..., 1, 6, 0] != instruction
        return 2 * (instruction == BALL).astype(np.int64) + matches_right

    @property
    def role_names(self) -> tuple[str, ...]:
        """The agent, the instruction, the two objects at the junction by side and by meaning."""
        return ("agent", "instruction", "target_left", "target_right", "target", "decoy")

    def roles(self, world: Any) -> dict[str, list[Cell]]:
        """Where they are at the start; left and right are those of the agent arriving.

        ``target`` is the object at the junction that matches the instruction, ``decoy`` the other.
        """
        middle, far = self.size // 2, self.size - 2
        instruction, left, right = (1, middle - 1), (far, middle - 2), (far, middle + 2)
        kinds = [
            getattr(world.grid.get(*cell), "type", None) for cell in (instruction, left, right)
        ]
        return {
            "agent": [agent_cell(world)],
            "instruction": [instruction],
            "target_left": [left],
            "target_right": [right],
            "target": [
                c for c, kind in zip((left, right), kinds[1:], strict=True) if kind == kinds[0]
            ],
            "decoy": [
                c for c, kind in zip((left, right), kinds[1:], strict=True) if kind != kinds[0]
            ],
        }

    def predicates(self) -> dict[str, Predicate]:
        """``decision``: see :meth:`at_decision`."""
        return {"decision": self.at_decision}

    def complement(self, first_observation: np.ndarray) -> str:
        """The type that the instruction is not: what a decoy would have to show."""
        return "ball" if self.instruction(first_observation) == KEY else "key"

    def settle(self, world: Any) -> None:
        """Say anew at which side the episode ends with success: where the object matches.

        Raises:
            Unsettled: Both match.
        """
        roles = self.roles(world)
        if len(roles["target"]) > 1:
            raise Unsettled("both objects at the junction match the instruction")
        middle = self.size // 2
        beside = {
            role: [(x, y + (1 if y < middle else -1)) for x, y in roles[role]] for role in roles
        }
        nowhere = (-1, -1)
        # Where neither matches, either side fails; the world knows one failing cell, so the left one.
        world.success_pos = next(iter(beside["target"]), nowhere)
        world.failure_pos = next(iter(beside["decoy"]), nowhere)

    def make(self, layout: int | None = None) -> gymnasium.Env:
        """One environment of minigrid itself: the reference, for rendering and edits.

        Args:
            layout: Play this layout only; None draws one for each episode.
        """
        import gymnasium

        self._raise_if_wrong()
        register()
        return gymnasium.make(
            self.id,
            max_steps=self.max_steps,
            layout=layout,
            render_mode="rgb_array",
            disable_env_checker=True,
        )

    def vector(self, n: int, seed: int, layouts: Sequence[int] | None = None) -> VectorEnv:
        """n copies that start their next episode by themselves; see ``dtx.env.vector``.

        Args:
            n: How many.
            seed: Everything follows from it and the actions.
            layouts: One layout index a copy, which plays nothing else; None draws one for each
                episode. Fixed layouts run on gymnasium whatever the backend: envpool cannot choose.
        """
        self._raise_if_wrong()
        task = f"MiniGrid-MemoryS{self.size}-v0"
        if layouts is None and chosen(self.backend, task) is Backend.envpool:
            from dtx.env.envpool_backend import EnvPool

            return EnvPool(task, n, seed, self.max_steps, start=(1, self.size // 2))
        from dtx.env.gymnasium_backend import Gymnasium

        if layouts is not None and len(layouts) != n:
            raise ValueError(f"{len(layouts)} layouts for {n} environments")
        each = [None] * n if layouts is None else [int(layout) for layout in layouts]
        return Gymnasium([partial(self.make, layout) for layout in each], seed, self.max_steps)

    def _raise_if_wrong(self) -> None:
        for field, problem in self.check():
            raise UserError(f"env.{field}: {problem}")


@dataclass(frozen=True)
class MemoryDecision:
    """Where Memory's layouts ask for different turns: a :class:`dtx.env.decision.Decision`."""

    env: Memory

    @property
    def layouts(self) -> tuple[str, ...]:
        """The four layouts."""
        return LAYOUTS

    @property
    def step(self) -> int:
        """The corridor's length: 4 in the 7x7 world."""
        return self.env.decision_step

    def routine(self, layout: int) -> list[int]:
        """The actions of the shortest way to success."""
        return self.env.routine(layout)

    def turns(self, layouts: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The turns towards the matching object and towards the other, by layout index, (n,) each."""
        return self.env.correct_turn(layouts), self.env.wrong_turn(layouts)

    def here(self, observations: np.ndarray) -> np.ndarray:
        """Whether the agent stands at the junction, facing along the corridor."""
        return self.env.at_decision(observations)

    def layout_of(self, first: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Layout index from an episode's first observation and one at the junction."""
        return self.env.layout_of(first, at)

    def make(self, layout: int) -> gymnasium.Env:
        """One environment of minigrid itself that plays one layout."""
        return self.env.make(layout)

    def vector(self, layouts: Sequence[int], seed: int) -> VectorEnv:
        """One copy a layout index, which plays nothing else."""
        return self.env.vector(len(layouts), seed, layouts)


def register() -> None:
    """Tell Gymnasium our ids; doing it twice is harmless."""
    import gymnasium

    for size in SIZES:
        task = f"dtx/MemoryS{size}FixedStart-v0"
        if task not in gymnasium.registry:
            gymnasium.register(
                task, "dtx.env.memory_task:MemoryFixedStart", kwargs={"size": size, "max_steps": 50}
            )
