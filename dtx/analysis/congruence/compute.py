"""Congruence of a model, its checkpoints and an untrained model, and what activations add by it.

Letters: l layer, b window, n token, d model, f neuron, a action.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from dtx.analysis.congruence.spec import FOLDED, RAW, TRAINED, UNTRAINED, CongruenceSpec
from dtx.analysis.core.result import Check, Claim, Control, Relation, Result, Verdict, largest
from dtx.analysis.core.untrained import TWINS, seen_in, twins
from dtx.analysis.core.windows import distinct_inputs
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.processing import EXACT, Rewriting, blocks_of, copy_of, processed
from dtx.env.actions import Action
from dtx.statistics import LEVEL, Estimate, enumerated, next_estimate
from dtx.training.threads import one_thread

TOLERANCE = 1e-5
"""How far activations times congruence may be from what the MLP adds to the logits."""
MEAN, TAIL = "mean |C|", "99th percentile of |C|"
MEASURES = {MEAN: np.mean, TAIL: partial(np.quantile, q=0.99)}
"""What grows: the typical neuron, or the strongest ones."""
SHORT = {MEAN: "mean", TAIL: "tail"}
"""Of the measures, in the names of metrics."""


def compute(
    spec: CongruenceSpec,
    model: DecisionTransformerModel,
    context: Context,
    checkpoints: Iterable[tuple[int, DecisionTransformerModel]] = (),
) -> Result:
    """Read the weights, check them against a run, judge growth.

    Args:
        spec: Whose logits, and the control's seed.
        model: Any.
        context: Windows on which activations are compared.
        checkpoints: (step, model) during training.

    Returns:
        Table ``congruence``: one row a weight: model (trained, untrained: the first of several), weights
        (raw, folded), layer, neuron, action, congruence, cosine (of the neuron's output and the action's
        direction). ``growth``: one row a model, step, layer and action: model, step (missing for the
        untrained ones and the last weights), layer, action, size (mean of the absolute congruence, folded),
        low, high, n, interval (a model's own neurons are all there are; untrained: where one more untrained
        model would lie), cosine (mean of the absolute ones).
    """
    with one_thread():
        fresh = list(twins(model, TWINS, spec.untrained, seen_in([context])))
        models = {TRAINED: model, UNTRAINED: fresh[0]}
        errors = [identity_errors(each, context) for each in models.values()]
        table = pd.concat(
            [
                _rows(each, spec.actions, weights).assign(model=name, weights=weights)
                for name, each in models.items()
                for weights in (RAW, FOLDED)
            ],
            ignore_index=True,
        )
        own = table.loc[(table.model == TRAINED) & (table.weights == FOLDED)]
        chance = [_rows(each, spec.actions, FOLDED) for each in fresh]
        sizes = [_sizes(own), _untrained_sizes(chance)]
        sizes += [
            _sizes(_rows(each, spec.actions, FOLDED)).assign(step=step)
            for step, each in checkpoints
        ]
    judged = {measure: growth_of(own, chance, measure) for measure in MEASURES}
    return Result(
        metrics={"neurons": float(model.cfg.d_mlp * model.cfg.n_layers), **_metrics(judged)},
        checks=[
            Check(
                name=f"activations times C are the MLP's direct logit attribution, {weights} weights",
                error=largest(each[weights] for each in errors),
                tolerance=TOLERANCE,
            )
            for weights in errors[0]
        ],
        controls=[_control(own, chance)],
        claims=[_claim(judged[MEAN], judged[TAIL])],
        tables={"congruence": table, "growth": pd.concat(sizes, ignore_index=True)},
        distinct_inputs=distinct_inputs(context),
    )


def _control(own: pd.DataFrame, chance: Sequence[pd.DataFrame]) -> Control:
    """Whether neurons write along the actions' directions more than random weights do."""

    def alignment(rows: pd.DataFrame) -> float:
        return float(rows.cosine.abs().groupby(rows.layer).mean().max())

    return Control.of(
        "mean |cosine| of a neuron's output and an action's direction in the best layer, beside one more "
        "untrained model",
        enumerated(alignment(own), len(own), of="weights"),
        Relation.ABOVE,
        next_estimate([alignment(rows) for rows in chance]),
    )


