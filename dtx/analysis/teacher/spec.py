"""The settings of the comparison with the teacher; ``conf/analysis/teacher.yaml`` explains them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dtx.config.ranges import Count, NotEmpty, Number, Positive, Seed


@dataclass(frozen=True, kw_only=True)
class TeacherSpec:
    """What is compared."""

    episodes: Count
    temperatures: Annotated[tuple[Positive, ...], NotEmpty()]
    targets: tuple[Number, ...]
    n_gram: Count
    seed: Seed


DT, N_GRAM, UNTRAINED = "decision transformer", "n-gram", "untrained"
"""Names of the models in the tables."""
OWN = "own"
"""The reward-to-go that the demonstration has, as in training."""
