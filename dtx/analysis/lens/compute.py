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

from dtx.analysis.core.result import About, Check, Claim, Result, Verdict, largest
from dtx.analysis.core.windows import join, sampler, sampling
from dtx.analysis.lens.spec import LOGIT, TRAINED, TUNED, UNTRAINED, LensSpec
from dtx.dataset.episodes import Episodes
from dtx.dt.context import Context
from dtx.dt.incremental import CHUNK
from dtx.dt.layers import EPSILON
from dtx.dt.load import untrained_like
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import decision_contexts
from dtx.dt.spec import Balance, Windows
from dtx.env.decision import Decision
from dtx.progress import Bar, progress
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

TOLERANCE = 1e-4
"""By how much float32 logits may miss in absolute terms; they are of the order of 10."""


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


def compute(
    spec: LensSpec,
    model: DecisionTransformerModel,
    episodes: Episodes,
    decision: Decision | None = None,
    trained: Windows | None = None,
) -> Result:
    """Fit and read the lenses of a model and of an untrained one.

    Args:
        spec: What is fitted and read.
        model: Any.
        episodes: Lenses are fitted to windows of its training split and read on those held out.
        decision: Of the environment; without it nothing is read at a decision.
        trained: How windows were drawn in training, and are drawn here; None: mostly from the start, half
            from successes.

    Returns:
        Tables ``points``: one row a model, lens and point of the residual stream: kl (nats, mean over
        held-out states) with its 95% interval, unexplained (KL over that of the mean policy), agreement
        (top-1), states (distinct ones). ``decision``: one row a lens, layout, target and point: logit of
        the right minus the wrong turn. ``components``: one row a layout, target and component: its
        contribution to that difference, the normalisation's scale frozen.
    """
    models = {TRAINED: model, UNTRAINED: untrained_like(model, spec.seed)}
    context, held_out, seen, fresh = windows_of(spec, model, episodes, trained)
    rows, errors, fitted = [], [], {}
    with one_thread(), progress("lens", len(models) * max(spec.steps, 1), "steps") as bar:
        for name, each in models.items():
            training = streams(each, context, seen)
            test = streams(each, held_out, fresh)
            fitted[name] = fit(each, training, spec, bar)
            rows += _points(spec, name, each, training, test, fitted[name])
            errors.append(_last_point_error(each, test, fitted[name]))
    at_decision, components, error = _decision(spec, model, fitted[TRAINED], decision)
    points = pd.DataFrame(rows)
    metrics, claims = _judge(spec, points)
    checks = [
        Check(
            name="both lenses at the last point are the logits",
            error=largest(errors),
            tolerance=TOLERANCE,
        )
    ]
    if error is not None:
        sums = Check(name="the components add up to the logits", error=error, tolerance=TOLERANCE)
        checks.append(sums)
    return Result(
        metrics=metrics,
        checks=checks,
        claims=claims,
        tables={"points": points, "decision": at_decision, "components": components},
        distinct_inputs=int(fresh.sum()),
    )


def windows_of(
    spec: LensSpec,
    model: DecisionTransformerModel,
    episodes: Episodes,
    trained: Windows | None = None,
) -> tuple[Context, Context, np.ndarray, np.ndarray]:
    """Contexts for fitting and for reading, and (b, t) bool of the distinct states to use in each."""
    cfg = model.cfg
    drawing = trained or sampling(cfg, first_share=0.7, balance=Balance.success)
    held_split = int((np.asarray(episodes.split) == 1).any())
    known: set[bytes] = set()
    drawn_of = []
    for split, count in ((0, spec.windows), (held_split, spec.held_out)):
        draws = sampler(episodes, cfg, drawing, split)
        rng = np.random.default_rng([spec.seed, len(drawn_of)])
        context, _, real = draws.context(draws.draw(rng, count))
        drawn_of.append((context, _first_seen(context, real.numpy(), known)))
    (context, seen), (held_out, fresh) = drawn_of
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
    state = model.cfg.layout.states
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


