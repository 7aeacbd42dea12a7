"""Any MiniGrid (or BabyAI) task by its id. The mission's text is not part of the observation."""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dtx.config.ranges import Count
from dtx.env.decision import Decision
from dtx.env.environment import require_valid
from dtx.env.facts import Fact, States, common
from dtx.env.roles import Cell, Complement, Predicate, Roles, Unsettled, roles_by_type
from dtx.env.vector import Backend, VectorEnv
from dtx.errors import UserError

if TYPE_CHECKING:
    import gymnasium
    from minigrid.minigrid_env import MiniGridEnv


@dataclass(frozen=True, kw_only=True)
class MiniGrid:
    """A MiniGrid task.

    Attributes:
        id: Gymnasium id: ``MiniGrid-DoorKey-5x5-v0``, ``BabyAI-GoToObj-v0``.
        max_steps: Steps allowed in an episode; None for the task's own limit.
        backend: What runs many copies.
    """

    id: str
    max_steps: Count | None
    backend: Backend

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong and what to do)."""
        known = known_ids()
        if self.id not in known:
            yield "id", f"unknown environment {self.id!r}{_suggestions(self.id, known)}"
        elif self.max_steps is None and _facts(self.id).max_steps < 1:
            yield "max_steps", f"{self.id} sets its step limit anew in each episode; give a number"

    @property
    def decision(self) -> Decision | None:
        """None: the task has no fixed layouts with a scripted way to one deciding turn."""
        return None

    @property
    def roles(self) -> Roles | None:
        """The agent, and a role for each type of object."""
        return MiniGridRoles(self.id)

    @property
    def n_actions(self) -> int:
        """Actions of the task: MiniGrid's 7 (left, right, forward, pickup, drop, toggle, done), or fewer."""
        require_valid(self)
        return _facts(self.id).n_actions

    @property
    def horizon(self) -> int:
        """Steps allowed in an episode."""
        require_valid(self)
        return self.max_steps or _facts(self.id).max_steps

    def make(self) -> gymnasium.Env:
        """One environment of minigrid itself: the reference, for rendering and edits.

        Raises:
            UserError: No such task, or it lacks a package.
        """

        require_valid(self)
        return _make(self.id, self.max_steps)

    def vector(self, n: int, seed: int) -> VectorEnv:
        """n copies that start their next episode by themselves; see ``dtx.env.vector``."""
        require_valid(self)
        if chosen(self.backend, self.id) is Backend.envpool:
            from dtx.env.envpool_backend import EnvPool

            return EnvPool(self.id, n, seed, self.horizon, n_actions=self.n_actions)
        from dtx.env.gymnasium_backend import Gymnasium

        return Gymnasium([self.make] * n, seed, self.horizon)


@dataclass(frozen=True)
class MiniGridRoles:
    """Roles in any MiniGrid task, the types of its objects: a :class:`dtx.env.roles.Roles`.

    Attributes:
        id: Of the task, for errors.
    """

    id: str

    @property
    def names(self) -> tuple[str, ...]:
        """The agent, and the types of objects, each of which is a role."""
        return ("agent", "ball", "box", "door", "floor", "goal", "key", "lava")

    @property
    def complement(self) -> Complement | None:
        """None: what the task's instruction is, if it has one, is not known."""
        return None

    def where(self, world: MiniGridEnv) -> dict[str, list[Cell]]:
        """Where they are in a world at its start."""
        return roles_by_type(world)

    def predicates(self) -> dict[str, Predicate]:
        """None: which step matters is given by its number."""
        return {}

    def facts(self, states: States) -> dict[str, Fact]:
        """Those of every task."""
        return common(states)

    def settle(self, world: MiniGridEnv) -> None:
        """Nothing, where all that counts is in the grid.

        Raises:
            Unsettled: The task keeps more beside its grid; it needs a file like dynamic_obstacles.py.
        """
        for name in ("obstacles", "success_pos"):
            if name in vars(world):
                raise Unsettled(
                    f"{self.id} keeps {name} beside its grid; env=minigrid cannot edit it"
                )


def _make(task: str, max_steps: int | None) -> gymnasium.Env:
    import gymnasium

    kwargs = {} if max_steps is None else {"max_steps": max_steps}
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            # "out of date" of old versions of a task: the id was chosen on purpose.
            warnings.simplefilter("ignore", DeprecationWarning)
            return gymnasium.make(task, render_mode="rgb_array", disable_env_checker=True, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"env.id: {task} needs a package: {error}") from error


@dataclass(frozen=True)
class _Facts:
    """What a task says of itself; ``max_steps`` is 0 where it sets the limit anew in each episode."""

    n_actions: int
    max_steps: int


@functools.cache
def _facts(task: str) -> _Facts:
    env = _make(task, None)
    try:
        return _Facts(int(env.action_space.n), int(env.get_wrapper_attr("max_steps")))
    finally:
        env.close()


def chosen(backend: Backend, task: str) -> Backend:
    """The backend that ``auto`` stands for with a task of envpool's.

    Raises:
        UserError: envpool is asked for and is missing or lacks the task.
    """
    if backend is Backend.gymnasium:
        return backend
    from dtx.env.envpool_backend import has

    if has(task):
        return Backend.envpool
    if backend is Backend.envpool:
        raise UserError(
            f"env.backend: envpool is not installed (pip install 'dtx[envpool]') or has no {task}; use auto "
            "or gymnasium"
        )
    return Backend.gymnasium


def known_ids() -> list[str]:
    """All ids of MiniGrid and BabyAI."""
    import gymnasium
    import minigrid  # noqa: F401  registers its tasks

    return sorted(i for i in gymnasium.registry if i.startswith(("MiniGrid-", "BabyAI-")))


def _suggestions(wanted: str, known: list[str]) -> str:
    folded = {i.lower(): i for i in known}
    near = difflib.get_close_matches(wanted.lower(), folded, n=3, cutoff=0.5)
    if not near:
        return "; ids look like MiniGrid-DoorKey-5x5-v0 or BabyAI-GoToObj-v0"
    return "; did you mean " + " or ".join(folded[i] for i in near) + "?"
