"""Every number of every config has bounds: no type forgets them, and numbers that cannot be are refused."""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import math
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import OmegaConf

from dtx.config.build import ConfigError
from dtx.config.compose import CONF, compose, experiment
from dtx.config.ranges import Magnitude, Range
from dtx.stage import Stage

SKIPPED = {"scorecard", "report", "calibration_given"}
"""Analyses that read others, or that only an imported model has."""


@functools.cache
def stages() -> list[type[Stage]]:
    """All stages of dtx: each is defined where a config's ``_target_`` says."""
    found = set()
    for path in CONF.rglob("*.yaml"):
        text = path.read_text()
        for line in text.splitlines():
            if line.startswith("_target_: dtx."):
                module, _, name = line.split()[1].rpartition(".")
                found.add(getattr(importlib.import_module(module), name))
    return sorted(found, key=lambda c: f"{c.__module__}.{c.__name__}")


def numbers_of(hint: Any, bounds: tuple = ()) -> Iterator[tuple]:
    """The bounds of each number in a type."""
    if typing.get_origin(hint) is typing.Annotated:
        inner, *more = typing.get_args(hint)
        yield from numbers_of(inner, (*bounds, *more))
    elif hint in (int, float):
        yield bounds
    else:
        for inner in typing.get_args(hint):
            yield from numbers_of(inner)


def dataclasses_in(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for inner in typing.get_args(hint):
        yield from dataclasses_in(inner)


def test_every_number_has_a_bound_on_both_sides():
    unbounded, seen, todo = [], set(), list(stages())
    while todo:
        cls = todo.pop()
        if cls in seen:
            continue
        seen.add(cls)
        hints = typing.get_type_hints(cls, include_extras=True)
        for field in dataclasses.fields(cls):
            todo += dataclasses_in(hints[field.name])
            for bounds in numbers_of(hints[field.name]):
                ranges = [b for b in bounds if isinstance(b, Range)]
                low = any(b.low is not None for b in ranges)
                high = any(b.high is not None for b in ranges)
                if not (low and high) and not any(isinstance(b, Magnitude) for b in bounds):
                    unbounded.append(f"{cls.__name__}.{field.name}")
    assert len(seen) > 60 and unbounded == []


def leaves(node: Any, place: tuple = ()) -> Iterator[tuple]:
    """Places of all numbers in plain values."""
    if isinstance(node, (dict, list)):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for name, inner in items:
            yield from leaves(inner, (*place, name))
    elif isinstance(node, (int, float)) and not isinstance(node, bool):
        yield place


def written(place: tuple) -> str:
    """``dt.optimiser.betas[0]``."""
    parts = [f"[{p}]" if isinstance(p, int) else f".{p}" for p in place]
    return "".join(parts).lstrip(".")


ANALYSES = sorted({p.stem for p in (CONF / "analysis").glob("*.yaml")} - SKIPPED)
CONFIGS = {
    "analyses": [f"analysis=[{','.join(ANALYSES)}]"],
    "planted": ["target=dt", "dt=planted_harder"],
    "interchange": ["target=dt", "dt=interchange"],
    "others": ["target=pairs", "env=door_key", "pairs=door_key"],
    "activations": ["target=activations"],
    "dictionary": ["target=dictionary"],
}
REACHED = {
    "analyses": ("env", "agent", "dataset", "dt", "pairs", "analysis"),
    "planted": ("env", "dt"),
    "interchange": ("env", "dt"),
    "others": ("env", "pairs"),
    "activations": ("env", "agent", "dataset", "dt", "activations"),
    "dictionary": ("env", "agent", "dataset", "dt", "activations", "dictionary"),
}
"""Groups that the target reaches; of others, what their parts say together is not asked."""


@functools.cache
def composed(name: str) -> dict[str, Any]:
    return OmegaConf.to_container(compose(CONFIGS[name]))  # type: ignore[return-value]


def at(config: Any, place: tuple) -> Any:
    return functools.reduce(lambda node, name: node[name], place, config)


def accepted(name: str, value: Any, *, whole_only: bool = False) -> list[str]:
    """Places at which a value is taken.

    It is put everywhere at once; what is refused gets its old value back, because an object's own faults
    are found only when those of its parts are gone.
    """
    config = copy.deepcopy(composed(name))
    places = {
        written(p): p
        for p in leaves(config)
        if p[0] in REACHED[name] and (not whole_only or isinstance(at(config, p), int))
    }
    for place in places.values():
        at(config, place[:-1])[place[-1]] = value
    left = dict(places)
    for _ in range(40):
        try:
            experiment(config)
            break
        except ConfigError as error:
            told = [where for where, _ in error.errors]
        refused = {w for w in left if any(w == t or t.startswith((f"{w}[", f"{w}.")) for t in told)}
        # What numbers say together is told at one of them, which may have its old value back.
        beside = tuple(f"{t.rpartition('.')[0]}." for t in told)
        refused = refused or {w for w in left if w.startswith((*told, *beside))}
        assert refused, told
        for where in refused:
            place = left.pop(where)
            at(config, place[:-1])[place[-1]] = at(composed(name), place)
    return list(left)


@pytest.mark.parametrize("value", [1e300, -1e300, math.nan, math.inf, -math.inf, 10**30])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_number_that_cannot_be_is_refused_everywhere(name, value):
    assert accepted(name, value) == []


@pytest.mark.parametrize("name", CONFIGS)
def test_more_things_than_can_be_counted_are_refused_except_as_a_seed(name):
    left = accepted(name, 2**62, whole_only=True)
    assert [where for where in left if not where.endswith(("seed", "seeds[0]", "untrained"))] == []


MAY_BE_NEGATIVE = ("targets", "reward_to_go", "neurons.high", "edits.rtg_zero")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_negative_number_is_refused_where_it_means_nothing(name):
    left = accepted(name, -1)
    assert [where for where in left if not any(known in where for known in MAY_BE_NEGATIVE)] == []
