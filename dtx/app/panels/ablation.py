"""What the logit difference becomes without a head, an attention or an MLP: what each is needed for here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from dtx.analysis.ablation.nodes import nodes_of
from dtx.analysis.ablation.spec import AblatedTokens, AblationMethod, AblationSpec
from dtx.analysis.ablation.sweep import Ablations
from dtx.analysis.core.inputs import Contrast
from dtx.analysis.core.windows import join
from dtx.app.moment import Moment
from dtx.app.panels import IDLE, WORLD, choice, number
from dtx.env.actions import ACTIONS, Action

TITLE = "Ablation"
WHEN = IDLE
NEEDS = (WORLD,)
CONTROL = (
    "The median of the other nodes of its kind; with `directions` also pushes in random directions, as large "
    "as what the ablation takes away, at the same place."
)
SOURCE = "dtx.analysis.ablation.sweep.Ablations"
DOC = "analyses.md#ablation"
FIRST = False
SIZE = "half"
AT_ONCE, SEED = 512, 0
TOLERANCE = 1e-3
"""As ``conf/analysis/ablation.yaml`` has it."""


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    tokens: str = choice(
        AblatedTokens.all.value, [each.value for each in AblatedTokens],
        "Where: at every token, or at the last state alone",
    )  # fmt: skip
    directions: int = number(
        0, 0, 50, "Random directions beside each node; each costs a run a node"
    )


def compute(moment: Moment, parameters: Parameters) -> dict[str, Any]:
    """Every node's output set to 0.

    Returns:
        ``nodes`` (p names), ``kinds`` (head, attention, mlp); of each side ``ld`` of the whole model,
        ``ablated``: LD without the node (p,), ``change`` of LD (p,), ``kl`` (p,) from the whole policy in
        nats, ``flip`` (p,) whether the best action is another one, ``random`` (p,): root mean square of the
        change by random directions; None without them.
    """
    positive, negative = (Action(ACTIONS[number]) for number in moment.contrast)
    spec = AblationSpec(
        contrast=Contrast(pos=positive, neg=negative),
        methods=(AblationMethod.zero,),
        tokens=AblatedTokens(parameters.tokens),
        neurons=(),
        silent=(),
        reference=2,
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
        ablations = Ablations(spec, moment.model, context, frame, nodes, None, False)
        found = _by_node(ablations)
        random = _random(ablations) if parameters.directions else None
        logits_ba = torch.stack([side.logits for side in sides]).double()
        error = float((ablations.ablator.logits_ba - logits_ba).abs().max())
    data: dict[str, Any] = {
        "nodes": [node.name for node in nodes],
        "kinds": [node.kind for node in nodes],
        "method": AblationMethod.zero.value,
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


def _by_node(ablations: Ablations) -> dict[str, np.ndarray]:
    """``change`` of LD towards the choice, ``kl`` and ``flip``: (p, b), nodes in their order."""
    place = {node.name: i for i, node in enumerate(ablations.nodes)}
    shape = (len(place), len(ablations.frame))
    found = {name: np.zeros(shape) for name in ("change", "kl", "flip")}
    for nodes, compared in ablations.compared(AblationMethod.zero):
        rows = [place[node.name] for node in nodes]
        for name, value in found.items():
            value[rows] = compared[name][..., 0].numpy()
    return found


def _random(ablations: Ablations) -> np.ndarray:
    """(p, b) root mean square of the change of LD by random directions."""
    table = ablations.random(AblationMethod.zero, list(ablations.nodes))
    square = table["change"].pow(2).groupby([table["name"], table["target"]]).mean().unstack()
    order = [f"{target:g}" for target in ablations.frame["target"]]
    return np.sqrt(square.loc[[node.name for node in ablations.nodes], order].to_numpy())
