"""Which neurons move the choice here, what makes one of them fire, what it reads and what it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dtx.analysis.attribution.compute import TOLERANCE, attribute
from dtx.analysis.congruence.compute import congruence
from dtx.analysis.congruence.products import channels_to_neurons, neuron_inputs
from dtx.analysis.core.channels import channel_names
from dtx.analysis.core.windows import join
from dtx.analysis.neurons.drivers import drivers
from dtx.app.moment import Moment, folded
from dtx.app.panels import IDLE, WORLD, text
from dtx.app.stored import analyses_of
from dtx.app.weights import CELLS, check, on_view, taught, untrained
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.model_config import ModelConfig
from dtx.dt.names import NEURON, neuron_name, part_of
from dtx.env.encoding import CHANNELS, VIEW
from dtx.errors import UserError

TITLE = "Neurons"
WHEN = IDLE
NEEDS = (WORLD,)
CONTROL = "The strongest neuron of one untrained model of the same shape at the same state; the edited run."
SOURCE = "dtx.analysis.neurons.drivers.drivers"
DOC = "gallery.md#neurons"
FIRST = False
SIZE = "wide"
SHOWN = 16


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    neuron: str = text("", "A neuron's name, L1N5; empty: the one that moves the choice most here")


def hooks(cfg: ModelConfig) -> set[str]:
    """The neurons of all layers."""
    return {_post(layer) for layer in range(cfg.n_layers)}


def compute(moment: Moment, parameters: Parameters) -> dict[str, Any]:
    """The neurons that add most to LD, and one of them.

    Returns:
        ``strongest`` (k names), ``untrained``: size of an untrained model's largest effect; ``neuron``: its
        name; ``tokens`` (n), ``parts`` (p names of what drives it); of each side ``effects`` (k) on LD,
        ``effect`` of the neuron, ``activation`` (n) at every token, ``drivers`` (p): what each part adds to
        its input at the last state, ``cells`` (7, 7) by row and column: the same of the view, null with a
        convolutional encoder. ``reads``: ``blocks`` (channels), ``maps`` (b, 7, 7) of the embedding alone,
        and ``beside``; ``writes``: by action; ``stored``: what ``analysis=neurons`` found of it, or null.

    Raises:
        UserError: The model has no such neuron.
    """
    copies, names = folded(moment.model), list(moment.sides)
    context = join([side.context for side in moment.sides.values()]).to(torch.float64)
    effect_blf = attribute(copies, context, moment.contrast).neuron_blf.numpy()
    control = attribute(untrained(moment), context[:1], moment.contrast).neuron_blf
    order = np.argsort(-np.abs(effect_blf[0]), axis=None, kind="stable")[:SHOWN]
    strongest = [
        (int(i), int(f))
        for i, f in zip(*np.unravel_index(order, effect_blf.shape[1:]), strict=True)
    ]
    layer, neuron = _place(parameters.neuron, moment.cfg) or strongest[0]
    found = drivers(copies.folded, context, layer, neuron)
    data: dict[str, Any] = {
        "strongest": [neuron_name(*place) for place in strongest],
        "untrained": float(control.abs().max()),
        "neuron": neuron_name(layer, neuron),
        "tokens": list(moment.original.tokens.names),
        "parts": found.names,
        "edited": None,
        "reads": _reads(moment, copies.folded, layer, neuron),
        "writes": dict(
            zip(moment.actions, congruence(copies.folded)[layer, neuron].tolist(), strict=False)
        ),
        "stored": _stored(moment, layer, neuron),
        "check": check("what drives it adds up to its input", found.error, TOLERANCE),
    }
    for row, name in enumerate(names):
        channel = None if found.channel_bc is None else found.channel_bc[row].numpy()
        side = moment.sides[name]
        data[name] = {
            "effects": effect_blf[row].ravel()[order],
            "effect": float(effect_blf[row, layer, neuron]),
            "activation": side.activations({_post(layer)})[_post(layer)][0, :, neuron],
            "drivers": found.value_bp[row],
            "cells": None if channel is None else channel.reshape(CHANNELS, VIEW, VIEW).sum(0).T,
        }
    return data


def _reads(
    moment: Moment, twin: DecisionTransformerModel, layer: int, neuron: int
) -> dict[str, Any]:
    """What contents add to its input by the residual stream alone, before the scale."""
    cfg, embed = moment.cfg, twin.embed
    into_d = neuron_inputs(twin)[layer][:, neuron]
    actions = (embed.W_A[: cfg.n_actions] @ into_d).tolist()
    beside = {f"action {name}": value for name, value in zip(moment.actions, actions, strict=False)}
    if embed.W_R is not None:
        beside["reward-to-go, per unit"] = float(embed.W_R[0] @ into_d)
    if cfg.state_encoder != "linear":
        return {"blocks": [], "maps": np.zeros((0, VIEW, VIEW)), "beside": beside}
    channel_c = taught(moment)
    there = sorted(set((channel_c // CELLS).tolist()))
    value_c = channels_to_neurons(twin, layer)[channel_c, neuron].numpy()
    return {
        "blocks": [channel_names()[i] for i in there],
        "maps": on_view(value_c, channel_c)[there],
        "beside": beside,
    }


def _stored(moment: Moment, layer: int, neuron: int) -> dict[str, Any] | None:
    """The newest stored description of a neuron, with its artefact and page."""
    try:
        known = analyses_of(moment)
    except UserError:
        return None
    for found in reversed([each for each in known if each.name == "neurons"]):
        result, step = found.result, moment.chosen and moment.chosen.step
        if found.checkpoint != step or result is None or "neurons" not in result.tables:
            continue
        table = result.tables["neurons"]
        mine = (table.model == "trained") & (table.layer == layer) & (table.neuron == neuron)
        if mine.any():
            row = table[mine].iloc[0]
            return {
                "label": found.label,
                "why": list(result.reasons()),
                "pages": [each for each in found.figures if each.endswith(".html")],
                "rank": int(row["rank"]),
                "fact": str(row.fact),
                "peak": str(row.peak),
                "selectivity": float(row.selectivity),
            }
    return None


def _place(name: str, cfg: ModelConfig) -> tuple[int, int] | None:
    """Layer and number of a neuron; None for no name."""
    if not name.strip():
        return None
    part = part_of(name.strip())
    if part is None or part.kind != NEURON:
        raise UserError(f"neurons.neuron: {name!r} is no neuron; L1N5 is")
    if part.layer >= cfg.n_layers or part.unit >= cfg.d_mlp:
        raise UserError(
            f"neurons.neuron: the model has no {part.name}; it has layers 0..{cfg.n_layers - 1} of "
            f"{cfg.d_mlp} neurons"
        )
    return part.layer, part.unit


def _post(layer: int) -> str:
    return f"blocks.{layer}.mlp.hook_post"
