"""What is planted in a model by ``dt=planted_facts``, as its artefact keeps it.

Letters: f planted facts, d model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dtx.errors import UserError
from dtx.files import read_json
from dtx.report import write_atomically

FILE = "planted.json"
HOOK = "blocks.0.hook_resid_post"
"""Where the facts lie; at state tokens there is nothing else."""
APART, REDUNDANT, NESTED, NEGATIVE, SILENT = ("apart", "redundant", "nested", "negative", "silent")
"""How a fact is planted: see :class:`PlantedTruth`."""


@dataclass(frozen=True)
class PlantedTruth:
    """The facts that a model holds at :data:`HOOK`, at state tokens, and the direction of each.

    The activation there is the sum of ``size * direction`` over the facts that are true.

    Attributes:
        names: f, as :class:`dtx.activations.facts.FactTable` has them.
        kind: f. ``apart``: it can be told from the others. ``redundant``: a second direction of a fact that
            has one. ``nested``: true only where another one is, or the other way round. ``negative``: written
            with the other sign. ``silent``: it has a direction, and nothing is written: none may be found.
        size: (f,) how much is written: 1, -1 or 0.
        share: (f,) of the state tokens of the demonstrations at which it is true.
        directions: (f, d) of length 1.
    """

    names: list[str]
    kind: list[str]
    size: np.ndarray
    share: np.ndarray
    directions: np.ndarray

    def save(self, folder: Path) -> None:
        """Write ``planted.json``."""
        values = {
            "hook": HOOK,
            "names": self.names,
            "kind": self.kind,
            "size": self.size.tolist(),
            "share": self.share.tolist(),
            "directions": self.directions.tolist(),
        }
        write_atomically(folder / FILE, json.dumps(values, indent=1) + "\n")

    @staticmethod
    def read(folder: Path) -> PlantedTruth:
        """Read it back.

        Raises:
            UserError: The file is missing or damaged.
        """
        try:
            raw = read_json(folder / FILE)
            numbers = [np.array(raw[k], np.float64) for k in ("size", "share", "directions")]
            return PlantedTruth(list(raw["names"]), list(raw["kind"]), *numbers)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{folder / FILE}: no readable planted facts ({error}); invalidate the stage to redo it"
            ) from error
