"""An object that lacks part of a protocol is refused when a config is built, not after hours of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dtx.config.build import ConfigError
from dtx.config.compose import build_group, compose, experiment
from dtx.config.protocols import misfit
from dtx.env.environment import Environment


@dataclass(frozen=True, kw_only=True)
class Old:
    """As environments were before decision and roles were declared."""

    max_steps: int
    id = "Old-v0"
    n_actions = 7
    horizon = 50

    def make(self):
        raise NotImplementedError

    def vector(self, n: int, seed: int):
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Halfway(Old):
    """Offers what the first error asks for, and not the rest."""

    roles = None

    @property
    def decision(self) -> Turn:
        return Turn()

    def vector(self, n: int):
        raise NotImplementedError


class Turn:
    """A decision with a routine alone, and a ``make`` that takes no layout."""

    layouts = ("a", "b")
    step = 1

    def routine(self, layout: int) -> list[int]:
        return [2, layout]

    def here(self, observations: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    layout_of = None

    def make(self):
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Broken(Old):
    """Whose decision cannot even be looked at."""

    roles = None

    @property
    def decision(self):
        raise RuntimeError("no table\nof layouts")


def errors(tmp_path: Path, kind: type, target: str) -> dict[str, str]:
    (tmp_path / "env").mkdir()
    config = f"_target_: {__name__}.{kind.__name__}\nmax_steps: 50\n"
    (tmp_path / "env" / "own.yaml").write_text(config)
    with pytest.raises(ConfigError) as refused:
        overrides = ["env=own", f"target={target}"]
        experiment(compose(overrides, tmp_path), overrides)
    return dict(refused.value.errors)


@pytest.mark.parametrize("target", ["agent", "dt"])
def test_an_environment_without_the_declared_members_is_refused_in_one_line(tmp_path, target):
    assert errors(tmp_path, Old, target) == {
        "env": f"an Environment is wanted, not {__name__}.Old: it has no decision, roles"
    }


def test_a_decision_that_is_not_whole_is_refused_with_all_that_it_lacks(tmp_path):
    (what,) = errors(tmp_path, Halfway, "dt").values()
    assert what.startswith(f"an Environment is wanted, not {__name__}.Halfway: ")
    assert "decision has no turns, vector" in what
    assert "decision.make(layout) is not possible: too many positional arguments" in what
    assert "decision.layout_of is no method: decision.layout_of(first, at)" in what
    assert "vector(n, seed) is not possible: too many positional arguments" in what


def test_a_property_that_fails_is_named_with_its_error(tmp_path):
    (what,) = errors(tmp_path, Broken, "dt").values()
    assert what.endswith("Broken: decision cannot be read: no table")


@pytest.mark.parametrize("option", ["memory", "door_key", "dynamic_obstacles", "minigrid"])
def test_every_environment_of_dtx_is_one(option):
    assert misfit(build_group(f"env/{option}"), Environment) is None
