"""The settings of the comparison; ``conf/analysis/equivalence.yaml`` explains them."""

from __future__ import annotations

from dataclasses import dataclass

from dtx.config.ranges import Positive, Seed


@dataclass(frozen=True, kw_only=True)
class EquivalenceSpec:
    """What counts as the same logits, and the random LayerNorms that are tried."""

    tolerance: Positive
    seed: Seed


GIVEN, RANDOM = "the model", "with random LayerNorms"
"""Names of the models in the table."""
WRONG = "control: a fold that leaves out a matrix"
READ_BACK = "saved and read back"
"""Names of rewritings in the table, beside those of :data:`dtx.analysis.equivalence.compute.CHAINS`."""
