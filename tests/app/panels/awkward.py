"""Small models for the panels of weights: with training data of their own, and one with a convolution."""

from __future__ import annotations

from pathlib import Path

from dtx.app.asked import Explorer
from dtx.app.models import Catalogue, Entry, renamed
from dtx.app.training_data import TrainingData
from tests.app import small
from tests.dt import toy

NAMES = ["memory1", "memory2", "clone", "leftpad", "plain", "planted"]


def explorer(folder: Path, dictionaries: tuple[Path, ...] = ()) -> Explorer:
    """One of each kind; but the planted one they know demonstrations."""
    known = TrainingData.of(toy.episodes(distinct=3))
    entries = [_with(each, known) for each in small.entries(folder)]
    entries.append(small.entry(folder, "conv", "memory", seed=9, state_encoder="conv"))
    return Explorer(Catalogue(None, others=entries), dictionaries=dictionaries)


def _with(entry: Entry, known: TrainingData) -> Entry:
    return entry if entry.data is None else renamed(entry, data=lambda: known)
