"""The settings of steering; ``conf/analysis/steering.yaml`` explains them."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from dtx.analysis.core.controls import RandomControls
from dtx.config.ranges import (
    Count,
    LearningRate,
    Natural,
    NonNegative,
    NotEmpty,
    Number,
    Positive,
    PositiveShare,
    Seed,
)
from dtx.env.actions import Action
from dtx.env.decision import Decision


class SteeringMethod(enum.Enum):
    """How a change is found; ``conf/analysis/steering.yaml`` says what each one does."""

    activation_addition = "activation_addition"
    embedding_arithmetic = "embedding_arithmetic"
    reward_to_go_clamp = "reward_to_go_clamp"
    optimised = "optimised"


class Tokens(enum.Enum):
    """Where in a window: ``first_state`` is the first one that is not padding."""

    last_state = "last_state"
    last_reward_to_go = "last_reward_to_go"
    reward_to_go = "reward_to_go"
    states = "states"
    first_state = "first_state"
    all = "all"


class Play(enum.Enum):
    """What must change in the environment: the return, or the share of episodes that look back."""

    return_ = "return"
    looks_back = "looks_back"


@dataclass(frozen=True, kw_only=True)
class Place:
    """States on and beside the routine.

    Attributes:
        steps: Actions of the routine that lead there; None: those before the decision.
        then: Actions after those.
        layouts: By name; none named: all.
        reward_to_go: Asked for from the start on, one window each.
    """

    identity_name: ClassVar[str] = "dtx.analysis.steering.Place"

    steps: Natural | None
    then: tuple[Action, ...]
    layouts: tuple[str, ...]
    reward_to_go: tuple[Number, ...]


@dataclass(frozen=True, kw_only=True)
class Detour:
    """Actions that bring the agent back to where it was: taken before a step of the routine."""

    identity_name: ClassVar[str] = "dtx.analysis.steering.Detour"

    before: Natural
    actions: tuple[Action, ...]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What shall be done instead, where, and where nothing may change.

    What is wanted is one of: an action; what the model itself does when asked for ``like``; what it does in
    the clean run of declared pairs, where ``change`` is the corrupt run.
    """

    identity_name: ClassVar[str] = "dtx.analysis.steering.Goal"

    claim: str
    change: tuple[Place, ...]
    pairs: str | None
    like: Number | None
    action: Action | None
    towards: Place | None
    keep: tuple[Place, ...]
    only_if: str | None
    play: Play


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A window is judged on, and not learned from, if its detour, reward-to-go or layout is one of these."""

    identity_name: ClassVar[str] = "dtx.analysis.steering.HeldOut"

    detours: tuple[Detour, ...]
    reward_to_go: tuple[Number, ...]
    layouts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a vector is added: the residual stream before ``layer``'s block, at some tokens."""

    identity_name: ClassVar[str] = "dtx.analysis.steering.Site"

    layer: Natural
    tokens: Tokens


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """A sum of rows of the embedding: reward-to-go's row times a number, and cells of the view by name."""

    identity_name: ClassVar[str] = "dtx.analysis.steering.Arithmetic"

    reward_to_go: Number
    cells: dict[str, Number]
    tokens: Tokens


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How vectors are optimised."""

    identity_name: ClassVar[str] = "dtx.analysis.steering.Descent"

    sites: tuple[Site, ...]
    steps: Count
    learning_rate: LearningRate
    kept: Count
    keep: NonNegative
    penalty: NonNegative


@dataclass(frozen=True, kw_only=True)
class SteeringSpec:
    """Goals, the edits that are tried, and what counts as reached."""

    goals: Annotated[dict[str, Goal], NotEmpty()]
    detours: tuple[Detour, ...]
    held_out: HeldOut
    demonstrations: Natural
    methods: Annotated[tuple[SteeringMethod, ...], NotEmpty()]
    sites: tuple[Site, ...]
    arithmetic: dict[str, Arithmetic]
    clamp_parts: bool
    descent: Descent
    alphas: tuple[Number, ...]
    controls: RandomControls
    compared: Annotated[tuple[Number, ...], NotEmpty()]
    low: Number
    high: Number
    episodes: Count
    min_success: PositiveShare
    max_side_effect: Positive
    max_remaining: PositiveShare
    min_gap_closed: PositiveShare
    tolerance: Positive
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """Sizes have a zero, and the targets are in order."""
        if 0 not in self.alphas or len(set(self.alphas)) < 2:
            yield "alphas", "needs 0, at which nothing may change, and others"
        if self.low >= self.high:
            yield "high", f"{self.high:g} must be above the low target, {self.low:g}"


def problems_of(
    goal: Goal, decision: Decision | None, edits: tuple[str, ...] | None, environment: str
) -> Iterator[str]:
    """What is wrong with a goal.

    Args:
        goal: As declared.
        decision: Of the environment; None if it has none.
        edits: Names of the edits of the pairs; None without pairs.
        environment: Its name, for the messages.
    """
    if [goal.pairs, goal.like, goal.action].count(None) != 2:
        yield "needs exactly one of pairs, like and action: what is wanted"
        return
    if goal.pairs is None and not goal.change:
        yield "needs change: the places where it is wanted"
    if goal.pairs is not None and (goal.change or edits is None):
        yield "changes the corrupt runs of pairs: name pairs (${pairs}), leave change empty"
    elif goal.pairs is not None and edits is not None and goal.pairs not in edits:
        yield f"{goal.pairs!r} is no edit of the pairs; there are {', '.join(edits)}"
    places = [*goal.change, *goal.keep, *([goal.towards] if goal.towards else [])]
    if places and decision is None:
        yield (
            f"names places on a routine, but {environment} has no decision square; declare "
            "the goal on pairs: {pairs: EDIT, change: [], keep: [], like: null, action: null}"
        )
        return
    if decision is not None:
        named = {name for place in places for name in place.layouts}
        for layout in sorted(named - set(decision.layouts)):
            yield f"{layout!r} is no layout; there are {', '.join(decision.layouts)}"
    if any(not place.reward_to_go for place in places):
        yield "every place needs at least one reward_to_go"
    if goal.play is Play.looks_back and decision is None:
        yield "looks_back is known only where there is a routine; use play: return"


UNSTEERED, RANDOM = "unsteered", "random: "
"""In tables, in the place of a method: no edit; before a method's name, the random vector that did best in as
wide a search."""
