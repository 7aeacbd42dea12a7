"""Which nodes the decision needs: means over windows beside random directions and random nodes.

Letters: b window.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from dtx.analysis.ablation.choice import Choice
from dtx.analysis.ablation.data import data_of
from dtx.analysis.ablation.effects import effects_of, ranking_of
from dtx.analysis.ablation.identities import self_change, together
from dtx.analysis.ablation.nodes import AblatedNode, nodes_of
from dtx.analysis.ablation.spec import ALL, AblationSpec
from dtx.analysis.ablation.sweep import Ablations
from dtx.analysis.core.result import Check, Control, Relation, Result
from dtx.analysis.core.windows import distinct_inputs
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.names import HEAD, NEURON
from dtx.errors import UserError
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
    turns_b: np.ndarray | None = None,
) -> Result:
    """Ablate everything that the settings ask for.

    Args:
        spec: What is ablated, how, and the controls.
        model: Any.
        context: Windows of equal length, whose last state is looked at.
        frame: One row a window: window, layout ("" where there are none), target.
        reference: Windows of data, for means and donors.
        turns_b: (b,) side of the right turn; see :func:`dtx.analysis.ablation.choice.turn_signs`.

    Returns:
        Table ``windows``: one row a method, node and window: change (of the logit difference, positive
        towards the choice that the whole model makes), kl (nats, of the ablated policy from the whole one),
        flip (share of donors at which the greedy action changes). ``effects``: means by method, node and
        target with the change's interval (over donors where they are drawn; layouts are all there are), gap
        (the logit difference that is decided), share of it, random_95 and random_size: the 95% quantile and
        the root mean square of what random directions bring, missing for neurons that are not shown, p,
        random_node (what a node of the kind brings that is not beyond them: their median), needed and
        hinders; see :mod:`dtx.analysis.ablation.effects`. ``ranking``: the same rows, by method and target
        the largest change first.

    Raises:
        UserError: The model has no such node or layer.
    """
    for field, problem in spec.misfits(model.cfg):
        raise UserError(f"analysis.ablation.{field}: {problem}")
    silent = [AblatedNode.parse(name) for name in spec.silent]
    with one_thread(), model.hooks(fwd_hooks=[node.silence() for node in silent]):
        data = data_of(spec, model, context, reference)
        nodes = nodes_of(model, spec.neurons)
        ablations = Ablations(spec, model, context, frame, nodes, data, bool(silent), turns_b)
        windows, draws, random = ablations.run()
        unchanged, parts = self_change(ablations), together(ablations)
    choice = ablations.choice
    effects = effects_of(spec, windows, draws, random, choice, model.cfg.d_model)
    ranking = ranking_of(spec, effects)
    checks = {"a window resampled from itself is unchanged": unchanged}
    checks |= {TOGETHER[kind]: error for kind, error in parts.items()}
    by_method = list(ranking.groupby("method", sort=False))
    return Result(
        finding="; ".join(
            [_decided(spec, choice), *(_of_method(m, rows) for m, rows in by_method)]
        ),
        metrics={
            "self_change": unchanged,
            "distinct_reference": float(distinct_inputs(reference)),
            "token_for_token": float(data.aligned),
            **{f"ld_at_{target}": gap for target, gap in choice.gap.items()},
            **_metrics(ranking),
        },
        checks=[
            Check(name=name, error=error, tolerance=spec.tolerance)
            for name, error in checks.items()
        ],
        controls=[
            Control(
                name="nodes with an effect beyond random directions and random nodes, by Holm's method "
                f"among {len(rows)}, ablation {method}",
                value=float((rows.needed | rows.hinders).sum()),
                must_be=Relation.ABOVE,
                against=0,
            )
            for method, rows in by_method
        ],
        problems=list(_problems(spec, choice, windows, reference)),
        tables={"windows": windows, "effects": effects, "ranking": ranking},
        distinct_inputs=distinct_inputs(context),
    )


def _problems(
    spec: AblationSpec, choice: Choice, windows: pd.DataFrame, reference: Context
) -> Iterator[str]:
    """Why nothing is established: nothing is decided, or nothing was ablated as far as one can see."""
    if max(choice.gap.values()) < spec.min_ld_gap:
        yield f"there is no decision that a node could be needed for: {_decided(spec, choice)}"
    for method, rows in windows.groupby("method", sort=False):
        if not (rows.change.abs() > spec.tolerance).any():
            yield f"ablation {method} changes no logit difference, whatever node in whatever window"
    if spec.from_data and distinct_inputs(reference) < 2:
        yield "all windows of data are the same one: outputs have no mean and no other donor"


def _decided(spec: AblationSpec, choice: Choice) -> str:
    """The logit differences that are decided, by reward-to-go."""
    parts = [
        f"{_at(target)} {gap:.2f}" + ("" if gap >= spec.min_ld_gap else " (no decision)")
        for target, gap in choice.gap.items()
    ]
    what = "on the side of one turn in all layouts" if choice.by_turns else "towards the choice"
    return f"{spec.contrast} logit difference {what}: {', '.join(parts)}"


def _at(target: str) -> str:
    return "as recorded" if target == ALL else f"at RTG {target}"


def _of_method(method: str, ranking: pd.DataFrame) -> str:
    """What one method says, in words, by reward-to-go."""
    parts = []
    for target, rows in ranking.groupby("target", sort=False):
        needed, hinders = rows[rows.needed], rows[rows.hinders]
        if len(needed):
            few = ", ".join(f"{r['name']} {r.change:+.2f}" for _, r in needed.head(4).iterrows())
            words = f"{len(needed)} of {len(rows)} nodes needed, most {few}"
        else:
            top = rows.iloc[0]
            words = (
                f"no node needed beyond random ones (the largest, {top['name']}: {top.change:+.2f}, random "
                f"directions {top.random_95:.2f})"
            )
        if len(hinders):
            words += f", {len(hinders)} hinder"
        parts.append(f"{_at(str(target))} {words}")
    return f"{method}: {'; '.join(parts)}"


def _metrics(ranking: pd.DataFrame) -> dict[str, float | None]:
    """By method and reward-to-go."""
    metrics: dict[str, float | None] = {}
    for (method, target), rows in ranking.groupby(["method", "target"], sort=False):  # type: ignore[reportGeneralTypeIssues]
        top, at = rows.iloc[0], f"at_{target}"
        metrics[f"{method}_needed_{at}"] = float(rows.needed.sum())
        metrics[f"{method}_hinder_{at}"] = float(rows.hinders.sum())
        metrics[f"{method}_largest_{at}"] = float(top.change)
        metrics[f"{method}_largest_random_95_{at}"] = float(top.random_95)
    return metrics
