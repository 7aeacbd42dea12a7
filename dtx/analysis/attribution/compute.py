"""Split the logit difference into parts: exact, because weights are folded and scales are held.

Letters: b window, n token, m source token, d model, h head, e head width, f neuron, c channel,
k direction (0 is the contrast's, the rest are random), p component.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.analysis.attribution.spec import BIAS, AttributionSpec
from dtx.analysis.core.channels import cell_names
from dtx.analysis.core.controls import STRONGEST
from dtx.analysis.core.result import Check, Control, Relation, Result
from dtx.analysis.core.windows import clusters_of, distinct_inputs, positions, targets_of
from dtx.dt.context import Context
from dtx.dt.forward import blocks_of
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.names import attention_name, head_name, mlp_name
from dtx.dt.processing import Folded
from dtx.env.encoding import CHANNELS, VIEW
from dtx.statistics import Estimate, mean_columns
from dtx.training.threads import one_thread

TOLERANCE = 1e-5
"""How far the parts' sum may be from the logit difference."""


@dataclass
class Attributed:
    """The logit difference in parts.

    Attributes:
        names: Of the components. kinds: state, embedding, head, mlp or bias, for each.
        component_kbp: Contribution of each component to each direction.
        channel_bc: Of each channel of the last observation, to the contrast.
        source_blhm: Of each head by the token it reads.
        neuron_blf: Of each neuron.
        difference_b: The model's own logit difference.
        tolerance: How far the parts' sum may be from it.
    """

    names: list[str]
    kinds: list[str]
    component_kbp: Tensor
    channel_bc: Tensor
    source_blhm: Tensor
    neuron_blf: Tensor
    difference_b: Tensor
    tolerance: float = TOLERANCE

    def errors(self) -> tuple[float, float]:
        """Largest distance of a sum from the logit difference: of components, and of the finer parts."""
        coarse = self.component_kbp[0].sum(-1) - self.difference_b
        fine_b = self.channel_bc.sum(-1) + self.source_blhm.sum((1, 2, 3))
        fine_b = fine_b + self.neuron_blf.sum((1, 2))
        rest = [i for i, kind in enumerate(self.kinds) if kind in ("embedding", BIAS)]
        fine = fine_b + self.component_kbp[0][:, rest].sum(-1) - self.difference_b
        return coarse.abs().max().item(), fine.abs().max().item()


def compute(
    spec: AttributionSpec, model: DecisionTransformerModel, context: Context, frame: pd.DataFrame
) -> Result:
    """Attribute the contrast in all windows.

    Args:
        spec: Which difference, and the controls.
        model: Any.
        context: Windows of equal length, whose last state is looked at.
        frame: One row a window: window, layout, target.

    Returns:
        Table ``components``: one row a window and component: window, layout, target, ld, component, kind,
        value. ``parts``: one row a window and part: window, layout, target, ld, component, part, value.
        ``ranking``: by target one row a component, the largest support first: target, ld (mean size of the
        logit difference), component, kind, support (mean of value times the sign of the logit difference),
        low, high, n, interval, random_95 (of the largest support at any target). ``neurons``: by target one
        row of the ``spec.shown`` neurons with the largest support: target, layer, neuron, support, low, high,
        n, interval. A target is missing (NaN) where there is no decision: windows are then as recorded.
        Array ``cells`` (target, x, y): support by cell of the last view.
    """
    with one_thread():
        pair = (spec.contrast.pos.number, spec.contrast.neg.number)
        attributed = attribute(model, context, pair, spec.random_directions, spec.seed)
    frame = frame.assign(ld=attributed.difference_b.numpy())
    ranking = _ranking(attributed, frame)
    tables = {
        "components": _components(attributed, frame),
        "parts": _parts(attributed, frame, positions(context)),
        "ranking": ranking,
        "neurons": _neurons(spec, attributed, frame),
    }
    first = ranking[ranking.kind != BIAS].iloc[0]
    checks = [
        Check(name=f"{what} add up to the logit difference", error=error, tolerance=TOLERANCE)
        for what, error in zip(
            ("components", "channels, sources and neurons"), attributed.errors(), strict=True
        )
    ]
    largest = Estimate(first.support, first.low, first.high, int(first.n), first.interval)
    control = Control.of(
        "support by the largest component at any reward-to-go, beside 95% of random directions",
        largest,
        Relation.ABOVE,
        float(first.random_95),
    )
    metrics = {
        "ld": float(first.ld),
        "largest": largest.value,
        "largest_low": largest.low,
        "largest_high": largest.high,
        "random_95": float(first.random_95),
        "established": float(control.holds and all(check.holds for check in checks)),
    }
    for target, rows in targets_of(frame):
        at = "" if np.isnan(target) else f"_at_{target:g}"
        for kind in ("state", "head", "mlp"):
            metrics[f"{kind}_share{at}"] = _share(attributed, rows, kind)
    return Result(
        finding=_finding(spec, ranking, distinct_inputs(context)),
        metrics=metrics,
        checks=checks,
        controls=[control],
        tables=tables,
        arrays={"cells": _cells(attributed, frame)},
        distinct_inputs=distinct_inputs(context),
    )


