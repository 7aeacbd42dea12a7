"""T0 with circuits that are harder to see: what they look like from outside is not what they are.

One class of its own, so that the keys of plain planted models stay. Its circuit is recorded as theirs is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dtx.config.ranges import Count
from dtx.dt.planted import Planted
from dtx.dt.planted.spec import Paths


@dataclass(frozen=True, kw_only=True)
class PlantedHarder(Planted):
    """:class:`Planted` with other paths; conf/dt/planted_harder.yaml says what each field means."""

    relays: tuple[tuple[Count, ...], ...]
    redundant_heads: bool
    mean_reward_to_go: bool
    silent_head: bool

    @property
    def paths(self) -> Paths:
        """How the variables get to the decision."""
        return Paths(
            relays=self.relays,
            redundant_heads=self.redundant_heads,
            mean_reward_to_go=self.mean_reward_to_go,
            silent_head=self.silent_head,
        )

    def check(self) -> Iterator[tuple[str, str]]:
        """Paths that exclude each other, and stops that lie in order before the decision."""
        yield from super().check()
        for name, wanted in (
            ("relays", self.relays),
            ("redundant_heads", self.redundant_heads),
            ("silent_head", self.silent_head),
        ):
            if wanted and self.dimensions is not None:
                yield name, "does not do exactly its part in superposition; set dimensions to null"
        if self.redundant_heads and (self.relays or self.backup_head):
            yield "redundant_heads", "cannot be had with relays or a backup head"
        if self.relays and self.backup_head:
            yield "relays", "cannot be had with a backup head"
        if self.n_heads < (heads := 1 + self.redundant_heads + self.silent_head):
            yield "n_heads", f"{self.n_heads} do not hold the {heads} heads of the second block"
        before = 1
        for steps in self.relays:
            if not steps or min(steps) <= before or max(steps) > self.env.decision.step:
                yield (
                    "relays",
                    f"stops must be steps in order, from 2 to {self.env.decision.step}, none empty",
                )
                return
            before = max(steps)
