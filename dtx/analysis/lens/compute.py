"""What the lenses of a model and of untrained ones read, and what is said of it.

Letters: p points of the residual stream, s states, d model, a actions, y layouts, r targets, k components.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.core.result import (
    About,
    Check,
    Claim,
    Control,
    Relation,
    Result,
    Verdict,
    largest,
)
from dtx.analysis.core.untrained import TWINS, seen_in, twins
from dtx.analysis.core.windows import join
from dtx.analysis.lens.spec import LOGIT, TRAINED, TUNED, UNTRAINED, LensSpec
from dtx.analysis.lens.streams import (
    Drawing,
    Reading,
    Streams,
    Translators,
    fit,
    point_names,
    read,
    read_all,
    streams,
    windows_of,
)
from dtx.dataset.episodes import Episodes
from dtx.dt.context import Context
from dtx.dt.layers import EPSILON
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import decision_contexts
from dtx.dt.spec import Windows
from dtx.env.decision import Decision
from dtx.progress import Bar, progress
from dtx.statistics import Estimate, next_estimate
from dtx.training.threads import one_thread

FEWER = 4
"""Of the windows one in so many is read of each further untrained model (2026-11-30): their lenses then fit
less well, which makes the control stricter, and all of them cost as much as one model."""
TOLERANCE = 1e-4
"""By how much float32 logits may miss in absolute terms; they are of the order of 10."""


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
        held-out states) and unexplained (KL over that of the average policy), each with the ends of an
        interval over episodes, of which n and interval say how many and how; agreement (top-1), states
        (distinct ones). ``decision``: one row a lens, layout, target and point: logit of
        the right minus the wrong turn. ``components``: one row a layout, target and component: its
        contribution to that difference, the normalisation's scale frozen.
    """
    fitting, held_out = windows_of(spec, model, episodes, trained)
    fresh = list(twins(model, TWINS, spec.seed, seen_in([fitting.context])))
    models = {TRAINED: model, UNTRAINED: fresh[0]}
    readings, errors, fitted = {}, [], {}
    steps = (len(models) + TWINS) * max(spec.steps, 1)
    with one_thread(), progress("lens", steps, "steps") as bar:
        for name, each in models.items():
            training, test = streams(each, fitting), streams(each, held_out)
            fitted[name] = fit(each, training, spec, bar)
            readings[name] = read_all(each, training, test, fitted[name], held_out)
            errors.append(_last_point_error(each, test, fitted[name]))
        chance = _at_embedding(spec, fresh, fitting, held_out, bar)
    at_decision, components, error = _decision(spec, model, fitted[TRAINED], decision)
    points = pd.DataFrame([row for name, r in readings.items() for row in r.rows(name)])
    metrics, claims = _judge(spec, points, readings[TRAINED], chance[0])
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
        controls=[
            Control.of(
                "nats between the model's policy and its own mean: beside one more untrained model",
                readings[TRAINED].baseline,
                Relation.ABOVE,
                chance[1],
            )
        ],
        claims=claims,
        tables={"points": points, "decision": at_decision, "components": components},
        distinct_inputs=int(held_out.chosen.sum()),
    )


def _at_embedding(
    spec: LensSpec,
    fresh: Sequence[DecisionTransformerModel],
    fitting: Drawing,
    held_out: Drawing,
    bar: Bar,
) -> tuple[Estimate, Estimate]:
    """Where one more untrained model lies: KL at the embedding over that of the average policy, and that."""
    fitting, held_out = fitting.every(FEWER), held_out.every(FEWER)
    unexplained, baseline = [], []
    for twin in fresh:
        training, test = (streams(twin, each, True) for each in (fitting, held_out))
        reading = read_all(twin, training, test, fit(twin, training, spec, bar), held_out)
        baseline.append(reading.baseline_s.mean())
        unexplained.append(reading.kl_ps[TUNED][0].mean() / baseline[-1])
    return next_estimate(unexplained), next_estimate(baseline)


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
    read_at = streams(model, Drawing(context, last, np.arange(len(last))))
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


def _judge(
    spec: LensSpec, points: pd.DataFrame, reading: Reading, chance: Estimate
) -> tuple[dict[str, float | None], list[Claim]]:
    rows = points.set_index(["model", "lens", "order"])
    last = int(points.order.max())
    metrics: dict[str, float | None] = {}
    names = points.drop_duplicates("order").set_index("order").point
    for order in range(last + 1):
        for lens in (LOGIT, TUNED):
            # Metrics keep the short name that runs of before have.
            point = names[order].lower().replace(" ", "_").replace("attention", "attn")
            short = f"{lens.split()[0]}_{point}"
            metrics[f"{short}_kl"] = float(rows.loc[TRAINED, lens, order].kl)
    formed = {
        (model, lens): _formed(spec, rows, model, lens, last)
        for model in (TRAINED, UNTRAINED)
        for lens in (LOGIT, TUNED)
    }
    metrics["formed_at"] = formed[TRAINED, TUNED]
    metrics["untrained_formed_at"] = formed[UNTRAINED, TUNED]
    kl = reading.kl_ps
    gain = [reading.over_episodes(kl[LOGIT][o] - kl[TUNED][o]) for o in range(last)]
    better = sum(Relation.ABOVE.decides(e, 0.0) is True for e in gain)
    metrics["tuned_better_points"] = better
    place = {k: names[v] for k, v in formed.items()}
    embed = reading.over_episodes(kl[TUNED][0], reading.baseline_s)
    metrics |= {"unexplained_at_embedding": embed.value, "untrained_unexplained": chance.value}
    claims = [
        Claim(
            id="tuned_lens_better",
            text="the tuned lens reads better than the logit lens",
            criterion="less KL on held-out states at every point before the last, each difference above 0 "
            "beyond its interval over episodes",
            evidence=f"{better} of {last} points; at the embedding less by {gain[0]} nats",
            verdict=Verdict.of(better == last, partly=better > 0),
            about=About.INSTRUMENT,
        ),
        Claim(
            id="prediction_forms_inside",
            text="the prediction forms inside",
            criterion=f"the tuned lens explains {spec.explained:.0%} before the last point, beyond the "
            f"interval, and at the embedding less than in one more untrained model ({TWINS} were fitted)",
            evidence=f"at {place[TRAINED, TUNED]} (logit lens {place[TRAINED, LOGIT]}; untrained "
            f"{place[UNTRAINED, TUNED]}); KL to the final prediction / KL of the average "
            f"policy at the embedding {embed}, untrained [{chance.low:.2f}, {chance.high:.2f}]",
            verdict=Verdict.judge(
                [formed[TRAINED, TUNED] < last, Relation.ABOVE.decides(embed, chance)]
            ),
        ),
    ]
    return metrics, claims


def _formed(spec: LensSpec, rows: pd.DataFrame, model: str, lens: str, last: int) -> int:
    """The first point from which on the lens always explains enough, to the end of its interval."""
    high = [rows.loc[model, lens, o].unexplained_high for o in range(last + 1)]
    enough = [each <= 1 - spec.explained for each in high]
    return next(o for o in range(last + 1) if all(enough[o:]))
