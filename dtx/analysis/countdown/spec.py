"""The settings of the countdown; ``conf/analysis/countdown.yaml`` explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from dtx.config.ranges import Count, NonNegative, NotEmpty, Number, Positive, Seed, Share, Whole

TRAINED, UNTRAINED = "trained", "untrained"
"""Names of the models in the tables; untrained ones have a number behind it."""
ASKED, TIME, PLACE, CLOCK, WHOLE_CLOCK = (
    "reward-to-go", "timestep", "place", "clock", "clock of all steps",
)  # fmt: skip
"""What is changed, all by the same number of steps left: reward-to-go at all steps; of the last step the time
embedding, the place in the window, or both; both at all steps. Claims compare the first with the last, which
both change what every step says."""
SAME_STEPS, RECEIVER_STEPS = "same steps left", "receiver's steps left"
"""Donors from another episode, with another reward-to-go at another time: with as many steps left as the run
whose stream it stands in for (expected: 1), or as the run that it is put into (expected: 0)."""
DENOISE, NOISE = "denoise", "noise"
"""Direction of a patch: into the run with more steps left, or into the one with fewer."""
SAMPLED, GREEDY = "sampled", "greedy"
"""How is played."""


@dataclass(frozen=True, kw_only=True)
class CountdownSpec:
    """What is measured, and what is wanted."""

    targets: Annotated[tuple[Number, ...], NotEmpty()]
    episodes: Count
    states: Count
    shifts: Annotated[tuple[Whole, ...], NotEmpty()]
    least_gap: Positive
    alike: tuple[Number, Number]
    carried: Share
    curve_targets: Annotated[tuple[Number, ...], NotEmpty()]
    offsets: Annotated[tuple[Whole, ...], NotEmpty()]
    curve_episodes: Count
    control_episodes: Count
    follows: tuple[Number, Number]
    diagonal: Positive
    probed: Count
    ridge: Annotated[tuple[Positive, ...], NotEmpty()]
    held_out: Share
    least_margin: NonNegative
    untrained: Count
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """Shifts change something, and ranges are in order around what is expected."""
        for name in ("shifts", "offsets"):
            if 0 in getattr(self, name):
                yield name, "0 changes nothing; leave it out"
        for name in ("alike", "follows"):
            low, high = getattr(self, name)
            if not low < 1 < high:
                yield (
                    name,
                    f"[{low:g}, {high:g}] must hold 1, what is expected of a model that counts",
                )
