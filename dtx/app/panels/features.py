"""Features of a sparse autoencoder that are active here, and what one of them does to the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtx.app.dictionaries import Dictionary, dictionaries_of
from dtx.app.moment import Moment, Side
from dtx.app.panels import KEY, WORLD, choice, number, text
from dtx.app.weights import check
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dt.forward import run_from
from dtx.errors import UserError
from dtx.text import suggest

TITLE = "Features (SAE)"
WHEN = KEY
NEEDS = (WORLD,)
CONTROL = (
    "A random direction of the same length in the place of the feature's, and the edited run. The "
    "reconstruction's error stays in, so only the feature changes."
)
SOURCE = "dtx.dictionary.autoencoder.SparseAutoencoder"
DOC = "explorer.md#features"
FIRST = False
SIZE = "wide"
SHOWN, TOLERANCE = 16, 1e-4
SCALES = (0.0, 1.0, 2.0)
LAST, ALL = "last token", "all tokens"


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    dictionary: str = text("", "Name of a dictionary; empty: the first that fits")
    feature: str = text("", "Number of a feature; empty: the strongest at the last state")
    scale: float = number(1.0, -4.0, 8.0, "What the feature is multiplied by; 1 changes nothing")
    tokens: str = choice(LAST, (LAST, ALL), "Where the feature is scaled")


def compute(moment: Moment, parameters: Parameters) -> dict[str, Any]:
    """Active features, and one of them scaled.

    Returns:
        ``dictionaries`` (names), ``dictionary``, ``hook``, ``gives`` (a transcoder's activation, else
        empty), ``size`` (features), ``left_out`` (reasons);
        ``features`` (k numbers, those that are largest anywhere in the window), ``tokens`` (n names),
        ``feature``, ``scale``, ``scales`` (s); of each side ``activation`` (k, n), ``explained``: share of
        the activation's variance over the window, ``at`` (n) of the feature, and ``logits`` (s, a),
        ``probabilities`` (s, a), ``ld`` (s), ``random`` LD (s) at each scale.

    Raises:
        UserError: No dictionary fits, or none has that name or feature.
    """
    known, reasons = dictionaries_of(moment)
    chosen = _chosen(known, reasons, parameters.dictionary)
    sae = chosen.sae
    encoded = {name: _encoded(sae, side) for name, side in moment.sides.items()}
    features_nf = encoded["original"][0]
    order = features_nf.amax(0).argsort(descending=True, stable=True)[:SHOWN]
    shown = order[features_nf.amax(0)[order] > 0]
    feature = _feature(parameters.feature, features_nf)
    scales = np.unique([*SCALES, parameters.scale])
    data: dict[str, Any] = {
        "dictionaries": [each.name for each in known],
        "left_out": reasons,
        "dictionary": chosen.name,
        "hook": sae.hook_name,
        "gives": sae.hook_out,
        "size": features_nf.shape[1],
        "features": shown,
        "tokens": list(moment.original.tokens.names),
        "actions": list(moment.actions),
        "feature": feature,
        "scale": parameters.scale,
        "scales": scales,
        "edited": None,
    }
    everywhere = parameters.tokens == ALL
    logits_zsa = _scaled(moment, sae, feature, scales, everywhere)
    control_zsa = _pushed(
        moment, sae, feature, scales, everywhere, [e[0] for e in encoded.values()]
    )
    unchanged = int(np.flatnonzero(scales == 1.0)[0])
    errors = []
    for (name, side), logits, control in zip(
        moment.sides.items(), logits_zsa, control_zsa, strict=True
    ):
        own_nf, explained = encoded[name]
        errors.append(float((logits[unchanged] - side.logits).abs().max()))
        data[name] = {
            "activation": own_nf[:, shown].T,
            "explained": explained,
            "at": own_nf[:, feature],
            "logits": logits,
            "probabilities": logits.double().softmax(-1),
            "ld": moment.ld(logits),
            "random": moment.ld(control),
        }
    name = "with the error term, scale 1 changes nothing"
    return data | {"check": check(name, max(errors), TOLERANCE)}


def _chosen(known: list[Dictionary], reasons: list[str], name: str) -> Dictionary:
    if not known:
        why = f" ({'; '.join(reasons)})" if reasons else ""
        raise UserError(
            f"no sparse autoencoder of this model is here{why}: put one in SAELens's format into a folder "
            "sae/ of the model's artefact, or name its folder: dtx app --sae DIR"
        )
    names = [each.name for each in known]
    if not name:
        return known[0]
    if name not in names:
        raise UserError(
            f"features.dictionary: there is no {name!r}{suggest(name, names)}; there are {', '.join(names)}"
        )
    return known[names.index(name)]


def _feature(asked: str, features_nf: Tensor) -> int:
    """The number asked for, or the strongest at the last state."""
    if not asked.strip():
        return int(features_nf[-1].argmax())
    count = features_nf.shape[1]
    if not asked.strip().isascii() or not asked.strip().isdigit() or int(asked) >= count:
        raise UserError(f"features.feature: {asked!r} is none of 0..{count - 1}")
    return int(asked)


@torch.no_grad()
def _encoded(sae: SparseAutoencoder, side: Side) -> tuple[Tensor, float]:
    """Features (n, f) of a window, and the share of variance that their reconstruction explains."""
    there = side.activations(_needed(sae))
    x_nd, y_no = (there[name][0].flatten(1) for name in (sae.hook_name, sae.writes))
    features_nf = sae.encode(x_nd)
    rest = (y_no - sae.decode(features_nf, x_nd)).pow(2).sum()
    return features_nf, float(1 - rest / (y_no - y_no.mean(0)).pow(2).sum().clamp(min=1e-30))


def _scaled(
    moment: Moment, sae: SparseAutoencoder, feature: int, scales: np.ndarray, everywhere: bool
) -> Tensor:
    """Logits (z, s, a) of each side with the feature scaled."""
    scale_x = torch.from_numpy(np.tile(scales, len(moment.sides)).astype(np.float32))

    def edit(features_xnf: Tensor) -> Tensor:
        features_xnf[:, _where(everywhere), feature] *= scale_x[:, None]
        return features_xnf

    with sae.spliced(moment.model, edit=edit):
        return _logits(moment, sae, len(scales))


def _pushed(
    moment: Moment,
    sae: SparseAutoencoder,
    feature: int,
    scales: np.ndarray,
    everywhere: bool,
    features_znf: list[Tensor],
) -> Tensor:
    """The same along a random direction as long as the feature's: the control."""
    random_d = _random(sae, feature)
    tokens = _where(everywhere)
    scale_s = torch.from_numpy(scales.astype(np.float32))
    size_xn = torch.cat([(scale_s[:, None] - 1) * each[tokens, feature] for each in features_znf])

    def push(x: Tensor, hook: Any) -> Tensor:
        moved = x.clone()
        moved[:, tokens] += (size_xn[..., None] * random_d).reshape(moved[:, tokens].shape)
        return moved

    with moment.model.hooks(fwd_hooks=[(sae.writes, push)]):
        return _logits(moment, sae, len(scales))


@torch.no_grad()
def _logits(moment: Moment, sae: SparseAutoencoder, scales: int) -> Tensor:
    """(z, s, a) from the dictionary's layer on, each side so many times."""
    layer = int(sae.hook_name.split(".")[1])
    resid_znd = torch.cat(
        [side.activations(_needed(sae))[_stream(sae)] for side in moment.sides.values()]
    )
    logits_xa = run_from(moment.model, layer, resid_znd.repeat_interleave(scales, 0))
    return logits_xa.unflatten(0, (-1, scales))


def _stream(sae: SparseAutoencoder) -> str:
    """The stream before the dictionary's layer."""
    return f"blocks.{sae.hook_name.split('.')[1]}.hook_resid_pre"


def _needed(sae: SparseAutoencoder) -> set[str]:
    return {sae.hook_name, sae.writes, _stream(sae)}


def _where(everywhere: bool) -> slice:
    return slice(None) if everywhere else slice(-1, None)


def _random(sae: SparseAutoencoder, feature: int) -> Tensor:
    own_d = sae.weights["W_dec"][feature]
    random_d = torch.randn(own_d.shape, generator=torch.Generator().manual_seed(0))
    return random_d * (own_d.norm() / random_d.norm())
