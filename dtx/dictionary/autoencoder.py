"""A dictionary of features: how it encodes and decodes, and how it is put into a model.

Letters: n any leading axes, d activation, f feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.dt.edits import Edit, depends_on

if TYPE_CHECKING:
    from dtx.dt.model import DecisionTransformerModel

ARCHITECTURES = {
    "standard": ("b_enc",),
    "topk": ("b_enc",),
    "jumprelu": ("b_enc", "threshold"),
    "gated": ("b_gate", "b_mag", "r_mag"),
}
"""Tensors (f,) of each beside ``W_enc``, ``W_dec`` and ``b_dec``."""


@dataclass(frozen=True)
class SparseAutoencoder:
    """A dictionary of features of one activation.

    Attributes:
        architecture: One of :data:`ARCHITECTURES`.
        weights: ``W_enc`` (d, f), ``W_dec`` (f, d), ``b_dec`` (d,) and the architecture's vectors (f,).
        hook_name: The activation: ``blocks.1.hook_resid_post``. Heads of ``hook_z`` are one vector.
        apply_b_dec_to_input: Whether ``b_dec`` is taken from the input before encoding.
        normalize_activations: ``none`` or ``layer_norm``: each input is standardised, each output set back.
        k: Features that are on, of topk.
        rescale_acts_by_decoder_norm: Of topk: as if ``W_dec`` had unit rows.
        metadata: Further values that SAELens keeps: versions, training data.
    """

    architecture: str
    weights: dict[str, Tensor]
    hook_name: str
    apply_b_dec_to_input: bool = True
    normalize_activations: str = "none"
    k: int | None = None
    rescale_acts_by_decoder_norm: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)

    def encode(self, x_nd: Tensor) -> Tensor:
        """Features (n, f) of activations (n, d)."""
        w = self.weights
        x_nd = self._normalised(x_nd)[0]
        centred_nd = x_nd - w["b_dec"] if self.apply_b_dec_to_input else x_nd
        product_nf = centred_nd @ w["W_enc"]
        if self.architecture == "gated":
            magnitude_nf = F.relu(centred_nd @ (w["W_enc"] * w["r_mag"].exp()) + w["b_mag"])
            return magnitude_nf * (product_nf + w["b_gate"] > 0)
        before_nf = product_nf + w["b_enc"]
        if self.architecture == "jumprelu":
            return F.relu(before_nf) * (before_nf > w["threshold"])
        if self.architecture == "topk":
            if self.rescale_acts_by_decoder_norm:
                before_nf = before_nf * w["W_dec"].norm(dim=-1)
            assert self.k is not None
            values, index = before_nf.topk(self.k, dim=-1)
            return torch.zeros_like(before_nf).scatter(-1, index, F.relu(values))
        return F.relu(before_nf)

    def decode(self, features_nf: Tensor, like_nd: Tensor | None = None) -> Tensor:
        """Activations (n, d) of features; ``like_nd``, the input, is needed to undo a normalisation."""
        w = self.weights
        if self.rescale_acts_by_decoder_norm:
            features_nf = features_nf / w["W_dec"].norm(dim=-1)
        out_nd = features_nf @ w["W_dec"] + w["b_dec"]
        if self.normalize_activations == "none":
            return out_nd
        if like_nd is None:
            raise ValueError("a normalising dictionary decodes in the scale of its input: give it")
        _, mean, deviation = self._normalised(like_nd)
        return out_nd * deviation + mean

    def reconstruct(self, x_nd: Tensor) -> Tensor:
        """Encode and decode."""
        return self.decode(self.encode(x_nd), x_nd)

    def _normalised(self, x_nd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, deviation = x_nd.new_zeros(()), x_nd.new_ones(())
        if self.normalize_activations == "layer_norm":
            mean = x_nd.mean(-1, keepdim=True)
            deviation = (x_nd - mean).std(-1, keepdim=True)
            return (x_nd - mean) / (deviation + 1e-5), mean, deviation
        return x_nd, mean, deviation

    @contextmanager
    def spliced(
        self,
        model: DecisionTransformerModel,
        error_term: bool = True,
        edit: Callable[[Tensor], Tensor | None] | None = None,
    ) -> Iterator[None]:
        """Replace an activation of the model by its reconstruction in the block.

        Args:
            model: With the error term and without an edit its logits change by rounding only.
            error_term: Add the reconstruction error.
            edit: A function of the features (n, f) that returns edited ones, or edits those in place. A
                :class:`dtx.dt.edits.Edit` says what it depends on; rollouts are fastest with
                ``Depends.token``, as they are without an edit.

        Raises:
            UserError: The model computes no such activation.
        """

        def replace(x: Tensor, hook: Any) -> Tensor:
            flat_nd = x.flatten(-2) if self.hook_name.endswith("hook_z") else x
            features = self.encode(flat_nd)
            edited = features
            if edit is not None:
                edited = features.clone()  # in place, the error term would take the edit back
                returned = edit(edited)
                edited = edited if returned is None else returned
            out = self.decode(edited, flat_nd)
            if error_term:
                out = out + (flat_nd - self.decode(features, flat_nd))
            return out.reshape(x.shape)

        with model.hooks(fwd_hooks=[(self.hook_name, Edit(replace, depends_on(edit)))]):
            yield
