"""TransformerLens compatibility methods.

With these methods ``ActivationCache`` (``logit_attrs``, ``get_full_resid_decomposition``, ...), the
``get_act_patch_*`` functions and ``SVDInterpreter`` take a Decision Transformer as they take a language
model: windows stand in the place of tokens, actions in the place of the words that are predicted.

Letters: b window, n token, d model, a action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dtx.env.actions import ACTIONS
from dtx.errors import UserError

if TYPE_CHECKING:
    from dtx.dt.model_config import ModelConfig


class TransformerLensMethods:
    """A part of :class:`dtx.dt.model.DecisionTransformerModel`."""

    cfg: ModelConfig
    blocks: Any
    ln_final: Any
    unembed: Any
    switch: Callable[[str, bool], None]

    def to_single_token(self, action: str) -> int:
        """The number of an action: ``model.to_single_token("left")``.

        Raises:
            UserError: The model knows no such action.
        """
        known = ACTIONS[: self.cfg.n_actions]
        if action not in known:
            raise UserError(f"no action {action!r}; the model's are {', '.join(known)}")
        return known.index(action)

    def tokens_to_residual_directions(self, actions: str | int | Sequence[int] | Tensor) -> Tensor:
        """The direction (..., d) of the normalised residual stream that adds to an action's logit.

        The last LayerNorm's scale is in it, so that attributions are right with folded and with trained
        weights. They add up to the logit but for :meth:`logit_bias`.

        Args:
            actions: A name or a number, or numbers of any shape.
        """
        if isinstance(actions, str):
            actions = self.to_single_token(actions)
        direction_ad = self.unembed.W_U.T
        if self.cfg.normalization_type is not None:
            direction_ad = direction_ad * self.ln_final.w
        return direction_ad[torch.as_tensor(actions, device=direction_ad.device)]

    def logit_bias(self) -> Tensor:
        """(a,): the part of the logits that no activation explains."""
        bias_a = self.unembed.b_U
        if self.cfg.normalization_type is None:
            return bias_a
        return bias_a + self.ln_final.b @ self.unembed.W_U

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Tensor:
        """The sum (d,) of the output biases of the blocks before ``layer``.

        Args:
            layer: 0 to ``n_layers``.
            mlp_input: Also of the attention of block ``layer``.
            include_mlp_biases: Of MLPs as well as of attention.
        """
        total_d = torch.zeros_like(self.blocks[0].attn.b_O)
        for i in range(layer):
            total_d = total_d + self.blocks[i].attn.b_O
            if include_mlp_biases:
                total_d = total_d + self.blocks[i].mlp.b_out
        return total_d + self.blocks[layer].attn.b_O if mlp_input else total_d

    def set_use_attn_result(self, use: bool) -> None:
        """Compute every head's output by itself (``hook_result``)."""
        self.switch("use_attn_result", use)

    def set_use_split_qkv_input(self, use: bool) -> None:
        """Give every head inputs of its own (``hook_q_input``, ``hook_k_input``, ``hook_v_input``)."""
        self.switch("use_split_qkv_input", use)

    def set_use_hook_mlp_in(self, use: bool) -> None:
        """Give MLPs an input of their own (``hook_mlp_in``)."""
        self.switch("use_hook_mlp_in", use)
