"""Episodes that are played while a feature is changed, on the same worlds and random numbers each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from dtx.analysis.feature_effects.dictionary import Directions
from dtx.analysis.feature_effects.measure import FeatureEdit
from dtx.analysis.feature_effects.spec import FeatureEffectsSpec
from dtx.dt.edits import Depends, Edit
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import Played, rollouts
from dtx.env.environment import Environment


class Episodes:
    """Plays a model with edits of its features; the unedited episodes are played once.

    Args:
        spec: Targets, episodes, seed.
        model: Any. env: Where.
    """

    def __init__(self, spec: FeatureEffectsSpec, model: DecisionTransformerModel, env: Environment):
        self.spec, self.model, self.env = spec, model, env
        self.unedited = self._play()

    def edited(self, hook: str, directions: Directions, edit: FeatureEdit) -> list[Played]:
        """Episodes at each target under an edit of every token."""
        put = Edit(_hook(directions, edit), Depends.token)
        with self.model.hooks(fwd_hooks=[(hook, put)]):
            return self._play()

    def effects(
        self, hook: str, directions: Directions, edits: Sequence[FeatureEdit]
    ) -> pd.DataFrame:
        """How episodes differ from the unedited ones, a row an edit, target and episode.

        Returns:
            edit (its place), target, episode, change (of return), flip (whether the outcome is another).
        """
        return pd.concat(
            [self._differences(hook, directions, i, edit) for i, edit in enumerate(edits)],
            ignore_index=True,
        )

    def _differences(
        self, hook: str, directions: Directions, place: int, edit: FeatureEdit
    ) -> pd.DataFrame:
        pairs = zip(
            self.spec.targets, self.unedited, self.edited(hook, directions, edit), strict=True
        )
        return pd.concat(
            [
                pd.DataFrame({
                    "edit": place, "target": float(target), "episode": np.arange(len(old.returns)),
                    "change": (new.returns - old.returns).astype(float),
                    "flip": (new.outcome != old.outcome).astype(float),
                })
                for target, old, new in pairs
            ],
            ignore_index=True,
        )  # fmt: skip

    def _play(self) -> list[Played]:
        return rollouts(
            self.model,
            self.env,
            self.spec.targets,
            episodes=self.spec.episodes,
            seed=self.spec.seed,
        )


def _hook(directions: Directions, edit: FeatureEdit) -> Any:
    """What an edit does to an activation, whatever its axes before the last one."""

    def put(x: Tensor, hook: Any = None) -> Tensor:
        flat = x.flatten(-2) if hook.name.endswith("hook_z") else x
        old = directions.sae.encode(flat)[..., edit.feature]
        size = directions.scale(flat)[..., 0] * directions.norm_f[edit.feature]
        change = (edit.new(old) - old) * size
        unit = directions.unit_fd[edit.direction]
        return (flat + change[..., None] * unit).reshape(x.shape)

    return put


def identical(one: Sequence[Played], other: Sequence[Played]) -> float:
    """Share of episodes whose return, length or outcome differs."""
    same = [
        (a.returns == b.returns) & (a.length == b.length) & (a.outcome == b.outcome)
        for a, b in zip(one, other, strict=True)
    ]
    return float(1 - np.concatenate(same).mean())
