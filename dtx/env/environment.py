"""What every environment offers; a config names the class by ``_target_``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from dtx.config.ranges import problems
from dtx.env.decision import Decision
from dtx.env.roles import Roles
from dtx.env.vector import VectorEnv
from dtx.errors import UserError

if TYPE_CHECKING:
    import gymnasium


class Environment(Protocol):
    """A task on a gridworld: a frozen dataclass of its settings.

    The builder refuses a class that lacks a member, and an object whose ``decision`` or ``roles`` does.
    """

    @property
    def id(self) -> str:
        """Gymnasium id."""
        ...

    @property
    def n_actions(self) -> int:
        """How many actions there are."""
        ...

    @property
    def horizon(self) -> int:
        """Steps allowed in an episode."""
        ...

    @property
    def max_steps(self) -> int | None:
        """Steps allowed in an episode as the settings say it; None: the task's own limit."""
        ...

    @property
    def decision(self) -> Decision | None:
        """Where layouts ask for different turns; None if the task has no such place."""
        ...

    @property
    def roles(self) -> Roles | None:
        """Which things of a world have which role; None if counterfactual edits cannot name them."""
        ...

    def make(self) -> gymnasium.Env:
        """One environment of minigrid itself, for rendering and edits."""
        ...

    def vector(self, n: int, seed: int) -> VectorEnv:
        """n copies that start their next episode by themselves."""
        ...


class CheckedEnvironment(Protocol):
    """An environment that can say which of its settings are wrong."""

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong and what to do)."""
        ...


def require_valid(env: CheckedEnvironment) -> None:
    """Refuse wrong settings of an environment that was made without the builder.

    Raises:
        UserError: The first thing that is wrong.
    """
    for field, problem in itertools.chain(problems(env), env.check()):
        raise UserError(f"env.{field}: {problem}")