def _finding(spec: AttributionSpec, ranking: pd.DataFrame, distinct: int) -> str:
    """The largest component at each reward-to-go: what carries a choice differs with it."""
    words = []
    for target, rows in ranking.groupby("target", dropna=False, sort=False):
        first = rows.iloc[0]
        at = "" if np.isnan(float(target)) else f" at reward-to-go {target:g}"
        words.append(
            f"{first.component} carries {first.support:+.2f} [{first.low:+.2f}, {first.high:+.2f}] "
            f"({first.interval}) of a {spec.contrast} logit difference of {first.ld:.2f}{at}"
        )
    limit = float(ranking.random_95.iloc[0])
    return f"{'; '.join(words)}; {distinct} distinct windows; random directions: {limit:.2f}"


@torch.no_grad()
def attribute(
    model: DecisionTransformerModel | Folded,
    context: Context,
    pair: tuple[int, int],
    random_directions: int = 0,
    seed: int = 0,
) -> Attributed:
    """Split logit[pair[0]] - logit[pair[1]] at the last state token of every window.

    Args:
        model: Plain or gated, with or without LayerNorm; or its folded weights, if the caller keeps them.
        context: Windows.
        pair: The two actions.
        random_directions: Directions of the same norm, attributed beside it.
        seed: Of those.
    """
    context = context.to(torch.float64)
    copies = model if isinstance(model, Folded) else Folded.of(model)
    logits_ba, twin = copies.exact.last_logits(context), copies.folded
    cache = _cache(twin, context)
    direction_kd = _directions(twin, pair, random_directions, seed)
    scale_b1 = cache.get("scale", torch.ones(len(context), 1, dtype=torch.float64))
    names, kinds, values = [], [], []

    def add(name: str, kind: str, written_bd: Tensor) -> None:
        names.append(name)
        kinds.append(kind)
        values.append(torch.einsum("bd,kd->kb", written_bd / scale_b1, direction_kd))

    one_hot_bc = last_observation(context)
    embed, rows = twin.embed, len(one_hot_bc)
    add("state embedding", "state", one_hot_bc @ embed.W_S)
    add("time embedding", "embedding", embed.time(context["timestep"][:, -1]))
    if twin.cfg.positional_embedding:
        place_d = twin.pos_embed.W_pos[context.shape[1] - 1]
        add("position embedding", "embedding", place_d.expand(rows, -1))
    if embed.b_S is not None:
        add("bias of the state embedding", BIAS, embed.b_S.expand(rows, -1))
    sources, neurons = [], []
    contrast_d = direction_kd[0]
    for layer, block in enumerate(blocks_of(twin)):
        attn, mlp = block.attn, block.mlp
        pattern_bhm, v_bmhe, post_bf = (
            cache[f"{layer}.{name}"] for name in ("pattern", "v", "post")
        )
        z_bhe = torch.einsum("bhm,bmhe->bhe", pattern_bhm, v_bmhe)
        for head in range(twin.cfg.n_heads):
            add(head_name(layer, head), "head", z_bhe[:, head] @ attn.W_O[head])
        add(f"bias of {attention_name(layer)}", BIAS, attn.b_O.expand(rows, -1))
        add(mlp_name(layer), "mlp", post_bf @ mlp.W_out)
        add(f"bias of {mlp_name(layer)}", BIAS, mlp.b_out.expand(rows, -1))
        read_bmh = torch.einsum("bmhe,he->bmh", v_bmhe, attn.W_O @ contrast_d)
        sources.append(torch.einsum("bhm,bmh->bhm", pattern_bhm, read_bmh) / scale_b1[..., None])
        neurons.append(post_bf * (mlp.W_out @ contrast_d) / scale_b1)
    names.append("bias of the unembedding")
    kinds.append(BIAS)
    bias = twin.unembed.b_U[pair[0]] - twin.unembed.b_U[pair[1]]
    values.append(torch.zeros(len(direction_kd), rows, dtype=torch.float64))
    values[-1][0] = bias  # random directions have none
    return Attributed(
        names=names,
        kinds=kinds,
        component_kbp=torch.stack(values, -1),
        channel_bc=one_hot_bc * (embed.W_S @ contrast_d) / scale_b1,
        source_blhm=torch.stack(sources, 1),
        neuron_blf=torch.stack(neurons, 1),
        difference_b=logits_ba[:, pair[0]] - logits_ba[:, pair[1]],
    )


