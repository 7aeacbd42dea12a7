"""What is written in a direction that something else reads: neurons and the view, actions and neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtx.analysis.congruence.compute import TOLERANCE, congruence
from dtx.analysis.congruence.products import (
    channels_to_logits,
    channels_to_neurons,
    neuron_inputs,
    neurons_to_neurons,
)
from dtx.analysis.core.channels import channel_names
from dtx.app.moment import Moment, folded
from dtx.app.panels import ONCE, WORLD, choice, number
from dtx.app.weights import CELLS, active, check, on_view, taught, untrained
from dtx.dt.forward import blocks_of
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.names import neuron_name
from dtx.errors import UserError

TITLE = "Congruence"
WHEN = ONCE
NEEDS = (WORLD,)
CONTROL = "One untrained model of the same shape: the mean and the 99th percentile of its sizes."
SOURCE = "dtx.analysis.congruence.compute.congruence"
DOC = "gallery.md#congruence"
FIRST = False
SIZE = "half"
SHOWN = 20
"""Rows and columns that are drawn, the strongest."""
NEURONS_ACTIONS, NEURONS_NEURONS = "neurons to actions", "neurons to neurons"
VIEW_ACTIONS, VIEW_NEURONS = "view to actions", "view to neurons"
PRODUCTS = (NEURONS_ACTIONS, NEURONS_NEURONS, VIEW_ACTIONS, VIEW_NEURONS)


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    product: str = choice(NEURONS_ACTIONS, PRODUCTS, "What is written, and what reads it")
    layer: int = number(0, 0, 63, "Layer of the neurons that write, or that read the view")
    to: int = number(1, 0, 63, "Layer of the neurons that read, of neurons to neurons")
    channel: str = choice("key", channel_names(), "Channel of the view, of view to actions")
    rank: int = number(
        1, 1, SHOWN, "Which of the neurons that the view drives most, of view to neurons"
    )


def compute(moment: Moment, parameters: Parameters) -> dict[str, Any]:
    """The product of what is written and what reads it, on folded weights.

    Returns:
        ``product``; of neurons: ``rows``, ``columns`` (names of the strongest), ``value`` (r, c); of the
        view: ``blocks`` (names), ``maps`` (b, 7, 7) by row and column, NaN where training shows no such
        channel, of neurons ``neurons``, the names in order, and ``neuron``, the one drawn. ``sizes``: mean
        and tail (99th percentile) of all absolute values, of the ``model`` and ``untrained``.

    Raises:
        UserError: The encoder is convolutional, or the model lacks a layer.
    """
    last = moment.cfg.n_layers - 1
    asked = parameters.product
    wanted = {NEURONS_NEURONS: (parameters.layer, parameters.to), VIEW_NEURONS: (parameters.layer,)}
    for layer in wanted.get(asked, ()):
        if layer > last:
            raise UserError(f"congruence: the model's layers are 0..{last}, not {layer}")
    if asked == NEURONS_NEURONS and parameters.to <= parameters.layer:
        raise UserError(
            f"congruence: layer {parameters.to} does not read what layer {parameters.layer} writes; "
            "`to` must be a later one"
        )
    twin = folded(moment.model).folded
    value = _product(twin, parameters)
    channel_c = taught(moment) if asked in (VIEW_ACTIONS, VIEW_NEURONS) else None
    error = _error(moment, twin, value, parameters)
    return {
        "product": asked,
        "actions": list(moment.actions[: moment.cfg.n_actions]),
        **_drawn(moment, parameters, value, channel_c),
        "sizes": {
            name: _sizes(each, channel_c)
            for name, each in (
                ("model", value),
                ("untrained", _product(untrained(moment).folded, parameters)),
            )
        },
        "check": check(
            "weights times what is active here are what is written here", error, TOLERANCE
        ),
    }


def _product(twin: DecisionTransformerModel, parameters: Parameters) -> np.ndarray:
    """(written, read): neurons are those of all layers one after the other, or of one."""
    if parameters.product == NEURONS_ACTIONS:
        return congruence(twin).flatten(0, 1).numpy()
    if parameters.product == NEURONS_NEURONS:
        return neurons_to_neurons(twin, parameters.layer, parameters.to).numpy()
    if parameters.product == VIEW_ACTIONS:
        return channels_to_logits(twin).numpy()
    return channels_to_neurons(twin, parameters.layer).numpy()


def _drawn(
    moment: Moment, parameters: Parameters, value: np.ndarray, channel_c: np.ndarray | None
) -> dict[str, Any]:
    cfg = moment.cfg
    names = [[neuron_name(layer, f) for f in range(cfg.d_mlp)] for layer in range(cfg.n_layers)]
    if channel_c is None:
        to_actions = parameters.product == NEURONS_ACTIONS
        rows = (
            [name for layer in names for name in layer] if to_actions else names[parameters.layer]
        )
        r = _strongest(value, 1)
        c = np.arange(value.shape[1]) if to_actions else _strongest(value, 0)
        columns = moment.actions if to_actions else names[parameters.to]
        return {
            "rows": [rows[i] for i in r],
            "columns": [columns[i] for i in c],
            "value": value[np.ix_(r, c)],
        }
    maps = on_view(value[channel_c], channel_c)
    if parameters.product == VIEW_ACTIONS:
        channel = channel_names().index(parameters.channel)
        blocks = list(moment.actions[: cfg.n_actions])
        return {"blocks": blocks, "maps": np.moveaxis(maps[channel], -1, 0)}
    f = _strongest(value[channel_c], 0)
    at = f[min(parameters.rank, len(f)) - 1]
    there = sorted(set((channel_c // CELLS).tolist()))
    return {
        "neurons": [names[parameters.layer][i] for i in f],
        "neuron": names[parameters.layer][at],
        "blocks": [channel_names()[i] for i in there],
        "maps": maps[there, ..., at],
    }


def _strongest(value: np.ndarray, axis: int) -> np.ndarray:
    """The rows (axis 1) or columns (axis 0) with the largest entries, largest first."""
    return np.argsort(-np.abs(value).max(axis), kind="stable")[:SHOWN]


def _sizes(value: np.ndarray, channel_c: np.ndarray | None) -> dict[str, float]:
    size = np.abs(value if channel_c is None else value[channel_c])
    return {"mean": float(size.mean()), "tail": float(np.quantile(size, 0.99))}


@torch.no_grad()
def _error(
    moment: Moment, twin: DecisionTransformerModel, value: np.ndarray, parameters: Parameters
) -> float:
    """How far the product, fed with what is active at the last state, is from what the model writes there."""
    weight = torch.from_numpy(value)
    side, context = moment.original, moment.original.context.to(torch.float64)
    if parameters.product in (VIEW_ACTIONS, VIEW_NEURONS):
        wanted = ["embed.hook_state"]
        bias = twin.embed.b_S
        found = weight[active(side.run.observations[-1])].sum(0)
        written_d = _cached(twin, context, wanted)[wanted[0]][0, -1]
        into = _reading(twin, parameters)
        return float((found + (0 if bias is None else bias @ into) - written_d @ into).abs().max())
    layers = range(moment.cfg.n_layers)
    if parameters.product == NEURONS_NEURONS:
        layers = [parameters.layer]
    names = [f"blocks.{i}.{n}" for i in layers for n in ("hook_mlp_out", "mlp.hook_post")]
    cache, into, errors = _cached(twin, context, names), _reading(twin, parameters), []
    for place, layer in enumerate(layers):
        post_f = cache[f"blocks.{layer}.mlp.hook_post"][0, -1]
        out_d = cache[f"blocks.{layer}.hook_mlp_out"][0, -1] - blocks_of(twin)[layer].mlp.b_out
        rows = weight[place * len(post_f) :][: len(post_f)]
        errors.append(float((post_f @ rows - out_d @ into).abs().max()))
    return max(errors)


def _reading(twin: DecisionTransformerModel, parameters: Parameters) -> Tensor:
    """(d, read) what reads the residual stream."""
    if parameters.product in (NEURONS_ACTIONS, VIEW_ACTIONS):
        return twin.W_U
    to = parameters.to if parameters.product == NEURONS_NEURONS else parameters.layer
    return neuron_inputs(twin)[to]


def _cached(twin: DecisionTransformerModel, context: Any, names: list[str]) -> Any:
    return twin.run_with_cache(context, names_filter=names)[1]
