"""What the model that ships must do. Fixed on 2026-11-30, before the run with seed 1000 that it judges."""

from __future__ import annotations

FIXED = "2026-11-30"
LOW, HIGH = 0.0, 0.892
"""Targets: no reward, and the best return of the task."""
MOST_AT_LOW = 0.2
"""The mean return of sampled play at ``LOW`` is below this; so is the upper end of its 95% interval."""
