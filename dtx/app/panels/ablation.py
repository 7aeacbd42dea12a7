"""What the logit difference becomes without a head, an attention or an MLP: what each is needed for here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch

from dtx.analysis.ablation.data import Data, data_of
from dtx.analysis.ablation.nodes import nodes_of
from dtx.analysis.ablation.spec import AblatedTokens, AblationMethod, AblationSpec
from dtx.analysis.ablation.sweep import Ablations
from dtx.analysis.core.inputs import Contrast
from dtx.analysis.core.windows import beginnings, demonstrated, join, missing_steps
from dtx.app.moment import Moment
from dtx.app.panels import IDLE, WORLD, choice, number
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.env.actions import ACTIONS, Action
from dtx.errors import UserError

TITLE = "Ablation"
WHEN = IDLE
NEEDS = (WORLD,)
CONTROL = (
    "The median of the other nodes of its kind; with `directions` also pushes in random directions, as large "
    "as what the ablation takes away, at the same place."
)
SOURCE = "dtx.analysis.ablation.sweep.Ablations"
DOC = "gallery.md#ablation"
FIRST = False
SIZE = "half"
AT_ONCE, SEED, REFERENCE = 512, 0, 256
"""As ``conf/analysis/ablation.yaml`` has them."""
KEPT = 8
"""Lengths of windows whose means are kept, of each model."""
_KNOWN: WeakKeyDictionary[DecisionTransformerModel, dict[Any, Data]] = WeakKeyDictionary()
TOLERANCE = 1e-3
"""As ``conf/analysis/ablation.yaml`` has it."""


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    method: str = choice(
        AblationMethod.zero.value, (AblationMethod.zero.value, AblationMethod.mean.value),
        "What an output becomes: 0, or its mean over 256 windows of the training episodes, token by token",
    )  # fmt: skip
    tokens: str = choice(
        AblatedTokens.all.value, [each.value for each in AblatedTokens],
        "Where: at every token, or at the last state alone",
    )  # fmt: skip
    directions: int = number(
        0, 0, 50, "Random directions beside each node; each costs a run a node"
    )


def compute(moment: Moment, parameters: Parameters) -> dict[str, Any]:
    """Every node's output set to 0, or to its mean.

    Returns:
        ``nodes`` (p names), ``kinds`` (head, attention, mlp); of each side ``ld`` of the whole model,
        ``ablated``: LD without the node (p,), ``change`` of LD (p,), ``kl`` (p,) from the whole policy in
        nats, ``flip`` (p,) whether the best action is another one, ``random`` (p,): root mean square of the
        change by random directions; None without them.

    Raises:
        UserError: There are no training episodes here that means could be taken of.
    """
    method = AblationMethod(parameters.method)
    positive, negative = (Action(ACTIONS[number]) for number in moment.contrast)
    spec = AblationSpec(
        contrast=Contrast(pos=positive, neg=negative),
        methods=(method,),
        tokens=AblatedTokens(parameters.tokens),
        neurons=(),
        silent=(),
        reference=REFERENCE,
        donors=1,
        random_directions=parameters.directions,
        shown=1,
        min_ld_gap=moment.place.declared.gap,
        min_effect=0.0,
        tolerance=TOLERANCE,
        seed=SEED,
        at_once=AT_ONCE,
    )
    nodes = nodes_of(moment.model, ())
    sides = list(moment.sides.values())
    context = join([side.context for side in sides])
    names = [side.name for side in sides]
    frame = pd.DataFrame({"window": names, "layout": names, "target": np.arange(len(sides))})
    with torch.inference_mode():
        data_windows = _reference(moment, spec, context) if method is AblationMethod.mean else None
        ablations = Ablations(spec, moment.model, context, frame, nodes, data_windows, False)
        found = _by_node(ablations, method)
        random = _random(ablations, method) if parameters.directions else None
        logits_ba = torch.stack([side.logits for side in sides]).double()
        error = float((ablations.ablator.logits_ba - logits_ba).abs().max())
    data: dict[str, Any] = {
        "nodes": [node.name for node in nodes],
        "kinds": [node.kind for node in nodes],
        "method": method.value,
        "tokens": parameters.tokens,
        "edited": None,
        "check": {
            "name": "the whole model's logits are those of the page",
            "error": error,
            "tolerance": TOLERANCE,
            "holds": error <= TOLERANCE,
        },
    }
    for row, name in enumerate(names):
        ld = float(ablations.ld_b[row])
        change = found["change"][:, row] * ablations.choice.sign_b[row]
        data[name] = {
            "ld": ld,
            "ablated": ld + change,
            "change": change,
            "kl": found["kl"][:, row],
            "flip": found["flip"][:, row] > 0,
            "random": None if random is None else random[:, row],
        }
    return data


def _reference(moment: Moment, spec: AblationSpec, context: Context) -> Data:
    """Activations in windows of the training episodes, as the stage takes them; kept by model and length."""
    known = _KNOWN.setdefault(moment.model, {})
    if context.shape not in known:
        episodes = None if moment.data is None else moment.data.episodes
        if episodes is None:
            raise UserError(
                "ablation: the model's training episodes are not here; choose method zero"
            )
        cfg, seed = moment.cfg, spec.seed + 1
        if moment.environment.decision is None:
            windows = demonstrated(episodes, cfg, spec.reference, seed)[0]
        else:
            steps = context["timestep"].shape[1] - int(missing_steps(context, cfg)[0])
            windows = beginnings(episodes, cfg, steps, spec.reference, seed)[0]
        known[context.shape] = _means(data_of(spec, moment.model, context, windows))
        if len(known) > KEPT:
            known.pop(next(iter(known)))
    return known[context.shape]


def _means(data: Data) -> Data:
    """The means alone, as if they were the one window of data; the activations take a hundred megabytes."""
    cache = {
        name: data.mean(name)[None] for name in data.cache if not name.endswith("mlp.hook_post")
    }
    n = len(data.mean_nqm)
    none = torch.zeros(0, 0, n, dtype=torch.long)
    return Data(cache, none, none, torch.eye(n)[:, None], data.context[:0], data.aligned)


def _by_node(ablations: Ablations, method: AblationMethod) -> dict[str, np.ndarray]:
    """``change`` of LD towards the choice, ``kl`` and ``flip``: (p, b), nodes in their order."""
    place = {node.name: i for i, node in enumerate(ablations.nodes)}
    shape = (len(place), len(ablations.frame))
    found = {name: np.zeros(shape) for name in ("change", "kl", "flip")}
    for nodes, compared in ablations.compared(method):
        rows = [place[node.name] for node in nodes]
        for name, value in found.items():
            value[rows] = compared[name][..., 0].numpy()
    return found


def _random(ablations: Ablations, method: AblationMethod) -> np.ndarray:
    """(p, b) root mean square of the change of LD by random directions."""
    table = ablations.random(method, list(ablations.nodes))
    square = table["change"].pow(2).groupby([table["name"], table["target"]]).mean().unstack()
    order = [f"{target:g}" for target in ablations.frame["target"]]
    return np.sqrt(square.loc[[node.name for node in ablations.nodes], order].to_numpy())
