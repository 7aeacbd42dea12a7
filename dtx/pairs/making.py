"""Simulate the runs of declared pairs, reject those that cannot be made, measure how unusual the rest looks.

Letters: r runs, t states of a run, p pairs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dtx.agent.agent import AgentStage
from dtx.dt.model_stage import ModelStage
from dtx.env.actions import ACTIONS
from dtx.env.roles import Roles
from dtx.pairs.apply import edit_observations, edit_rewards_to_go, edit_world, given_actions
from dtx.pairs.distance import nearest, training_observations
from dtx.pairs.donors import donors
from dtx.pairs.edits import ACTION_OPS, OBSERVATION_OPS, RTG_OPS, STATE_OPS, Edit, Impossible, read
from dtx.pairs.policies import AgentPolicy, EpisodePolicy, ModelPolicy, Script, Search
from dtx.pairs.runs import Policy, Refused, Run, copied, play
from dtx.pairs.spec import TOKEN, PairsSpec, PrefixPolicy, Replay
from dtx.pairs.worlds import worlds
from dtx.report import Report, write_atomically
from dtx.training.threads import one_thread

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

NULL = "null"
"""Name of the control that is a pair of equal runs."""


@dataclass
class Made:
    """Runs and the pairs of them.

    Attributes:
        spec: What was declared.
        runs: r runs. pairs: One row a pair; see ``PairSet.table``.
        refused: One row a pair that is not there.
    """

    spec: PairsSpec
    runs: list[Run] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def about(self) -> dict[str, Any]:
        """See ``PairSet.about``."""
        spec = self.spec
        return {
            "env": spec.env.id,
            "roles": list(roles_of(spec).names),
            "edits": list(spec.edits),
            "positive": ACTIONS.index(spec.contrast.pos),
            "negative": ACTIONS.index(spec.contrast.neg),
            "min_ld_gap": spec.checks.min_ld_gap,
            "n_actions": spec.env.n_actions,
        }

    def columns(self) -> dict[str, np.ndarray]:
        """The runs as arrays, padded behind their ends with zeros; see ``PairSet.runs``."""
        return _columns(self.runs, roles_of(self.spec).names)

    def save(self, out: Path, report: Report) -> None:
        """Write arrays, tables and the headline.

        Raises:
            UserError: Not one edited pair is left, or no world allows an edit.
        """
        import pandas as pd

        from dtx.errors import UserError

        spec = self.spec
        edited = [pair for pair in self.pairs if pair["kind"] == "edit"]
        if not edited:
            reasons = sorted({f"{r['edit']}: {r['reason']}" for r in self.refused})
            raise UserError("pairs: every pair was rejected:\n" + "\n".join(reasons[:10]))
        for name in spec.edits:
            reasons = [r["reason"] for r in self.refused if r["edit"] == name]
            possible = any(pair["edit"] == name for pair in edited)
            if not possible and all(reason.startswith("edits.") for reason in reasons):
                raise UserError(f"pairs.{reasons[0]}, and nothing else in the other worlds")
        np.savez_compressed(out / "runs.npz", **self.columns())
        pictures = {f"run_{i}": run.picture for i, run in enumerate(self.runs)}
        np.savez_compressed(out / "pictures.npz", **pictures)
        write_atomically(out / "pairs.json", json.dumps(self.about(), indent=1) + "\n")
        report.table("pairs", pd.DataFrame(self.pairs))
        columns = ["variant", "reward_to_go", "edit", "reason"]
        report.table("refused", pd.DataFrame(self.refused, columns=columns))
        distinct = {(r.seen.tobytes(), r.rewards_to_go.tobytes(), *r.actions) for r in self.runs}
        clean = {self.runs[pair["clean"]].seen.tobytes() for pair in edited}
        report.headline(
            {
                "pairs/n_edited": len(edited),
                "pairs/n_control": len(self.pairs) - len(edited),
                "pairs/n_refused": len(self.refused),
                "pairs/n_distinct_runs": len(distinct),
                "pairs/n_distinct_clean": len(clean),
                **{
                    f"pairs/n_of_{name}": sum(pair["edit"] == name for pair in edited)
                    for name in spec.edits
                },
            }
        )


def make(spec: PairsSpec) -> Made:
    """All pairs of a declaration; its inputs are committed."""
    with one_thread():
        return Making(spec).all()


def roles_of(spec: PairsSpec) -> Roles:
    """The environment's roles; the stage's ``check()`` refuses an environment without."""
    roles = spec.env.roles
    assert roles is not None
    return roles


def reached(spec: PairsSpec, observation: np.ndarray, step: int) -> bool:
    """Whether this is the state that the pairs are about."""
    if isinstance(spec.at, int):
        return step == spec.at
    return bool(roles_of(spec).predicates()[spec.at](observation))


class Making:
    """Plays the runs of a declaration and puts them together to pairs, which are in ``made``.

    Args:
        spec: What was declared; its inputs are committed.
        known: (u, 7, 7, 3) observations that those of pairs are compared with; None: the training data of the
            declaration's dataset, if it has one.
        draw: Take a picture of every world.
    """

    def __init__(self, spec: PairsSpec, *, known: np.ndarray | None = None, draw: bool = True):
        self.spec, self.made, self.roles = spec, Made(spec), roles_of(spec)
        self.edits = read(spec.edits)
        self.episodes = None if spec.dataset is None else spec.dataset.load()
        if known is None and self.episodes is not None:
            known = training_observations(self.episodes)
        self.known, self.draw = known, draw
        self.policy = self._policy()
        self._played: dict[tuple, Run | Refused | Impossible] = {}
        self._row: dict[tuple, int] = {}

    def all(self) -> Made:
        """Clean runs, then every edit of each, then the donors."""
        for name, world in worlds(self.spec):
            for target in self.spec.source.reward_to_go:
                self.of_world(name, world, target)
        pairs, refused = donors(self.spec, self.made.runs, self.made.pairs)
        self.made.pairs += pairs
        self.made.refused += refused
        self.describe(self.made.pairs)
        return self.made

    def of_world(self, variant: str, world: MiniGridEnv, target: float) -> None:
        """The null pair of a world and reward-to-go, and one of each edit; or why they are not there."""
        of = {"variant": variant, "reward_to_go": target}
        try:
            clean = self.clean(variant, world, target)
        except (Refused, Impossible) as reason:
            for name in (NULL, *self.edits):
                self.made.refused.append({**of, "edit": name, "reason": f"clean run: {reason}"})
            return
        self.add(of, NULL, NULL, clean, clean)
        for name, edits in self.edits.items():
            try:
                corrupt = self.edited(variant, world, target, edits, clean)
            except (Refused, Impossible) as reason:
                self.made.refused.append({**of, "edit": name, "reason": str(reason)})
                continue
            self.add(of, name, "edit", clean, corrupt)

    def clean(self, variant: str, world: MiniGridEnv, target: float) -> Run:
        """The run without an edit; the world, which has the name ``variant``, stays at its start.

        Raises:
            Refused: It does not get to the state that the pairs are about.
        """
        return self._run(variant, world, target, None)

    def edited(
        self, variant: str, world: MiniGridEnv, target: float, edits: Sequence[Edit], clean: Run
    ) -> Run:
        """The run with the operations of one edit.

        Raises:
            Impossible: The world or the run does not allow one.
            Refused: The run cannot be the other one of a pair.
        """
        base = clean
        if any(edit.op in STATE_OPS | ACTION_OPS for edit in edits):
            base = self._run(variant, world, target, edits, clean)
        if self.spec.checks.same_length and len(base.actions) != len(clean.actions):
            raise Refused(f"{len(base.actions)} steps, but the clean run has {len(clean.actions)}")
        corrupt = base
        if any(edit.op in OBSERVATION_OPS | RTG_OPS for edit in edits):
            seen = edit_observations(base.seen, edits, self.roles)
            to_go = edit_rewards_to_go(base.rewards_to_go, edits)
            corrupt = replace(base, observations=list(seen), rewards_to_go=to_go)
        if _same(clean, corrupt):
            raise Refused("the edit changes nothing that the model is given")
        return corrupt

    def _run(
        self,
        variant: str,
        world: MiniGridEnv,
        target: float,
        edits: Sequence[Edit] | None,
        clean: Run | None = None,
    ) -> Run:
        """Play a clean or an edited world; a run that does not depend on the target is played once."""
        depends = self.spec.source.prefix.policy is PrefixPolicy.dt
        key = (variant, edits and edits[0].name, target if depends else None)
        if key not in self._played:
            try:
                self._played[key] = self._play(copied(world), target, edits, clean)
            except (Refused, Impossible) as reason:
                self._played[key] = reason
        run = self._played[key]
        if isinstance(run, Exception):
            raise run
        to_go = (np.float32(target) - np.cumsum([0.0, *run.rewards])).astype(np.float32)
        for name, value in self.spec.source.tokens.items():
            if not (step := _step_of(name)) < len(to_go):
                raise Refused(f"source.tokens.{name}: the run has {len(to_go)} states")
            to_go[step] = value
        return replace(run, rewards_to_go=to_go)

    def _play(
        self, world: MiniGridEnv, target: float, edits: Sequence[Edit] | None, clean: Run | None
    ) -> Run:
        spec, given = self.spec, {}
        policy, reached = self.policy, self.reached
        if edits is not None and clean is not None:
            edit_world(world, edits, self.roles)
            given = given_actions(edits, len(clean.actions))
            if spec.replay is Replay.same_actions:
                policy, reached = Script(clean.actions), len(clean.actions)
            elif not spec.checks.same_length:
                reached = len(clean.actions)
        return play(
            world,
            self.roles,
            policy,
            reached,
            target=target,
            longest=spec.source.prefix.longest,
            may_end=not spec.checks.no_early_termination,
            given=given,
            draw=self.draw,
        )

    def reached(self, observation: np.ndarray, step: int) -> bool:
        """Whether this is the state that the pairs are about."""
        return reached(self.spec, observation, step)

    def _policy(self) -> Policy:
        prefix, n_actions = self.spec.source.prefix, self.spec.env.n_actions
        if prefix.policy is PrefixPolicy.script:
            return Script([ACTIONS.index(action) for action in prefix.actions])
        if prefix.policy is PrefixPolicy.search:
            return Search(self.reached, n_actions, prefix.longest)
        if prefix.policy is PrefixPolicy.dataset:
            assert self.episodes is not None
            return EpisodePolicy(self.episodes, self.reached, prefix.longest)
        if prefix.policy is PrefixPolicy.teacher:
            assert isinstance(prefix.of, AgentStage)
            return AgentPolicy(prefix.of.load())
        assert isinstance(prefix.of, ModelStage)
        return ModelPolicy(prefix.of.load(), prefix.longest, n_actions)

    def add(self, of: dict, edit: str, kind: str, clean: Run, corrupt: Run) -> None:
        """Keep a pair; ``of`` is its ``variant`` and ``reward_to_go``, the rest as in ``PairSet.table``."""
        self.made.pairs.append(
            {
                "pair": len(self.made.pairs),
                "edit": edit,
                "kind": kind,
                **of,
                "of": -1,
                "edit_as": "",
                "clean": self._number(of["variant"], NULL, clean),
                "corrupt": self._number(of["variant"], edit, corrupt),
                "states": len(clean.observations),
                "ood": any(e.op in OBSERVATION_OPS for e in self.edits.get(edit, [])),
            }
        )

    def _number(self, variant: str, edit: str, run: Run) -> int:
        """Row of a run; the same run of the same world is kept once."""
        key = (variant, edit, run.rewards_to_go.tobytes(), run.seen.tobytes(), *run.actions)
        if key not in self._row:
            self._row[key] = len(self.made.runs)
            self.made.runs.append(run)
        return self._row[key]

    def describe(self, pairs: Sequence[dict[str, Any]]) -> None:
        """Say of pairs what differs, and how far from the training observations it looks."""
        runs, sides = self.made.runs, ("clean", "corrupt")
        used = sorted({pair[side] for pair in pairs for side in sides})
        distance: dict[int, int] = {}
        if self.known is not None:
            found = nearest([runs[i].seen for i in used], self.known)
            distance = dict(zip(used, found, strict=True))
        for pair in pairs:
            pair["changed"] = " ".join(changed(*(runs[pair[side]] for side in sides)))
            for side in sides:
                pair[f"{side}_distance"] = distance.get(pair[side])


def changed(clean: Run, corrupt: Run) -> list[str]:
    """Tokens that differ between two runs of as many steps: ``S1``, ``R5``; steps count from 1."""
    names = []
    for t, (a, b) in enumerate(zip(clean.observations, corrupt.observations, strict=True), 1):
        names += [f"R{t}"] * bool(clean.rewards_to_go[t - 1] != corrupt.rewards_to_go[t - 1])
        names += [f"S{t}"] * bool((a != b).any())
        if t <= len(clean.actions):
            names += [f"A{t}"] * bool(clean.actions[t - 1] != corrupt.actions[t - 1])
    return names


def _step_of(token: str) -> int:
    """The step, counted from 0, of a reward-to-go token: 3 of ``R4``."""
    named = TOKEN.fullmatch(token)
    assert named is not None, f"{token} is no reward-to-go token"
    return int(named[1]) - 1


def _same(clean: Run, corrupt: Run) -> bool:
    return len(clean.actions) == len(corrupt.actions) and not changed(clean, corrupt)


def _columns(runs: Sequence[Run], roles: Sequence[str]) -> dict[str, np.ndarray]:
    longest = max(len(run.observations) for run in runs)
    columns = {
        "observation": np.zeros((len(runs), longest, 7, 7, 3), np.uint8),
        "action": np.zeros((len(runs), longest), np.uint8),
        "reward_to_go": np.zeros((len(runs), longest), np.float32),
        "visible": np.zeros((len(runs), longest, len(roles)), bool),
        "states": np.array([len(run.observations) for run in runs], np.int32),
    }
    for i, run in enumerate(runs):
        t = len(run.observations)
        columns["observation"][i, :t] = run.seen
        columns["action"][i, : t - 1] = run.actions
        columns["reward_to_go"][i, :t] = run.rewards_to_go
        columns["visible"][i, :t] = [[role in there for role in roles] for there in run.visible]
    return columns
