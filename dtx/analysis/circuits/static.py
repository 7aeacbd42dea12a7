"""More of what the weights of heads say without any input: kinds of tokens, singular vectors, distributions.

Letters: l layer, h head, k kind of a key, q of a query, x content, d model, e head width, c channel of the
flattened view, a action, r rank. Weights are folded and centred, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.dt.forward import blocks_of
from dtx.dt.layers import EPSILON
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.tokens import ACTION, REWARD_TO_GO, STATE
from dtx.env.encoding import flat_one_hot


@torch.no_grad()
def contents(
    model: DecisionTransformerModel, observations: np.ndarray, rewards_to_go: Sequence[float]
) -> dict[str, Tensor]:
    """What tokens of each kind hold, (x, d) by kind: without time and position.

    Args:
        model: Any.
        observations: (u, 7, 7, 3) uint8, one state each.
        rewards_to_go: Values, one R token each; a model that reads none has no such kind.
    """
    embed = model.embed
    one_hot = flat_one_hot(torch.from_numpy(np.ascontiguousarray(observations)))
    found = {}
    if embed.W_R is not None:
        found[REWARD_TO_GO] = (
            torch.tensor(rewards_to_go, dtype=embed.W_R.dtype)[:, None] * embed.W_R
        )
    found[STATE] = embed.state(one_hot.to(embed.W_A.dtype))
    found[ACTION] = embed.W_A[: model.cfg.n_actions]
    return found


@torch.no_grad()
def scores_by_kind(model: DecisionTransformerModel, content: Mapping[str, Tensor]) -> Tensor:
    """(l, h, q, k) how much more a query of one kind scores a key of another than keys of all kinds.

    Mean score of the contents alone, each normalised by itself as a layer would see it if nothing else were
    in the stream, less the mean over the kinds of keys: what of it softmax can tell apart.
    """
    mean_kd = torch.stack([_normalised(model, each).mean(0) for each in content.values()])
    scores = []
    for block in blocks_of(model):
        query, key = (
            torch.einsum("kd,hde->hke", mean_kd, weight) + bias[:, None]
            for weight, bias in (
                (block.attn.W_Q, block.attn.b_Q),
                (block.attn.W_K, block.attn.b_K),
            )
        )
        scores.append(query @ key.mT / math.sqrt(model.cfg.d_head))
    score_lhqk = torch.stack(scores)
    return score_lhqk - score_lhqk.mean(-1, keepdim=True)


@torch.no_grad()
def outputs_by_kind(model: DecisionTransformerModel, content: Mapping[str, Tensor]) -> Tensor:
    """(l, h, k, a) how much the logit differs between contents of a kind that a head attends to.

    The standard deviation over contents of what the head's OV circuit writes to each logit, less its mean
    over actions, before the final scale.
    """
    found = []
    for block in blocks_of(model):
        kinds = []
        for content_xd in content.values():
            read_hxe = torch.einsum("xd,hde->hxe", _normalised(model, content_xd), block.attn.W_V)
            logit_hxa = read_hxe @ (block.attn.W_O @ model.unembed.W_U)
            logit_hxa = logit_hxa - logit_hxa.mean(-1, keepdim=True)
            kinds.append(logit_hxa.std(1, unbiased=False))
        found.append(torch.stack(kinds, 1))
    return torch.stack(found)


def _normalised(model: DecisionTransformerModel, content_xd: Tensor) -> Tensor:
    """Contents as a folded LayerNorm gives them; as they are without one."""
    if model.cfg.normalization_type is None:
        return content_xd
    centred = content_xd - content_xd.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + EPSILON).sqrt()


@dataclass(frozen=True)
class Directions:
    """Singular vectors of a head's OV or QK matrix, as what they read and write.

    Attributes:
        value_r: Singular values. left_rd, right_rd: (r, d); OV reads left and writes right, QK compares a
            query along left with a key along right.
    """

    value_r: Tensor
    left_rd: Tensor
    right_rd: Tensor


@torch.no_grad()
def directions(model: DecisionTransformerModel, circuit: str, layer: int, head: int) -> Directions:
    """The singular value decomposition of one head's ``QK`` or ``OV`` matrix, largest values first.

    A pair of vectors may be turned round together; here the largest entry of the right one is positive.
    """
    w = blocks_of(model)[layer].attn
    pairs = {"QK": (w.W_Q, w.W_K.mT), "OV": (w.W_V, w.W_O)}
    reading_hde, writing_hed = pairs[circuit]
    # Of rank e: the decomposition of a product of (d, e) by (e, d) is that of the small matrix between.
    q_de, r_ee = torch.linalg.qr(reading_hde[head])
    p_de, s_ee = torch.linalg.qr(writing_hed[head].mT)
    left_er, value_r, right_re = torch.linalg.svd(r_ee @ s_ee.mT)
    left_rd, right_rd = (q_de @ left_er).mT, right_re @ p_de.mT
    at = right_rd.abs().argmax(1, keepdim=True)
    sign_r1 = right_rd.gather(1, at).sign()
    return Directions(value_r, left_rd * sign_r1, right_rd * sign_r1)


def distributions(model: DecisionTransformerModel) -> pd.DataFrame:
    """One row a parameter: name, numbers, mean, spread, least, most, norm."""
    rows = []
    for name, parameter in model.named_parameters():
        value = parameter.detach().double()
        spread = float(value.std(correction=0))
        least, most = float(value.min()), float(value.max())
        rows.append(
            (name, value.numel(), float(value.mean()), spread, least, most, float(value.norm()))
        )
    return pd.DataFrame(
        rows, columns=["name", "numbers", "mean", "spread", "least", "most", "norm"]
    )
