"""What the model that ships must do, and what was tried before it did.

The criteria were fixed before the first run with seed 1000. They judge one model that is to be shown, not the
recipe: seed 1000 was run twice, and the recipe was changed in between.
"""

from __future__ import annotations

FIXED = "2026-11-30"
LOW, HIGH = 0.0, 0.892
"""Targets: no reward, and the best return of the task."""
MOST_AT_LOW = 0.2
"""The mean return of sampled play at ``LOW`` is below this; so is the upper end of its 95% interval."""
EARLIER = (
    "Seed 1000 was run once before, with the study's demonstrations (two thirds at temperature 5) and 1000 "
    "steps: greedy play at 0.892 succeeded in 4 of 4 layouts, but at 0 in 2 of 4, too, with a mean return of "
    "0.17 in 100 sampled episodes. At temperature 3 more of the failures are turns to the wrong object."
)
"""Told on the card: the model was chosen."""
