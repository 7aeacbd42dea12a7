"""Directions of the residual stream by name: logits, channels, actions, neurons, principal components.

Letters: d model, k components. Weights are folded and centred, in float64.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtx.analysis.congruence.products import neuron_inputs
from dtx.analysis.core.channels import cell_names
from dtx.analysis.embeddings.compute import principal_directions
from dtx.app.moment import Moment, Side
from dtx.app.weights import taught
from dtx.dt.forward import blocks_of
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.names import NEURON, Part, part_of
from dtx.dt.processing import BiasedGatedMLP
from dtx.errors import UserError
from dtx.text import suggest

_COMPONENT = re.compile(r"PC ?([1-9]\d?)")
_OUTPUT = re.compile(r"(.+) out")


@dataclass(frozen=True)
class Reading:
    """Where the model itself takes the dot product with a direction, at the last state.

    Attributes:
        point: Number of the point of the stream. scale: Hook of the scale that the stream is divided by.
        bias: That is added. at: What the model has there at run time.
    """

    point: int
    scale: str
    bias: float
    at: Callable[[Side], float]


@dataclass(frozen=True)
class Direction:
    """A direction of the residual stream.

    Attributes:
        name: In words. vector_d: Float64. reading: None if the model reads it nowhere.
    """

    name: str
    vector_d: Tensor
    reading: Reading | None = None


def direction_of(moment: Moment, twin: DecisionTransformerModel, asked: str) -> Direction:
    """The direction with a name, of folded weights.

    Raises:
        UserError: There is none; says which there are.
    """
    asked = asked.strip()
    actions = list(moment.actions[: moment.cfg.n_actions])
    if not asked:
        asked = "-".join(moment.actions[i] for i in moment.contrast)
    for read in (_of_logits, _of_neuron, _of_token, _of_component):
        found = read(moment, twin, asked, actions)
        if found is not None:
            return found
    known = [*actions, *(f"action {name}" for name in actions), "reward-to-go", "PC1", "L0N0"]
    raise UserError(
        f"projections.direction: there is no {asked!r}{suggest(asked, [*known, *cell_names()])}; there are "
        "actions, left-right, key (2,6), action left, reward-to-go, time 3, L0N5, L0N5 out, PC1"
    )


def _of_logits(
    moment: Moment, twin: DecisionTransformerModel, asked: str, actions: list[str]
) -> Direction | None:
    names = [name.strip() for name in asked.split("-")]
    if len(names) > 2 or not set(names) <= set(actions):
        return None
    numbers = [actions.index(name) for name in names]
    vector_d, bias = twin.W_U[:, numbers[0]], float(twin.b_U[numbers[0]])
    if len(names) == 2:
        vector_d, bias = vector_d - twin.W_U[:, numbers[1]], bias - float(twin.b_U[numbers[1]])
    reading = Reading(
        2 * moment.cfg.n_layers,
        "ln_final.hook_scale",
        bias,
        lambda side: float(side.logits[numbers[0]] - sum(side.logits[i] for i in numbers[1:])),
    )
    return Direction(f"logit {' - '.join(names)}", vector_d, reading)


def _of_neuron(
    moment: Moment, twin: DecisionTransformerModel, asked: str, actions: list[str]
) -> Direction | None:
    out = _OUTPUT.fullmatch(asked)
    part = part_of(out[1] if out else asked)
    if part is None or part.kind != NEURON:
        return None
    cfg = moment.cfg
    if part.layer >= cfg.n_layers or part.unit >= cfg.d_mlp:
        raise UserError(
            f"projections.direction: the model has no {part.name}; it has layers 0..{cfg.n_layers - 1} of "
            f"{cfg.d_mlp} neurons"
        )
    if out:
        return Direction(f"{part.name} out", blocks_of(twin)[part.layer].mlp.W_out[part.unit])
    vector_d = neuron_inputs(twin)[part.layer][:, part.unit]
    place = f"blocks.{part.layer}"
    hook = f"{place}.mlp.hook_pre"
    reading = Reading(
        2 * part.layer + 1,
        f"{place}.ln2.hook_scale",
        _bias(twin, part),
        lambda side: float(side.activations({hook})[hook][0, -1, part.unit]),
    )
    return Direction(f"{part.name} input", vector_d, reading)


def _bias(twin: DecisionTransformerModel, part: Part) -> float:
    mlp = blocks_of(twin)[part.layer].mlp
    if isinstance(mlp, BiasedGatedMLP):
        return float(mlp.b_gate[part.unit])
    return 0.0 if mlp.gated else float(mlp.b_in[part.unit])


def _of_token(
    moment: Moment, twin: DecisionTransformerModel, asked: str, actions: list[str]
) -> Direction | None:
    embed = twin.embed
    if asked.startswith("action ") and asked.removeprefix("action ") in actions:
        return Direction(asked, embed.W_A[actions.index(asked.removeprefix("action "))])
    if asked == "reward-to-go":
        if embed.W_R is None:
            raise UserError("projections.direction: the model reads no reward-to-go")
        return Direction(asked, embed.W_R[0])
    if match := re.fullmatch(r"time (\d{1,6})", asked):
        step = int(match[1])
        if moment.cfg.time_embedding != "learned":
            return Direction("time, per step", embed.W_time[0])
        if not 1 <= step <= moment.cfg.n_timesteps:
            raise UserError(
                f"projections.direction: the model knows timesteps 1..{moment.cfg.n_timesteps}"
            )
        return Direction(asked, embed.W_time[step - 1])
    names = cell_names()
    if asked.replace(", ", ",") in names:
        return Direction(asked, embed.W_S[names.index(asked.replace(", ", ","))])
    return None


def _of_component(
    moment: Moment, twin: DecisionTransformerModel, asked: str, actions: list[str]
) -> Direction | None:
    match = _COMPONENT.fullmatch(asked)
    if match is None:
        return None
    vector_kd = principal_directions(twin.embed.W_S.numpy()[taught(moment)])
    if int(match[1]) > len(vector_kd):
        raise UserError(f"projections.direction: there are {len(vector_kd)} components")
    return Direction(
        f"PC{match[1]} of the state embedding",
        torch.from_numpy(np.array(vector_kd[int(match[1]) - 1])),
    )
