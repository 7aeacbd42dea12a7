"""Which nodes the decision needs: means over windows beside random directions and random nodes.

Letters: b window.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from dtx.analysis.ablation.data import data_of
from dtx.analysis.ablation.identities import self_change, together
from dtx.analysis.ablation.nodes import AblatedNode, nodes_of
from dtx.analysis.ablation.spec import ALL, HEAD, NAME, NEURON, AblationSpec
from dtx.analysis.ablation.sweep import Ablations
from dtx.analysis.core.controls import STRONGEST
from dtx.analysis.core.result import Check, Control, Relation, Result
from dtx.analysis.core.windows import distinct_inputs
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.errors import UserError
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

TOGETHER = {
    HEAD: "all heads together are their attention's output",
    NEURON: "all neurons together are their MLP's output",
}
"""The identity of the units of a kind."""


@torch.inference_mode()
def compute(
    spec: AblationSpec,
    model: DecisionTransformerModel,
    context: Context,
    frame: pd.DataFrame,
    reference: Context,
) -> Result:
    """Ablate everything that the settings ask for.

    Args:
        spec: What is ablated, how, and the controls.
        model: Any.
        context: Windows of equal length, whose last state is looked at.
        frame: One row a window: window, layout ("" where there are none), target.
        reference: Windows of data, for means and donors.

    Returns:
        Table ``windows``: one row a method, node and window: change (of the logit difference, positive
        towards the choice that the whole model makes), kl (nats, of the ablated policy from the whole one),
        flip (share of donors at which the greedy action changes). ``effects``: means by method, node and
        target with intervals, and random_95: the 95% quantile of what random directions bring; missing for
        neurons that are not shown. ``ranking``: the same over all targets, the largest first, with
        random_node (what a node of the kind brings that is not beyond its random directions: their median)
        and needed.

    Raises:
        UserError: The model has no such node or layer.
    """
    silent = list(_silent(spec, model))
    with one_thread(), model.hooks(fwd_hooks=[node.silence() for node in silent]):
        data = data_of(spec, model, context, reference)
        nodes = nodes_of(model, spec.neurons)
        ablations = Ablations(spec, model, context, frame, nodes, data, bool(silent))
        windows, random = ablations.run()
        unchanged, parts = self_change(ablations), together(ablations)
    effects = _effects(spec, windows, random, frame)
    ranking = _ranking(spec, effects)
    checks = {"a window resampled from itself is unchanged": unchanged}
    checks |= {TOGETHER[kind]: error for kind, error in parts.items()}
    ld = float(ablations.ld_b.abs().mean())
    of_methods = [
        _of_method(method, rows) for method, rows in ranking.groupby("method", sort=False)
    ]
    return Result(
        finding=f"of a {spec.contrast} logit difference of {ld:.2f}; {'; '.join(of_methods)}",
        metrics={
            "self_change": unchanged,
            "ld": ld,
            "distinct_reference": float(distinct_inputs(reference)),
            "token_for_token": float(data.aligned),
            **_metrics(ranking),
        },
        checks=[
            Check(name=name, error=error, tolerance=spec.tolerance)
            for name, error in checks.items()
        ],
        controls=[
            Control(
                name=f"nodes needed beyond random directions and random nodes, by method {method}",
                value=float(rows.needed.sum()),
                must_be=Relation.ABOVE,
                against=0,
            )
            for method, rows in ranking.groupby("method", sort=False)
        ],
        tables={"windows": windows, "effects": effects, "ranking": ranking},
        distinct_inputs=distinct_inputs(context),
    )


def _silent(spec: AblationSpec, model: DecisionTransformerModel) -> Iterator[AblatedNode]:
    """The nodes that are held at 0."""
    cfg = model.cfg
    for name in spec.silent:
        match = NAME.fullmatch(name)
        assert match  # check() has seen to it
        node = AblatedNode.parse(match)
        if node.layer >= cfg.n_layers or node.unit >= node.count(cfg):
            raise UserError(f"analysis.ablation.silent: the model has no node {name}")
        yield node
    if spec.neurons and max(spec.neurons) >= cfg.n_layers:
        raise UserError(
            f"analysis.ablation.neurons: the model has layers 0 to {cfg.n_layers - 1}, not "
            f"{max(spec.neurons)}"
        )


def _of_method(method: str, ranking: pd.DataFrame) -> str:
    """What one method says, in words."""
    needed = ranking[ranking.needed]
    if not len(needed):
        top = ranking.iloc[0]
        return (
            f"{method}: no node beyond random ones (the largest, {top['name']}: {top.change:+.2f}, "
            f"random directions {top.random_95:.2f})"
        )
    few = ", ".join(f"{r['name']} {r.change:+.2f}" for _, r in needed.head(4).iterrows())
    return f"{method}: {len(needed)} of {len(ranking)} nodes needed, most {few}"


def _metrics(ranking: pd.DataFrame) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for method, rows in ranking.groupby("method", sort=False):
        top = rows.iloc[0]
        metrics[f"{method}_needed"] = float(rows.needed.sum())
        metrics[f"{method}_largest"] = float(top.change)
        metrics[f"{method}_largest_low"] = float(top.low)
        metrics[f"{method}_largest_high"] = float(top.high)
        metrics[f"{method}_largest_random_95"] = float(top.random_95)
    return metrics


def _effects(
    spec: AblationSpec, windows: pd.DataFrame, random: pd.DataFrame, frame: pd.DataFrame
) -> pd.DataFrame:
    """Means with intervals by target, where windows are of layouts, and over all."""
    parts, chance = [windows.assign(target=ALL)], [random.assign(target=ALL)]
    if frame.layout.ne("").all():
        parts.append(windows.assign(target=windows.target.map(_number)))
        target = frame.set_index("window").target.map(_number)
        chance.append(random.assign(target=random.window.map(target)))
    by_direction = ["method", "name", "target", "direction"]
    mean = pd.concat(chance).groupby(by_direction).change.mean()
    limit = mean.abs().groupby(by_direction[:-1]).quantile(STRONGEST)
    keys = ["method", "kind", "layer", "unit", "name", "target"]
    rows = []
    for key, part in pd.concat(parts).groupby(keys, sort=False):
        means = []
        for name in ("change", "kl"):
            values = part[name].to_numpy()
            means += [values.mean(), *bootstrap(values, spec.resamples, spec.seed)]
        random_95 = limit.get((key[0], key[4], key[5]), np.nan)
        rows.append((*key, *means, part.flip.mean(), len(part), random_95))  # type: ignore[misc]
    columns = [*keys, "change", "low", "high", "kl", "kl_low", "kl_high", "flip", "windows"]
    return pd.DataFrame(rows, columns=[*columns, "random_95"])


def _number(target: float) -> str:
    return f"{target:g}"


def _ranking(spec: AblationSpec, effects: pd.DataFrame) -> pd.DataFrame:
    """Nodes over all targets, the largest first, and which of them are needed.

    A node is needed if it does more than its random directions and than random nodes of its kind.
    """
    ranking = effects[effects.target == ALL].drop(columns="target").reset_index(drop=True)
    size = ranking.change.abs()
    beyond = (size > ranking.random_95) & (size > spec.tolerance)
    by = [ranking.method, ranking.kind]
    null = size.where(~beyond).groupby(by).transform("median")
    ranking["random_node"] = null.fillna(0)  # every node of the kind is beyond its directions
    ranking["needed"] = beyond & (size > ranking.random_node)
    order = {method.value: i for i, method in enumerate(spec.methods)}
    ranking = ranking.assign(size=size, order=ranking.method.map(order))
    ranking = ranking.sort_values(["order", "size"], ascending=[True, False], kind="stable")
    return ranking.drop(columns=["size", "order"]).reset_index(drop=True)
