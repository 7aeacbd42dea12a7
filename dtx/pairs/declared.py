"""Counterfactual pairs as a config declares them: the same run twice, with one thing edited.

A pair is a *clean* run and a *corrupt* one up to the same step, which differ by one declared edit: of the
world before its first step or of one action (it is then simulated anew), of what the agent sees at a step, or
of its reward-to-go. Causal analyses patch activations between the two.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.env.actions import ACTIONS
from dtx.env.environment import Environment
from dtx.env.roles import Roles
from dtx.pairs.edits import Edit, Impossible, problems, read
from dtx.pairs.spec import PairsSpec, PrefixPolicy
from dtx.report import Report, read_metrics
from dtx.resources import Resources
from dtx.stage import Stage

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

    from dtx.pairs.making import Making
    from dtx.pairs.pair_set import PairSet
    from dtx.pairs.runs import Run

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
        yield from problems(self.edits, env)
        yield from self._at(roles)
        yield from self._source()
        if self.source.prefix.policy is PrefixPolicy.dataset and self.dataset is None:
            yield "dataset", "source.prefix.policy dataset needs it: ${dataset}"
        for place, action in [("pos", self.contrast.pos), ("neg", self.contrast.neg)]:
            if action not in ACTIONS[: env.n_actions]:
                yield f"contrast.{place}", f"{action} is no action of {name}"

    def _source(self) -> Iterator[tuple[str, str]]:
        from dtx.pairs.worlds import name_problems

        variants, name = self.source.variants, type(self.env).__name__
        if variants == "all" and self.env.decision is None:
            yield "source.variants", f"{name} has no list of all worlds; give a number"
        if isinstance(variants, (list, tuple)):
            for problem in name_problems(self.env, variants):
                yield "source.variants", problem
        for token in self.source.tokens:
            step = int(token[1:])
            if isinstance(self.at, int) and step > self.at + 1:
                yield f"source.tokens.{token}", f"a run of {self.at} steps has {self.at + 1} states"

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
    """A declaration as a cache knows it: by its worlds, its edits and what leads to their state."""

    def __init__(self, spec: PairsSpec):
        self.spec = spec
        source = (spec.source.variants, spec.source.tokens, spec.source.prefix.actions)
        declared = json.dumps([spec.edits, *source], sort_keys=True, default=list)
        prefix = (spec.source.prefix.policy, spec.source.prefix.longest)
        rest = (spec.seed, spec.at, spec.replay, spec.checks)
        self.known_by = (repr(spec.env), declared, *prefix, *rest)

    def __hash__(self) -> int:
        return hash(self.known_by)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByEdits) and self.known_by == other.known_by


@functools.lru_cache(maxsize=64)  # jobs of a sweep mostly share their edits
def _tried(declaration: _ByEdits) -> tuple[tuple[str, str], ...]:
    """Edits, and a script before them, that no world tried allows."""
    from dtx.pairs.making import Making
    from dtx.pairs.runs import Refused
    from dtx.pairs.worlds import count_worlds, worlds

    spec = declaration.spec
    if count_worlds(spec) >= TRIED:  # another world may allow what those tried do not
        return ()
    tried = worlds(spec)
    where = f"in each of the {len(tried)} worlds" if len(tried) > 1 else "in the world"
    making, clean, reasons = None, {}, []
    if spec.source.prefix.policy is PrefixPolicy.script:
        making = Making(dataclasses.replace(spec, dataset=None), draw=False)
        for name, world in tried:
            try:
                clean[name] = making.clean(name, world, spec.source.reward_to_go[0])
            except Refused as refused:
                reasons.append(str(refused))
    wrong = []
    if len(reasons) == len(tried):
        wrong.append(("source.prefix", f"no clean run: {reasons[0]}, {where}"))
    for edits in read(spec.edits).values():
        refusals = list(_refusals(spec, making, edits, tried, clean))
        if len(refusals) == len(tried):
            edit, reason = refusals[0].edit, refusals[0].reason
            wrong.append((f"edits.{edit.name}[{edit.place}]", f"{edit.op}: {reason}, {where}"))
    return tuple(wrong)


def _refusals(
    spec: PairsSpec,
    making: Making | None,
    edits: Sequence[Edit],
    tried: Sequence[tuple[str, MiniGridEnv]],
    clean: Mapping[str, Run],
) -> Iterator[Impossible]:
    """Why worlds, and the clean runs that there are in them, do not allow edits; one for each world."""
    from dtx.pairs.apply import edit_observations, edit_world
    from dtx.pairs.runs import Refused, copied

    roles, target = spec.env.roles, spec.source.reward_to_go[0]
    assert roles is not None
    at_start = [edit for edit in edits if edit.fields.get("frame") in ("first", 0)]
    for name, world in tried:
        try:
            if making is not None and name in clean:
                making.edited(name, world, target, edits, clean[name])
            else:
                edited = copied(world)
                edit_world(edited, edits, roles)
                edit_observations(edited.gen_obs()["image"][None], at_start, roles)
        except Impossible as impossible:
            yield impossible
        except Refused:  # such pairs are counted when the stage runs
            continue
