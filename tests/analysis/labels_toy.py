"""Rows with facts of three kinds, and features that are made of them: a truth that labels must find."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix

from dtx.analysis.labels.sources import Source
from dtx.analysis.labels.spec import TRAINED, UNTRAINED, LabelsSpec
from dtx.config.compose import build_group

VIEWS, HIDDEN = 20, 6


@dataclass
class Facts:
    """In the place of a table of facts."""

    names: list[str]
    values: np.ndarray
    group: list[str]
    raw: np.ndarray

    def inputs(self) -> np.ndarray:
        return self.raw


@dataclass
class World:
    facts: Facts
    columns: dict[str, np.ndarray]
    rng: np.random.Generator

    def of(self, name: str) -> np.ndarray:
        return self.facts.values[:, self.facts.names.index(name)]

    def source(
        self, on: list[np.ndarray], kind: str = TRAINED, seed: int = 0, noise: float = 0.0
    ) -> Source:
        """Features that are on where it says, but for a share of rows in which they are flipped."""
        stacked = np.stack(on, 1) ^ (self.rng.random((len(on[0]), len(on))) < noise)
        strength = self.rng.uniform(0.5, 2, stacked.shape).astype(np.float32)
        return Source(kind, f"d-{seed}", seed, csc_matrix(stacked * strength))

    def nonsense(self, kind: str = UNTRAINED, seed: int = 0, width: int = 8) -> Source:
        """Features that have nothing to do with any fact."""
        rows = len(self.facts.values)
        return self.source([self.rng.random(rows) < 0.1 for _ in range(width)], kind, seed)


def world(rows: int = 3000, seed: int = 0) -> World:
    """Hidden facts (no input tells them), facts of the view, and thresholds of reward-to-go."""
    rng = np.random.default_rng(seed)
    view = rng.integers(0, VIEWS, rows)
    to_go = rng.uniform(0, 1, rows)
    hidden = rng.random((rows, HIDDEN)) < 0.25
    looks = rng.random((3, VIEWS)) < 0.3
    looks[:, 0], looks[:, 1] = True, False  # none is constant
    columns = [*hidden.T, *looks[:, view], to_go >= 0.45]
    names = [*(f"key at {i}" for i in range(HIDDEN)), "ball ahead", "wall left", "door open"]
    names += ["reward-to-go >= .45"]
    raw = (view[:, None] == np.arange(VIEWS)).astype(np.uint8)
    group = [*["hidden"] * HIDDEN, *["view"] * 3, "reward_to_go"]
    facts = Facts(names, np.stack(columns, 1), group, raw)
    where = {
        "kind": np.ones(rows, np.int8),
        "view": view.astype(np.int32),
        "step": rng.integers(0, 9, rows).astype(np.int32),
        "episode": rng.integers(0, 150, rows).astype(np.int32),
        "count": rng.integers(1, 5, rows).astype(np.int32),
    }
    return World(facts, where, rng)


def spec(**changes: Any) -> LabelsSpec:
    """The settings as their YAML has them."""
    return dataclasses.replace(_built(), **changes)


@functools.cache
def _built() -> LabelsSpec:
    built = build_group("analysis/labels", [])
    values = {f.name: getattr(built, f.name) for f in dataclasses.fields(LabelsSpec)}
    return LabelsSpec(**values)


def silent() -> Any:
    """A bar that nobody sees."""
    return SimpleNamespace(advance=lambda *_: None)