def last_observation(context: Context) -> Tensor:
    """The last state of each window as a flattened one-hot (b, c)."""
    values = cast(
        dict[str, Tensor], context
    )  # a name gives a tensor, only other indices give windows
    if "one_hot" in values:
        return values["one_hot"][:, -1]
    return values["table"][values["observation"][:, -1]]


def _cache(model: DecisionTransformerModel, context: Context) -> dict[str, Tensor]:
    """What the last token's attention, neurons and final scale were."""
    kept: dict[str, Tensor] = {}
    hooks = []

    def keep(name: str, axes):
        return lambda value, hook: kept.__setitem__(name, axes(value))

    for layer in range(model.cfg.n_layers):
        place = f"blocks.{layer}"
        hooks += [
            (f"{place}.attn.hook_pattern", keep(f"{layer}.pattern", lambda x: x[:, :, -1])),
            (f"{place}.attn.hook_v", keep(f"{layer}.v", lambda x: x)),
            (f"{place}.mlp.hook_post", keep(f"{layer}.post", lambda x: x[:, -1])),
        ]
    if model.cfg.normalization_type is not None:
        hooks.append(("ln_final.hook_scale", keep("scale", lambda x: x[:, -1])))
    model.run_with_hooks(context, fwd_hooks=hooks)
    return kept


def _directions(
    model: DecisionTransformerModel, pair: tuple[int, int], count: int, seed: int
) -> Tensor:
    """(1 + count, d): the contrast's direction in the residual stream, then random ones of its norm."""
    contrast_d = model.W_U[:, pair[0]] - model.W_U[:, pair[1]]
    generator = torch.Generator().manual_seed(seed)
    noise_kd = torch.randn(count, len(contrast_d), generator=generator, dtype=torch.float64)
    if model.cfg.normalization_type is not None:
        noise_kd -= noise_kd.mean(-1, keepdim=True)  # as the contrast's: nothing written has a mean
    return torch.cat([contrast_d[None], F.normalize(noise_kd, dim=-1) * contrast_d.norm()])


def _ranking(attributed: Attributed, frame: pd.DataFrame) -> pd.DataFrame:
    """Components by how much they support the difference that there is, by target.

    The target whose largest component is largest comes first. Random directions are judged as the contrast
    is: by their best component at their best target.
    """
    value_kbp = attributed.component_kbp
    support_kbp = (value_kbp * value_kbp.sum(-1, keepdim=True).sign()).numpy()
    parts = [i for i, kind in enumerate(attributed.kinds) if kind != BIAS]
    size_b = attributed.difference_b.abs().numpy()
    tables, largest_tk = [], []
    for target, rows in targets_of(frame):
        found = _supports(support_kbp[0, rows], frame.iloc[rows])
        table = pd.DataFrame({"component": attributed.names, "kind": attributed.kinds, **found})
        table.insert(0, "ld", float(size_b[rows].mean()))
        table.insert(0, "target", target)
        tables.append(table.sort_values("support", ascending=False, ignore_index=True))
        largest_tk.append(support_kbp[1:, rows][..., parts].mean(1).max(-1))
    tables.sort(key=lambda table: -table.support[table.kind != BIAS].max())
    ranking = pd.concat(tables, ignore_index=True)
    return ranking.assign(random_95=float(np.quantile(np.max(largest_tk, 0), STRONGEST)))


