"""What pairs are made of; ``conf/pairs/memory.yaml`` explains the fields."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from dtx.agent.agent import AgentStage
from dtx.config.ranges import MOST, Natural, NonNegative, NotEmpty, Number, Seed
from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage
from dtx.env.actions import ACTIONS
from dtx.env.environment import Environment
from dtx.stage import Stage, added

TOKEN = re.compile(r"R([1-9][0-9]{0,8})", re.ASCII)
"""Name of a reward-to-go token: ``R4`` is the fourth step's."""


class PrefixPolicy(enum.Enum):
    """Who acts up to the step that a pair is about.

    ``script``: always the same actions. ``search``: a shortest way there, found in the world itself.
    ``teacher``, ``dt``: a trained agent or Decision Transformer, greedily. ``dataset``: a recorded episode
    that saw exactly what the world shows.
    """

    script = "script"
    search = "search"
    teacher = "teacher"
    dt = "dt"
    dataset = "dataset"


class Replay(enum.Enum):
    """Who acts in the edited world: the clean run's actions once more, or the policy anew."""

    same_actions = "same_actions"
    policy = "policy"


class At(enum.Enum):
    """Where logits are compared."""

    last_state = "last_state"


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """Actions before the step that a pair is about."""

    identity_name: ClassVar[str] = "dtx.pairs.declared.Prefix"

    policy: PrefixPolicy
    actions: tuple[str, ...]
    of: Stage | None
    longest: Natural

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield what does not go together."""
        for i, action in enumerate(self.actions):
            if action not in ACTIONS:
                yield f"actions[{i}]", f"no action {action!r}; there are {', '.join(ACTIONS)}"
        if self.actions and self.policy is not PrefixPolicy.script:
            yield "actions", f"are a script's; with policy {self.policy.value} give []"
        if self.policy is PrefixPolicy.teacher and not isinstance(self.of, AgentStage):
            yield "of", "policy teacher needs the agent that acts: ${agent}"
        if self.policy is PrefixPolicy.dt and not isinstance(self.of, ModelStage):
            yield "of", "policy dt needs the Decision Transformer that acts: ${dt}"


@dataclass(frozen=True, kw_only=True)
class CleanRuns:
    """The clean runs: every world with every reward-to-go.

    Attributes:
        variants: ``all`` layouts, how many worlds to sample, or names of worlds.
        reward_to_go: At the start; it falls by each reward.
        prefix: The actions up to the step that a pair is about.
        tokens: Reward-to-go of single tokens instead, in both runs: ``{R4: 0.0}``.
    """

    identity_name: ClassVar[str] = "dtx.pairs.declared.Source"

    variants: Any  # "all", a number or a list of names
    reward_to_go: Annotated[tuple[Number, ...], NotEmpty("needs at least one value")]
    prefix: Prefix
    tokens: dict[str, Number] = field(metadata=added({}))

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield what types cannot rule out."""
        wanted = self.variants
        if isinstance(wanted, (list, tuple)):
            if not wanted:
                yield "variants", "is empty; name worlds, or give all or a number"
        elif wanted != "all" and (
            isinstance(wanted, bool) or not isinstance(wanted, int) or not 1 <= wanted <= MOST
        ):
            words = "all, how many worlds to sample, or a list of names is wanted"
            yield "variants", f"{words}, not {wanted!r}"
        for name in self.tokens:
            if not TOKEN.fullmatch(name):
                yield f"tokens.{name}", "is no reward-to-go token: R1 is the first, R2 the second"


@dataclass(frozen=True, kw_only=True)
class ComparedActions:
    """The two actions whose logits are compared, and where."""

    identity_name: ClassVar[str] = "dtx.pairs.declared.Contrast"

    pos: str
    neg: str
    at: At

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield what types cannot rule out."""
        for name, action in (("pos", self.pos), ("neg", self.neg)):
            if action not in ACTIONS:
                yield name, f"no action {action!r}; there are {', '.join(ACTIONS)}"
        if self.pos == self.neg:
            yield "neg", f"must be another action than pos: {self.pos}"


@dataclass(frozen=True, kw_only=True)
class PairChecks:
    """What a pair must meet; the gap needs a model, so the analyses apply it."""

    identity_name: ClassVar[str] = "dtx.pairs.declared.Checks"

    same_length: bool
    no_early_termination: bool
    min_ld_gap: NonNegative


@dataclass(frozen=True, kw_only=True)
class PairsSpec:
    """All that pairs are made from."""

    env: Environment
    dataset: Dataset | None
    source: CleanRuns
    at: Any  # a state's name or a number of steps
    replay: Replay
    edits: dict[str, tuple[Any, ...]]
    contrast: ComparedActions
    checks: PairChecks
    seed: Seed

    @property
    def runs(self) -> int:
        """Clean runs: worlds times rewards-to-go."""
        variants, decision = self.source.variants, self.env.decision
        if variants == "all":
            variants = decision.layouts if decision else [variants]
        worlds = variants if isinstance(variants, int) else len(variants)
        return worlds * len(self.source.reward_to_go)

    @property
    def most_pairs(self) -> int:
        """Pairs with their controls, if none is rejected."""
        return self.runs * (1 + 3 * len(self.edits))

    @property
    def longest(self) -> int:
        """Most steps of a run."""
        if isinstance(self.at, int):
            return self.at + 1
        decision = self.env.decision
        return self.source.prefix.longest + 1 if decision is None else decision.step + 1
