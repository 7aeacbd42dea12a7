"""Transcoders: features that read an activation and give another, as an MLP does (Dunefsky et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dtx.config.ranges import NotEmpty
from dtx.dictionary.sparsity import Counted
from dtx.text import suggest

if TYPE_CHECKING:
    from dtx.dictionary.trained import Dictionaries


@dataclass(frozen=True, kw_only=True)
class Transcoder(Counted):
    """Trains transcoders by BatchTopK; ``conf/dictionary/transcoder.yaml`` explains the fields."""

    hooks_out: Annotated[tuple[str, ...], NotEmpty("needs a hook for each of hooks")]

    def check(self) -> Iterator[tuple[str, str]]:
        """Hooks that are not stored, and hooks without one to give."""
        yield from super().check()
        for name in self.hooks_out:
            if name not in self.activations.hooks:
                yield "hooks_out", f"{name} is not stored{suggest(name, self.activations.hooks)}"
        if len(self.hooks_out) != len(self.chosen):
            many = f"{len(self.hooks_out)} for {len(self.chosen)} hooks"
            yield "hooks_out", f"{many}: name the one that each of them gives, in their order"
        for one, other in self.ends.items():
            if one == other:
                yield (
                    "hooks_out",
                    f"{one} would give itself: dictionary=batch_topk trains autoencoders",
                )

    @property
    def ends(self) -> dict[str, str]:
        """The hook that is given, by the one that is read."""
        return dict(zip(self.chosen, self.hooks_out, strict=False))

    def run(self, out: Path) -> None:
        """Train all of them in one pass over the activations."""
        from dtx.dictionary.networks.batch_topk import BatchTopKNetwork
        from dtx.dictionary.tasks import Transcoding
        from dtx.dictionary.training import train

        train(self, BatchTopKNetwork, out, Transcoding(self.activations.load(), self.ends))

    def load(self) -> Dictionaries:
        """All of them, by name."""
        from dtx.dictionary.trained import Dictionaries

        return Dictionaries(self.path)
