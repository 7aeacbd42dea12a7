"""How many steps a return names: what the demonstrations' successes say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dtx.dataset.episodes import Episodes, Outcome

FIT = 0.01
"""Steps by which a success may miss the line (2026-11-30): float32 returns miss whole lengths by 1e-5."""


@dataclass(frozen=True)
class StepsNamed:
    """A success of return R has ``intercept + per_return * R`` steps.

    Attributes:
        intercept, per_return: Of the line. error: By how many steps a success misses it at most.
        shortest, longest: Steps of the successes.
    """

    intercept: float
    per_return: float
    error: float
    shortest: int
    longest: int

    def steps(self, target: np.ndarray | float) -> np.ndarray:
        """Steps of an episode with these returns."""
        return self.intercept + self.per_return * np.asarray(target, float)

    def target(self, steps: np.ndarray | float) -> np.ndarray:
        """Returns of successes of so many steps."""
        return (np.asarray(steps, float) - self.intercept) / self.per_return


def steps_named(episodes: Episodes) -> StepsNamed | None:
    """Fit the line to the demonstrations' successes; None if they do not say what a step is worth.

    In MiniGrid a success after t of H steps is worth 1 - .9 t / H, so that steps = (1 - R) H / .9.
    """
    won = np.asarray(episodes.outcome) == Outcome.SUCCESS
    returns, length = episodes.returns[won].astype(float), np.asarray(episodes.length)[won]
    if len(np.unique(length)) < 2 or np.ptp(returns) < 1e-6:
        return None
    per_return, intercept = np.polyfit(returns, length, 1)
    error = float(np.abs(intercept + per_return * returns - length).max())
    if error > FIT or per_return >= 0:
        return None  # what is asked for does not name a number of steps
    shortest, longest = int(length.min()), int(length.max())
    return StepsNamed(float(intercept), float(per_return), error, shortest, longest)
