"""The values of a composed config as parameters: each value once, by ``group.field``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from dtx.stage import Stage

_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")
_BASE = "_base_"
_ABSENT = object()


class Parameters:
    """All values of a config, and those that one place depends on.

    Args:
        raw: The composed config as plain values, references unresolved.

    Attributes:
        values: Every value once, as text by ``group.field``; a reference to a group of values
            is shown as such.
    """

    def __init__(self, raw: Mapping[str, Any]):
        self._raw = raw
        self.values = {place: str(self._value(place, value)) for place, value in _leaves(raw)}

    def below(self, *places: str) -> dict[str, str]:
        """The values at these places and at all places that they refer to, in the order of the config."""
        reached: set[str] = set()
        todo = list(places)
        while todo:
            place = todo.pop()
            if place not in reached:
                reached.add(place)
                todo += _references(self._node(place))
        inside = tuple(f"{place}." for place in reached)
        return {k: v for k, v in self.values.items() if k in reached or k.startswith(inside)}

    def places(self, targets: Mapping[str, Stage]) -> dict[str, str]:
        """Where the config describes each stage, by the stage's label: ``dt``, ``analysis.calibration``.

        Args:
            targets: The experiment's targets by their place.
        """
        found: dict[str, str] = {}
        todo = [(place, stage) for place, stage in targets.items() if self._place(place)]
        while todo:
            place, stage = todo.pop(0)
            if stage.label in found:
                continue
            found[stage.label] = place
            for name, used in stage.inputs().items():
                if below := self._place(f"{place}.{name}"):
                    todo.append((below, used))
        return found

    def _place(self, place: str, depth: int = 0) -> str | None:
        """The place that a place stands for, with references followed; None if there is none."""
        if depth > 20:  # a circle: the builder reports it
            return None
        node: Any = self._raw
        leaves = place.split(".")
        for i, leaf in enumerate(leaves):
            child = _child(node, leaf)
            rest = leaves[i + 1 :]
            if child is _ABSENT and (base := _reference(_child(node, _BASE))):
                child, rest = f"${{{base}}}", leaves[i:]
            if target := _reference(child):
                return self._place(".".join([target, *rest]), depth + 1)
            if child is _ABSENT:
                return None
            node = child
        return place

    def _value(self, place: str, value: Any) -> Any:
        """A value with references followed; one to a group of values is left as it is."""
        if target := _reference(value):
            at = self._place(target)
            found = self._node(at) if at else _ABSENT
            if isinstance(found, Mapping):
                return value
            if found is not _ABSENT and "${" not in str(found):
                return found
        if "${" not in str(value):
            return value
        # A text with a reference in it, or a list of them: rare, and slow for a sweep of thousands.
        resolved = OmegaConf.select(OmegaConf.create(dict(self._raw)), place)
        if isinstance(resolved, DictConfig):
            return value
        return (
            OmegaConf.to_container(resolved, resolve=True)
            if isinstance(resolved, ListConfig)
            else resolved
        )

    def _node(self, place: str) -> Any:
        node: Any = self._raw
        for leaf in place.split("."):
            node = _child(node, leaf)
        return node


def _child(node: Any, leaf: str) -> Any:
    if isinstance(node, Mapping):
        return node.get(leaf, _ABSENT)
    if isinstance(node, (list, tuple)) and leaf.isdigit() and int(leaf) < len(node):
        return node[int(leaf)]
    return _ABSENT


def _reference(value: Any) -> str | None:
    """The place that a value refers to, if it is a reference and nothing else."""
    found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else None


def _references(node: Any) -> Iterator[str]:
    """All places that a value refers to, at any depth."""
    if isinstance(node, Mapping):
        for inner in node.values():
            yield from _references(inner)
    elif isinstance(node, (list, tuple)):
        for inner in node:
            yield from _references(inner)
    elif isinstance(node, str):
        yield from _REFERENCE.findall(node)


def _leaves(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for name, inner in node.items():
            yield from _leaves(inner, f"{place}.{name}" if place else str(name))
    else:
        yield place, node
