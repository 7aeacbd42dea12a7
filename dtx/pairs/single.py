"""One pair in memory: its two runs at once, its windows with their controls when they are asked for.

It is what a stage of the same declaration makes, without files and pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dtx.env.actions import ACTIONS
from dtx.env.environment import Environment
from dtx.errors import UserError
from dtx.pairs.donors import DONORS, donors
from dtx.pairs.edits import problems
from dtx.pairs.making import NULL, Making
from dtx.pairs.runs import Run
from dtx.pairs.spec import (
    At,
    CleanRuns,
    ComparedActions,
    PairChecks,
    PairsSpec,
    Prefix,
    PrefixPolicy,
    Replay,
)
from dtx.pairs.worlds import name_problems, named_world, other_worlds

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

    from dtx.dt.model import ModelConfig
    from dtx.pairs.pair_set import PairBatch

EDITED = "edited"
"""Name of the edit where none is given."""


def declaration(
    env: Environment,
    world: str,
    actions: Sequence[int],
    reward_to_go: float,
    edits: Sequence[Mapping[str, Any]],
    contrast: tuple[int, int],
    *,
    tokens: Mapping[int, float] | None = None,
    name: str = EDITED,
    others: Sequence[str] | None = None,
    min_ld_gap: float = 0.5,
    seed: int = 0,
) -> PairsSpec:
    """What declares one pair, and pairs of the same edit in other worlds, which it has its donors from.

    Args:
        env: Has roles.
        world: A layout's name, or ``seed:17``.
        actions: By number, from the start up to the state that the pair is about.
        reward_to_go: At the start.
        edits: At least one operation as in a pairs file: ``{"op": "remove", "select": {"role": "key"}}``.
        contrast: Numbers of the actions of which LD = logit[first] - logit[second].
        tokens: Reward-to-go of single tokens of both runs by step, counted from 1; later ones are dropped.
        name: Of the edit.
        others: Worlds for donors; None: :func:`dtx.pairs.worlds.other_worlds`.
        min_ld_gap: See ``conf/pairs/memory.yaml``.
        seed: Of what layouts leave open, and of the choice of donors.

    Raises:
        UserError: The first thing that is wrong whatever is in the world.
    """
    for place, problem in _problems(env, world, (*actions, *contrast), {name: tuple(edits)}):
        raise UserError(f"{place}: {problem}")
    kept = {
        f"R{step}": float(value)
        for step, value in sorted((tokens or {}).items())
        if 1 <= step <= len(actions) + 1
    }
    worlds = (world, *(other_worlds(env, world) if others is None else others))
    prefix = Prefix(
        policy=PrefixPolicy.script,
        actions=tuple(ACTIONS[action] for action in actions),
        of=None,
        longest=len(actions),
    )
    positive, negative = (ACTIONS[action] for action in contrast)
    return PairsSpec(
        env=env,
        dataset=None,
        source=CleanRuns(
            variants=worlds, reward_to_go=(float(reward_to_go),), prefix=prefix, tokens=kept
        ),
        at=len(actions),
        replay=Replay.same_actions,
        edits={name: tuple(dict(edit) for edit in edits)},
        contrast=ComparedActions(pos=positive, neg=negative, at=At.last_state),
        checks=PairChecks(same_length=True, no_early_termination=True, min_ld_gap=min_ld_gap),
        seed=seed,
    )


def _problems(
    env: Environment, world: str, actions: Sequence[int], edits: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    what = type(env).__name__
    if env.roles is None:
        yield "env", f"{what} does not say which things of a world have which role"
        return
    for problem in name_problems(env, [world]):
        yield "world", problem
    for action in actions:
        if not 0 <= action < env.n_actions:
            yield "actions", f"{action} is no action of {what}, which has {env.n_actions}"
    if actions[-1] == actions[-2]:
        yield "contrast", f"needs two actions, not {ACTIONS[actions[-1]]} twice"
    yield from problems(edits, env)


class OnePair:
    """The pair of the first world of a :func:`declaration`, played.

    Args:
        spec: With one edit, one reward-to-go and names of worlds.
        worlds: Gives the world of a name at its start; it is copied, never stepped, so that it can be kept.
            None: it is made anew.
        known: (u, 7, 7, 3) observations to compare with: ``dtx.pairs.distance.training_observations``.

    Attributes:
        spec: As given.
        clean: The run without the edit, up to the state that the pair is about. corrupt: With it.

    Raises:
        Refused: A run does not get there, or the edit changes nothing.
        Impossible: The world does not allow the edit.
        UserError: There is no such world.
    """

    def __init__(
        self,
        spec: PairsSpec,
        *,
        worlds: Callable[[str], MiniGridEnv] | None = None,
        known: np.ndarray | None = None,
    ):
        (target,), (edit,) = spec.source.reward_to_go, spec.edits
        variant = spec.source.variants[0]
        self.spec = spec
        self._world = worlds or partial(named_world, spec.env, seed=spec.seed)
        self._making = making = Making(spec, known=known, draw=False)
        world = self._world(variant)
        self.clean: Run = making.clean(variant, world, target)
        self.corrupt: Run = making.edited(variant, world, target, making.edits[edit], self.clean)
        of = {"variant": variant, "reward_to_go": target}
        making.add(of, NULL, NULL, self.clean, self.clean)
        making.add(of, edit, "edit", self.clean, self.corrupt)
        making.describe(making.made.pairs)

    @property
    def changed(self) -> list[str]:
        """Tokens that differ, counted from the episode's start: ``S1``, ``R5``."""
        return self._row["changed"].split()

    @property
    def distances(self) -> tuple[int, int] | None:
        """For the clean and the edited run, in how many cells its least usual observation differs from the
        nearest known one; None where none are known."""
        found = tuple(self._row[f"{side}_distance"] for side in ("clean", "corrupt"))
        return None if None in found else found

    @property
    def _row(self) -> dict[str, Any]:
        return self._making.made.pairs[1]

    @cached_property
    def _donors(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Rows of the donors, and why the others are not there."""
        making, made = self._making, self._making.made
        (target,) = self.spec.source.reward_to_go
        for name in self.spec.source.variants[1:]:
            making.of_world(name, self._world(name), target)
        found, refused = donors(self.spec, made.runs, made.pairs, only=1)
        making.describe(found)
        reasons = {str(row["edit"]).partition(" ")[0]: str(row["reason"]) for row in refused}
        return found, reasons

    @property
    def missing(self) -> dict[str, str]:
        """Of ``donor_clean`` and ``donor_corrupt`` those that no other world gives, with the reason."""
        return {kind: reason for kind, reason in self._donors[1].items() if kind in DONORS}

    def batch(self, cfg: ModelConfig, *, controls: bool = True) -> PairBatch:
        """The pair as windows of a model: rows null, edit, donor_clean, donor_corrupt.

        Args:
            cfg: The model's.
            controls: False: only null and edit; the runs in other worlds are then not played.

        Raises:
            UserError: The model knows fewer actions or timesteps than the pair has.
        """
        import pandas as pd

        from dtx.pairs.pair_set import PairSet

        rows = self._making.made.pairs[:2] + (self._donors[0] if controls else [])
        made = self._making.made
        table, refused = pd.DataFrame(rows), pd.DataFrame(made.refused)
        pairs = PairSet(table, refused, made.columns(), made.about(), Path())
        (batch,) = pairs.batches_of(cfg)
        return batch
