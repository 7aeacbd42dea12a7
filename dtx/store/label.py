"""What identifies an artefact: stages have a label, and a label can stand for a stage."""

from __future__ import annotations

import re
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


_LABEL = re.compile(r"[A-Za-z_]\w*-[0-9a-f]{16}", re.ASCII)


def is_label(name: str) -> bool:
    """Whether a folder's name is a stage's name and key: all other folders are not dtx's."""
    return _LABEL.fullmatch(name) is not None
