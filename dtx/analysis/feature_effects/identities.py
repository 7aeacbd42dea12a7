"""What holds whatever the dictionary: by how much it does not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dtx.analysis.feature_effects.dictionary import Directions
from dtx.analysis.feature_effects.examine import Chosen
from dtx.analysis.feature_effects.measure import ADD, Edited, FeatureEdit, Windows
from dtx.analysis.feature_effects.spec import CHOSEN, SIDES
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dt.model import DecisionTransformerModel

SPLICED = "features and error in the activation's place leave the logits as they are"
OWN = "a feature clamped to its own values changes the policy by 0 nats"
NOTHING = "adding 0 to a feature changes the policy by 0 nats"
BATCHED = "edits computed as one batch give the logits of the dictionary spliced into the model"


def identities(
    model: DecisionTransformerModel,
    sae: SparseAutoencoder,
    directions: Directions,
    chosen: Chosen,
    edited: Edited,
) -> dict[str, float]:
    """Largest error of each identity, in the first batch of windows, on the chosen features."""
    with torch.no_grad():
        return _errors(model, sae, directions, chosen, edited)


def _errors(
    model: DecisionTransformerModel,
    sae: SparseAutoencoder,
    directions: Directions,
    chosen: Chosen,
    edited: Edited,
) -> dict[str, float]:
    if not chosen.features:
        return {}
    windows, value = edited.windows[0], edited.value[0]
    features, rows = chosen.features, torch.arange(len(windows.runs))
    with sae.spliced(model):
        whole = model(windows.runs.context)
    errors = {SPLICED: float((whole - windows.runs.logits).abs().max())}
    with sae.spliced(model, edit=lambda f: _set(f, features, value[..., features])):
        errors[OWN] = float(windows.effect(rows, model(windows.runs.context)).max())
    added = torch.stack([edited.change(0, FeatureEdit(f, ADD, 0.0)) for f in features])
    unit = directions.unit_fd[features]
    same = [windows.runs.edited(rows, a[..., None] * u) for a, u in zip(added, unit, strict=True)]
    errors[NOTHING] = max(float(windows.effect(rows, logits).max()) for logits in same)
    errors[BATCHED] = max(
        _apart(model, sae, directions, windows, edited, edit)
        for side in SIDES
        for edit in chosen.edits(0, side, CHOSEN)
    )
    return errors


def _set(features: Tensor, which: Sequence[int], value: Tensor) -> Tensor:
    features[..., list(which)] = value
    return features


def _apart(
    model: DecisionTransformerModel,
    sae: SparseAutoencoder,
    directions: Directions,
    windows: Windows,
    edited: Edited,
    edit: FeatureEdit,
) -> float:
    """Difference of real states' logits between an edit in a batch and one that is spliced in."""
    real = windows.real_bn

    def put(features: Tensor) -> Tensor:
        old = features[..., edit.feature]
        features[..., edit.feature] = torch.where(real, edit.new(old), old)
        return features

    with sae.spliced(model, edit=put):
        spliced = model(windows.runs.context)
    unit = directions.unit_fd[edit.feature]
    rows = torch.arange(len(windows.runs))
    batched = windows.runs.edited(rows, edited.change(0, edit)[..., None] * unit)
    states = real[:, model.cfg.layout.states]
    return float((spliced - batched).abs()[states].max())