def _metrics(judged: Mapping[str, dict[str, Growth]]) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for measure, growth in judged.items():
        short = SHORT[measure]
        metrics[f"actions_grown_{short}"] = float(sum(bool(g.grown) for g in growth.values()))
        for action, g in growth.items():
            metrics[f"{action}_{short}_ratio"] = g.ratio
            metrics[f"{action}_{short}_ratio_untrained"] = g.chance.value
            metrics[f"{action}_{short}_ratio_untrained_high"] = g.chance.high
    for action, g in judged[MEAN].items():
        for layer, size in enumerate(g.sizes):
            metrics[f"{action}_layer{layer}"] = size
    return metrics


@torch.no_grad()
def congruence(model: DecisionTransformerModel) -> torch.Tensor:
    """C (l, f, a) of a model's weights as they are, float64."""
    return model.W_out.double() @ model.W_U.double()


@torch.no_grad()
def identity_errors(model: DecisionTransformerModel, context: Context) -> dict[str, float]:
    """Largest distance of activations times C, plus the bias, from what the MLPs add to the logits.

    The MLP's output, as the hook gives it, goes through the unembedding alone (raw weights) and through the
    final LayerNorm with its scale held as well (folded weights against the model's own LayerNorm).

    Returns:
        By weights; a model without LayerNorm has nothing to fold, so that only raw ones are compared.
    """
    context = context.to(torch.float64)
    own = copy_of(model, torch.float64)
    layers = range(model.cfg.n_layers)
    names = [f"blocks.{i}.{n}" for i in layers for n in ("hook_mlp_out", "mlp.hook_post")]
    has_norm = model.cfg.normalization_type is not None
    scale = ["ln_final.hook_scale"] if has_norm else []
    _, cache = own.run_with_cache(context, names_filter=[*names, *scale])
    folded = processed(model, (Rewriting.fold_layer_norm, Rewriting.centre_writing), torch.float64)
    errors: dict[str, list[float]] = {RAW: [], FOLDED: []}
    for layer, (block, twin) in enumerate(zip(blocks_of(own), blocks_of(folded), strict=True)):
        out_bnd = cache[f"blocks.{layer}.hook_mlp_out"]
        post_bnf = cache[f"blocks.{layer}.mlp.hook_post"]
        raw = post_bnf @ congruence(own)[layer] + block.mlp.b_out @ own.W_U
        errors[RAW].append((raw - out_bnd @ own.W_U).abs().max().item())
        if has_norm:
            scale_bn1 = cache["ln_final.hook_scale"]
            centred_bnd = out_bnd - out_bnd.mean(-1, keepdim=True)
            added = (centred_bnd / scale_bn1 * own.ln_final.w) @ own.W_U
            weights = post_bnf @ congruence(folded)[layer] + twin.mlp.b_out @ folded.W_U
            errors[FOLDED].append((weights / scale_bn1 - added).abs().max().item())
    return {weights: largest(values) for weights, values in errors.items() if values}


def _rows(
    model: DecisionTransformerModel, actions: tuple[Action, ...], weights: str
) -> pd.DataFrame:
    """One row a layer, neuron and action."""
    if weights == FOLDED:
        model = processed(model, EXACT, torch.float64)
    value_lfa = congruence(model)
    direction_ad = F.normalize(model.W_U.double().T, dim=-1)
    cosine_lfa = F.normalize(model.W_out.double(), dim=-1) @ direction_ad.T
    layers, neurons, _ = value_lfa.shape
    layer, neuron = np.indices((layers, neurons)).reshape(2, -1)
    parts = [
        pd.DataFrame(
            {
                "layer": layer,
                "neuron": neuron,
                "action": action.value,
                "congruence": value_lfa[..., action.number].flatten().detach().numpy(),
                "cosine": cosine_lfa[..., action.number].flatten().detach().numpy(),
            }
        )
        for action in actions
    ]
    return pd.concat(parts, ignore_index=True)


