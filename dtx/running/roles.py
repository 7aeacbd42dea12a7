"""What a stage is for in an experiment, as readers see it: ``dt``, ``behaviour clone``, ``untrained``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dtx.running.plan import stages
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


def titles(targets: Mapping[str, Stage]) -> dict[str, str]:
    """Place and role of each stage in an experiment, by label: ``3 of 7 behaviour clone``, inputs first.

    Args:
        targets: By the name under which the experiment has them.
    """
    names, ordered = roles(targets), stages(targets.values())
    return {s.label: f"{i} of {len(ordered)} {names[s.label]}" for i, s in enumerate(ordered, 1)}


def recorded_roles(records: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    """The role of each artefact of a store, by label, from the records of those that read it.

    The field in which most have it; of none, the stage's own name.

    Args:
        records: Label and ``done.json`` of every artefact.
    """
    fields: dict[str, dict[str, int]] = {}
    names = {}
    for label, record in records:
        names[label] = label.rpartition("-")[0]
        for place, used in record.get("inputs", {}).items():
            counts = fields.setdefault(used, {})
            counts[_last(place)] = counts.get(_last(place), 0) + 1
    most = {label: max(counts, key=lambda c: counts[c]) for label, counts in fields.items()}
    return {label: _words(most.get(label, name)) for label, name in names.items()}


def _last(place: str) -> str:
    """The last word of a field: ``controls.untrained`` is ``untrained``; ``models.0`` is ``models 0``."""
    *before, last = place.split(".")
    return f"{before[-1]} {last}" if before and last.isdigit() else last


def _words(name: str) -> str:
    return name.replace("_", " ")
