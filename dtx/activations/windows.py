"""The stage that stores a model's activations on all windows of demonstrations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.activations.names import width
from dtx.activations.spec import SHARD, ActivationsSpec
from dtx.dataset.rollouts import Rollouts
from dtx.dt.sizes import FLOAT, Sizes
from dtx.dt.spec import Padding
from dtx.dt.untrained import Untrained
from dtx.report import read_metrics
from dtx.resources import OPERATIONS, Resources
from dtx.stage import Stage

if TYPE_CHECKING:
    from dtx.activations.stored import Activations


@dataclass(frozen=True, kw_only=True)
class WindowActivations(ActivationsSpec, Stage):
    """Stores activations; conf/activations/windows.yaml says what each field means.

    Contexts repeat, and activations follow from the context alone: each distinct prefix of a window is
    stored once, with how often it occurs. Padding is not stored.
    """

    headline: ClassVar[tuple[str, ...]] = (
        "activations/rows",
        "activations/tokens",
        "activations/views",
    )

    def resources(self) -> Resources:
        """Every token as if none occurred twice; episodes last half their environment's limit."""
        sizes, steps = self.dt.sizes, self._steps()
        if sizes is None or steps is None:
            return Resources()
        per = len(self.tokens) if self.tokens else 3
        vectors = sum(width(name, sizes) for name in self.hooks)
        rows, item = per * steps, self.numbers.dtype.itemsize
        return Resources(
            memory={
                "hooks": SHARD * vectors * item,
                "episodes, other_windows": 120.0 * rows,
                "the model's sizes": 2 * FLOAT * sizes.parameters + 64 * sizes.activations() / 4,
            },
            disk={"hooks, numbers, episodes, other_windows": rows * (vectors * item + 46.0)},
            seconds=2
            + rows * (2e-6 + vectors * item * 1e-9)
            + self._operations(sizes, steps) / OPERATIONS,
        )

    def _operations(self, sizes: Sizes, steps: float) -> float:
        return steps / max(1, (sizes.tokens + 1) // 3) * sizes.operations()

    def _steps(self) -> float | None:
        """Steps of all windows; None where the config of the demonstrations does not say."""
        sizes = self.dt.sizes
        if sizes is None or not isinstance(self.dataset, Rollouts):
            return None
        episodes = min(self.episodes or self.dataset.episodes, self.dataset.episodes)
        of_episode = self.dataset.env.horizon / 2
        of_window = min((sizes.tokens + 1) / 2, self.dataset.env.horizon)
        trained = self.dt.trained_windows
        left = trained is not None and trained.padding is Padding.left
        others = self.dataset.env.horizon - (
            1.0 if left else min(self.dataset.env.horizon, of_window)
        )
        if self.other_windows is not None:
            others = min(others, self.other_windows)
        return episodes * (min(of_episode, of_window) + others * of_window / 2)

    def of_untrained(self, seed: int) -> WindowActivations:
        """The activations of an untrained network of the model's architecture, at the same rows.

        Args:
            seed: Of its weights.
        """
        network = Untrained(like=self.dt, dataset=self.dataset, seed=seed)
        return replace(self, dt=network, checkpoint=None)

    def run(self, out: Path) -> None:
        """Write a file for each hook, tokens.arrow, activations.json, the table ``counts``, headline."""
        from dtx.activations.making import make

        make(self, out)

    def load(self) -> Activations:
        """The arrays, mapped, and what is known of each row."""
        from dtx.activations.stored import Activations

        return Activations(self.path)

    def summary(self) -> str:
        """How many rows of how many tokens."""
        n = {k.removeprefix("activations/"): v or 0 for k, v in read_metrics(self.path).items()}
        return (
            f"{n['rows']:,.0f} distinct prefixes of {n['tokens']:,.0f} tokens in {n['windows']:,.0f} windows "
            f"of {n['episodes']:,.0f} episodes, {n['views']:.0f} views"
        )
