"""Counterfactual pairs as a config declares them: the same run twice, with one thing edited.

A pair is a *clean* run and a *corrupt* one up to the same step, which differ by one declared edit: of the
world before its first step (it is then simulated anew), of what the agent sees at a step, or of its
reward-to-go. Causal analyses patch activations between the two.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.env.actions import ACTIONS
from dtx.env.environment import Environment
from dtx.env.roles import Roles
from dtx.pairs.edits import COMPLEMENT, Edit, Impossible, problems, read
from dtx.pairs.spec import PairsSpec, PrefixPolicy
from dtx.report import Report, read_metrics
from dtx.resources import Resources
from dtx.stage import Stage

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

    from dtx.pairs.pair_set import PairSet

TRIED = 32
"""Edits are tried when a config is checked if there are fewer worlds; of more, when the stage runs."""


@dataclass(frozen=True, kw_only=True)
class Declared(PairsSpec, Stage):
    """Makes the pairs; ``conf/pairs/memory.yaml`` explains the fields.

    Pairs that are illegal, end early or come apart are rejected and counted. The controls of every analysis
    are always added: for every clean run a pair without an edit (``null``), and for every edited one two
    whose clean run is replaced by one of the same edit in another world: with the clean run's answer
    (``donor_clean``), and with the corrupt run's (``donor_corrupt``).
    """

    version: ClassVar[int] = 3  # since donors are chosen by their answer
    headline: ClassVar[tuple[str, ...]] = (
        "pairs/n_edited",
        "pairs/n_refused",
        "pairs/n_distinct_runs",
    )

    @property
    def environment(self) -> Environment:
        """Where the runs are played."""
        return self.env

    def check(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the declaration; where it is sound, edits are tried in a few worlds."""
        roles = self.env.roles
        if roles is None:
            name = type(self.env).__name__
            yield "env", f"{name} does not say which things of a world have which role"
            return
        wrong = list(self._declaration(roles))
        yield from wrong
        if not wrong:
            yield from _tried(_ByEdits(self))

    def _declaration(self, roles: Roles) -> Iterator[tuple[str, str]]:
        env, name = self.env, type(self.env).__name__
        yield from problems(self.edits, roles.names)
        yield from self._at(roles)
        if self.source.variants == "all" and env.decision is None:
            yield "source.variants", f"{name} has no list of all worlds; give a number"
        if self.source.prefix.policy is PrefixPolicy.dataset and self.dataset is None:
            yield "dataset", "source.prefix.policy dataset needs it: ${dataset}"
        for place, action in [("pos", self.contrast.pos), ("neg", self.contrast.neg)]:
            if action not in ACTIONS[: env.n_actions]:
                yield f"contrast.{place}", f"{action} is no action of {name}"
        for edit, steps in self.edits.items():
            types = [step.get("type") for step in steps if isinstance(step, Mapping)]
            if COMPLEMENT in types and roles.complement is None:
                yield f"edits.{edit}", f"{name} has no complement; name a type"

    def _at(self, roles: Roles) -> Iterator[tuple[str, str]]:
        name, known = type(self.env).__name__, sorted(roles.predicates())
        if isinstance(self.at, str):
            if self.at not in known:
                there = f"it has {', '.join(known)}" if known else "it has none"
                yield "at", f"{name} has no {self.at!r} ({there}); or give a number of steps"
        elif isinstance(self.at, bool) or not isinstance(self.at, int) or self.at < 0:
            yield "at", f"the name of a state or a number of steps is wanted, not {self.at!r}"
        elif self.at > self.source.prefix.longest:
            yield "at", f"{self.at} steps are more than source.prefix.longest"
        elif self._scripted and self.at > (given := len(self.source.prefix.actions)):
            yield "at", f"{self.at} steps are more than the {given} of source.prefix.actions"

    @property
    def _scripted(self) -> bool:
        return self.source.prefix.policy is PrefixPolicy.script

    def resources(self) -> Resources:
        """A world a clean run, and what is seen in every run of a pair."""
        kept = {"source.variants": self.most_pairs * (600.0 + 2 * 200 * self.longest)}
        worlds = {"source.variants, source.reward_to_go": 100e3 * self.runs}
        seconds = self.most_pairs * (2e-3 + 1e-4 * self.longest)
        return Resources(memory=kept | worlds, disk=kept, seconds=seconds)

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
        """How many pairs of what, and how many were rejected."""
        n = read_metrics(self.path)
        edits = ", ".join(
            f"{name.removeprefix('pairs/n_of_')} {count:.0f}"
            for name, count in n.items()
            if name.startswith("pairs/n_of_") and count is not None
        )
        return (
            f"{n['pairs/n_edited']:.0f} pairs ({edits}) with {n['pairs/n_control']:.0f} controls; "
            f"{n['pairs/n_refused']:.0f} rejected (table `refused`); "
            f"{n['pairs/n_distinct_runs']:.0f} distinct runs"
        )


