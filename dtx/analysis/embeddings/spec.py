"""The settings of the embeddings' geometry; ``conf/analysis/embeddings.yaml`` explains them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from dtx.analysis.core.controls import RandomControls
from dtx.config.ranges import Natural, NotEmpty, Range, Seed
from dtx.text import suggest


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Some channels at some cells of the view."""

    identity_name: ClassVar[str] = "dtx.analysis.embeddings.Subset"

    channels: Annotated[
        tuple[str, ...], NotEmpty("needs at least one object, colour or door state")
    ]
    cells: tuple[tuple[Natural, Natural], ...] | None

    def check(self) -> Iterator[tuple[str, str]]:
        """Names of channels, and cells of the view."""
        from dtx.analysis.core.channels import channel_names

        known = channel_names()
        for name in self.channels:
            if name not in known:
                yield "channels", f"no channel {name!r}{suggest(name, known)}"
        for cell in self.cells or ():
            if not all(0 <= place < 7 for place in cell):
                yield "cells", f"{list(cell)} is outside the 7x7 view: columns and rows are 0 to 6"


Opposite = Annotated[
    float,
    Range(
        "is the cosine of opposite directions: between -1 and 0",
        low=-1,
        high=0,
        open_low=True,
        open_high=True,
    ),
]
"""A cosine between -1 and 0."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingsSpec:
    """What counts as antipodal, which channels have their components drawn, and the controls."""

    antipodal: Opposite
    subsets: Annotated[dict[str, Subset], NotEmpty("needs at least one subset of channels")]
    controls: RandomControls
    seed: Seed
