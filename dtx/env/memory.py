"""The Memory task of the MemoryDT study: an instruction seen at the start decides a turn much later.

The agent starts at the left end of a corridor, facing along it, beside the *instruction*: a key or a
ball. At the far end a junction has a key on one side and a ball on the other, and stepping towards the
one that matches the instruction succeeds. The shortest way, the *routine*, is straight to the junction,
turn, one step: 6 steps in the 7x7 world, whose reward with 50 steps allowed is 1 - .9*6/50 = .892.

In the 7x7 world the view from the start already shows one of the two objects at the junction; which is
right still has to be remembered, for from the junction the instruction is out of sight.

A *layout* is one of four: what the instruction is, and on which side of the junction (as seen by the
agent arriving there) the object that matches it lies. Only this file, ``memory_layouts.py`` and
``memory_task.py`` know Memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dtx.config.ranges import Count
from dtx.env.environment import require_valid
from dtx.env.facts import Fact, States, common, told_by
from dtx.env.memory_layouts import BALL, FORWARD, KEY, LAYOUTS, LEFT, RIGHT, SIZES, WALL
from dtx.env.minigrid import chosen
from dtx.env.roles import Cell, Complement, Predicate, Roles, Unsettled, agent_cell
from dtx.env.vector import Backend, VectorEnv

if TYPE_CHECKING:
    import gymnasium
    from minigrid.minigrid_env import MiniGridEnv


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory with a fixed start.

    Attributes:
        size: Cells along a side of the world: 7, 9, 11 or 13.
        max_steps: Steps allowed in an episode.
        backend: What runs many copies.
    """

    size: Count
    max_steps: Count
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
    def roles(self) -> Roles | None:
        """The agent, the instruction and the two objects at the junction."""
        return MemoryRoles(self.size)

    def make(self) -> gymnasium.Env:
        """One environment of minigrid itself: the reference, for rendering and edits.

        It draws a layout for each episode; ``decision.make(layout)`` plays one.
        """
        return _make(self, None)

    def vector(self, n: int, seed: int) -> VectorEnv:
        """n copies that start their next episode by themselves; see ``dtx.env.vector``.

        They draw a layout for each episode; ``decision.vector(layouts, seed)`` plays chosen ones.
        """
        require_valid(self)
        task = f"MiniGrid-MemoryS{self.size}-v0"
        if chosen(self.backend, task) is Backend.envpool:
            from dtx.env.envpool_backend import EnvPool

            return EnvPool(task, n, seed, self.max_steps, start=(1, self.size // 2))
        from dtx.env.gymnasium_backend import Gymnasium

        return Gymnasium([self.make] * n, seed, self.max_steps)


@dataclass(frozen=True)
class MemoryDecision:
    """Where Memory's layouts ask for different turns: a :class:`dtx.env.decision.Decision`."""

    env: Memory

    @property
    def layouts(self) -> tuple[str, ...]:
        """The four layouts by name; a layout's index is its place here."""
        return LAYOUTS

    @property
    def step(self) -> int:
        """Actions of the routine before its turn: the corridor's length, 4 in the 7x7 world."""
        return self.env.size - 3

    def routine(self, layout: int) -> list[int]:
        """The actions of the shortest way to success."""
        right, _ = self.turns([layout])
        return [FORWARD] * self.step + [int(right[0]), FORWARD]

    def turns(self, layouts: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """LEFT or RIGHT, towards the matching object and towards the other, by layout index, (n,) each."""
        on_the_left = np.asarray(layouts) % 2 == 0
        return np.where(on_the_left, LEFT, RIGHT), np.where(on_the_left, RIGHT, LEFT)

    def here(self, observations: np.ndarray) -> np.ndarray:
        """Whether the agent stands at the junction facing along the corridor.

        There left or right, then forward, ends the episode. After :attr:`step` actions it is also
        on the routine: nothing else gets there that early.

        Args:
            observations: (..., 7, 7, 3) uint8.

        Returns:
            (...) bool.
        """
        return _at_junction(observations)

    def layout_of(self, first: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Layout index from an episode's first observation and one at the junction.

        Args:
            first: (..., 7, 7, 3) uint8.
            at: (..., 7, 7, 3) uint8, where :meth:`here` holds.

        Returns:
            (...) int64.
        """
        instruction = _instruction(first)
        matches_right = at[..., 1, 6, 0] != instruction
        return 2 * (instruction == BALL).astype(np.int64) + matches_right

    def make(self, layout: int) -> gymnasium.Env:
        """One environment of minigrid itself that plays one layout."""
        return _make(self.env, layout)

    def vector(self, layouts: Sequence[int], seed: int) -> VectorEnv:
        """One copy a layout index, which plays nothing else.

        They run on gymnasium whatever the backend: envpool cannot choose a layout.
        """
        from dtx.env.gymnasium_backend import Gymnasium

        require_valid(self.env)
        makers = [partial(self.make, int(layout)) for layout in layouts]
        return Gymnasium(makers, seed, self.env.horizon)


@dataclass(frozen=True)
class MemoryRoles:
    """Roles of Memory's things: a :class:`dtx.env.roles.Roles`.

    Attributes:
        size: Cells along a side of the world.
    """

    size: Count

    @property
    def names(self) -> tuple[str, ...]:
        """The agent, the instruction, the two objects at the junction by side and by meaning."""
        return ("agent", "instruction", "target_left", "target_right", "target", "decoy")

    @property
    def complement(self) -> Complement | None:
        """The type that the instruction is not: what a decoy would have to show."""
        return lambda first: "ball" if _instruction(first) == KEY else "key"

    def where(self, world: MiniGridEnv) -> dict[str, list[Cell]]:
        """Where they are at the start; left and right are those of the agent arriving.

        ``target`` is the object at the junction that matches the instruction, ``decoy`` the other.
        """
        instruction, left, right = ((int(x), int(y)) for x, y in self._cells)
        wanted = _type_at(world, instruction)
        matches = {cell: _type_at(world, cell) == wanted for cell in (left, right)}
        return {
            "agent": [agent_cell(world)],
            "instruction": [instruction],
            "target_left": [left],
            "target_right": [right],
            "target": [cell for cell, same in matches.items() if same],
            "decoy": [cell for cell, same in matches.items() if not same],
        }

    def predicates(self) -> dict[str, Predicate]:
        """``decision``: see :meth:`MemoryDecision.here`."""
        return {"decision": _at_junction}

    def facts(self, states: States) -> dict[str, Fact]:
        """Those of every task, the instruction, the objects at the junction, and where the target is.

        The two objects at the junction always differ, so that one of them tells the other, too.
        """
        instruction, left, right = self._cells
        wanted, one = states.type_at(instruction), states.type_at(left)
        return {
            **common(states),
            "instruction": told_by(wanted, instruction),
            "left_object": told_by(one, left, right),
            "right_object": told_by(states.type_at(right), left, right),
            "target_side": Fact(
                np.where(one == wanted, "left", "right"), of=("instruction", "left_object")
            ),
        }

    @property
    def _cells(self) -> np.ndarray:
        """(3, 2): of the instruction, and of the objects on the left and on the right at the junction."""
        middle, far = self.size // 2, self.size - 2
        return np.array([(1, middle - 1), (far, middle - 2), (far, middle + 2)])

    def settle(self, world: MiniGridEnv) -> None:
        """Set anew at which side the episode ends with success: where the object matches.

        Raises:
            Unsettled: Both match.
        """
        from minigrid.envs.memory import MemoryEnv

        assert isinstance(world, MemoryEnv)
        where = self.where(world)
        if len(where["target"]) > 1:
            raise Unsettled("both objects at the junction match the instruction")
        middle = self.size // 2
        beside = {
            role: [(x, y + (1 if y < middle else -1)) for x, y in where[role]]
            for role in ("target", "decoy")
        }
        nowhere = (-1, -1)
        # Where neither matches, either side fails; the world knows one failing cell, so the left one.
        world.success_pos = next(iter(beside["target"]), nowhere)
        world.failure_pos = next(iter(beside["decoy"]), nowhere)


def register() -> None:
    """Tell Gymnasium our ids; doing it twice is harmless."""
    import gymnasium

    for size in SIZES:
        task = f"dtx/MemoryS{size}FixedStart-v0"
        if task not in gymnasium.registry:
            gymnasium.register(
                task, "dtx.env.memory_task:MemoryFixedStart", kwargs={"size": size, "max_steps": 50}
            )


def _make(env: Memory, layout: int | None) -> gymnasium.Env:
    import gymnasium

    require_valid(env)
    register()
    return gymnasium.make(
        env.id,
        max_steps=env.max_steps,
        layout=layout,
        render_mode="rgb_array",
        disable_env_checker=True,
    )


def _at_junction(observations: np.ndarray) -> np.ndarray:
    objects = observations[..., 0]
    ahead, left, right = objects[..., 3, 5], objects[..., 1, 6], objects[..., 5, 6]
    # Facing back from the junction shows the two objects as well, but the corridor ahead.
    return (ahead == WALL) & np.isin(left, (KEY, BALL)) & np.isin(right, (KEY, BALL))


def _instruction(first: np.ndarray) -> np.ndarray:
    """The instruction's object index (KEY or BALL) in observations at the start, (...) uint8."""
    return first[..., 2, 6, 0]


def _type_at(world: MiniGridEnv, cell: Cell) -> str | None:
    thing = world.grid.get(*cell)
    return None if thing is None else thing.type
