"""Counterfactual pairs as a config declares them: the same run twice, with one thing edited.

A pair is a *clean* run and a *corrupt* one up to the same step, which differ by one declared edit: of the
world before its first step (it is then simulated anew), of what the agent sees at a step, or of its
reward-to-go. Causal analyses patch activations between the two.
"""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dtx.dataset.dataset import Dataset
from dtx.env.actions import ACTIONS
from dtx.env.environment import Environment
from dtx.pairs.edits import problems, read
from dtx.report import Report, read_metrics
from dtx.stage import Stage

if TYPE_CHECKING:
    from dtx.pairs.pair_set import PairSet

TRIED = 32
"""Worlds at most in which edits are tried when a config is checked; of more, when the stage runs."""


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
    """Actions before the step that a pair is about; conf/pairs/memory.yaml explains the fields."""

    policy: PrefixPolicy
    actions: tuple[str, ...]
    of: Stage | None
    longest: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield what does not go together."""
        for i, action in enumerate(self.actions):
            if action not in ACTIONS:
                yield f"actions[{i}]", f"no action {action!r}; there are {', '.join(ACTIONS)}"
        if self.actions and self.policy is not PrefixPolicy.script:
            yield "actions", f"are a script's; with policy {self.policy.value} give []"
        if self.policy in (PrefixPolicy.teacher, PrefixPolicy.dt) and self.of is None:
            stage = "${agent}" if self.policy is PrefixPolicy.teacher else "${dt}"
            yield "of", f"policy {self.policy.value} needs the stage that acts: {stage}"
        if self.longest < 0:
            yield "longest", "must be 0 or more steps"


@dataclass(frozen=True, kw_only=True)
class Source:
    """The clean runs; conf/pairs/memory.yaml explains the fields."""

    variants: Any
    reward_to_go: tuple[float, ...]
    prefix: Prefix

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield what types cannot rule out."""
        count = self.variants
        if count != "all" and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            yield "variants", f"all, or how many worlds to sample, is wanted, not {count!r}"
        if not self.reward_to_go:
            yield "reward_to_go", "needs at least one value"


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The two actions whose logits are compared, and where."""

    pos: str
    neg: str
    at: At

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield what types cannot rule out."""
        for name in ("pos", "neg"):
            if getattr(self, name) not in ACTIONS:
                yield name, f"no action {getattr(self, name)!r}; there are {', '.join(ACTIONS)}"
        if self.pos == self.neg:
            yield "neg", f"must be another action than pos: {self.pos}"


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What a pair must meet; the gap needs a model, so the analyses apply it."""

    same_length: bool
    no_early_termination: bool
    min_ld_gap: float

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield what types cannot rule out."""
        if self.min_ld_gap < 0:
            yield "min_ld_gap", "is a distance between logit differences: 0 or more"


