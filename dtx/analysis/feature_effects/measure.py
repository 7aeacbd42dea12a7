"""Many edits of single features, computed as one batch, and how far each takes the model.

Shape suffixes: e edit, w window, b window of one batch, n token, d activation, f feature, r row of a forward
pass (one edit of one window), t timestep, a action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtx.analysis.feature_effects.dictionary import Directions
from dtx.analysis.feature_effects.sites import SiteRuns
from dtx.analysis.feature_effects.spec import OFF, ON

CLAMP, ADD = "clamp", "add"


@dataclass(frozen=True)
class FeatureEdit:
    """A change of one feature, at all tokens of a window.

    Attributes:
        feature: Whose values say where and by how much.
        side: ``off``: to 0; ``on``: to ``value`` where it is 0; ``clamp``: to ``value`` everywhere; ``add``:
            ``value`` more everywhere.
        value: See ``side``.
        along: Feature along whose direction the same change is made; None: its own.
    """

    feature: int
    side: str
    value: float = 0.0
    along: int | None = None

    @property
    def direction(self) -> int:
        """The feature along whose direction the activation changes."""
        return self.feature if self.along is None else self.along

    def new(self, old: Tensor) -> Tensor:
        """Values of the feature after the edit, of those before."""
        if self.side == OFF:
            return torch.zeros_like(old)
        if self.side == ON:
            return torch.where(old == 0, self.value, old)
        return torch.full_like(old, self.value) if self.side == CLAMP else old + self.value


@dataclass(frozen=True)
class Windows:
    """Windows of one length, and what is read of them.

    Attributes:
        runs: The windows, run once.
        real_bn: Tokens that are no padding, where edits are made.
        effect: From the edited logits of windows ``row_r`` to the effect (r,).
    """

    runs: SiteRuns
    real_bn: Tensor
    effect: Callable[[Tensor, Tensor], Tensor]


class Edited:
    """Windows in which features are changed.

    Args:
        windows: Batches, of which the windows of the first come first.
        directions: Of the dictionary's features.
        at_once: Rows of a forward pass, at most.
    """

    @torch.no_grad()
    def __init__(self, windows: Sequence[Windows], directions: Directions, at_once: int):
        self.windows, self.directions, self.at_once = list(windows), directions, at_once
        self.value = [directions.sae.encode(each.runs.x_bnd) for each in self.windows]
        self.scale = [directions.scale(each.runs.x_bnd)[..., 0] for each in self.windows]

    @torch.no_grad()
    def effects(self, edits: Sequence[FeatureEdit]) -> np.ndarray:
        """The effect (e, w) of each edit in each window; 0, not computed, where it changes nothing."""
        found = []
        for number, windows in enumerate(self.windows):
            out = np.zeros((len(edits), len(windows.runs)))
            step = max(1, self.at_once // len(windows.runs))
            for begin in range(0, len(edits), step):
                some = edits[begin : begin + step]
                out[begin : begin + step] = self._of(number, windows, some)
            found.append(out)
        return np.concatenate(found, 1)

    def _of(self, number: int, windows: Windows, edits: Sequence[FeatureEdit]) -> np.ndarray:
        change_ebn = torch.stack([self.change(number, edit) for edit in edits])
        edit_r, row_r = torch.nonzero(change_ebn.ne(0).any(-1), as_tuple=True)
        out = np.zeros(change_ebn.shape[:2])
        if len(row_r):
            along = torch.tensor([edit.direction for edit in edits])[edit_r]
            added_rnd = (
                change_ebn[edit_r, row_r][..., None] * self.directions.unit_fd[along][:, None]
            )
            logits = windows.runs.edited(row_r, added_rnd)
            out[edit_r.numpy(), row_r.numpy()] = windows.effect(row_r, logits).double().numpy()
        return out

    def change(self, number: int, edit: FeatureEdit) -> Tensor:
        """Signed length (b, n) of what an edit adds, in windows of a batch."""
        old_bn = self.value[number][..., edit.feature]
        size = self.scale[number] * self.directions.norm_f[edit.feature]
        return (edit.new(old_bn) - old_bn) * size * self.windows[number].real_bn

    def where(self, feature: int) -> float:
        """Share of real tokens at which a feature is on."""
        on = sum(
            int((v[..., feature].ne(0) & w.real_bn).sum())
            for v, w in zip(self.value, self.windows, strict=True)
        )
        return on / max(sum(int(w.real_bn.sum()) for w in self.windows), 1)


def divergence(runs: SiteRuns, real_bt: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """KL in nats from the unedited policy to the edited one, mean over a window's real states."""
    base = runs.logits.log_softmax(-1)
    weight_bt = real_bt / real_bt.sum(1, keepdim=True).clamp(min=1)

    def effect(row_r: Tensor, logits_rta: Tensor) -> Tensor:
        known = base[row_r]
        kl_rt = (known.exp() * (known - logits_rta.log_softmax(-1))).sum(-1)
        return (kl_rt * weight_bt[row_r]).sum(1).clamp(min=0)

    return effect


def estimated(
    windows: Windows,
    value_bnf: Tensor,
    scale_bn: Tensor,
    directions: Directions,
    seed: int,
    draws: int = 8,
) -> Tensor:
    """KL (f,) of turning each feature off, to second order: half the change squared by Fisher's information.

    Exact on average over random signs: the gradient of a sum of log-probabilities, each times the root of
    its probability and a random sign, has Fisher's information as its mean square.

    Args:
        windows: All states of which are read. value_bnf, scale_bn: Of their features.
        seed: Of the signs. draws: Of signs.
    """
    runs, generator = windows.runs, torch.Generator().manual_seed(seed)
    x_bnd = runs.x_bnd.clone().requires_grad_()
    with torch.enable_grad():
        log_p = runs.replaced(torch.arange(len(runs)), x_bnd).log_softmax(-1)
    total_f = torch.zeros(directions.number)
    weight = log_p.detach().mul(0.5).exp()
    for draw in range(draws):
        sign = torch.randint(0, 2, log_p.shape, generator=generator).mul(2).sub(1)
        (gradient,) = torch.autograd.grad(
            (log_p * weight * sign).sum(), x_bnd, retain_graph=draw < draws - 1
        )
        size_bn1 = (scale_bn * windows.real_bn)[..., None]
        change_bf = ((gradient * size_bn1) @ directions.direction_fd.T * value_bnf).sum(1)
        total_f += change_bf.square().sum(0) / 2 / draws
    return total_f
