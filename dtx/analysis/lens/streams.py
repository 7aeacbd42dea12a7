"""Residual streams at state tokens, the lenses fitted to them, and what they read.

Letters: p points of the residual stream, s states, d model, a actions, b window, t timestep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.analysis.core.windows import cut, sampler, sampling
from dtx.analysis.lens.spec import LOGIT, TUNED, LensSpec
from dtx.dataset.episodes import Episodes
from dtx.dt.context import Context
from dtx.dt.incremental import CHUNK
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.names import attention_name, mlp_name
from dtx.dt.spec import Balance, Windows
from dtx.dt.windows import Drawn
from dtx.progress import Bar
from dtx.statistics import Estimate, ratio_estimate


@dataclass(frozen=True)
class Streams:
    """Residual streams (p, s, d) at state tokens, and the model's logits (s, a) there."""

    resid_psd: Tensor
    logits_sa: Tensor


@dataclass(frozen=True)
class Drawing:
    """Windows and the distinct states to use in each.

    Attributes:
        context: Windows. chosen: (b, t) bool. episode: (b,) which of them are windows of one episode.
    """

    context: Context
    chosen: np.ndarray
    episode: np.ndarray

    def every(self, step: int) -> Drawing:
        """One window in so many."""
        return Drawing(self.context[::step], self.chosen[::step], self.episode[::step])


class Translators(torch.nn.Module):
    """The tuned lens: h + h A + b at every point but the last, where it is the identity."""

    def __init__(self, points: int, width: int):
        super().__init__()
        self.A = torch.nn.Parameter(torch.zeros(points - 1, width, width))
        self.b = torch.nn.Parameter(torch.zeros(points - 1, 1, width))

    def forward(self, resid_psd: Tensor) -> Tensor:
        """Translate streams (p, s, d)."""
        inner = resid_psd[:-1]
        return torch.cat([inner + torch.baddbmm(self.b, inner, self.A), resid_psd[-1:]])


def point_names(layers: int) -> list[str]:
    """Points of the residual stream in order."""
    return ["embed", *(name(i) for i in range(layers) for name in (attention_name, mlp_name))]


def windows_of(
    spec: LensSpec,
    model: DecisionTransformerModel,
    episodes: Episodes,
    trained: Windows | None = None,
) -> tuple[Drawing, Drawing]:
    """Windows for fitting and for reading, with the distinct states to use in each."""
    cfg = model.cfg
    drawing = trained or sampling(cfg, first_share=0.7, balance=Balance.success)
    held_split = int((np.asarray(episodes.split) == 1).any())
    known: set[bytes] = set()
    drawn_of = []
    for split, count in ((0, spec.windows), (held_split, spec.held_out)):
        draws = sampler(episodes, cfg, drawing, split)
        rng = np.random.default_rng([spec.seed, len(drawn_of)])
        drawn = draws.draw(rng, count)
        order = np.argsort(drawn.length, kind="stable")  # equal lengths together waste least
        drawn = Drawn(drawn.row[order], drawn.begin[order], drawn.length[order])
        context, _, real = draws.context(drawn)
        chosen = _first_seen(context, real.numpy(), known)
        drawn_of.append(Drawing(context, chosen, drawn.row - drawn.begin))
    return drawn_of[0], drawn_of[1]


def _first_seen(context: Context, real: np.ndarray, known: set[bytes]) -> np.ndarray:
    """(b, t) bool: real states whose past, as the model reads it, has not come before."""
    table = context["table"].numpy()
    content = np.array([hash(row.tobytes()) for row in table])
    columns = [content[context["observation"].numpy()], context["timestep"].numpy()]
    columns.append(np.ascontiguousarray(context["reward_to_go"].numpy()).view(np.int32))
    action = context["action"].numpy()
    fresh = np.zeros_like(real)
    for b, t in zip(*np.nonzero(real), strict=True):
        parts = [c[b, : t + 1].astype(np.int64).tobytes() for c in columns]
        signature = b"".join([*parts, action[b, :t].tobytes()])
        fresh[b, t] = signature not in known
        known.add(signature)
    return fresh


