"""What a model in training would choose at the decision of its task."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import decision_contexts
from dtx.env.decision import Decision


def decision_probe(
    decision: Decision | None, network: DecisionTransformerModel
) -> Callable[[], dict[str, float]]:
    """A function that measures what is chosen at the decision square, mean over layouts.

    At reward-to-go 0 and .9: probabilities of the turns to the goal and away from it. It computes
    8 short contexts, made once. Without a decision it gives nothing.
    """
    if decision is None:
        return dict
    targets = {"low": 0.0, "high": 0.9}
    contexts = decision_contexts(network, decision, list(targets.values()))
    layouts = np.arange(len(decision.layouts))
    right, wrong = decision.turns(layouts)
    turns = {"right_turn": right, "wrong_turn": wrong}

    @torch.no_grad()
    def probe() -> dict[str, float]:
        shares = {}
        for name, context in zip(targets, contexts, strict=True):
            logits = network.last_logits(context.to(network.unembed.b_U.device))
            chances = logits.softmax(-1).cpu().numpy()
            for turn, actions in turns.items():
                shares[f"{turn}_at_{name}"] = float(chances[layouts, actions].mean())
        return shares

    return probe
