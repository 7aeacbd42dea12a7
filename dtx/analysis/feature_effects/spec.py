"""The settings of feature effects; ``conf/analysis/feature_effects.yaml`` explains them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from dtx.analysis.core.controls import RandomControls
from dtx.config.ranges import Count, Natural, NotEmpty, Number, Positive, PositiveShare, Seed, Share
from dtx.stage import RUNTIME

OFF, ON = "off", "on"
SIDES = (OFF, ON)
"""Which way a feature is changed: to 0 where it is on, or to its usual value where it is off."""
CHOSEN, NATURAL, SAME_SIZE = "chosen", "natural", "same_size"
RANDOM = (NATURAL, SAME_SIZE)
"""Random features: changed from their own values, or by as much as the chosen one at the same tokens."""
LD, KL, RETURN = "logit_difference", "kl", "return"
MEASURES = (LD, KL, RETURN)
"""What an effect is on: |change of LD| in declared pairs' runs, KL in nats to the unedited policy in held-out
episodes, |change of return| in episodes that are played."""
TRAINED = "trained"
UNTRAINED = 3
"""Untrained networks whose own dictionaries are examined alike (2026-11-30: the contract of all analyses of
dictionaries)."""
DICTIONARIES = 4
"""Dictionaries (seeds) that a claim over them needs (2026-11-30): as any sampled control."""
CANDIDATES = 4
"""So many times as many features as are chosen are ablated in training windows, the rest only estimated."""
POOL = 3
"""Random features are drawn from the nearest so many times as many (2026-11-30)."""
SAMPLED = 20_000
"""Stored rows from which densities and values of features are taken, at most."""
PARTS = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out",
         "attn.hook_z", "mlp.hook_post")  # fmt: skip
"""Activations of a block whose features can be followed, after ``blocks.{layer}.``."""
_HOOK = re.compile(r"blocks\.(\d+)\.(.+)")


def place_of(hook: str) -> tuple[int, str] | None:
    """Layer and part of an activation whose features can be followed; None for others."""
    found = _HOOK.fullmatch(hook)
    return (int(found[1]), found[2]) if found and found[2] in PARTS else None


@dataclass(frozen=True, kw_only=True)
class FeatureEffectsSpec:
    """Which features are changed, how, and on what the effect is measured."""

    features: Count
    controls: RandomControls
    windows: Count
    quantiles: Annotated[tuple[Share, ...], NotEmpty("needs at least one quantile")]
    usual: Share
    played: Natural
    targets: Annotated[tuple[Number, ...], NotEmpty("needs at least one reward-to-go")]
    episodes: Count
    circuit_features: Count
    threshold: PositiveShare
    sets: Annotated[tuple[Natural, ...], NotEmpty("needs at least one number of features")]
    tolerance: Positive
    seed: Seed
    at_once: Count = field(metadata=RUNTIME)

    def check(self) -> Iterator[tuple[str, str]]:
        """Values that are named twice, more played than chosen."""
        for name, values in (
            ("quantiles", self.quantiles),
            ("sets", self.sets),
            ("targets", self.targets),
        ):
            if len(set(values)) < len(values):
                yield name, "names a value twice"
        if self.played > self.features:
            yield (
                "played",
                f"{self.played} are more than the {self.features} features that are chosen",
            )
