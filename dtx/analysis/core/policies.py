"""How far policies are apart: entropy and Jensen-Shannon divergence, in nats.

Letters: r targets, y layouts, a actions.
"""

from __future__ import annotations

import numpy as np


def entropy(p: np.ndarray) -> np.ndarray:
    """In nats, over the last axis."""
    return -(p * np.log(np.maximum(p, 1e-300))).sum(-1)


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence in nats, over the last axis; 0 to ln 2."""
    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2


def centred(logits: np.ndarray) -> np.ndarray:
    """Logits minus their mean over actions, which the policy does not depend on."""
    return logits - logits.mean(-1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, over the last axis."""
    exponential = np.exp(logits - logits.max(-1, keepdims=True))
    return exponential / exponential.sum(-1, keepdims=True)


def unmoved(
    reads_it: bool, divergence: float, threshold: float, low: float, high: float
) -> str | None:
    """Why a claim about reward-to-go has no object in a model; None if it has one.

    Where the model decides as it would have without it, a statement on what reward-to-go does would be one
    on what it does by chance: a behaviour clone has none, and one trained on shuffled returns ignores it.

    Args:
        reads_it: The model has reward-to-go tokens.
        divergence: Of its policies at the decision between the targets ``low`` and ``high``.
        threshold: From which it counts as changing the decision.
    """
    if not reads_it:
        return "the model has no reward-to-go"
    if divergence < threshold:
        return (
            f"reward-to-go does not change the decision: {low:g} and {high:g} are {divergence:.3f} "
            f"nats apart there, under {threshold:g}"
        )
    return None
