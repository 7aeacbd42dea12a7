"""Planted models with what is known of them, made once a process."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from dtx.config.compose import build_group
from dtx.dt.circuit import Circuit
from dtx.dt.model import DecisionTransformerModel, load
from dtx.dt.planted import Planted
from dtx.report import read_metrics

VARIANTS = {
    "plain": [],
    "rotated": ["dt.rotation=true"],
    "layer_norm": ["dt.layer_norm=true", "dt.rotation=true"],
    "superposed": ["dt.dimensions=12"],
    "backup": ["dt.backup_head=true"],
    "negative": ["dt.negative_head=0.25"],
    "distractors": ["dt.distractor_heads=9"],
    "everything": [
        "dt.n_layers=4",
        "dt.layer_norm=true",
        "dt.rotation=true",
        "dt.backup_head=true",
        "dt.negative_head=0.25",
        "dt.distractor_heads=8",
    ],
    "crowded": [
        "dt.layer_norm=true",
        "dt.rotation=true",
        "dt.dimensions=12",
    ],
}


PLAIN = list(VARIANTS)
"""Those of ``dt=planted``; the others are of ``dt=planted_harder``."""
VARIANTS |= {
    "relay": ["dt.relays=[[2]]"],
    "relay_in_three_moves": ["dt.relays=[[2],[3]]", "dt.n_layers=4"],
    "three_relays_at_once": ["dt.relays=[[2,3,4]]"],
    "relays_in_series_and_at_once": ["dt.relays=[[2,3],[4]]", "dt.n_layers=4"],
    "redundant": ["dt.redundant_heads=true"],
    "mean_reward_to_go": ["dt.mean_reward_to_go=true"],
    "linear_mean": ["dt.mean_reward_to_go=true", "dt.threshold=[0.092,0.8]"],
    "silent": ["dt.silent_head=true"],
    "layer_norm_low_threshold": ["dt.layer_norm=true", "dt.threshold=[0.1,0.2]"],
    "layer_norm_high_threshold": ["dt.layer_norm=true", "dt.threshold=[0.7,0.85]"],
    "four_layers": ["dt.n_layers=4"],
    "hardest": [
        "dt.n_layers=5",
        "dt.layer_norm=true",
        "dt.rotation=true",
        "dt.relays=[[2],[3]]",
        "dt.mean_reward_to_go=true",
        "dt.negative_head=0.25",
        "dt.silent_head=true",
        "dt.distractor_heads=4",
    ],
}


QUICK = ("plain", "everything", "crowded", "three_relays_at_once", "redundant", "hardest")
"""Most of those with one change are parts of these; the others are slow tests."""


@functools.cache
def planted(variant: str) -> tuple[Planted, DecisionTransformerModel, Circuit, dict]:
    """The stage, its model, its circuit and its headline, through its files."""
    stage = build_group(
        "dt/planted" if variant in PLAIN else "dt/planted_harder", VARIANTS[variant]
    )
    with tempfile.TemporaryDirectory() as folder:
        stage.run(Path(folder))
        circuit = Circuit.read(Path(folder))
        return stage, load(Path(folder)), circuit, read_metrics(Path(folder))
