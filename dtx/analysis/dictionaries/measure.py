"""What a dictionary does to stored activations and to the policy.

Letters: r held-out rows, d activation, f feature, b window, t timestep, s states, a actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtx.activations.stored import Activations, Part
from dtx.analysis.core.windows import cut, sampler, sampling
from dtx.analysis.dictionaries.numbers import one_minus, over_clusters
from dtx.analysis.dictionaries.spec import KL, RECOVERED, SAME
from dtx.dataset.episodes import Episodes, Split
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dt.context import Context
from dtx.dt.incremental import CHUNK
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.windows import Drawn
from dtx.errors import UserError
from dtx.estimate import Estimate

TOGETHER = 4_096
"""Rows that are encoded at once: 16 MB of 1,024 features."""


@dataclass(frozen=True)
class Rows:
    """The held-out rows of a hook.

    Attributes:
        x_rd: (r, d) float32. count_r: How often each occurs. episode_r: An episode in which it does.
    """

    x_rd: np.ndarray
    count_r: np.ndarray
    episode_r: np.ndarray

    @staticmethod
    def of(stored: Activations, hook: str, split: str, part: Part) -> Rows:
        """Those of a part of a split.

        Raises:
            UserError: There are none.
        """
        rows = stored.rows(split, part)
        if not len(rows):
            raise UserError(
                f"activations: no row is held out by {split}; store more episodes, or choose another split"
            )
        columns = stored.columns
        x_rd = np.asarray(stored.array(hook)[rows], np.float32)
        return Rows(x_rd, np.asarray(columns["count"][rows], np.float64), columns["episode"][rows])

    @property
    def mean_d(self) -> np.ndarray:
        """Mean over what the rows stand for."""
        return np.average(self.x_rd.astype(np.float64), axis=0, weights=self.count_r)


@dataclass(frozen=True)
class Reconstruction:
    """What a dictionary does to rows.

    Attributes:
        l0: Features that are on at a token. explained: Explained variance.
        density_f: Share of the tokens at which each feature is on; 0: a dead one.
    """

    l0: float
    explained: Estimate
    density_f: np.ndarray

    @property
    def dead_share(self) -> float:
        """Share of features that are never on; missing where there are no features."""
        return float((self.density_f == 0).mean()) if len(self.density_f) else np.nan


@torch.inference_mode()
def reconstruct(sae: SparseAutoencoder, rows: Rows) -> Reconstruction:
    """Encode and decode rows, each counting as often as it occurs.

    Explained variance is 1 - sum |x - x^|^2 / sum |x - mean|^2 over all rows, not a mean of ratios: that
    would give a token whose activation is near the mean any weight.
    """
    error_r, on_f = np.zeros(len(rows.x_rd)), np.zeros(sae.weights["W_dec"].shape[0])
    for begin in range(0, len(rows.x_rd), TOGETHER):
        part = slice(begin, begin + TOGETHER)
        x = torch.from_numpy(rows.x_rd[part])
        features = sae.encode(x)
        back = sae.decode(features, x)
        error_r[part] = (back.double() - x.double()).square().sum(1).numpy()
        on_f += rows.count_r[part] @ (features > 0).numpy()
    away_r = np.square(rows.x_rd - rows.mean_d).sum(1)
    total = rows.count_r.sum()
    explained = one_minus(
        over_clusters(rows.count_r * error_r, rows.count_r * away_r, rows.episode_r, "episodes")
    )
    return Reconstruction(float(on_f.sum() / total), explained, on_f / total)


@dataclass(frozen=True)
class States:
    """Windows, and which of their states are read.

    Attributes:
        parts: Windows that are passed at once, and (b, t) bool: a real step.
        episode_s: (s,) whose states they are.
    """

    parts: list[tuple[Context, Tensor]]
    episode_s: np.ndarray

    @staticmethod
    def of(episodes: Episodes, model: DecisionTransformerModel, count: int, seed: int) -> States:
        """All states of windows of episodes that the model was not trained on.

        Padded on the right, windows start with their episode, so every state counts as often as it occurs.
        """
        split = int((np.asarray(episodes.split) == Split.VALIDATION).any())
        draws = sampler(episodes, model.cfg, sampling(model.cfg, first_share=1.0), split)
        drawn = draws.draw(np.random.default_rng([seed, 15]), count)
        order = np.argsort(drawn.length, kind="stable")  # equal lengths together waste least
        parts, episode = [], []
        for begin in range(0, count, CHUNK):
            chosen = order[begin : begin + CHUNK]
            some = Drawn(drawn.row[chosen], drawn.begin[chosen], drawn.length[chosen])
            context, _, real = draws.context(some)
            if not model.cfg.left_padding:
                steps = int(some.length.max())
                context, real = cut(context, steps), real[:, :steps]
            parts.append((context, real))
            episode.append(np.repeat(some.row - some.begin, real.sum(1).numpy()))
        return States(parts, np.concatenate(episode))

    @torch.inference_mode()
    def logits(
        self, model: DecisionTransformerModel, edit: AbstractContextManager[None] | None = None
    ) -> Tensor:
        """Logits (s, a) float64 of a model, edited or not."""
        if edit is None:
            return torch.cat([model(context)[real] for context, real in self.parts]).double()
        with edit:
            return torch.cat([model(context)[real] for context, real in self.parts]).double()


@dataclass(frozen=True)
class Policy:
    """How far an edited policy is from the model's.

    Attributes:
        kl_s: (s,) KL(model || edited) in nats. same_s: (s,) bool: the most probable action is the same.
    """

    kl_s: np.ndarray
    same_s: np.ndarray

    @staticmethod
    def of(model_sa: Tensor, edited_sa: Tensor) -> Policy:
        """Of logits (s, a)."""
        log_p, log_q = model_sa.log_softmax(-1), edited_sa.log_softmax(-1)
        kl_s = (log_p.exp() * (log_p - log_q)).sum(-1).clamp_min(0)
        same_s = model_sa.argmax(-1) == edited_sa.argmax(-1)
        return Policy(kl_s.numpy(), same_s.numpy())

    def numbers(self, mean: Policy, episode_s: np.ndarray) -> Iterator[tuple[str, Estimate]]:
        """Yield KL, its share that is recovered of mean ablation's, and the share of same actions."""
        one_s = np.ones(len(self.kl_s))
        yield KL, over_clusters(self.kl_s, one_s, episode_s, "episodes")
        yield RECOVERED, one_minus(over_clusters(self.kl_s, mean.kl_s, episode_s, "episodes"))
        yield SAME, over_clusters(self.same_s.astype(float), one_s, episode_s, "episodes")
