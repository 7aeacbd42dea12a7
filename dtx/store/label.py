"""What identifies an artefact: stages have a label, and a label can stand for a stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Labelled(Protocol):
    """What identifies an artefact: a stage, or a label alone."""

    @property
    def label(self) -> str:
        """Folder name: stage and key."""
        ...


@dataclass(frozen=True)
class Label:
    """The label of an artefact whose stage is not at hand."""

    label: str
