"""A dictionary of features: how it encodes and decodes, and how it is put into a model.

An autoencoder gives back the activation that it reads; a transcoder gives another one, at the same token:
what an MLP gives of what it reads.

Letters: n any leading axes, d activation that is read, o activation that is given (an autoencoder's: d),
f feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.dt.edits import Depends, Edit, depends_on
from dtx.errors import UserError

if TYPE_CHECKING:
    from dtx.dt.model import DecisionTransformerModel

ARCHITECTURES = {
    "standard": ("b_enc",),
    "topk": ("b_enc",),
    "jumprelu": ("b_enc", "threshold"),
    "gated": ("b_gate", "b_mag", "r_mag"),
}
"""Tensors (f,) of autoencoders beside ``W_enc``, ``W_dec`` and ``b_dec``, by architecture."""
TRANSCODERS = {
    "transcoder": ("b_enc",),
    "skip_transcoder": ("b_enc",),
    "jumprelu_transcoder": ("b_enc", "threshold"),
    "jumprelu_skip_transcoder": ("b_enc", "threshold"),
}
"""The same of transcoders; those that skip have a linear map ``W_skip`` (o, d) beside the features."""


@dataclass(frozen=True)
class SparseAutoencoder:
    """A dictionary of features of one activation: an autoencoder, or a transcoder to another one.

    Attributes:
        architecture: One of :data:`ARCHITECTURES` or :data:`TRANSCODERS`.
        weights: ``W_enc`` (d, f), ``W_dec`` (f, o), ``b_dec`` (o,) and what the architecture has beside them.
        hook_name: The activation: ``blocks.1.hook_resid_post``. All heads of ``hook_z`` are one vector.
        hook_out: What a transcoder gives, ``blocks.1.hook_mlp_out``; empty: an autoencoder.
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
    hook_out: str = ""

    @property
    def writes(self) -> str:
        """The activation that it gives: a transcoder's ``hook_out``, an autoencoder's ``hook_name``."""
        return self.hook_out or self.hook_name

    @property
    def size(self) -> int:
        """How many features it has."""
        return self.weights["W_enc"].shape[1]

    @property
    def levels(self) -> tuple[int, ...]:
        """Numbers of features of which the first ones are a dictionary by themselves; of all others, all."""
        details = self.metadata.get("training_architecture_details")
        widths = details.get("matryoshka_widths") if isinstance(details, dict) else None
        return tuple(width for width in widths or () if width <= self.size) or (self.size,)

    def first(self, features: int) -> SparseAutoencoder:
        """The dictionary of the first features alone: a level of a matryoshka one.

        Raises:
            UserError: It has no such level.
        """
        if features not in self.levels:
            levels = ", ".join(map(str, self.levels))
            raise UserError(f"no level of {features} features; levels: {levels}")
        cut = {
            name: w[:, :features] if name == "W_enc" else w if name in WHOLE else w[:features]
            for name, w in self.weights.items()
        }
        return replace(self, weights=cut, k=None if self.k is None else min(self.k, features))

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
        if "threshold" in w:
            return F.relu(before_nf) * (before_nf > w["threshold"])
        if self.architecture == "topk":
            if self.rescale_acts_by_decoder_norm:
                before_nf = before_nf * w["W_dec"].norm(dim=-1)
            assert self.k is not None
            values, index = before_nf.topk(self.k, dim=-1)
            return torch.zeros_like(before_nf).scatter(-1, index, F.relu(values))
        return F.relu(before_nf)

    def decode(self, features_nf: Tensor, like_nd: Tensor | None = None) -> Tensor:
        """Activations (n, o) of features; some need the input ``like_nd``: they undo its scale, or skip."""
        w = self.weights
        if self.rescale_acts_by_decoder_norm:
            features_nf = features_nf / w["W_dec"].norm(dim=-1)
        out_no = features_nf @ w["W_dec"] + w["b_dec"]
        skip_od = w.get("W_skip")
        undo = self.normalize_activations != "none" and not self.hook_out
        if skip_od is None and not undo:
            return out_no
        if like_nd is None:
            raise ValueError(
                "a dictionary that skips or normalises decodes beside its input: give it"
            )
        if skip_od is not None:
            return (
                out_no + like_nd @ skip_od.T
            )  # as SAELens has it: of the input before it is scaled
        _, mean, deviation = self._normalised(like_nd)
        return out_no * deviation + mean

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
        """Replace an activation of the model by its reconstruction, or by a transcoder's, in the block.

        Args:
            model: With the error term and without an edit its logits change by rounding only.
            error_term: Add the reconstruction error.
            edit: A function of the features (n, f) that returns edited ones, or edits those in place. A
                :class:`dtx.dt.edits.Edit` says what it depends on; rollouts are fastest with
                ``Depends.token``, as they are without an edit.

        Raises:
            UserError: The model computes no such activation, or a transcoder's before what it reads.
        """
        read: list[Tensor] = []

        def keep(x: Tensor, hook: Any) -> None:
            read[:] = [_flat(x, self.hook_name)]

        def put(x: Tensor, hook: Any) -> Tensor:
            flat_no = flat_nd = _flat(x, self.writes)
            if self.hook_out:
                if not read:
                    raise UserError(f"{self.hook_out} is computed before {self.hook_name} is")
                flat_nd = read.pop()
            features = self.encode(flat_nd)
            edited = features
            if edit is not None:
                edited = features.clone()  # in place, the error term would take the edit back
                returned = edit(edited)
                edited = edited if returned is None else returned
            out = self.decode(edited, flat_nd)
            if error_term:
                out = out + (flat_no - self.decode(features, flat_nd))
            return out.reshape(x.shape)

        hooks = [(self.hook_name, Edit(keep, Depends.token))] if self.hook_out else []
        with model.hooks(fwd_hooks=[*hooks, (self.writes, Edit(put, depends_on(edit)))]):
            yield


WHOLE = ("b_dec", "W_skip")
"""Weights without an axis of features."""
OF_HEADS = ("attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_z")


def _flat(x: Tensor, hook: str) -> Tensor:
    """One vector a token."""
    return x.flatten(-2) if hook.endswith(OF_HEADS) else x
