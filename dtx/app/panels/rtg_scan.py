"""What the model would do here if another return had been asked for: 21 values of reward-to-go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dtx.analysis.attention.patterns import total_variation
from dtx.app.moment import Moment, Side
from dtx.app.panels import KEY, REWARD_TO_GO, flag
from dtx.dt.context import Context

TITLE = "Reward-to-go scan"
WHEN = KEY
NEEDS = (REWARD_TO_GO,)
CONTROL = (
    "The edited run's scan; an edit of all reward-to-go changes nothing in it, for the scan sets that. "
    "Upright lines: what is asked now, and the lowest and highest return of the training data."
)
SOURCE = "dtx.dt.model.DecisionTransformerModel.forward"
DOC = "gallery.md#calibration"
FIRST = True
SIZE = "half"
VALUES = 21


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    attention: bool = flag(False, "Also how far every head's attention at the last state moves")


def compute(moment: Moment, parameters: Parameters) -> dict[str, Any]:
    """Logits (21, a), probabilities and LD of each side; with attention its total variation (21, l, h)."""
    values = scanned(moment)
    data: dict[str, Any] = {"values": values, "edited": None, "attention": None}
    for name, side in moment.sides.items():
        context = asked(side, values)
        logits, patterns = _logits(moment, context, parameters.attention)
        data[name] = {
            "logits": logits,
            "probabilities": logits.double().softmax(-1),
            "ld": moment.ld(logits),
        }
        if patterns is not None and name == "original":
            # Every query's, against the value nearest to what is asked; the last state's is shown.
            near = int(np.abs(values - float(side.run.rewards_to_go[0])).argmin())
            data["attention"] = {"variation": total_variation(patterns, near)[..., -1], "at": near}
    trained = moment.data
    data["trained"] = None if trained is None else trained.returns.about()
    return data


def scanned(moment: Moment) -> np.ndarray:
    """Values (21,) float32 of reward-to-go at the start: all of the training data's, and 0 to 1."""
    low, high = 0.0, 1.0
    if moment.data is not None:
        returns = moment.data.returns
        low, high = min(low, returns.lowest), max(high, returns.highest)
    return np.linspace(low, high, VALUES).astype(np.float32)


def asked(side: Side, values: np.ndarray) -> Context:
    """A run's window (21 rows) as it would be read if another return had been asked for at the start."""
    context = side.context
    shift = torch.from_numpy(values - side.run.rewards_to_go[0])
    many = context[np.zeros(len(values), np.int64)]
    many["reward_to_go"] = many["reward_to_go"] + shift[:, None]
    return many


def _logits(
    moment: Moment, context: Context, attention: bool
) -> tuple[torch.Tensor, np.ndarray | None]:
    with torch.no_grad():
        if not attention:
            return moment.model.last_logits(context), None
        names = [f"blocks.{i}.attn.hook_pattern" for i in range(moment.cfg.n_layers)]
        logits, cache = moment.model.run_with_cache(context, names_filter=names)
        return logits[:, -1], torch.stack([cache[name] for name in names], 1).numpy()
