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
from dtx.app.moment import Moment, Side
from dtx.app.panels import IDLE, choice, number
from dtx.env.actions import ACTIONS, Action

TITLE = "Ablation"
WHEN = IDLE
NEEDS = ()
CONTROL = (
    "Pushes in random directions as large as what the ablation takes away, at the same place: their root "
    "mean square beside each bar."
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
    directions: int = number(4, 1, 50, "Random directions beside each node")


def compute(moment: Moment, parameters: Parameters) -> dict[str, Any]:
    """Every node's output set to 0.

    Returns:
        ``nodes`` (p names), ``kinds`` (head, attention, mlp); of each side ``ld`` of the whole model,
        ``ablated``: LD without the node (p,), ``change`` of LD (p,), ``kl`` (p,) from the whole policy in
        nats, ``flip`` (p,) whether the best action is another one, ``random`` (p,): root mean square of the
        change by random directions.
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
    data: dict[str, Any] = {
        "nodes": [node.name for node in nodes],
        "kinds": [node.kind for node in nodes],
        "method": AblationMethod.zero.value,
        "tokens": parameters.tokens,
        "edited": None,
    }
    errors = []
    for name, side in moment.sides.items():
        data[name], error = _side(moment, spec, side)
        errors.append(error)
    error = max(errors)
    return data | {
        "check": {
            "name": "the whole model's logits are those of the page",
            "error": error,
            "tolerance": TOLERANCE,
            "holds": error <= TOLERANCE,
        }
    }


@torch.inference_mode()
def _side(moment: Moment, spec: AblationSpec, side: Side) -> tuple[dict[str, Any], float]:
    nodes = nodes_of(moment.model, ())
    frame = pd.DataFrame({"window": [0], "layout": [""], "target": [np.nan]})
    ablations = Ablations(spec, moment.model, side.context, frame, nodes, None, False)
    sign, ld = float(ablations.choice.sign_b[0]), float(ablations.ld_b[0])
    tables = [table for table, _ in ablations.ablated(AblationMethod.zero)]
    table = pd.concat(tables).set_index("name").loc[[node.name for node in nodes]]
    random = ablations.random(AblationMethod.zero, nodes)
    squares = random["change"].pow(2).groupby(random["name"]).mean()
    change = sign * table["change"].to_numpy()
    error = float((ablations.ablator.logits_ba[0] - side.logits.double()).abs().max())
    return {
        "ld": ld,
        "ablated": ld + change,
        "change": change,
        "kl": table["kl"].to_numpy(),
        "flip": table["flip"].to_numpy() > 0,
        "random": np.sqrt(squares.loc[table.index].to_numpy()),
    }, error
