"""How far the residual stream points along a direction, at every token and after every layer's parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dtx.analysis.lens.streams import point_names
from dtx.app.directions import Direction, Reading, direction_of
from dtx.app.moment import Moment, Side, folded
from dtx.app.panels import KEY, WORLD, choice, text
from dtx.app.panels.lens import hooks as stream_names
from dtx.app.weights import check
from dtx.dt.model_config import ModelConfig

TITLE = "Projections of the stream"
WHEN = KEY
NEEDS = (WORLD,)
CONTROL = "A random direction of the same length, and the edited run's stream."
SOURCE = "dtx.app.directions.direction_of"
DOC = "explorer.md#projections"
FIRST = False
SIZE = "wide"
TOLERANCE = 1e-3
"""Logits and inputs of neurons at run time are float32."""
DOT, COSINE = "dot product", "cosine"


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    direction: str = text(
        "",
        "left (a logit), left-right, key (2,6) (an embedded channel: column, row), action left, "
        "reward-to-go, time 3, L1N5 (what a neuron reads), L1N5 out (what it writes), PC1 (of the state "
        "embedding); empty: the two actions compared",
    )
    measure: str = choice(DOT, (DOT, COSINE), "Dot product with the direction, or cosine")


def hooks(cfg: ModelConfig) -> set[str]:
    """The stream at all points, and the scales of what reads it."""
    scales = {"ln_final.hook_scale", *(f"blocks.{i}.ln2.hook_scale" for i in range(cfg.n_layers))}
    return stream_names(cfg) | (scales if cfg.normalization_type is not None else set())


def compute(moment: Moment, parameters: Parameters) -> dict[str, Any]:
    """Projections of the accumulated stream.

    Returns:
        ``direction`` in words, ``length`` of it, ``measure``, ``points`` (p names), ``tokens`` (n names); of
        each side ``value`` (p, n), ``random`` (p) at the last token. The check is there where the model
        itself reads along the direction.

    Raises:
        UserError: There is no such direction.
    """
    cfg, twin = moment.cfg, folded(moment.model).folded
    direction = direction_of(moment, twin, parameters.direction)
    generator = torch.Generator().manual_seed(0)
    random_d = torch.randn(cfg.d_model, generator=generator, dtype=torch.float64)
    if cfg.normalization_type is not None:
        random_d = random_d - random_d.mean()
    length = direction.vector_d.norm()
    random_d = random_d * (length / random_d.norm())
    data: dict[str, Any] = {
        "direction": direction.name,
        "length": float(length),
        "measure": parameters.measure,
        "points": point_names(cfg.n_layers),
        "tokens": list(moment.original.tokens.names),
        "edited": None,
    }
    errors = []
    for name, side in moment.sides.items():
        stream_pnd = _stream(side, cfg)
        value_pn = _projected(stream_pnd, direction.vector_d, parameters.measure)
        data[name] = {
            "value": value_pn,
            "random": _projected(stream_pnd[:, -1], random_d, parameters.measure),
        }
        if direction.reading is not None:
            errors.append(_error(side, stream_pnd, direction, direction.reading, cfg))
    if errors:
        name = "the projection, scaled as the model scales it, is what the model reads there"
        data["check"] = check(name, max(errors), TOLERANCE)
    return data


def _stream(side: Side, cfg: ModelConfig) -> Tensor:
    """(p, n, d) float64."""
    known = side.activations(hooks(cfg))
    inner = [
        f"blocks.{i}.hook_resid_{part}" for i in range(cfg.n_layers) for part in ("mid", "post")
    ]
    return torch.stack([known[name][0] for name in ("blocks.0.hook_resid_pre", *inner)]).double()


def _projected(stream: Tensor, vector_d: Tensor, measure: str) -> Tensor:
    value = stream @ vector_d
    if measure == COSINE:
        value = value / (stream.norm(dim=-1) * vector_d.norm()).clamp(min=1e-30)
    return value


def _error(
    side: Side, stream_pnd: Tensor, direction: Direction, reading: Reading, cfg: ModelConfig
) -> float:
    value = float(stream_pnd[reading.point, -1] @ direction.vector_d)
    if cfg.normalization_type is not None:
        value /= float(side.activations(hooks(cfg))[reading.scale][0, -1, 0])
    return abs(value + reading.bias - reading.at(side))
