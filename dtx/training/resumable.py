"""What :func:`dtx.training.fit.fit` trains."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as lightning


class ResumableModule(lightning.LightningModule):
    """A Lightning module that can end early and whose state survives an interruption.

    ``training_step(step, _)`` gets the number of the step. Parameters, buffers, optimisers and schedulers
    are in every checkpoint already; :meth:`resume_state` is for what a subclass keeps beside them.
    """

    def finished(self) -> bool:
        """Whether to end before all steps are done; asked after each step."""
        return False

    def resume_state(self) -> dict[str, Any]:
        """State for a checkpoint, as plain values and tensors: it is read without unpickling objects."""
        return {}

    def load_resume_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`resume_state` returned."""