@torch.inference_mode()
def _points(
    spec: LensSpec,
    name: str,
    model: DecisionTransformerModel,
    training: Streams,
    test: Streams,
    translators: Translators,
) -> list[dict]:
    target = test.logits_sa.double().log_softmax(-1)
    mean = training.logits_sa.double().softmax(-1).mean(0).log()
    baseline = float(divergence(target, mean.expand_as(target)).mean())
    rows = []
    for lens, resid in ((LOGIT, test.resid_psd), (TUNED, translators(test.resid_psd))):
        logits = read(model, resid).double()
        for index, point in enumerate(point_names(model.cfg.n_layers)):
            values = divergence(target, logits[index].log_softmax(-1)).numpy()
            low, high = bootstrap(values.round(9), spec.resamples, spec.seed)
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
def _last_point_error(
    model: DecisionTransformerModel, test: Streams, translators: Translators
) -> float:
    """By how much the two lenses at the last point differ from the logits."""
    both = (test.resid_psd[-1], translators(test.resid_psd)[-1])
    return largest(float((read(model, resid) - test.logits_sa).abs().max()) for resid in both)


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
def _decision(
    spec: LensSpec,
    model: DecisionTransformerModel,
    translators: Translators,
    decision: Decision | None,
) -> tuple[pd.DataFrame, pd.DataFrame, float | None]:
    """Lenses and components at the decision: the logit difference of the right and the wrong turn."""
    columns = {
        "lens": str,
        "layout": str,
        "target": float,
        "point": str,
        "order": int,
        "value": float,
    }
    if decision is None:
        empty = pd.DataFrame({k: pd.Series(dtype=v) for k, v in columns.items()})
        return empty, empty.drop(columns="lens"), None
    layouts = decision.layouts
    context = join(decision_contexts(model, decision, spec.targets))
    rows = np.tile(np.arange(len(layouts)), len(spec.targets))
    right, wrong = (torch.as_tensor(turn) for turn in decision.turns(rows))

    def difference(logits: Tensor) -> np.ndarray:
        each = torch.arange(len(rows))
        return (logits[..., each, right] - logits[..., each, wrong]).numpy()

    def tidy(values_pb: np.ndarray, names: list[str], **more) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {**more, "layout": layouts[b % len(layouts)], "target": spec.targets[b // len(layouts)],
                 "point": point, "order": order, "value": float(values_pb[order, b])}
                for order, point in enumerate(names)
                for b in range(len(rows))
            ]
        )  # fmt: skip

    last = np.zeros(context["action"].shape, bool)
    last[:, -1] = True
    read_at = streams(model, context, last)
    names = point_names(model.cfg.n_layers)
    lenses = pd.concat(
        [
            tidy(difference(read(model, read_at.resid_psd)), names, lens=LOGIT),
            tidy(difference(read(model, translators(read_at.resid_psd))), names, lens=TUNED),
        ],
        ignore_index=True,
    )
    each_kba, logits_ba, names = contributions(model, context)
    error = float((each_kba.sum(0) - logits_ba).abs().max())
    return lenses, tidy(difference(each_kba), names), error


def _judge(spec: LensSpec, points: pd.DataFrame) -> tuple[dict[str, float | None], list[Claim]]:
    rows = points.set_index(["model", "lens", "order"])
    last = int(points.order.max())
    metrics: dict[str, float | None] = {}
    names = points.drop_duplicates("order").set_index("order").point
    for order in range(last + 1):
        for lens in (LOGIT, TUNED):
            short = f"{lens.split()[0]}_{names[order].lower().replace(' ', '_')}"
            metrics[f"{short}_kl"] = float(rows.loc[TRAINED, lens, order].kl)
    formed = {
        (model, lens): _formed(spec, rows, model, lens, last)
        for model in (TRAINED, UNTRAINED)
        for lens in (LOGIT, TUNED)
    }
    metrics["formed_at"] = formed[TRAINED, TUNED]
    metrics["untrained_formed_at"] = formed[UNTRAINED, TUNED]
    inner = [(rows.loc[TRAINED, LOGIT, o].kl, rows.loc[TRAINED, TUNED, o].kl) for o in range(last)]
    better = sum(tuned <= logit for logit, tuned in inner)
    metrics["tuned_better_points"] = better
    place = {k: names[v] for k, v in formed.items()}
    embed, chance = (float(rows.loc[m, TUNED, 0].unexplained) for m in (TRAINED, UNTRAINED))
    claims = [
        Claim(
            id="tuned_lens_better",
            text="the tuned lens reads better than the logit lens",
            criterion="less KL on held-out states at every point before the last",
            evidence=f"{better} of {last} points; at the embedding {inner[0][1]:.2f} against "
            f"{inner[0][0]:.2f} nats",
            verdict=Verdict.of(better == last, partly=better > 0),
            about=About.INSTRUMENT,
        ),
        Claim(
            id="prediction_forms_inside",
            text="the prediction forms inside",
            criterion=f"the tuned lens explains {spec.explained:.0%} before the last point, and "
            "at the embedding less than in an untrained model",
            evidence=f"at {place[TRAINED, TUNED]} (logit lens {place[TRAINED, LOGIT]}; untrained "
            f"{place[UNTRAINED, TUNED]}); {1 - embed:.0%} at the embedding, untrained {1 - chance:.0%}",
            verdict=Verdict.of(
                formed[TRAINED, TUNED] < last and embed > chance, partly=bool(embed > chance)
            ),
        ),
    ]
    return metrics, claims


def _formed(spec: LensSpec, rows: pd.DataFrame, model: str, lens: str, last: int) -> int:
    """The first point from which on the lens always explains enough."""
    enough = [rows.loc[model, lens, o].unexplained <= 1 - spec.explained for o in range(last + 1)]
    return next(o for o in range(last + 1) if all(enough[o:]))
