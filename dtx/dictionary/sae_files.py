"""Sparse autoencoders in SAELens's files, and on our models without SAELens.

A folder holds ``cfg.json`` and ``sae_weights.safetensors``, as SAELens 6 writes them and as its
``SAE.load_from_disk`` reads them. Architectures: standard (ReLU), topk, jumprelu and gated, and transcoders
with ReLU or jumprelu, with and without a linear map beside the features. BatchTopK and matryoshka
dictionaries are saved as jumprelu; SAELens's files of an unfinished training hold the threshold of the whole
batch instead, and are read as what they would be saved as.

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

Letters: d activation, f feature.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from dtx.beside import building, put
from dtx.dictionary.autoencoder import ARCHITECTURES, TRANSCODERS, SparseAutoencoder
from dtx.errors import UserError
from dtx.files import read_json, read_tensors
from dtx.report import write_atomically

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SAE_LENS = "6.54.12"
"""The version whose files these are."""


def read(folder: Path) -> SparseAutoencoder:
    """Read a dictionary that SAELens saved.

    Raises:
        UserError: A file is missing or damaged, or the architecture is not one of ours.
    """
    try:
        known = _of_today(read_json(folder / CONFIG), folder)
        weights = {name: tensor.float() for name, tensor in read_tensors(folder / WEIGHTS).items()}
        known["architecture"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: not a readable SAELens folder ({error})") from error
    known = _as_saved(known, weights, folder)
    architecture, metadata = known["architecture"], dict(known.get("metadata") or {})
    if architecture not in BESIDE:
        raise UserError(
            f"{folder}: architecture {architecture!r}; known here are {', '.join(BESIDE)}"
        )
    normalisation = known.get("normalize_activations", "none")
    if normalisation == "expected_average_only_in":
        normalisation = "none"  # as in SAELens, where the factor is folded into saved weights
    if normalisation not in ("none", "layer_norm"):
        raise UserError(f"{folder}: normalize_activations {normalisation!r} is not known here")
    sae = SparseAutoencoder(
        architecture=architecture,
        weights=weights,
        hook_name=str(metadata.pop("hook_name", "")),
        hook_out=str(metadata.pop("hook_name_out", "")) if architecture in TRANSCODERS else "",
        apply_b_dec_to_input=bool(known.get("apply_b_dec_to_input", True)),
        normalize_activations=normalisation,
        k=known.get("k"),
        rescale_acts_by_decoder_norm=bool(known.get("rescale_acts_by_decoder_norm", False)),
        metadata=metadata,
    )
    _check(sae, folder, known)
    return sae


BESIDE = ARCHITECTURES | TRANSCODERS
BY_BATCH = ("batchtopk", "matryoshka_batchtopk")
"""Architectures that are trained by the threshold of a whole batch, and saved as jumprelu."""
IN_TRAINING = {
    *("decoder_init_norm", "l1_coefficient", "lp_norm", "l1_warm_up_steps", "l0_coefficient"),
    *("l0_warm_up_steps", "pre_act_loss_coefficient", "jumprelu_init_threshold", "target_l0"),
    *("jumprelu_bandwidth", "jumprelu_sparsity_loss_mode", "jumprelu_tanh_scale"),
    *("jumprelu_ste_to_input", "aux_loss_coefficient", "use_sparse_activations"),
    *("topk_threshold_lr", "matryoshka_widths", "use_matryoshka_aux_loss"),
}
"""Settings of SAELens's files of a training, which change nothing once it is over."""
KNOWN = {
    *(
        "d_in",
        "d_sae",
        "architecture",
        "apply_b_dec_to_input",
        "normalize_activations",
        "metadata",
        "k",
        "d_out",
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
    if (head := metadata.pop("hook_head_index_out", None)) is not None:
        raise UserError(f"{folder}: it gives head {head} alone, which is not known here")
    details = {name: new.pop(name) for name in sorted(IN_TRAINING & new.keys())}
    if details and "training_architecture_details" not in metadata:
        metadata["training_architecture_details"] = details
    for name, harmless in (("finetuning_scaling_factor", False), ("scaling_factor", None)):
        if new.pop(name, harmless) not in (harmless, None):
            raise UserError(f"{folder}: {name} is not known here")
    if unknown := sorted(new.keys() - KNOWN):
        raise UserError(
            f"{folder / CONFIG}: {', '.join(unknown)}: not known here, so it cannot be read"
        )
    return {**new, "metadata": metadata}


def _as_saved(
    known: dict[str, Any], weights: dict[str, torch.Tensor], folder: Path
) -> dict[str, Any]:
    """What SAELens makes of a training when it saves the result; ``weights`` are changed in place."""
    if "log_threshold" in weights:  # of jumprelu, before SAELens 6.20
        weights["threshold"] = weights.pop("log_threshold").exp()
    if known["architecture"] not in BY_BATCH:
        return known
    if not {"topk_threshold", "W_enc", "W_dec", "b_enc"} <= weights.keys():
        raise UserError(f"{folder / WEIGHTS}: holds no topk_threshold of {known['architecture']}")
    threshold = weights.pop("topk_threshold")
    if known.get("rescale_acts_by_decoder_norm", False):
        norm_f = weights["W_dec"].norm(dim=-1)
        weights["b_enc"], weights["W_enc"] = weights["b_enc"] * norm_f, weights["W_enc"] * norm_f
        weights["W_dec"] = weights["W_dec"] / norm_f[:, None]
    weights["threshold"] = threshold.expand_as(weights["b_enc"]).clone()
    metadata = {"training_architecture": known["architecture"], **known["metadata"]}
    changed = {"architecture": "jumprelu", "k": None, "rescale_acts_by_decoder_norm": False}
    return {**known, **changed, "metadata": metadata}


def _check(sae: SparseAutoencoder, folder: Path, known: dict[str, Any]) -> None:
    d, f = known.get("d_in"), known.get("d_sae")
    o = known.get("d_out") if sae.architecture in TRANSCODERS else d
    wanted: dict[str, tuple] = {"W_enc": (d, f), "W_dec": (f, o), "b_dec": (o,)}
    wanted |= dict.fromkeys(BESIDE[sae.architecture], (f,))
    if "skip" in sae.architecture:
        wanted["W_skip"] = (o, d)
    if sae.architecture in TRANSCODERS and not sae.hook_out:
        raise UserError(
            f"{folder / CONFIG}: metadata has no hook_name_out, which a transcoder gives"
        )
    if sae.architecture in TRANSCODERS and sae.apply_b_dec_to_input:
        raise UserError(f"{folder / CONFIG}: apply_b_dec_to_input is of autoencoders alone")
    shapes = {name: tuple(tensor.shape) for name, tensor in sae.weights.items()}
    if shapes != wanted:
        raise UserError(f"{folder / WEIGHTS}: {shapes}, but {CONFIG} asks for {wanted}")
    if sae.architecture == "topk" and not (isinstance(sae.k, int) and f and 0 < sae.k <= f):
        raise UserError(f"{folder / CONFIG}: k={sae.k!r} of {f} features")


def write(sae: SparseAutoencoder, folder: Path) -> None:
    """Write a dictionary so that SAELens's ``SAE.load_from_disk(folder)`` reads it."""
    d, f = sae.weights["W_enc"].shape
    z = (
        sae.hook_name.endswith("hook_z") and not sae.hook_out
    )  # SAELens's transcoders take flat heads
    versions = {"sae_lens_version": SAE_LENS, "sae_lens_training_version": SAE_LENS}
    config: dict[str, Any] = {
        "d_in": d,
        "d_sae": f,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": sae.normalize_activations,
        "reshape_activations": "hook_z" if z else "none",
        "metadata": {**versions, "hook_name": sae.hook_name, **sae.metadata},
        "architecture": sae.architecture,
    }
    if sae.hook_out:
        config["d_out"] = sae.weights["W_dec"].shape[1]
        config["metadata"]["hook_name_out"] = sae.hook_out
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
