"""A dictionary's features as directions: what one of them adds, how often and how much it is on.

Shape suffixes: n any leading axes, d activation, f feature, r stored rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.errors import UserError

CHUNK = 2_048


class Directions:
    """What features add to the activation, which is linear in them whatever the architecture.

    Args:
        sae: Any autoencoder: it decodes linearly, up to a scale for each token.

    Attributes:
        direction_fd: What 1 of each feature adds (before the token's scale).
        unit_fd: The same of norm 1. norm_f: Its norms.

    Raises:
        UserError: It is a transcoder.
    """

    @torch.no_grad()
    def __init__(self, sae: SparseAutoencoder):
        if sae.hook_out:
            raise UserError(
                f"dictionary: a transcoder from {sae.hook_name} to {sae.hook_out}; effects are measured of "
                "features that are read and written at one activation: use an autoencoder"
            )
        self.sae = sae
        direction_fd = sae.weights["W_dec"]
        if sae.rescale_acts_by_decoder_norm:
            direction_fd = direction_fd / direction_fd.norm(dim=-1, keepdim=True)
        self.direction_fd = direction_fd
        self.norm_f = direction_fd.norm(dim=-1)
        self.unit_fd = direction_fd / self.norm_f.clamp(min=1e-12)[:, None]
        self.number = len(direction_fd)

    def scale(self, x_nd: Tensor) -> Tensor:
        """(n, 1): by how much a token's features are larger in the activation; 1 without normalisation."""
        if self.sae.normalize_activations == "none":
            return torch.ones_like(x_nd[..., :1])
        one = torch.zeros(*x_nd.shape[:-1], self.number)
        first = int(self.norm_f.argmax())
        nothing = self.sae.decode(one, x_nd)
        one[..., first] = 1.0
        difference = self.sae.decode(one, x_nd) - nothing
        return (difference @ self.unit_fd[first] / self.norm_f[first]).unsqueeze(-1)


@dataclass(frozen=True)
class Activity:
    """How often and how much features are on, each stored row counted as often as it occurs.

    Attributes:
        density_f: Share of tokens at which each is on.
        size_f: Mean norm of what it adds where it is on; 0 if it never is.
    """

    density_f: np.ndarray
    size_f: np.ndarray
    _value_rf: Tensor
    _count_r: np.ndarray

    @staticmethod
    @torch.no_grad()
    def of(directions: Directions, x_rd: np.ndarray, count_r: np.ndarray) -> Activity:
        """Of stored rows.

        Args:
            directions: Of the dictionary. x_rd: Activations. count_r: How often each row occurs.
        """
        parts, sums = [], np.zeros((2, directions.number))
        for begin in range(0, len(x_rd), CHUNK):
            x = torch.from_numpy(np.asarray(x_rd[begin : begin + CHUNK], np.float32))
            value = directions.sae.encode(x)
            weight = torch.from_numpy(count_r[begin : begin + CHUNK].astype(np.float32))
            added = value.abs() * directions.norm_f * directions.scale(x)
            sums[0] += (weight @ (value != 0).float()).double().numpy()
            sums[1] += (weight @ added).double().numpy()
            parts.append(value)
        density = sums[0] / max(count_r.sum(), 1)
        size = np.divide(sums[1], sums[0], out=np.zeros_like(sums[1]), where=sums[0] > 0)
        return Activity(density, size, torch.cat(parts), np.asarray(count_r, float))

    @property
    def live(self) -> np.ndarray:
        """Numbers of the features that are on somewhere."""
        return np.flatnonzero(self.density_f > 0)

    def quantile(self, feature: int, share: float) -> float:
        """A quantile of a feature's values where it is on; 0 if it never is."""
        value = self._value_rf[:, feature].numpy()
        on = value != 0
        if not on.any():
            return 0.0
        order = np.argsort(value[on], kind="stable")
        weight = np.cumsum(self._count_r[on][order])
        place = np.searchsorted(weight, share * weight[-1])
        return float(value[on][order][min(int(place), len(order) - 1)])


def matched(
    activity: Activity,
    feature: int,
    chosen: np.ndarray,
    count: int,
    pool: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Random features about as dense and as large as one: drawn from those nearest in both logarithms.

    Args:
        activity: Of all features.
        feature: That they are matched to. chosen: Features that are none of them.
        count: How many. pool: So many times as many are drawn from.

    Returns:
        At most ``count`` numbers of live features; fewer if there are fewer.
    """
    others = np.setdiff1d(activity.live, chosen)
    place = np.log(
        np.stack([activity.density_f, activity.size_f])[:, [feature, *others]].clip(1e-12)
    )
    spread = place[:, 1:].std(1, keepdims=True) if len(others) else np.ones((2, 1))
    distance = np.linalg.norm((place[:, 1:] - place[:, :1]) / np.maximum(spread, 1e-9), axis=0)
    near = others[np.argsort(distance, kind="stable")[: pool * count]]
    return np.sort(rng.permutation(near)[:count])