def _sizes(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute congruence of each layer and action; all neurons are there, nothing is sampled."""
    found = []
    for (layer, action), part in rows.groupby(["layer", "action"], sort=False):  # type: ignore[misc]
        size = enumerated(float(part.congruence.abs().mean()), len(part), of="neurons")
        found.append(_size(TRAINED, layer, action, size, float(part.cosine.abs().mean())))
    return pd.DataFrame(found)


def _untrained_sizes(models: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The same of untrained models: their mean, and where one more would lie."""
    each = pd.concat([_sizes(rows) for rows in models], ignore_index=True)
    found = [
        _size(UNTRAINED, layer, action, next_estimate(part["size"].to_numpy()), part.cosine.mean())
        for (layer, action), part in each.groupby(["layer", "action"], sort=False)  # type: ignore[misc]
    ]
    return pd.DataFrame(found)


def _size(model: str, layer: int, action: str, size: Estimate, cosine: float) -> dict[str, Any]:
    where = {"model": model, "step": np.nan, "layer": layer, "action": action}
    return {**where, "size": size.value, **size.columns(), "cosine": cosine}


@dataclass(frozen=True)
class Growth:
    """How a measure of one action's congruence goes from layer to layer.

    Attributes:
        sizes: By layer. ratio: Last layer over first. chance: Where that of one more untrained model lies.
        grown: Larger in every layer than in the one before, and the ratio above the untrained models'; None
            if it rises, but no more than theirs may.
    """

    sizes: list[float]
    ratio: float
    chance: Estimate
    grown: bool | None


def growth_of(own: pd.DataFrame, chance: Sequence[pd.DataFrame], measure: str) -> dict[str, Growth]:
    """By action, for one of :data:`MEASURES`.

    Any one of actions and measures makes a statement, so that each has its share of the 5% (Bonferroni).

    Args:
        own: Folded rows of the model. chance: Of untrained ones. measure: Of a layer's absolute congruence.
    """
    found, actions = {}, list(dict.fromkeys(own.action))
    level = 1 - (1 - LEVEL) / (len(actions) * len(MEASURES))
    for action in actions:
        sizes = _by_layer(own, action, measure)
        untrained = [_ratio(_by_layer(rows, action, measure)) for rows in chance]
        among = next_estimate(untrained, level=level)
        rises = len(sizes) > 1 and bool((np.diff(sizes) > 0).all())
        grown = Relation.ABOVE.decides(_ratio(sizes), among) if rises else False
        found[action] = Growth(sizes, _ratio(sizes), among, grown)
    return found


def _by_layer(rows: pd.DataFrame, action: str, measure: str) -> list[float]:
    part = rows[rows.action == action]
    groups = part.congruence.abs().groupby(part.layer)
    return [float(MEASURES[measure](size.to_numpy())) for _, size in groups]


def _ratio(sizes: Sequence[float]) -> float:
    return sizes[-1] / max(sizes[0], 1e-12)


def _claim(mean: dict[str, Growth], tail: dict[str, Growth]) -> Claim:
    def by_layer(growth: dict[str, Growth]) -> str:
        return "; ".join(
            f"{action} {', '.join(f'{size:.2f}' for size in g.sizes)} (last/first {g.ratio:.2f}, one more "
            f"untrained model [{g.chance.low:.2f}, {g.chance.high:.2f}])"
            for action, g in growth.items()
        )

    grown = [g.grown for g in mean.values()]
    partly = any(grown) or any(g.grown for g in tail.values())
    undecided = None in grown
    return Claim(
        id="congruence_grows_with_layer",
        text=f"congruence with {'/'.join(mean)} grows with layer",
        criterion="|C| rises from each layer to the next, and last/first is above where that of one more "
        f"untrained model lies ({TWINS} were drawn; all actions and measures together err in 5%); depends: "
        "for some actions, or for the strongest neurons alone",
        evidence=f"{MEAN} by layer: {by_layer(mean)}; {TAIL}: {by_layer(tail)}",
        verdict=Verdict.NOT_DECIDED
        if undecided and not partly
        else Verdict.of(all(grown), partly=partly),
    )