@dataclass(frozen=True, kw_only=True)
class Declared(Stage):
    """Makes the pairs; ``conf/pairs/memory.yaml`` explains the fields.

    Pairs that are illegal, end early or come apart are refused and counted. The controls of every analysis
    are always added: for every clean run a pair without an edit (``null``), and for every edited one two
    with other worlds' clean runs, asked for what the corrupt run is asked for (``shuffled_donor``).
    """

    version: ClassVar[int] = 2  # since donors are two a pair and have no edited reward-to-go

    env: Environment
    dataset: Dataset | None
    source: Source
    at: Any
    replay: Replay
    edits: dict[str, tuple[Any, ...]]
    contrast: Contrast
    checks: Checks
    seed: int

    @property
    def environment(self) -> Environment:
        """Where the runs are played."""
        return self.env

    def check(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the declaration; where it is sound, edits are tried in a few worlds."""
        found = list(self._declaration())
        yield from found
        if not found:
            yield from _tried(_Shown(self))

    def _declaration(self) -> Iterator[tuple[str, str]]:
        env, roles = self.env, self.env.roles
        if roles is None:
            yield (
                "env",
                f"{type(env).__name__} does not say which things of a world have which role",
            )
            return
        yield from problems(self.edits, roles.names)
        if self.seed < 0:
            yield "seed", "must be 0 or more"
        known = sorted(roles.predicates())
        if isinstance(self.at, str):
            if self.at not in known:
                there = f"it has {', '.join(known)}" if known else "it has none"
                yield (
                    "at",
                    f"{type(env).__name__} has no {self.at!r} ({there}); or give a number of steps",
                )
        elif isinstance(self.at, bool) or not isinstance(self.at, int) or self.at < 0:
            yield "at", f"the name of a state or a number of steps is wanted, not {self.at!r}"
        elif self.at > self.source.prefix.longest:
            yield "at", f"{self.at} steps are more than source.prefix.longest"
        if self.source.variants == "all" and env.decision is None:
            yield (
                "source.variants",
                f"{type(env).__name__} has no list of all worlds; give a number",
            )
        if self.source.prefix.policy is PrefixPolicy.dataset and self.dataset is None:
            yield "dataset", "source.prefix.policy dataset needs it: ${dataset}"
        for place, action in [("pos", self.contrast.pos), ("neg", self.contrast.neg)]:
            if action not in ACTIONS[: env.n_actions]:
                yield f"contrast.{place}", f"{action} is no action of {type(env).__name__}"
        for name, steps in self.edits.items():
            complements = [
                s for s in steps if isinstance(s, Mapping) and s.get("type") == "complement"
            ]
            if complements and roles.complement is None:
                yield f"edits.{name}", f"{type(env).__name__} has no complement; name a type"

    def run(self, out: Path) -> None:
        """Write runs.npz, pictures.npz, pairs.json, tables ``pairs`` and ``refused``, and the figures."""
        from dtx.pairs.making import make
        from dtx.pairs.pictures import draw

        report = Report(out)
        made = make(self)
        made.save(out, report)
        draw(report, made)

    def load(self) -> PairSet:
        """The pairs, ready for a model."""
        from dtx.pairs.pair_set import PairSet

        return PairSet.read(self.path)

    def summary(self) -> str:
        """How many pairs of what, and how many were refused."""
        n = read_metrics(self.path)
        edits = ", ".join(
            f"{name.removeprefix('pairs/n_of_')} {count:.0f}"
            for name, count in n.items()
            if name.startswith("pairs/n_of_") and count is not None
        )
        return (
            f"{n['pairs/n_edited']:.0f} pairs ({edits}) with {n['pairs/n_control']:.0f} controls; "
            f"{n['pairs/n_refused']:.0f} refused; {n['pairs/n_distinct_runs']:.0f} distinct runs"
        )


class _Shown:
    """A stage that is looked up by what is tried: its worlds and its edits."""

    def __init__(self, stage: Declared):
        self.stage = stage
        edits = json.dumps(stage.edits, sort_keys=True, default=list)
        self.told = (repr(stage.env), stage.source.variants, stage.seed, edits)

    def __hash__(self) -> int:
        return hash(self.told)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shown) and self.told == other.told


@functools.lru_cache(maxsize=64)  # jobs of a sweep mostly share their edits
def _tried(shown: _Shown) -> tuple[tuple[str, str], ...]:
    """Edits that no world tried allows."""
    from dtx.pairs.apply import edit_observations, edit_world
    from dtx.pairs.edits import Impossible
    from dtx.pairs.making import worlds
    from dtx.pairs.runs import copied

    stage, found, roles = shown.stage, [], shown.stage.env.roles
    assert roles is not None
    tried = [world for _, world in worlds(stage, TRIED)]
    for edits in read(stage.edits).values():
        reasons = []
        at_start = [edit for edit in edits if edit.fields.get("frame") in ("first", 0)]
        for world in tried:
            try:
                edit_world(copied(world), edits, roles)
                edit_observations(world.gen_obs()["image"][None], at_start, roles)
            except Impossible as impossible:
                reasons.append(impossible)
        if len(reasons) == len(tried) and len(tried) < TRIED:
            edit, reason = reasons[0].edit, reasons[0].reason
            where = f"in each of the {len(tried)} worlds" if len(tried) > 1 else "in the world"
            found.append((f"edits.{edit.name}[{edit.place}]", f"{edit.op}: {reason}, {where}"))
    return tuple(found)
