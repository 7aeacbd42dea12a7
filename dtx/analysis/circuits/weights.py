"""What the weights of heads say without any input: composition, singular values, how much a head writes.

Letters: l layer, h, s, t head, d model, e, f head width. Weights are folded and centred, in float64.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.core.channels import cell_names
from dtx.dt.forward import blocks_of
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.names import head_name
from dtx.env.actions import Action


@torch.no_grad()
def written(model: DecisionTransformerModel) -> Tensor:
    """(l, h) norms of the heads' OV circuits in units of their mean; 0 if none writes anything."""
    size_lh = torch.stack([_size(b.attn.W_V, b.attn.W_O.mT) for b in blocks_of(model)])
    return size_lh / size_lh.mean().clamp(min=1e-300)


@torch.no_grad()
def composition(model: DecisionTransformerModel) -> pd.DataFrame:
    """How much of what a head writes, a later head's query, key or value reads (Elhage et al., 2021).

    The Frobenius norm of the product of the two circuits over the product of their norms. Both are of low
    rank, so that the norms are those of small matrices: |A M B'|^2 = tr(A'A M B'B M').
    """
    written_lh, rows = written(model), []
    blocks = list(blocks_of(model))
    for source, of in enumerate(blocks):
        size_s = _size(of.attn.W_V, of.attn.W_O.mT)
        for target in range(source + 1, len(blocks)):
            w = blocks[target].attn
            readers = {"Q": (w.W_Q, w.W_K), "K": (w.W_K, w.W_Q), "V": (w.W_V, w.W_O.mT)}
            for kind, (near_tde, far_tde) in readers.items():
                middle_stee = torch.einsum("sed,tdf->stef", of.attn.W_O, near_tde)
                left_see, right_tee = _gram(of.attn.W_V), _gram(far_tde)
                both = (left_see[:, None] @ middle_stee) * (middle_stee @ right_tee[None])
                size_st = size_s[:, None] * _size(near_tde, far_tde)[None]
                score_st = both.sum((-1, -2)).clamp(min=0).sqrt() / size_st.clamp(min=1e-300)
                for s, t in np.ndindex(*score_st.shape):
                    score = float(score_st[s, t]) if size_st[s, t] > 0 else 0.0
                    share = float(written_lh[source, s])
                    rows.append((kind, _head((source, s)), _head((target, t)), score, share))
    return pd.DataFrame(rows, columns=["kind", "source", "target", "score", "written"])


def _size(one_hde: Tensor, other_hde: Tensor) -> Tensor:
    """(h,) Frobenius norms of products A B' of matrices (d, e)."""
    product_h = (_gram(one_hde) * _gram(other_hde)).sum((-1, -2))
    return product_h.clamp(min=0).sqrt()


def _gram(matrix_hde: Tensor) -> Tensor:
    """(h, e, e) products A'A."""
    return matrix_hde.mT @ matrix_hde


def _head(place: tuple[int, int]) -> str:
    return head_name(*place)


@torch.no_grad()
def singular(model: DecisionTransformerModel) -> pd.DataFrame:
    """Singular values of each head's QK and OV matrix."""
    rows = []
    for layer, block in enumerate(blocks_of(model)):
        w = block.attn
        circuits = {
            "QK": torch.einsum("hde,hfe->hdf", w.W_Q, w.W_K),
            "OV": torch.einsum("hde,hef->hdf", w.W_V, w.W_O),
        }
        for circuit, matrix_hdd in circuits.items():
            value_hr = torch.linalg.svdvals(matrix_hdd)[:, : model.cfg.d_head]
            for head, value_r in enumerate(value_hr.tolist()):
                rows += [(circuit, layer, head, rank, value) for rank, value in enumerate(value_r)]
    return pd.DataFrame(rows, columns=["circuit", "layer", "head", "rank", "value"])


@torch.no_grad()
def ov(model: DecisionTransformerModel, seen: np.ndarray) -> pd.DataFrame:
    """What attending to a token writes to the logits, through each head alone, before any scale."""
    embed, tables = model.embed, []
    names = np.array(cell_names())[seen].tolist()
    content = [embed.W_S[torch.from_numpy(seen)], embed.W_A[: model.cfg.n_actions]]
    names += [f"action {_action(a)}" for a in range(model.cfg.n_actions)]
    if embed.W_R is not None:
        content.append(embed.W_R)
        names.append("reward-to-go, per unit")
    token_xd = torch.cat(content)
    for layer, block in enumerate(blocks_of(model)):
        read_hxe = torch.einsum("xd,hde->hxe", token_xd, block.attn.W_V)
        value_hxa = read_hxe @ block.attn.W_O @ model.unembed.W_U
        h, x, a = np.indices(value_hxa.shape).reshape(3, -1)
        tables.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "head": h,
                    "token": np.array(names)[x],
                    "action": np.array([_action(i) for i in range(model.cfg.n_actions)])[a],
                    "value": value_hxa.flatten().numpy(),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _action(number: int) -> str:
    known = list(Action)
    return known[number].value if number < len(known) else str(number)
