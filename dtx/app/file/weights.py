"""Weights of a model as the page's engine reads them: see ``model.js``."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dtx.dt.model import DecisionTransformerModel
from dtx.dt.model_config import ModelConfig

NUMBER_TYPES = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
"""Precisions by name, with what they are in memory."""


def not_covered(cfg: ModelConfig) -> str | None:
    """What of a model the engine in JavaScript does not compute; None if it computes it."""
    if cfg.state_encoder != "linear":
        return f"its state encoder is {cfg.state_encoder}, and the page computes linear ones alone"
    return None


def arrays(model: DecisionTransformerModel) -> dict[str, np.ndarray]:
    """The weights (float32) by the names of the model's parameters.

    Matrices are laid out as (inputs, outputs): queries, keys and values (d, h * e), attention's output
    (h * e, d).
    """
    return {name: value.detach().numpy().astype(np.float32) for name, value in _matrices(model)}


def _matrices(model: DecisionTransformerModel) -> Iterator[tuple[str, Tensor]]:
    for name, value in model.named_parameters():
        leaf = name.rpartition(".")[2]
        if leaf in ("W_Q", "W_K", "W_V"):
            yield name, value.transpose(0, 1).flatten(1)
        elif leaf == "W_O":
            yield name, value.flatten(0, 1)
        elif leaf in ("b_Q", "b_K", "b_V"):
            yield name, value.flatten()
        else:
            yield name, value


def flat(model: DecisionTransformerModel, precision: str) -> tuple[bytes, dict[str, list[int]]]:
    """All weights one after the other, and the shape of each by name in their order.

    Args:
        model: Any that :func:`not_covered` finds nothing in.
        precision: A name of :data:`NUMBER_TYPES`.

    Raises:
        ValueError: A weight is too large for the precision.
    """
    every = arrays(model)
    with np.errstate(over="ignore"):
        values = np.concatenate([a.ravel() for a in every.values()]).astype(NUMBER_TYPES[precision])
    if not np.isfinite(values).all():
        raise ValueError(f"a weight is too large for {precision}; use float32")
    return values.tobytes(), {name: list(a.shape) for name, a in every.items()}


def as_rounded(model: DecisionTransformerModel, precision: str) -> DecisionTransformerModel:
    """The model with the weights that a file of this precision carries."""
    if precision == "float32":
        return model
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.half().float())
    return rounded
