"""What a stage is for in an experiment, as readers see it: ``dt``, ``behaviour clone``, ``untrained``."""

from __future__ import annotations

from collections.abc import Mapping

from dtx.stage import Stage


def roles(targets: Mapping[str, Stage]) -> dict[str, str]:
    """The role of each stage that the targets need, by label.

    A target's role is its name (``calibration``), an input's the field that it is in (``behaviour clone``). A
    stage in several fields has the role in which the fewest fields lie between it and a target. Two stages
    of the same role are told apart by their keys: ``untrained 3f0c1a``.

    Args:
        targets: By the name under which the experiment has them.
    """
    found = {stage.label: (name, stage) for name, stage in targets.items()}
    level = list(targets.values())
    while level:
        below = []
        for stage in level:
            for place, used in stage.inputs().items():
                if used.label not in found:
                    found[used.label] = (_last(place), used)
                    below.append(used)
        level = below
    names = [name for name, _ in found.values()]
    return {
        label: _words(name) + (f" {stage.key[:6]}" if names.count(name) > 1 else "")
        for label, (name, stage) in found.items()
    }


def _last(place: str) -> str:
    """The last word of a field: ``controls.untrained`` is ``untrained``; ``models.0`` is ``models 0``."""
    *before, last = place.split(".")
    return f"{before[-1]} {last}" if before and last.isdigit() else last


def _words(name: str) -> str:
    return name.replace("_", " ")
