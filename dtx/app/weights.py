"""What panels of weights share: an untrained model as the control, and the channels that training showed.

Letters: c channel of the flattened view, d model.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from dtx.analysis.core.channels import channel_name, channel_names, occurring, occurring_in
from dtx.analysis.core.untrained import twins
from dtx.app.moment import Moment, folded
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.processing import Folded
from dtx.env.encoding import COLOURS, OBJECTS, OFFSETS, SIZE, VIEW, active_indices, flat_one_hot
from dtx.errors import UserError

ALL = "all"
GROUPS = {
    ALL: range(OBJECTS + COLOURS + 3),
    "objects": range(OBJECTS),
    "colours": range(OFFSETS[1], OFFSETS[2]),
    "door states": range(OFFSETS[2], OFFSETS[2] + 3),
}
"""Channels (0 to 19) by a word for several."""
CHOICES = (*GROUPS, *channel_names())
CELLS = VIEW * VIEW
_UNTRAINED: WeakKeyDictionary[DecisionTransformerModel, Folded] = WeakKeyDictionary()


def untrained(moment: Moment) -> Folded:
    """One untrained model of the same shape, made once a model."""
    model = moment.model
    if model not in _UNTRAINED:
        views = torch.from_numpy(_views(moment))
        _UNTRAINED[model] = Folded.of(next(twins(model, 1, 0, flat_one_hot(views))))
    return _UNTRAINED[model]


def taught(moment: Moment) -> np.ndarray:
    """Numbers (c,) of the channels that the training data show; without any, of those that have weights.

    Raises:
        UserError: The state embedding is convolutional.
    """
    weight_cd = moment.model.embed.W_S.detach()
    data = moment.data
    if data is not None:
        found = (
            occurring_in(data.observations) if data.episodes is None else occurring(data.episodes)
        )
        if len(found):
            return found
    return np.flatnonzero((weight_cd.abs().amax(-1) > 0).numpy())


def chosen(channel_c: np.ndarray, word: str) -> np.ndarray:
    """Places (i,) among channels of those that one of :data:`CHOICES` names.

    Raises:
        UserError: None of them is there.
    """
    kinds = GROUPS.get(word)
    if kinds is None:
        kinds = [i for i, name in enumerate(channel_names()) if name == word]
    place_i = np.flatnonzero(np.isin(channel_c // CELLS, list(kinds)))
    if not len(place_i):
        raise UserError(f"no channel of {word} occurs in the data that the model was trained on")
    return place_i


def described(channel_i: np.ndarray) -> dict[str, list]:
    """Names of channels, and the column and row of the view of each."""
    return {
        "channel": [channel_name(c // CELLS) for c in channel_i],
        "column": (channel_i % CELLS // VIEW).tolist(),
        "row": (channel_i % VIEW).tolist(),
    }


def on_view(value_cx: np.ndarray, channel_c: np.ndarray) -> np.ndarray:
    """Values (c, ...) of some channels as maps (20, 7, 7, ...) by channel, row and column; NaN elsewhere."""
    whole = np.full((SIZE, *value_cx.shape[1:]), np.nan)
    whole[channel_c] = value_cx
    maps = whole.reshape(SIZE // CELLS, VIEW, VIEW, *value_cx.shape[1:])
    return maps.swapaxes(1, 2)


def active(observation: np.ndarray) -> Tensor:
    """Channels (147,) of a view (7, 7, 3)."""
    return active_indices(torch.from_numpy(np.ascontiguousarray(observation))[None])[0]


def _views(moment: Moment) -> np.ndarray:
    data = moment.data
    return np.zeros((1, VIEW, VIEW, 3), np.uint8) if data is None else data.observations


@torch.no_grad()
def folding_check(moment: Moment) -> dict[str, Any]:
    """The check of panels of folded weights: they give the model's own logits at the state looked at."""
    copies, context = folded(moment.model), moment.original.context.to(torch.float64)
    apart = copies.exact.last_logits(context) - copies.folded.last_logits(context)
    return check("folded weights give the model's logits", float(apart.abs().max()), 1e-6)


def check(name: str, error: float, tolerance: float) -> dict[str, Any]:
    """An exact check as the page shows it."""
    return {
        "name": name,
        "error": error,
        "tolerance": tolerance,
        "holds": error <= tolerance,
    }
