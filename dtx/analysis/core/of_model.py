"""What analyses of one model share: the model as it was at a step, and what it must be able to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.parts import Parts, Problem
from dtx.config.ranges import Natural
from dtx.dt.load import load_at, misfit
from dtx.dt.model_stage import ModelStage
from dtx.env.environment import Environment
from dtx.errors import UserError

if TYPE_CHECKING:
    from dtx.dt.model import DecisionTransformerModel


@dataclass(frozen=True, kw_only=True)
class OfModel(Analysis):
    """An analysis that looks at one model.

    Attributes:
        acts_in: Field (``env``, ``windows.env``) of the environment that the model must fit; empty: none.
        plays: Whether it plays whole episodes there.
        dt: The model.
        checkpoint: Step of kept weights to look at; None: the model as it is at last.
    """

    acts_in: ClassVar[str] = ""
    plays: ClassVar[bool] = False

    dt: ModelStage
    checkpoint: Natural | None

    def model(self) -> DecisionTransformerModel:
        """The model as it was at the checkpoint.

        Raises:
            UserError: No such step was kept, or the model does not fit the environment.
        """
        return load_at(self.dt, self.checkpoint, self._environment(), plays=self.plays)

    def misfits(self, sizes: Parts) -> Iterator[Problem]:
        """Yield (field, what is wrong) for settings that a model of these sizes does not have.

        Asked before anything runs where the config knows the sizes, and of the model when it is there.
        """
        yield from ()

    def missing(self) -> Iterator[tuple[str, str]]:
        """What the model cannot give, as far as its config says so."""
        yield from super().missing()
        kept = None if self.checkpoint is None else self.dt.kept_steps
        if kept is not None and self.checkpoint not in kept:
            known = ", ".join(map(str, sorted(kept))) or "none"
            yield "checkpoint", f"step {self.checkpoint} is not kept (kept: {known})"
        sizes = self.dt.sizes
        if sizes is None:
            return
        yield from self.misfits(sizes)
        env = self._environment()
        if env is None:
            return
        try:
            wrong = misfit(sizes, env, plays=self.plays)
        except UserError:  # the environment's own check says what is wrong with it
            return
        if wrong:
            yield self.acts_in, f"the model {wrong}"

    def _environment(self) -> Environment | None:
        if not self.acts_in:
            return None
        value: Any = self
        for name in self.acts_in.split("."):
            value = getattr(value, name)
        return value
