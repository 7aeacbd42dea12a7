"""What the model does when pushed along the difference of both runs, or to another reward-to-go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dtx.analysis.steering.edits import ActivationEdit, residual
from dtx.analysis.steering.methods import random_like
from dtx.analysis.steering.spec import Tokens
from dtx.app.panels import KEY, choice, number
from dtx.app.subject import Sizes, Subject
from dtx.errors import UserError

TITLE = "Steering"
WHEN = KEY
NEEDS = ()
CONTROL = "A random vector of the same length at the same place, at the same sizes."
SOURCE = "dtx.analysis.steering.runs.Runs"
DOC = "gallery.md#steering"
FIRST = False
SIZE = "half"
SIZES = 5
TOLERANCE = 1e-4
DIFFERENCE, CLAMP = "difference", "reward_to_go"


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    method: str = choice(
        DIFFERENCE, (DIFFERENCE, CLAMP),
        "difference: add (original - edited) at a layer; reward_to_go: R tokens go towards another value",
    )  # fmt: skip
    layer: int = number(-1, -1, 11, "Layer before which the difference is added; -1: the last")
    tokens: str = choice(
        Tokens.last_state.value, [each.value for each in Tokens], "Where the difference is taken and added"
    )  # fmt: skip
    alpha: float = number(1.0, -8.0, 8.0, "Size; 0 changes nothing, 1 is the whole difference")
    clamp: float = number(
        0.0, -10.0, 10.0, "Reward-to-go that R tokens go towards, with reward_to_go"
    )


def hooks(cfg: Sizes) -> set[str]:
    """The stream before every layer."""
    return {residual(layer) for layer in range(cfg.n_layers)}


def compute(moment: Subject, parameters: Parameters) -> dict[str, Any]:
    """Steer both runs at five sizes and at the one asked for.

    Returns:
        ``alphas`` (k,) in order, ``alpha`` the one asked for, ``norm`` of the vector beside ``stream``, that
        of the stream there; of each side ``ld`` (k,), ``random`` LD (k,), and at ``alpha`` the
        ``probabilities`` (a,) with those of the model itself in ``unsteered``.

    Raises:
        UserError: The difference needs an edit; the model lacks the layer or the tokens.
    """
    edit, stream = _edit(moment, parameters)
    reach = max(2.0, abs(parameters.alpha))
    alphas = np.unique([*np.linspace(-reach, reach, SIZES), 0.0, parameters.alpha])
    at, zero = (int(np.flatnonzero(alphas == value)[0]) for value in (parameters.alpha, 0.0))
    random = random_like(edit, moment.model, torch.Generator().manual_seed(0))
    data: dict[str, Any] = {
        "actions": list(moment.actions),
        "alphas": alphas,
        "alpha": parameters.alpha,
        "method": parameters.method,
        "place": edit.name,
        "norm": None if edit.vector is None else float(edit.vector.norm()),
        "stream": stream,
        "edited": None,
    }
    sides = list(moment.sides.values())
    edits = [each.at(alpha) for each in (edit, random) for alpha in alphas.tolist()]
    log_p = moment.log_p(edits).unflatten(0, (2, len(alphas)))
    base = torch.stack([side.logits for side in sides]).log_softmax(-1)
    error = float((log_p[0, zero] - base).abs().max())
    for row, side in enumerate(sides):
        own, control = log_p[:, :, row]
        data[side.name] = {
            "ld": moment.ld(own),
            "random": moment.ld(control),
            "probabilities": own[at].double().exp(),
            "unsteered": base[row].double().exp(),
        }
    data["check"] = {
        "name": "size 0 changes nothing",
        "error": error,
        "tolerance": TOLERANCE,
        "holds": error <= TOLERANCE,
    }
    return data


def _edit(moment: Subject, parameters: Parameters) -> tuple[ActivationEdit, float | None]:
    """The edit at size 1, and the mean norm of what it is added to."""
    cfg = moment.cfg
    if parameters.method == CLAMP:
        if not cfg.reward_to_go:
            raise UserError("steering: the model reads no reward-to-go")
        name = f"R tokens to {parameters.clamp:g}"
        return ActivationEdit(name, residual(0), Tokens.reward_to_go, clamp=parameters.clamp), None
    if moment.edited is None:
        raise UserError(
            "steering: the difference of both runs needs an edit; make one, or choose reward_to_go"
        )
    layer = cfg.n_layers - 1 if parameters.layer < 0 else parameters.layer
    if layer >= cfg.n_layers:
        raise UserError(f"steering.layer: the model's layers are 0..{cfg.n_layers - 1}")
    tokens, hook = Tokens(parameters.tokens), residual(layer)
    original, edited = (
        side.activations({hook})[hook][side.where(tokens)]
        for side in (moment.original, moment.edited)
    )
    name = f"before L{layer}, {tokens.value.replace('_', ' ')}"
    vector = original.mean(0) - edited.mean(0)
    return ActivationEdit(name, hook, tokens, vector=vector), float(original.norm(dim=-1).mean())
