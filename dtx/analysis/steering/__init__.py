"""C9: can an edit at run time make the model do something else, and how much else does it change?"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.dataset.dataset import Dataset
from dtx.dt.load import check_checkpoint, load_at
from dtx.dt.model_stage import ModelStage
from dtx.env.actions import Action
from dtx.env.environment import Environment
from dtx.pairs.declared import Declared
from dtx.report import Report, read_metrics
from dtx.stage import Stage


class Method(enum.Enum):
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
    """What must change in the environment: the return, or the share of episodes that look back (B2)."""

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

    steps: int | None
    then: tuple[Action, ...]
    layouts: tuple[str, ...]
    reward_to_go: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Detour:
    """Actions that bring the agent back to where it was: taken before a step of the routine."""

    before: int
    actions: tuple[Action, ...]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What shall be done instead, where, and where nothing may change.

    What is wanted is one of: an action; what the model itself does when asked for ``like``; what it does in
    the clean run of declared pairs, where ``change`` is the corrupt run.
    """

    claim: str
    change: tuple[Place, ...]
    pairs: str | None
    like: float | None
    action: Action | None
    towards: Place | None
    keep: tuple[Place, ...]
    only_if: str | None
    play: Play


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A window is judged on, and not learned from, if its detour, reward-to-go or layout is one of these."""

    detours: tuple[Detour, ...]
    reward_to_go: tuple[float, ...]
    layouts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a vector is added: the residual stream before ``layer``'s block, at some tokens."""

    layer: int
    tokens: Tokens


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """A sum of rows of the embedding: reward-to-go's row times a number, and cells of the view by name."""

    reward_to_go: float
    cells: dict[str, float]
    tokens: Tokens


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How vectors are optimised."""

    sites: tuple[Site, ...]
    steps: int
    learning_rate: float
    kept: int
    keep: float
    penalty: float


@dataclass(frozen=True, kw_only=True)
class Steering(Stage):
    """Steer to each goal by each method, at each site and size; ``conf/analysis/steering.yaml`` explains it.

    *Success*: share of the goal's windows whose most probable action is the wanted one. *Side effect*:
    KL(unsteered || steered), in nats, over windows where nothing may change. Site, size and method are chosen
    on training windows and judged on held-out ones and in the environment. Control: random vectors of the
    same norm at the same site; a method counts only if it beats all of them with at most that norm and side
    effect.
    Emits tables ``sites``, ``scan``, ``controls``, ``rollouts``, ``claims``, figures, ``steering/*`` numbers.
    """

    env: Environment
    dt: ModelStage
    checkpoint: int | None
    dataset: Dataset | None
    pairs: Declared | None
    goals: dict[str, Goal]
    detours: tuple[Detour, ...]
    held_out: HeldOut
    demonstrations: int
    methods: tuple[Method, ...]
    sites: tuple[Site, ...]
    arithmetic: dict[str, Arithmetic]
    clamp_parts: bool
    descent: Descent
    alphas: tuple[float, ...]
    controls: int
    low: float
    high: float
    episodes: int
    min_success: float
    max_side_effect: float
    min_gap_closed: float
    tolerance: float
    resamples: int
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges, and goals that can be had in this environment."""
        yield from check_checkpoint(self.checkpoint)
        if not self.goals:
            yield "goals", "needs at least one"
        if not self.methods:
            yield "methods", "needs at least one of " + ", ".join(m.value for m in Method)
        if 0 not in self.alphas or len(self.alphas) < 2:
            yield "alphas", "needs 0, at which nothing may change, and others"
        for name in ("controls", "episodes", "resamples"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        if self.demonstrations < 0:
            yield "demonstrations", "must be 0 or more"
        if self.demonstrations and self.dataset is None:
            yield "dataset", "is needed for demonstrations; name it, or set demonstrations to 0"
        for name in ("min_success", "min_gap_closed"):
            if not 0 < getattr(self, name) <= 1:
                yield name, "is a share: above 0, up to 1"
        if self.low >= self.high:
            yield "high", f"{self.high:g} must be above the low target, {self.low:g}"
        for name in ("steps", "kept"):
            if getattr(self.descent, name) < 1:
                yield f"descent.{name}", "must be at least 1"
        for name in ("max_side_effect", "tolerance"):
            if getattr(self, name) <= 0:
                yield name, "must be above 0"
        if self.seed < 0:
            yield "seed", "must be 0 or more"
        for name, goal in self.goals.items():
            for problem in self._goal(goal):
                yield f"goals.{name}", problem

    def _goal(self, goal: Goal) -> Iterator[str]:
        """What is wrong with a goal."""
        from dtx.analysis.core.decision import has_decision

        if [goal.pairs, goal.like, goal.action].count(None) != 2:
            yield "needs exactly one of pairs, like and action: what is wanted"
            return
        if goal.pairs is None and not goal.change:
            yield "needs change: the places where it is wanted"
        if goal.pairs is not None and (goal.change or self.pairs is None):
            yield "changes the corrupt runs of pairs: name pairs (${pairs}), leave change empty"
        elif goal.pairs is not None and self.pairs and goal.pairs not in self.pairs.edits:
            yield f"{goal.pairs!r} is no edit of the pairs; there are {', '.join(self.pairs.edits)}"
        places = [*goal.change, *goal.keep, *([goal.towards] if goal.towards else [])]
        if places and not has_decision(self.env):
            yield (
                f"names places on a routine, but {type(self.env).__name__} has no decision square; declare "
                "the goal on pairs: {pairs: EDIT, change: [], keep: [], like: null, action: null}"
            )
            return
        if places:
            known = self.env.layouts()  # type: ignore[attr-defined]
            for layout in {name for place in places for name in place.layouts} - set(known):
                yield f"{layout!r} is no layout; there are {', '.join(known)}"
        if any(not place.reward_to_go for place in places):
            yield "every place needs at least one reward_to_go"
        if goal.play is Play.looks_back and not has_decision(self.env):
            yield "looks_back is known only where there is a routine; use play: return"

    def run(self, out: Path) -> None:
        """Steer, control, judge; an interrupted run starts again."""
        from dtx.analysis.core.claims import write_claims
        from dtx.analysis.steering.claims import judge
        from dtx.analysis.steering.compute import measure
        from dtx.analysis.steering.plots import draw

        report = Report(out)
        found = measure(self, load_at(self.dt, self.checkpoint, self.env, plays=True))
        for name, table in found.tables.items():
            report.table(name, table)
        headline, claims, failed = judge(self, found)
        report.headline(headline)
        write_claims(report, claims, failed)
        draw(report, found, self)

    def summary(self) -> str:
        """Each goal's verdict with its numbers, or which identity failed."""
        from dtx.analysis.core.claims import read_claims

        error = read_metrics(self.path)["steering/identity_error"]
        if error is None or error > self.tolerance:
            return f"not established: identity error {error} is above {self.tolerance:g}"
        return "; ".join(f"{c.claim}: {c.verdict} ({c.found})" for c in read_claims(self.path))
