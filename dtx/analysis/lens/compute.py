"""Residual streams at state tokens, lenses fitted to them, and what they read.

Letters: p points of the residual stream, s states, d model, a actions, y layouts, r targets, k components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.analysis.core.claims import Claim, verdict
from dtx.analysis.core.windows import join
from dtx.analysis.lens import Lens
from dtx.dt.context import Context
from dtx.dt.decision_transformer import Balance, Padding, Windows
from dtx.dt.layers import EPSILON
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.provider import load_at, untrained_like
from dtx.dt.rollout import CHUNK, decision_contexts
from dtx.dt.windows import Sampler
from dtx.progress import progress
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

TRAINED, UNTRAINED = "trained", "untrained"
LOGIT, TUNED = "logit lens", "tuned lens"
TOLERANCE = 1e-4
"""By how much float32 logits may miss in absolute terms; they are of the order of 10."""


@dataclass
class Results:
    """What was found.

    Attributes:
        points: One row a model, lens and point: kl (nats, mean over held-out states) with its 95% interval,
            unexplained (share), agreement (top-1), states (distinct ones).
        decision: One row a lens, layout, target and point: logit difference of the right and the wrong turn.
        components: One row a layout, target and component: its share of that difference, scale frozen.
        headline: ``lens/*`` numbers. claims: With verdicts. failed: Identities that did not hold.
    """

    points: pd.DataFrame
    decision: pd.DataFrame
    components: pd.DataFrame
    headline: dict[str, float | None]
    claims: list[Claim]
    failed: list[str]


@dataclass(frozen=True)
class Streams:
    """Residual streams (p, s, d) at state tokens, and the model's logits (s, a) there."""

    resid_psd: Tensor
    logits_sa: Tensor


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
    return ["embed", *(f"L{i} {part}" for i in range(layers) for part in ("attn", "MLP"))]


def measure(stage: Lens) -> Results:
    """Fit and read the lenses of the model and of an untrained one."""
    model = load_at(stage.dt, stage.checkpoint, stage.env)
    models = {TRAINED: model, UNTRAINED: untrained_like(model, stage.seed)}
    context, held_out, seen, fresh = _windows(stage, model)
    rows, errors, fitted = [], [], {}
    with one_thread(), progress("lens", len(models) * max(stage.steps, 1), "steps") as bar:
        for name, each in models.items():
            training = streams(each, context, seen)
            test = streams(each, held_out, fresh)
            fitted[name] = fit(each, training, stage, bar)
            rows += _points(stage, name, each, training, test, fitted[name])
            errors.append(_last_point_error(each, test, fitted[name]))
        decision, components, error = _decision(stage, model, fitted[TRAINED])
    errors.append(error)
    points = pd.DataFrame(rows)
    headline, claims = _judge(stage, points)
    headline["lens/identity_error"] = max(errors)
    headline["lens/distinct_inputs"] = int(fresh.sum())
    failed = []
    if max(errors) > TOLERANCE:
        failed = [f"the last lens or the components' sum misses the logits by {max(errors):.1g}"]
    return Results(points, decision, components, headline, claims, failed)


def _windows(stage: Lens, model: DecisionTransformerModel):
    """Contexts for fitting and for reading, and (b, t) bool of the distinct states to use in each."""
    cfg, episodes = model.cfg, stage.dataset.load()
    how = Windows(
        context=cfg.n_steps,
        padding=Padding.left if cfg.left_padding else Padding.right,
        first_share=0.7,
        end_share=0.0,
        balance=Balance.success,
    )
    how = getattr(stage.dt, "windows", how)
    held_split = int((np.asarray(episodes.split) == 1).any())
    known: set[bytes] = set()
    found = []
    for split, count in ((0, stage.windows), (held_split, stage.held_out)):
        sampler = Sampler(episodes, cfg, how, split)
        rng = np.random.default_rng([stage.seed, len(found)])
        drawn = sampler.draw(rng, count)
        context, _, real = sampler.context(drawn)
        found.append((context, _first_seen(context, real.numpy(), known)))
    (context, seen), (held_out, fresh) = found
    return context, held_out, seen, fresh


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
def streams(model: DecisionTransformerModel, context: Context, chosen: np.ndarray) -> Streams:
    """Residual streams at the chosen state tokens (b, t) of windows."""
    names = [
        f"blocks.{i}.hook_resid_{part}"
        for i in range(model.cfg.n_layers)
        for part in ("mid", "post")
    ]
    names.insert(0, "blocks.0.hook_resid_pre")
    state = slice(model.first_state, None, model.cfg.tokens_per_step)
    residuals, logits = [], []
    for begin in range(0, len(context), CHUNK):
        part = slice(begin, begin + CHUNK)
        mask = torch.from_numpy(chosen[part])
        logits_bta, cache = model.run_with_cache(context[part], names_filter=names)
        residuals.append(torch.stack([cache[n][:, state][mask] for n in names]))
        logits.append(logits_bta[mask])
    return Streams(torch.cat(residuals, 1), torch.cat(logits))


def read(model: DecisionTransformerModel, resid: Tensor) -> Tensor:
    """The logit lens: logits (..., a) of residual streams (..., d)."""
    return model.unembed(model.ln_final(resid))


def fit(model: DecisionTransformerModel, training: Streams, stage: Lens, bar) -> Translators:
    """Fit the translators of all points at once to minimise KL(model || lens)."""
    points, states, width = training.resid_psd.shape
    translators = Translators(points, width)
    model.requires_grad_(False)
    optimiser = torch.optim.Adam(translators.parameters(), stage.learning_rate)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, max(stage.steps, 1))
    generator = torch.Generator().manual_seed(stage.seed)
    target_sa = training.logits_sa.log_softmax(-1)
    for _ in range(stage.steps):
        batch = torch.randint(states, (stage.batch_size,), generator=generator)
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


@torch.inference_mode()
def _points(stage, name, model, training: Streams, test: Streams, translators) -> list[dict]:
    target = test.logits_sa.double().log_softmax(-1)
    mean = training.logits_sa.double().softmax(-1).mean(0).log()
    baseline = float(divergence(target, mean.expand_as(target)).mean())
    rows = []
    for lens, resid in ((LOGIT, test.resid_psd), (TUNED, translators(test.resid_psd))):
        logits = read(model, resid).double()
        for index, point in enumerate(point_names(model.cfg.n_layers)):
            values = divergence(target, logits[index].log_softmax(-1)).numpy()
            low, high = bootstrap(values.round(9), stage.resamples, stage.seed)
            rows.append(
                {
                    "model": name,
                    "lens": lens,
                    "point": point,
                    "order": index,
                    "kl": float(values.mean()),
                    "kl_low": low,
                    "kl_high": high,
                    "unexplained": float(values.mean()) / baseline,
                    "agreement": float(
                        (logits[index].argmax(-1) == target.argmax(-1)).double().mean()
                    ),
                    "states": len(values),
                }
            )
    return rows


@torch.inference_mode()
def _last_point_error(model, test: Streams, translators: Translators) -> float:
    """By how much the two lenses at the last point differ from the logits."""
    both = (test.resid_psd[-1], translators(test.resid_psd)[-1])
    return max(float((read(model, resid) - test.logits_sa).abs().max()) for resid in both)


@torch.inference_mode()
def contributions(
    model: DecisionTransformerModel, context: Context
) -> tuple[Tensor, Tensor, list[str]]:
    """Each component's contribution to the last state's logits, the normalisation's scale frozen.

    Returns:
        (k, b, a) contributions, of which the last is the biases'; (b, a) logits; names (k,).
    """
    layers = range(model.cfg.n_layers)
    hooks = ["blocks.0.hook_resid_pre"]
    hooks += [f"blocks.{i}.hook_{part}_out" for i in layers for part in ("attn", "mlp")]
    last = f"blocks.{layers[-1]}.hook_resid_post"
    logits, cache = model.run_with_cache(context, names_filter=[*hooks, last])
    parts_kbd = torch.stack([cache[name][:, -1] for name in hooks])
    bias = model.unembed.b_U
    if model.cfg.normalization_type == "LN":
        resid_bd = cache[last][:, -1]
        scale_b1 = (resid_bd.var(-1, unbiased=False, keepdim=True) + EPSILON).sqrt()
        parts_kbd = (parts_kbd - parts_kbd.mean(-1, keepdim=True)) / scale_b1 * model.ln_final.w
        bias = model.unembed(model.ln_final.b)
    each_kba = parts_kbd @ model.unembed.W_U
    names = [*point_names(model.cfg.n_layers), "bias"]
    return torch.cat([each_kba, bias.expand_as(each_kba[:1])]), logits[:, -1], names


@torch.inference_mode()
def _decision(stage: Lens, model: DecisionTransformerModel, translators: Translators):
    """Lenses and components at the decision square: the logit difference of the right and wrong turn."""
    columns = {
        "lens": str,
        "layout": str,
        "target": float,
        "point": str,
        "order": int,
        "value": float,
    }
    if not hasattr(stage.env, "routine"):
        empty = pd.DataFrame({k: pd.Series(dtype=v) for k, v in columns.items()})
        return empty, empty.drop(columns="lens"), 0.0
    env, count = stage.env, len(stage.targets)
    layouts = env.layouts()  # type: ignore[attr-defined]
    context = join(decision_contexts(model, env, stage.targets))
    rows = torch.arange(len(layouts)).repeat(count)
    right, wrong = (
        torch.as_tensor(turn(np.arange(len(layouts))))[rows]
        for turn in (env.correct_turn, env.wrong_turn)  # type: ignore[attr-defined]
    )

    def difference(logits: Tensor) -> np.ndarray:
        each = torch.arange(len(rows))
        return (logits[..., each, right] - logits[..., each, wrong]).numpy()

    def tidy(values_pb: np.ndarray, names: list[str], **more) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {**more, "layout": layouts[b % len(layouts)], "target": stage.targets[b // len(layouts)],
                 "point": point, "order": order, "value": float(values_pb[order, b])}
                for order, point in enumerate(names)
                for b in range(len(rows))
            ]
        )  # fmt: skip

    last = np.zeros(context["action"].shape, bool)
    last[:, -1] = True
    found = streams(model, context, last)
    names = point_names(model.cfg.n_layers)
    decision = pd.concat(
        [
            tidy(difference(read(model, found.resid_psd)), names, lens=LOGIT),
            tidy(difference(read(model, translators(found.resid_psd))), names, lens=TUNED),
        ],
        ignore_index=True,
    )
    each_kba, logits_ba, names = contributions(model, context)
    error = float((each_kba.sum(0) - logits_ba).abs().max())
    return decision, tidy(difference(each_kba), names), error


def _judge(stage: Lens, points: pd.DataFrame) -> tuple[dict[str, float | None], list[Claim]]:
    rows = points.set_index(["model", "lens", "order"])
    last = int(points.order.max())
    headline: dict[str, float | None] = {}
    names = points.drop_duplicates("order").set_index("order").point
    for order in range(last + 1):
        for lens in (LOGIT, TUNED):
            short = f"{lens.split()[0]}_{names[order].lower().replace(' ', '_')}"
            headline[f"lens/{short}_kl"] = float(rows.loc[TRAINED, lens, order].kl)
    formed = {
        (model, lens): _formed(stage, rows, model, lens, last)
        for model in (TRAINED, UNTRAINED)
        for lens in (LOGIT, TUNED)
    }
    headline["lens/formed_at"] = formed[TRAINED, TUNED]
    headline["lens/untrained_formed_at"] = formed[UNTRAINED, TUNED]
    inner = [(rows.loc[TRAINED, LOGIT, o].kl, rows.loc[TRAINED, TUNED, o].kl) for o in range(last)]
    better = sum(tuned <= logit for logit, tuned in inner)
    headline["lens/tuned_better_points"] = better
    place = {k: names[v] for k, v in formed.items()}
    embed, chance = (rows.loc[model, TUNED, 0].unexplained for model in (TRAINED, UNTRAINED))
    claims = [
        Claim(
            claim="the tuned lens reads better than the logit lens",
            wanted="less KL on held-out states at every point before the last",
            found=f"{better} of {last} points; at the embedding {inner[0][1]:.2f} against {inner[0][0]:.2f} "
            "nats",
            verdict=verdict(better == last, partly=better > 0),
        ),
        Claim(
            claim="the prediction forms inside",
            wanted=f"the tuned lens explains {stage.explained:.0%} before the last point, and "
            "at the embedding less than in an untrained model",
            found=f"at {place[TRAINED, TUNED]} (logit lens {place[TRAINED, LOGIT]}; untrained "
            f"{place[UNTRAINED, TUNED]}); {1 - embed:.0%} at the embedding, untrained {1 - chance:.0%}",
            verdict=verdict(
                formed[TRAINED, TUNED] < last and embed > chance, partly=bool(embed > chance)
            ),
        ),
    ]
    return headline, claims


def _formed(stage: Lens, rows: pd.DataFrame, model: str, lens: str, last: int) -> int:
    """The first point from which on the lens always explains enough."""
    enough = [rows.loc[model, lens, o].unexplained <= 1 - stage.explained for o in range(last + 1)]
    return next(o for o in range(last + 1) if all(enough[o:]))