def _supports(support_bx: np.ndarray, frame: pd.DataFrame) -> dict[str, Any]:
    """Mean support of each column with its interval over layouts, or over windows where there are none."""
    found = mean_columns(support_bx, **clusters_of(frame))
    return {"support": found.value, **found.columns()}


def _neurons(spec: AttributionSpec, attributed: Attributed, frame: pd.DataFrame) -> pd.DataFrame:
    """The neurons that support or oppose the difference most at each target, the largest first."""
    sign_b = attributed.difference_b.sign().numpy()
    support_blf = attributed.neuron_blf.numpy() * sign_b[:, None, None]
    tables = []
    for target, rows in targets_of(frame):
        mean_lf = support_blf[rows].mean(0)
        order = np.argsort(-np.abs(mean_lf), axis=None)[: spec.shown]
        layer, f = np.unravel_index(order, mean_lf.shape)
        found = _supports(support_blf[rows][:, layer, f], frame.iloc[rows])
        tables.append(pd.DataFrame({"target": target, "layer": layer, "neuron": f, **found}))
    return pd.concat(tables, ignore_index=True)


def _cells(attributed: Attributed, frame: pd.DataFrame) -> np.ndarray:
    """(target, x, y) support by the channels of each cell of the last view, mean over windows."""
    sign_b1 = attributed.difference_b.sign().numpy()[:, None]
    support_bc = attributed.channel_bc.numpy() * sign_b1
    mean_tc = np.stack([support_bc[rows].mean(0) for _, rows in targets_of(frame)])
    return mean_tc.reshape(-1, CHANNELS, VIEW, VIEW).sum(1)


def _share(attributed: Attributed, rows: np.ndarray, kind: str) -> float:
    """Mean over windows of what components of a kind contribute, as a share of the difference."""
    chosen = [i for i, k in enumerate(attributed.kinds) if k == kind]
    value_b = attributed.component_kbp[0][rows][:, chosen].sum(-1)
    difference_b = attributed.difference_b[rows]
    return float((value_b * difference_b.sign()).sum() / difference_b.abs().sum())


def _components(attributed: Attributed, frame: pd.DataFrame) -> pd.DataFrame:
    value_bp = attributed.component_kbp[0].numpy()
    parts = [
        frame.assign(component=name, kind=attributed.kinds[p], value=value_bp[:, p])
        for p, name in enumerate(attributed.names)
    ]
    return pd.concat(parts, ignore_index=True)


def _parts(attributed: Attributed, frame: pd.DataFrame, tokens: list[str]) -> pd.DataFrame:
    """Long form of the fine level: active channels, heads by source token, neurons."""
    channel_bc = attributed.channel_bc.numpy()
    window, channel = np.nonzero(channel_bc)
    names = np.array(cell_names())[channel]
    tables = [_long(frame, "state embedding", window, names, channel_bc[window, channel])]
    for layer in range(attributed.source_blhm.shape[1]):
        for head in range(attributed.source_blhm.shape[2]):
            value_bm = attributed.source_blhm[:, layer, head].numpy()
            tables.append(_grid(frame, head_name(layer, head), tokens, value_bm))
        value_bf = attributed.neuron_blf[:, layer].numpy()
        neurons = [str(f) for f in range(value_bf.shape[1])]
        tables.append(_grid(frame, mlp_name(layer), neurons, value_bf))
    return pd.concat(tables, ignore_index=True)


def _grid(frame: pd.DataFrame, component: str, names: list[str], value: np.ndarray) -> pd.DataFrame:
    window, part = np.indices(value.shape).reshape(2, -1)
    return _long(frame, component, window, np.array(names)[part], value.ravel())


def _long(
    frame: pd.DataFrame, component: str, window: np.ndarray, part: np.ndarray, value: np.ndarray
) -> pd.DataFrame:
    rows = frame.iloc[window].reset_index(drop=True)
    return rows.assign(component=component, part=part, value=value)
