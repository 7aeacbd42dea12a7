"""What is handed over with a model: its records and numbers, and the results of the analyses of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dtx.analysis.core.result import Result


@dataclass(frozen=True)
class Reading:
    """One artefact that was made from the model.

    Attributes:
        label: Of the artefact.
        role: The field in which it reads the model; ``dt`` or ``agent`` if the model is its subject, another
            if the model is a control.
        headline: Its numbers; empty if the model is a control.
        result: Of the analysis; None if it is no analysis, or the model is a control.
        figures: Names of its PNG files in the handed-over folder.
    """

    label: str
    role: str
    headline: Mapping[str, float | None]
    result: Result | None
    figures: list[str]


@dataclass(frozen=True)
class Handover:
    """The content of a model card.

    Attributes:
        kind: dt or agent.
        label: Stage and key.
        licence: As the user named it.
        known: The content of ``lineage.json``: the model's record, and those of its inputs.
        description: ``model.json``.
        headline: The model's own numbers.
        readings: One for each analysis that reads the model.
        uses: Labels of other artefacts made from the model.
    """

    kind: str
    label: str
    licence: str
    known: Mapping[str, Any]
    description: Mapping[str, Any]
    headline: Mapping[str, float | None]
    readings: list[Reading]
    uses: list[str]
