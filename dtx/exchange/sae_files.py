"""Sparse autoencoders in SAELens's files, and on our models without SAELens.

A folder holds ``cfg.json`` and ``sae_weights.safetensors``, as SAELens 6 writes them and as its
``SAE.load_from_disk`` reads them. Architectures: standard (ReLU), topk, jumprelu (which BatchTopK ones are
saved as) and gated.

SAELens itself wants transformer-lens below 4, so it lives in an environment of its own, where dtx runs as
well: ``pip install dtx "transformer-lens==3.9.0" "sae-lens==6.54.12"``. Train there, on stored activations
(``dtx run target=activations``), and read the result anywhere::

    stored = dtx.load("activations", "windows").activations
    hook = "blocks.1.hook_resid_post"
    config = TopKTrainingSAEConfig(d_in=256, d_sae=1024, k=16, metadata=SAEMetadata(hook_name=hook))
    data = (torch.from_numpy(x) for x, _ in stored.batches(hook, 1024))
    SAETrainer(SAETrainerConfig(..., lr_end=3e-5), TopKTrainingSAE(config), data).fit()

    dt, sae = dtx.load("dt", "memory_dt"), read(Path("saved"))
    with sae.spliced(dt.model, edit=lambda features: features * on):  # the error term stays in
        logits = dt.model(windows)

Letters: n any leading axes, d activation, f feature.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.beside import building, put
from dtx.dt.edits import Edit, depends_on
from dtx.errors import UserError
from dtx.files import read_json, read_tensors
from dtx.report import write_atomically

if TYPE_CHECKING:
    from dtx.dt.model import DecisionTransformerModel

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SAE_LENS = "6.54.12"
"""The version whose files these are."""
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
                :class:`dtx.dt.edits.Edit` says what it depends on; rollouts are faster with
                ``Depends.window``.

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


def read(folder: Path) -> SparseAutoencoder:
    """Read a dictionary that SAELens saved.

    Raises:
        UserError: A file is missing or damaged, or the architecture is not one of ours.
    """
    try:
        known = _of_today(read_json(folder / CONFIG), folder)
        weights = read_tensors(folder / WEIGHTS)
        architecture, metadata = known["architecture"], dict(known.get("metadata") or {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: not a readable SAELens folder ({error})") from error
    if architecture not in ARCHITECTURES:
        raise UserError(
            f"{folder}: architecture {architecture!r}; known here are {', '.join(ARCHITECTURES)}"
        )
    normalisation = known.get("normalize_activations", "none")
    if normalisation == "expected_average_only_in":
        normalisation = "none"  # as in SAELens, where the factor is folded into saved weights
    if normalisation not in ("none", "layer_norm"):
        raise UserError(f"{folder}: normalize_activations {normalisation!r} is not known here")
    sae = SparseAutoencoder(
        architecture=architecture,
        weights={name: tensor.float() for name, tensor in weights.items()},
        hook_name=str(metadata.pop("hook_name", "")),
        apply_b_dec_to_input=bool(known.get("apply_b_dec_to_input", True)),
        normalize_activations=normalisation,
        k=known.get("k"),
        rescale_acts_by_decoder_norm=bool(known.get("rescale_acts_by_decoder_norm", False)),
        metadata=metadata,
    )
    _check(sae, folder, known.get("d_in"), known.get("d_sae"))
    return sae


KNOWN = {
    *(
        "d_in",
        "d_sae",
        "architecture",
        "apply_b_dec_to_input",
        "normalize_activations",
        "metadata",
        "k",
    ),
    *("rescale_acts_by_decoder_norm", "dtype", "device", "reshape_activations"),
}
"""Settings that are read, or that change no number here."""
PASSING = {
    *(
        "context_size",
        "model_name",
        "model_from_pretrained_kwargs",
        "model_class_name",
        "dataset_path",
    ),
    *("dataset_trust_remote_code", "prepend_bos", "sae_lens_training_version", "sae_lens_version"),
    *(
        "neuronpedia_id",
        "seqpos_slice",
        "hook_layer",
        "from_pretrained_path",
        "training_tokens",
        "seed",
    ),
}
"""Settings of older files that say how a dictionary was trained or where it is shown."""


def _of_today(known: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Settings as SAELens 6 writes them: older files name the activation function and the hook beside them.

    Raises:
        UserError: A setting is not known here, so that what it changes is not known either.
    """
    new = dict(known)
    metadata = dict(new.get("metadata") or {})
    for name in ("hook_point", "hook_name"):
        if name in new:
            metadata["hook_name"] = new.pop(name)
    if "hook_head_index" in new and (head := new.pop("hook_head_index")) is not None:
        raise UserError(f"{folder}: it reads head {head} alone, which is not known here")
    metadata |= {name: new.pop(name) for name in PASSING if name in new}
    for name in ("activation_fn", "activation_fn_str"):
        if (function := new.pop(name, "relu")) != "relu":
            raise UserError(
                f"{folder}: {name} {function!r} is of files before SAELens 6: load and save it there once"
            )
    new.pop("activation_fn_kwargs", None)  # ReLU has none
    for name, harmless in (("finetuning_scaling_factor", False), ("scaling_factor", None)):
        if new.pop(name, harmless) not in (harmless, None):
            raise UserError(f"{folder}: {name} is not known here")
    if unknown := sorted(new.keys() - KNOWN):
        raise UserError(
            f"{folder / CONFIG}: {', '.join(unknown)}: not known here, so it cannot be read"
        )
    return {**new, "metadata": metadata}


def _check(sae: SparseAutoencoder, folder: Path, d: int | None, f: int | None) -> None:
    wanted: dict[str, tuple] = {"W_enc": (d, f), "W_dec": (f, d), "b_dec": (d,)}
    wanted |= dict.fromkeys(ARCHITECTURES[sae.architecture], (f,))
    shapes = {name: tuple(tensor.shape) for name, tensor in sae.weights.items()}
    if shapes != wanted:
        raise UserError(f"{folder / WEIGHTS}: {shapes}, but {CONFIG} asks for {wanted}")
    if sae.architecture == "topk" and not (isinstance(sae.k, int) and f and 0 < sae.k <= f):
        raise UserError(f"{folder / CONFIG}: k={sae.k!r} of {f} features")


def write(sae: SparseAutoencoder, folder: Path) -> None:
    """Write a dictionary so that SAELens's ``SAE.load_from_disk(folder)`` reads it."""
    d, f = sae.weights["W_enc"].shape
    versions = {"sae_lens_version": SAE_LENS, "sae_lens_training_version": SAE_LENS}
    config = {
        "d_in": d,
        "d_sae": f,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": sae.normalize_activations,
        "reshape_activations": "hook_z" if sae.hook_name.endswith("hook_z") else "none",
        "metadata": {**versions, "hook_name": sae.hook_name, **sae.metadata},
        "architecture": sae.architecture,
    }
    if sae.architecture == "topk":
        scaled = sae.rescale_acts_by_decoder_norm
        config |= {"k": sae.k, "rescale_acts_by_decoder_norm": scaled}
    tensors = {k: v.detach().float().contiguous() for k, v in sae.weights.items()}
    with building(folder) as scratch:
        new = scratch / "new"
        new.mkdir()
        safetensors.torch.save_file(tensors, new / WEIGHTS)
        write_atomically(new / CONFIG, json.dumps(config) + "\n")
        put(new, folder, "give another folder", replace=True)