@torch.no_grad()
def streams(model: DecisionTransformerModel, drawing: Drawing, ends_alone: bool = False) -> Streams:
    """Residual streams at the chosen state tokens, at all points or at the first and last alone."""
    names = [
        f"blocks.{i}.hook_resid_{part}"
        for i in range(model.cfg.n_layers)
        for part in ("mid", "post")
    ]
    names = ["blocks.0.hook_resid_pre", *(names[-1:] if ends_alone else names)]
    state = model.cfg.layout.states
    residuals, logits = [], []
    for begin in range(0, len(drawing.context), CHUNK):
        part = slice(begin, begin + CHUNK)
        chosen, context = drawing.chosen[part], drawing.context[part]
        if not chosen.any():
            continue
        if not model.cfg.left_padding:  # what comes after the last chosen state is not read
            steps = int(np.flatnonzero(chosen.any(0)).max()) + 1
            chosen, context = chosen[:, :steps], cut(context, steps)
        mask = torch.from_numpy(chosen)
        logits_bta, cache = model.run_with_cache(context, names_filter=names)
        residuals.append(torch.stack([cache[n][:, state][mask] for n in names]))
        logits.append(logits_bta[mask])
    return Streams(torch.cat(residuals, 1), torch.cat(logits))


def read(model: DecisionTransformerModel, resid: Tensor) -> Tensor:
    """The logit lens: logits (..., a) of residual streams (..., d)."""
    return model.read(resid)


def fit(
    model: DecisionTransformerModel, training: Streams, spec: LensSpec, bar: Bar
) -> Translators:
    """Fit the translators of all points at once to minimise KL(model || lens)."""
    points, states, width = training.resid_psd.shape
    translators = Translators(points, width)
    model.requires_grad_(False)
    optimiser = torch.optim.Adam(translators.parameters(), spec.learning_rate)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, max(spec.steps, 1))
    generator = torch.Generator().manual_seed(spec.seed)
    target_sa = training.logits_sa.log_softmax(-1)
    for _ in range(spec.steps):
        batch = torch.randint(states, (spec.batch_size,), generator=generator)
        lens_psa = read(model, translators(training.resid_psd[:, batch])).log_softmax(-1)
        loss = divergence(target_sa[batch].expand_as(lens_psa), lens_psa).mean(1).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        bar.advance(1)
    return translators.requires_grad_(False)


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) in nats over the last axis, of log-probabilities."""
    return F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1)


@dataclass(frozen=True)
class Reading:
    """What the lenses of a model read of held-out states.

    Attributes:
        kl_ps: By lens, nats (p, s) from what it reads to the model's policy. baseline_s: (s,) from the
            model's average policy. agreement_p: By lens, share of states with the same most probable action.
        episode_s: (s,) whose windows they are of. points: Names of the points.
    """

    kl_ps: dict[str, np.ndarray]
    baseline_s: np.ndarray
    agreement_p: dict[str, np.ndarray]
    episode_s: np.ndarray
    points: list[str]

    def over_episodes(self, values: np.ndarray, per: np.ndarray | None = None) -> Estimate:
        """Sum of values (s,) over that of others (default: their number); an episode counts once."""
        _, index = np.unique(self.episode_s, return_inverse=True)
        return ratio_estimate(np.bincount(index, values), np.bincount(index, per))

    @property
    def baseline(self) -> Estimate:
        """Nats from the average policy."""
        return self.over_episodes(self.baseline_s)

    def rows(self, model: str) -> Iterator[dict[str, Any]]:
        """Of the table ``points``."""
        for lens, kl_ps in self.kl_ps.items():
            for order, (point, kl_s) in enumerate(zip(self.points, kl_ps, strict=True)):
                kl = self.over_episodes(kl_s)
                rest = self.over_episodes(kl_s, self.baseline_s)
                yield {
                    "model": model, "lens": lens, "point": point, "order": order,
                    "kl": kl.value, "kl_low": kl.low, "kl_high": kl.high,
                    "unexplained": rest.value, "unexplained_low": rest.low,
                    "unexplained_high": rest.high, "n": kl.n, "interval": kl.kind,
                    "agreement": self.agreement_p[lens][order], "states": len(kl_s),
                }  # fmt: skip


@torch.inference_mode()
def read_all(
    model: DecisionTransformerModel,
    training: Streams,
    test: Streams,
    translators: Translators,
    held_out: Drawing,
) -> Reading:
    target = test.logits_sa.double().log_softmax(-1)
    mean = training.logits_sa.double().softmax(-1).mean(0).log()
    kl_ps, agreement_p = {}, {}
    for lens, resid in ((LOGIT, test.resid_psd), (TUNED, translators(test.resid_psd))):
        log_p = read(model, resid).double().log_softmax(-1)
        kl_ps[lens] = divergence(target.expand_as(log_p), log_p).numpy()
        agreement_p[lens] = (log_p.argmax(-1) == target.argmax(-1)).double().mean(-1).numpy()
    baseline_s = divergence(target, mean.expand_as(target)).numpy()
    episode_s = np.repeat(held_out.episode, held_out.chosen.sum(1))
    points = point_names(model.cfg.n_layers)
    if len(points) != len(test.resid_psd):
        points = [points[0], points[-1]]
    return Reading(kl_ps, baseline_s, agreement_p, episode_s, points)
