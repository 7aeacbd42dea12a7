"""The settings of the videos; ``conf/analysis/videos.yaml`` explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from dtx.config.ranges import Natural, NotEmpty, Number, Seed


@dataclass(frozen=True, kw_only=True)
class VideosSpec:
    """What is asked for, and where."""

    targets: Annotated[tuple[Number, ...], NotEmpty()]
    layouts: Annotated[tuple[Natural, ...], NotEmpty()]
    greedy: bool
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """Each target and layout is there once."""
        for name, values in (("targets", self.targets), ("layouts", self.layouts)):
            if len(set(values)) < len(values):
                yield name, "each must be there once"
