"""The settings of the judgement of dictionaries; ``conf/analysis/dictionaries.yaml`` explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from dtx.analysis.core.targets import check_targets
from dtx.config.ranges import Count, NotEmpty, Number, OpenShare, Positive, Seed
from dtx.dictionary.spec import How, named_twice


@dataclass(frozen=True, kw_only=True)
class DictionariesSpec:
    """What is asked for, how much is read and played, and what must be kept."""

    targets: Annotated[tuple[Number, ...], NotEmpty("needs at least one target")]
    low: Number
    high: Number
    episodes: Count
    control_episodes: Count
    temperature: Positive
    windows: Count
    components: Annotated[tuple[Count, ...], NotEmpty("needs at least one number")]
    kept: OpenShare
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """The two targets of the headline are asked for, and no number stands there twice."""
        yield from check_targets(self.targets, self.low, self.high)
        yield from named_twice("targets", self.targets)
        yield from named_twice("components", self.components)


TRAINED, UNTRAINED = "trained", "untrained network's own"
PCA, LARGEST, RANDOM, MEAN, IDENTITY = (
    "principal components",
    "largest dimensions",
    "random directions",
    "mean",
    "identity",
)
"""Kinds of dictionaries in the tables, beside those of which a part stays random."""
HOWS = {
    How.trained: TRAINED,
    How.frozen_decoder: "decoder random",
    How.soft_frozen_decoder: "decoder near random",
    How.frozen_encoder: "encoder random",
}
"""Kinds by what of a dictionary was trained."""
FROZEN = HOWS[How.frozen_decoder]
WITHOUT_TRAINING = (PCA, LARGEST, RANDOM)
"""Kinds of which there is one for each of ``components``."""
KINDS = (*HOWS.values(), UNTRAINED, *WITHOUT_TRAINING, MEAN, IDENTITY)
"""All kinds in their order."""
EXPLAINED, KL, RECOVERED, SAME, RETURN, KEPT, FLIPS = (
    "explained variance",
    "KL",
    "KL recovered",
    "same action",
    "return",
    "return kept",
    "outcome flips",
)
"""Measures of the table ``numbers``."""
LEAST_GAP = 0.05
"""2026-11-30: between the model's return and that of mean ablation, below which no share is measured."""
SEEDS = 4
"""2026-11-30: seeds of dictionaries without which nothing is said of the model: other initial weights may
find other features, and dtx.analysis.core.verdicts.MINIMUM holds for all controls."""
TOLERANCE = 1e-5
"""Of exact checks in float32; of logits in units of the largest."""
EDGES = (-float("inf"), -5.0, -4.5, -4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0)
"""Of the histogram of densities, in powers of ten; the first bin holds features that are never on."""