class _ByEdits:
    """A declaration as a cache knows it: by its worlds and its edits."""

    def __init__(self, spec: PairsSpec):
        self.spec = spec
        edits = json.dumps(spec.edits, sort_keys=True, default=list)
        prefix = spec.source.prefix
        steps = (spec.at, prefix.policy, prefix.actions, prefix.longest)
        self.known_by = (repr(spec.env), spec.source.variants, spec.seed, edits, *steps)

    def __hash__(self) -> int:
        return hash(self.known_by)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByEdits) and self.known_by == other.known_by


@functools.lru_cache(maxsize=64)  # jobs of a sweep mostly share their edits
def _tried(declaration: _ByEdits) -> tuple[tuple[str, str], ...]:
    """Edits, and a script before them, that no world tried allows."""
    from dtx.pairs.making import count_worlds, roles_of, worlds

    spec = declaration.spec
    if count_worlds(spec) >= TRIED:  # another world may allow what those tried do not
        return ()
    tried = [world for _, world in worlds(spec)]
    where = f"in each of the {len(tried)} worlds" if len(tried) > 1 else "in the world"
    wrong = []
    if spec.source.prefix.policy is PrefixPolicy.script:
        reasons = list(_not_reached(spec, tried, roles_of(spec)))
        if len(reasons) == len(tried):
            wrong.append(("source.prefix", f"no clean run: {reasons[0]}, {where}"))
    for edits in read(spec.edits).values():
        refusals = list(_refusals(edits, tried, roles_of(spec)))
        if len(refusals) == len(tried):
            edit, reason = refusals[0].edit, refusals[0].reason
            wrong.append((f"edits.{edit.name}[{edit.place}]", f"{edit.op}: {reason}, {where}"))
    return tuple(wrong)


def _not_reached(spec: PairsSpec, tried: Sequence[MiniGridEnv], roles: Roles) -> Iterator[str]:
    """Why a script does not lead to the state that pairs are about, for each world where it does not."""
    from dtx.pairs.making import reached
    from dtx.pairs.policies import Script
    from dtx.pairs.runs import Refused, copied, play

    prefix = spec.source.prefix
    script = [ACTIONS.index(action) for action in prefix.actions]
    for world in tried:
        try:
            there = functools.partial(reached, spec)
            play(
                copied(world),
                roles,
                Script(script),
                there,
                target=spec.source.reward_to_go[0],
                longest=prefix.longest,
                may_end=not spec.checks.no_early_termination,
            )
        except Refused as refused:
            yield str(refused)


def _refusals(
    edits: Sequence[Edit], tried: Sequence[MiniGridEnv], roles: Roles
) -> Iterator[Impossible]:
    """Why worlds do not allow edits, one for each world that does not."""
    from dtx.pairs.apply import edit_observations, edit_world
    from dtx.pairs.runs import copied

    at_start = [edit for edit in edits if edit.fields.get("frame") in ("first", 0)]
    for world in tried:
        try:
            edit_world(copied(world), edits, roles)
            edit_observations(world.gen_obs()["image"][None], at_start, roles)
        except Impossible as impossible:
            yield impossible
