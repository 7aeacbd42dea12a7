"""What a feature's direction adds to the logits by itself.

Letters: f feature, d residual stream, a action, w width of the activation.
"""

from __future__ import annotations

import re

import numpy as np
import torch

from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.forward import blocks_of
from dtx.dt.processing import EXACT, processed

_STREAM = re.compile(
    r"(blocks\.\d+\.)?hook_(resid_(pre|mid|post)|attn_out|mlp_out|embed|pos_embed)"
)
_PART = re.compile(r"blocks\.(\d+)\.(attn\.hook_z|mlp\.hook_post)")


@torch.no_grad()
def direct_effects(sae: SparseAutoencoder, model: DecisionTransformerModel) -> np.ndarray | None:
    """(f, a): logits per unit of activation along the direct path, less their mean over actions.

    The decoder's direction goes through the unembedding with the final LayerNorm folded in, so up to that
    LayerNorm's scale; what later layers make of it is not in it. None: the hook writes nowhere directly
    (queries, keys, normalised streams).
    """
    folded = processed(model, EXACT, torch.float64)
    decoder_fw = sae.weights["W_dec"].double()
    part = _PART.fullmatch(sae.hook_name)
    if part is not None:
        block = list(blocks_of(folded))[int(part[1])]
        out_wd = block.attn.W_O.flatten(0, 1) if part[2] == "attn.hook_z" else block.mlp.W_out
        decoder_fw = decoder_fw @ out_wd
    elif not _STREAM.fullmatch(sae.hook_name):
        return None
    effect_fa = decoder_fw @ folded.W_U
    return (effect_fa - effect_fa.mean(1, keepdim=True)).numpy()
