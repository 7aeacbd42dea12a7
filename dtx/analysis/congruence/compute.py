"""Congruence of a model, its checkpoints and an untrained model, and what activations add by it.

Letters: l layer, b window, n token, d model, f neuron, a action.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from dtx.analysis.congruence.spec import FOLDED, RAW, TRAINED, UNTRAINED, CongruenceSpec
from dtx.analysis.core.result import Check, Claim, Control, Relation, Result, Verdict, largest
from dtx.analysis.core.windows import distinct_inputs
from dtx.dt.context import Context
from dtx.dt.load import untrained_like
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.processing import EXACT, Rewriting, blocks_of, copy_of, processed
from dtx.env.actions import Action
from dtx.statistics import bootstrap
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
        Table ``congruence``: one row a weight: model (trained, untrained), weights (raw, folded), layer,
        neuron, action, congruence, cosine (of the neuron's output and the action's direction). ``growth``:
        one row a model, step, layer and action: model, step (missing for the untrained one and the last
        weights), layer, action, size (mean of the absolute congruence, folded), low, high, cosine.
    """
    with one_thread():
        models = {TRAINED: model, UNTRAINED: untrained_like(model, spec.untrained)}
        errors = [identity_errors(each, context) for each in models.values()]
        table = pd.concat(
            [
                _rows(each, spec.actions, weights).assign(model=name, weights=weights)
                for name, each in models.items()
                for weights in (RAW, FOLDED)
            ],
            ignore_index=True,
        )
        sizes = [_sizes(spec, rows, name) for name, rows in _folded(table)]
        sizes += [
            _sizes(spec, _rows(each, spec.actions, FOLDED), TRAINED).assign(step=step)
            for step, each in checkpoints
        ]
    judged = {
        (name, measure): growth_of(rows, measure, spec.resamples, spec.seed)
        for name, rows in _folded(table)
        for measure in MEASURES
    }
    claim = _claim(judged[TRAINED, MEAN], judged[TRAINED, TAIL])
    chance = judged[UNTRAINED, MEAN].values()
    control = Control(
        name="actions whose congruence grows with layer, untrained model",
        value=float(sum(g.grown for g in chance)),
        must_be=Relation.BELOW,
        against=float(len(chance)),
    )
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
        controls=[control],
        claims=[claim],
        tables={"congruence": table, "growth": pd.concat(sizes, ignore_index=True)},
        distinct_inputs=distinct_inputs(context),
    )


def _metrics(judged: Mapping[tuple[str, str], dict[str, Growth]]) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for (name, measure), growth in judged.items():
        suffix, short = "" if name == TRAINED else "_untrained", SHORT[measure]
        grown = sum(g.grown for g in growth.values())
        metrics[f"actions_grown_{short}{suffix}"] = float(grown)
        for action, g in growth.items():
            metrics[f"{action}_{short}_ratio{suffix}"] = g.ratio
    for action, g in judged[TRAINED, MEAN].items():
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


def _folded(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (model, its folded rows)."""
    for name in (TRAINED, UNTRAINED):
        yield name, table.loc[(table.model == name) & (table.weights == FOLDED)]


def _sizes(spec: CongruenceSpec, rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Mean absolute congruence of each layer and action, with an interval over neurons."""
    found = []
    for (layer, action), part in rows.groupby(["layer", "action"], sort=False):  # type: ignore[misc]
        size = part.congruence.abs().to_numpy()
        low, high = bootstrap(size, spec.resamples, spec.seed)
        cosine = float(part.cosine.abs().mean())
        found.append((name, np.nan, layer, action, float(size.mean()), low, high, cosine))
    columns = ["model", "step", "layer", "action", "size", "low", "high", "cosine"]
    return pd.DataFrame(found, columns=columns)


@dataclass(frozen=True)
class Growth:
    """How a measure of one action's congruence goes from layer to layer.

    Attributes:
        sizes: By layer. ratio: Last layer over first. low, high: Its bootstrap interval over neurons.
        grown: Larger in every layer than in the one before, and the ratio above 1 beyond its interval.
    """

    sizes: list[float]
    ratio: float
    low: float
    high: float
    grown: bool


def growth_of(rows: pd.DataFrame, measure: str, resamples: int, seed: int) -> dict[str, Growth]:
    """By action, for one of :data:`MEASURES`."""
    found = {}
    for action, part in rows.groupby("action", sort=False):
        size_lf = [p.congruence.abs().to_numpy() for _, p in part.groupby("layer")]
        sizes = [float(MEASURES[measure](size_f, axis=-1)) for size_f in size_lf]
        rng = np.random.default_rng(seed)
        ends = [size_lf[0], size_lf[-1]]
        drawn = [end[rng.integers(0, len(end), (resamples, len(end)))] for end in ends]
        first, last = (MEASURES[measure](sample, axis=-1) for sample in drawn)
        low, high = np.quantile(last / np.maximum(first, 1e-12), [0.025, 0.975])
        rises = len(sizes) > 1 and bool((np.diff(sizes) > 0).all())
        ratio = sizes[-1] / max(sizes[0], 1e-12)
        found[str(action)] = Growth(sizes, ratio, float(low), float(high), rises and low > 1)
    return found


def _claim(mean: dict[str, Growth], tail: dict[str, Growth]) -> Claim:
    def by_layer(growth: dict[str, Growth]) -> str:
        return "; ".join(
            f"{action} {', '.join(f'{size:.2f}' for size in g.sizes)}"
            f" (last/first {g.ratio:.2f} [{g.low:.2f}, {g.high:.2f}])"
            for action, g in growth.items()
        )

    every, some = (kind(g.grown for g in mean.values()) for kind in (all, any))
    return Claim(
        id="congruence_grows_with_layer",
        text=f"congruence with {'/'.join(mean)} grows with layer",
        criterion="|C| rises from each layer to the next, last/first above 1 beyond its interval; depends: "
        "for some actions, or for the strongest neurons alone",
        evidence=f"{MEAN} by layer: {by_layer(mean)}; {TAIL}: {by_layer(tail)}",
        verdict=Verdict.of(every, partly=some or any(g.grown for g in tail.values())),
    )
