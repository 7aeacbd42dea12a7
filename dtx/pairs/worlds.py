"""The worlds that clean runs start in, by name: a layout's, ``seed:17``, or ``world 3`` of those sampled."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dtx.config.ranges import MOST_SEED
from dtx.env.environment import Environment
from dtx.env.roles import world_of
from dtx.env.vector import seeds
from dtx.errors import UserError
from dtx.pairs.spec import PairsSpec
from dtx.text import suggest

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

_SEED = re.compile(r"seed:(0|[1-9][0-9]*)", re.ASCII)
_SAMPLED = re.compile(r"world ([0-9]+)", re.ASCII)


def count_worlds(spec: PairsSpec) -> int:
    """In how many worlds clean runs start."""
    variants, decision = spec.source.variants, spec.env.decision
    if isinstance(variants, int):
        return variants
    if variants == "all":
        assert decision is not None
        return len(decision.layouts)
    return len(variants)


def worlds(spec: PairsSpec) -> list[tuple[str, MiniGridEnv]]:
    """The worlds that clean runs start in, by name."""
    variants, decision = spec.source.variants, spec.env.decision
    if isinstance(variants, int):
        names = [f"world {i}" for i in range(variants)]
        return [
            (name, _reset(spec.env, seed))
            for name, seed in zip(names, seeds(spec.seed, variants), strict=True)
        ]
    if variants == "all":
        assert decision is not None
        variants = decision.layouts
    return [(name, named_world(spec.env, name, spec.seed)) for name in variants]


def named_world(env: Environment, name: str, seed: int = 0) -> MiniGridEnv:
    """A world at its start, by its name.

    Args:
        env: Where it is.
        name: Of a layout; or ``seed:17``, the world that the environment makes with that seed.
        seed: Of what a layout leaves open.

    Raises:
        UserError: There is no such world.
    """
    for problem in name_problems(env, [name]):
        raise UserError(f"world: {problem}")
    if drawn := _SEED.fullmatch(name):
        return _reset(env, int(drawn[1]))
    assert env.decision is not None
    layout = env.decision.layouts.index(name)
    made = env.decision.make(layout)
    made.reset(seed=seeds(seed, layout + 1)[layout])
    return world_of(made)


def name_problems(env: Environment, names: Sequence[Any]) -> Iterator[str]:
    """What is wrong with names of worlds, one line each."""
    layouts = [] if env.decision is None else list(env.decision.layouts)
    for place, name in enumerate(names):
        drawn = _SEED.fullmatch(name) if isinstance(name, str) else None
        if name in names[:place]:
            yield f"{name!r} is named twice"
        elif drawn:
            if int(drawn[1]) > MOST_SEED:
                yield f"{name!r} is too large a seed: they go up to 2**63 - 1"
        elif isinstance(name, str) and name.startswith("seed:"):
            yield f"{name!r} is no seed; a whole number is wanted, as in seed:17"
        elif not layouts:
            yield (
                f"{type(env).__name__} has no layouts, so no {name!r}; name seeds, as in seed:17, or give a "
                "number of worlds to sample"
            )
        elif name not in layouts:
            yield f"no layout {name!r}{suggest(str(name), layouts)}, and no seed, as in seed:17"


def name_of(spec: PairsSpec, variant: str) -> str:
    """The name by which :func:`named_world` finds a world of these pairs: ``world 3`` has one of its own."""
    sampled = _SAMPLED.fullmatch(variant)
    if sampled is None or not isinstance(spec.source.variants, int):
        return variant
    place = int(sampled[1])
    return f"seed:{seeds(spec.seed, place + 1)[place]}"


def other_worlds(env: Environment, name: str, count: int = 8) -> tuple[str, ...]:
    """Worlds that a pair of a world can have donors from: its other layouts, or the next ``count`` seeds."""
    if env.decision is not None:
        return tuple(layout for layout in env.decision.layouts if layout != name)
    drawn = _SEED.fullmatch(name)
    assert drawn is not None, f"{name} is no world of {env.id}"
    first = int(drawn[1])
    return tuple(f"seed:{(first + i) % (MOST_SEED + 1)}" for i in range(1, count + 1))


def _reset(env: Environment, seed: int) -> MiniGridEnv:
    made = env.make()
    made.reset(seed=seed)
    return world_of(made)
