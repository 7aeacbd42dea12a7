"""A model of another's architecture with fresh weights: what any network of its shape computes.

It is a stage, so that what is made of a model (stored activations, dictionaries of them) can be made of its
untrained twin by the same steps. Stages derive it; there is no config of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dtx.config.ranges import Seed
from dtx.dataset.dataset import Dataset
from dtx.dt.model_stage import ModelStage
from dtx.dt.sizes import Sizes
from dtx.dt.spec import Windows
from dtx.report import Report
from dtx.resources import Resources

if TYPE_CHECKING:
    from dtx.env.environment import Environment

_STREAM = 1_000_033
"""Added to the seed, so that it is not the model itself, should that be untrained."""


@dataclass(frozen=True, kw_only=True)
class Untrained(ModelStage):
    """Draws the weights.

    Attributes:
        like: The model whose architecture it has, and whose demonstrations' views its state embedding is
            centred on if training starts so.
        dataset: Demonstrations of those views.
        seed: Of the weights.
    """

    headline: ClassVar[tuple[str, ...]] = ("untrained/parameters",)

    like: ModelStage
    dataset: Dataset
    seed: Seed

    @property
    def environment(self) -> Environment | None:
        """That of the model."""
        return self.like.environment

    @property
    def sizes(self) -> Sizes | None:
        """Those of the model."""
        return self.like.sizes

    @property
    def kept_steps(self) -> tuple[int, ...]:
        """None: there was no training."""
        return ()

    @property
    def trained_on(self) -> Dataset | None:
        """That of the model, so that it is looked at on the same windows."""
        return self.like.trained_on

    @property
    def trained_windows(self) -> Windows | None:
        """Those of the model."""
        return self.like.trained_windows

    def resources(self) -> Resources:
        """The model twice, and the views."""
        return self.like.passing(1)

    def run(self, out: Path) -> None:
        """Writes weights and model.json."""
        from dtx.dt.load import untrained_like
        from dtx.dt.model import centre_state, save
        from dtx.dt.windows import observation_table

        model = untrained_like(self.like.load(), (_STREAM + self.seed) % 2**63)
        if model.cfg.state_bias and model.cfg.state_encoder != "conv":
            # As training does, and as dtx.analysis.core.untrained.twins: without it what all views share
            # drowns in which they differ.
            seen = observation_table(self.dataset.load().observations)[:-1]
            centre_state(model, seen.unique(dim=0).mean(0))
        save(model, out)
        Report(out).headline({"untrained/parameters": sum(p.numel() for p in model.parameters())})

    def summary(self) -> str:
        """What it is."""
        return f"{self.like.label}'s architecture with fresh weights"
