"""Which channels of the view the embedding tells apart: cosines and principal components on the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dtx.analysis.core.controls import STRONGEST
from dtx.analysis.embeddings.compute import (
    FEWEST,
    TOLERANCE,
    antipodal,
    clustered,
    gaussian_count,
    principal,
    relabelling_error,
)
from dtx.app.moment import Moment, folded
from dtx.app.panels import ONCE, WORLD, choice, number
from dtx.app.weights import ALL, CHOICES, check, chosen, described, taught
from dtx.errors import UserError

TITLE = "State embeddings"
WHEN = ONCE
NEEDS = (WORLD,)
CONTROL = (
    "Random channels, as many: 95% of them have components with less than what stands in brackets. Pairs of "
    "opposite directions: those of Gaussian tables of the same shape."
)
SOURCE = "dtx.analysis.embeddings.compute.principal"
DOC = "gallery.md#embeddings"
FIRST = False
SIZE = "wide"
OPPOSITE, DRAWS, SEED, COMPONENTS = -0.5, 20, 0, 6
"""Cosine below which directions count as opposite, as ``conf/analysis/embeddings.yaml`` has it; controls."""
SIMILAR, KIND, CELL = ORDERS = ("similar", "channel", "cell")


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    channels: str = choice(ALL, CHOICES, "Which channels of the view")
    order: str = choice(SIMILAR, ORDERS, "Order in the map of cosines: similar ones together, ...")
    component: int = number(1, 1, COMPONENTS, "Principal component that is drawn on the grid")


def compute(moment: Moment, parameters: Parameters) -> dict[str, Any]:
    """Of i channels of the view: cosines and principal components of their embeddings.

    Returns:
        ``channel``, ``column``, ``row`` (i each) in the order drawn, ``cosine`` (i, i), ``share`` (k) of the
        components, ``random_95`` (2): of PC1 and of PC1+2 in random channels, null of all channels,
        ``projection`` (i, k), ``component`` from 1, ``antipodal``: pairs, of, random_95.

    Raises:
        UserError: The encoder is convolutional, or too few channels are asked for.
    """
    channel_c = taught(moment)
    embedding_cd = folded(moment.model).folded.embed.W_S.numpy()[channel_c]
    place_i = chosen(channel_c, parameters.channels)
    if len(place_i) < FEWEST:
        raise UserError(f"channels: {parameters.channels} are {len(place_i)}, too few to compare")
    embedding_id, channel_i = embedding_cd[place_i], channel_c[place_i]
    rng = np.random.default_rng(SEED)
    cosine_ij, pairs, count = antipodal(embedding_id, channel_i, OPPOSITE)
    chance = [gaussian_count(embedding_id, channel_i, OPPOSITE, rng) for _ in range(DRAWS)]
    share_k, projection_ik = principal(embedding_id)
    error = relabelling_error(embedding_id, channel_i, OPPOSITE, rng)
    order_i = _order(parameters.order, cosine_ij, channel_i)
    return {
        **described(channel_i[order_i]),
        "cosine": cosine_ij[np.ix_(order_i, order_i)],
        "share": share_k[:COMPONENTS],
        "random_95": _random_shares(embedding_cd, len(place_i), rng),
        "projection": projection_ik[order_i, :COMPONENTS],
        "component": min(parameters.component, projection_ik.shape[1]),
        "antipodal": {
            "pairs": count,
            "of": len(pairs),
            "random_95": float(np.quantile(chance, STRONGEST)),
        },
        "check": check("relabelled channels give the same cosines and shares", error, TOLERANCE),
    }


def _order(word: str, cosine_ij: np.ndarray, channel_i: np.ndarray) -> np.ndarray:
    if word == SIMILAR:
        return clustered(cosine_ij)
    return np.argsort(channel_i if word == KIND else channel_i % 49, kind="stable")


def _random_shares(
    embedding_cd: np.ndarray, count: int, rng: np.random.Generator
) -> list[float] | None:
    """95% of random choices of so many channels have less in PC1, and in PC1+2; None where all are chosen."""
    if count == len(embedding_cd):
        return None
    shares = [
        principal(embedding_cd[rng.choice(len(embedding_cd), count, replace=False)])[0]
        for _ in range(DRAWS)
    ]
    return [float(np.quantile([each[:k].sum() for each in shares], STRONGEST)) for k in (1, 2)]
