"""Identities that hold exactly in any model, however it is ablated."""

from __future__ import annotations

import torch

from dtx.analysis.ablation.data import Data
from dtx.analysis.ablation.nodes import AblatedNode
from dtx.analysis.ablation.spec import AblationMethod
from dtx.analysis.ablation.sweep import Ablations
from dtx.analysis.core.result import largest
from dtx.dt.names import ATTENTION, HEAD, MLP, NEURON


def self_change(ablations: Ablations) -> float:
    """Largest change of a logit by resampling every node of every window from itself."""
    return largest(
        _self_change(ablations, layer, kind, nodes)
        for (layer, kind), nodes in ablations.groups().items()
    )


def _self_change(ablations: Ablations, layer: int, kind: str, nodes: list[AblatedNode]) -> float:
    windows = torch.arange(len(ablations.context))
    shape = (len(windows), 1, ablations.context.shape[1])
    own = Data(
        cache=ablations.ablator.base,
        window_bdn=windows[:, None, None].expand(shape),
        token_bdn=torch.arange(shape[2]).expand(shape),
        mean_nqm=torch.zeros(0),
        context=ablations.context,
        aligned=True,
    )
    row = windows.repeat(len(nodes))
    unit = torch.tensor([node.unit for node in nodes]).repeat_interleave(len(windows))
    new = ablations.new(AblationMethod.resample, layer, kind, own)
    logits_ra = ablations.ablator.run(
        layer, kind, row, unit, lambda s, value: new(row[s], torch.zeros_like(row[s]), value)
    )
    return (logits_ra - ablations.ablator.logits_ba[row]).abs().max().item()


def together(ablations: Ablations) -> dict[str, float]:
    """Largest difference of logits between ablating all units of a component and its output, by kind.

    Means and donors of an output are those of its units through the output's weights, so heads together
    must do what the attention's output does, and neurons what the MLP's does; for zero the output becomes
    its bias.
    """
    errors: dict[str, list[float]] = {HEAD: [], NEURON: []}
    row = torch.arange(len(ablations.context))
    draw, every = torch.zeros_like(row), torch.full_like(row, -1)
    for method in ablations.spec.methods:
        for layer, block in enumerate(ablations.blocks):
            for kind, out, bias in (
                (HEAD, ATTENTION, block.attn.b_O),
                (NEURON, MLP, block.mlp.b_out),
            ):
                new, whole = (ablations.new(method, layer, of) for of in (kind, out))
                extra = bias if method is AblationMethod.zero else torch.zeros(())
                parts_ra = ablations.ablator.run(
                    layer, kind, row, every, lambda s, v, f=new: f(row[s], draw[s], v)
                )
                whole_ra = ablations.ablator.run(
                    layer,
                    out,
                    row,
                    every,
                    lambda s, v, f=whole, e=extra: f(row[s], draw[s], v) + e,
                )
                errors[kind].append((parts_ra - whole_ra).abs().max().item())
    return {kind: largest(values) for kind, values in errors.items()}
