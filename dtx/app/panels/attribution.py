"""What adds to the logit difference: components, heads by the token they read, neurons, cells of the view."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtx.analysis.attribution.compute import Attributed
from dtx.analysis.attribution.spec import BIAS
from dtx.analysis.core.channels import cell_names
from dtx.analysis.core.controls import STRONGEST
from dtx.app.panels import KEY, choice
from dtx.app.subject import Subject
from dtx.env.encoding import VIEW
from dtx.errors import UserError

TITLE = "Direct logit attribution"
WHEN = KEY
NEEDS = ()
CONTROL = (
    "Random directions of the same norm: 95% of them have no component larger than the line. It counts what "
    "is written straight to the logits, not what later layers make of it."
)
SOURCE = "dtx.analysis.attribution.compute.attribute"
DOC = "gallery.md#attribution"
FIRST = False
SIZE = "wide"
RANDOM, SEED, SHOWN = 40, 0, 20
VIEW_CELLS = "view"


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    part: str = choice(
        "components", ("components", "sources", "neurons", VIEW_CELLS),
        "What is drawn: components, heads by the token they read, the largest neurons, or cells of the view",
    )  # fmt: skip


def compute(moment: Subject, parameters: Parameters) -> dict[str, Any]:
    """Parts of LD by side.

    Returns:
        ``components`` (p names) with ``kinds``, ``tokens`` (n names), ``heads`` (l * h names); of each side
        ``ld``, ``value`` (p), ``source`` (l * h, n), ``neurons`` (layer, neuron, value: the largest),
        ``cells`` (7, 7) by x and y of the view, ``channels`` (name, value: the largest active ones) and
        ``random``: the size that the largest component has in 95% of random directions.
    """
    cfg, found = moment.cfg, moment.attributed(RANDOM, SEED)
    if parameters.part == VIEW_CELLS and not found.channel_bc.numel():
        raise UserError(
            "attribution.part: a text has no view; there are components, sources, neurons"
        )
    error = max(found.errors())
    data: dict[str, Any] = {"edited": None}
    for row, name in enumerate(moment.sides):
        data[name] = _side(found, row)
    return data | {
        "components": found.names,
        "kinds": found.kinds,
        "part": parameters.part,
        "tokens": list(moment.original.tokens.names),
        "heads": [f"L{i}H{h}" for i in range(cfg.n_layers) for h in range(cfg.n_heads)],
        "check": {
            "name": "the parts add up to the logit difference",
            "error": error,
            "tolerance": found.tolerance,
            "holds": error <= found.tolerance,
        },
    }


def _side(found: Attributed, row: int) -> dict[str, Any]:
    """One window's parts."""
    value_kp = found.component_kbp[:, row].numpy()
    parts = [i for i, kind in enumerate(found.kinds) if kind != BIAS]
    channel_c, neuron_lf = found.channel_bc[row].numpy(), found.neuron_blf[row].numpy()
    layer, neuron = np.unravel_index(_largest(neuron_lf.ravel()), neuron_lf.shape)
    shown = [c for c in _largest(channel_c) if channel_c[c]]
    names = _cells()
    return {
        "ld": float(found.difference_b[row]),
        "value": value_kp[0],
        "source": found.source_blhm[row].flatten(0, 1).numpy(),
        "neurons": {"layer": layer, "neuron": neuron, "value": neuron_lf[layer, neuron]},
        "cells": channel_c.reshape(-1, VIEW, VIEW).sum(0),
        "channels": {"name": [names[c] for c in shown], "value": channel_c[shown]},
        "random": float(np.quantile(np.abs(value_kp[1:, parts]).max(1), STRONGEST)),
    }


@functools.cache
def _cells() -> tuple[str, ...]:
    return tuple(cell_names())


def _largest(value: np.ndarray) -> np.ndarray:
    return np.argsort(-np.abs(value), kind="stable")[:SHOWN]
