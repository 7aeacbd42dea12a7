"""Congruence of a model, its checkpoints and its untrained twin, and what the activations make of it.

Letters: l layer, b window, n token, d model, f neuron, a action.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from dtx.analysis.congruence import TOLERANCE, Congruence
from dtx.analysis.core.claims import Claim, verdict
from dtx.analysis.core.inputs import distinct_inputs
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel, load
from dtx.dt.processing import EXACT, Step, blocks_of, copy_of, processed
from dtx.dt.provider import load_at, untrained_like
from dtx.env.actions import Action
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

TRAINED, UNTRAINED = "trained", "untrained"
MEAN, TAIL = "mean |C|", "99th percentile of |C|"
MEASURES = {MEAN: np.mean, TAIL: partial(np.quantile, q=0.99)}
"""What grows: the typical neuron, or the strongest ones."""


@dataclass
class Results:
    """Tables and numbers of the analysis.

    Attributes:
        table: One row a weight: model (trained, untrained), weights (raw, folded), layer, neuron, action,
            congruence, cosine (of the neuron's output and the action's direction).
        growth: One row a model, step, layer and action: model, step (missing for the untrained twin and the
            last weights), layer, action, size (mean of the absolute congruence, folded), low, high, cosine.
        headline: ``congruence/*`` scalars.
        claim: What the study says of it. failed: Identities and controls that did not hold.
    """

    table: pd.DataFrame
    growth: pd.DataFrame
    headline: dict[str, float | None]
    claim: Claim
    failed: list[str]


def measure(stage: Congruence) -> Results:
    """Read the weights, check them against a run, judge growth."""
    with one_thread():
        model = load_at(stage.dt, stage.checkpoint, stage.windows.env)
        twin = untrained_like(model, stage.untrained)
        context, _ = stage.windows.deciding(model)
        error = max(identity_error(m, context) for m in (model, twin))
        tables = []
        for name, network in ((TRAINED, model), (UNTRAINED, twin)):
            for weights in ("raw", "folded"):
                rows = _rows(network, stage.actions, weights)
                tables.append(rows.assign(model=name, weights=weights))
        table = pd.concat(tables, ignore_index=True)
        growth = [_sizes(part, stage, name) for name, part in _folded(table)]
        for step, path in sorted(stage.dt.checkpoints().items()):
            rows = _rows(load(stage.dt.path, path), stage.actions, "folded")
            growth.append(_sizes(rows, stage, TRAINED).assign(step=step))
    growth = pd.concat(growth, ignore_index=True)
    judged = {
        (name, what): growth_of(part, what, stage.resamples, stage.seed)
        for name, part in _folded(table)
        for what in MEASURES
    }
    failed = (
        [] if error < TOLERANCE else [f"activations times C miss the MLP's output by {error:.1e}"]
    )
    if all(g.grown for g in judged[UNTRAINED, MEAN].values()):
        failed.append("an untrained model grows as well")
    headline: dict[str, float | None] = {
        "congruence/identity_error": error,
        "congruence/distinct_inputs": float(distinct_inputs(context)),
        "congruence/neurons": float(model.cfg.d_mlp * model.cfg.n_layers),
    }
    for (name, what), found in judged.items():
        suffix = "" if name == TRAINED else "_untrained"
        kind = "mean" if what == MEAN else "tail"
        headline[f"congruence/actions_grown_{kind}{suffix}"] = float(
            sum(g.grown for g in found.values())
        )
        for action, g in found.items():
            headline[f"congruence/{action}_{kind}_ratio{suffix}"] = g.ratio
    for action, g in judged[TRAINED, MEAN].items():
        for layer, size in enumerate(g.sizes):
            headline[f"congruence/{action}_layer{layer}"] = size
    claim = _claim(judged[TRAINED, MEAN], judged[TRAINED, TAIL])
    return Results(table, growth, headline, claim, failed)


@torch.no_grad()
def congruence(model: DecisionTransformerModel) -> torch.Tensor:
    """C (l, f, a) of a model's weights as they are, float64."""
    return model.W_out.double() @ model.W_U.double()


@torch.no_grad()
def identity_error(model: DecisionTransformerModel, context: Context) -> float:
    """Largest distance of activations times C, plus the bias, from what the MLPs add to the logits.

    The MLP's output, as the hook gives it, goes through the unembedding alone (raw weights) and through the
    final LayerNorm with its scale held as well (folded weights against the model's own LayerNorm).
    """
    context = context.to(torch.float64)
    own = copy_of(model, torch.float64)
    wanted = [
        f"blocks.{i}.{n}"
        for i in range(model.cfg.n_layers)
        for n in ("hook_mlp_out", "mlp.hook_post")
    ]
    has_norm = model.cfg.normalization_type is not None
    scale = ["ln_final.hook_scale"] if has_norm else []
    _, cache = own.run_with_cache(context, names_filter=[*wanted, *scale])
    folded = processed(model, (Step.fold_layer_norm, Step.centre_writing), torch.float64)
    worst = 0.0
    for layer, (block, twin) in enumerate(zip(blocks_of(own), blocks_of(folded), strict=True)):
        out_bnd = cache[f"blocks.{layer}.hook_mlp_out"]
        post_bnf = cache[f"blocks.{layer}.mlp.hook_post"]
        raw = post_bnf @ congruence(own)[layer] + block.mlp.b_out @ own.W_U
        worst = max(worst, (raw - out_bnd @ own.W_U).abs().max().item())
        if has_norm:
            scale_bn1 = cache["ln_final.hook_scale"]
            centred_bnd = out_bnd - out_bnd.mean(-1, keepdim=True)
            added = (centred_bnd / scale_bn1 * own.ln_final.w) @ own.W_U  # type: ignore[operator]
            mine = (post_bnf @ congruence(folded)[layer] + twin.mlp.b_out @ folded.W_U) / scale_bn1
            worst = max(worst, (mine - added).abs().max().item())
    return worst


def _rows(
    model: DecisionTransformerModel, actions: tuple[Action, ...], weights: str
) -> pd.DataFrame:
    """One row a layer, neuron and action."""
    if weights == "folded":
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


def _folded(table: pd.DataFrame):
    """Yield (model, its folded rows)."""
    for name in (TRAINED, UNTRAINED):
        yield name, table[(table.model == name) & (table.weights == "folded")]


def _sizes(rows: pd.DataFrame, stage: Congruence, name: str) -> pd.DataFrame:
    """Mean absolute congruence of each layer and action, with an interval over neurons."""
    found = []
    for (layer, action), part in rows.groupby(["layer", "action"], sort=False):  # type: ignore[misc]
        size = part.congruence.abs().to_numpy()
        low, high = bootstrap(size, stage.resamples, stage.seed)
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
    def told(found: dict[str, Growth]) -> str:
        return "; ".join(
            f"{action} {', '.join(f'{size:.2f}' for size in g.sizes)}"
            f" (last/first {g.ratio:.2f} [{g.low:.2f}, {g.high:.2f}])"
            for action, g in found.items()
        )

    every, some = (kind(g.grown for g in mean.values()) for kind in (all, any))
    return Claim(
        claim=f"congruence with {'/'.join(mean)} grows with layer",
        wanted="|C| rises from each layer to the next, last/first above 1 beyond its interval; depends: for "
        "some actions, or for the strongest neurons alone",
        found=f"{MEAN} by layer: {told(mean)}; {TAIL}: {told(tail)}",
        verdict=verdict(every, partly=some or any(g.grown for g in tail.values())),
    )
