"""Try every rewriting of weights on a model and on its like with random LayerNorms."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
import torch

from dtx.analysis.core.inputs import distinct_inputs
from dtx.analysis.equivalence import Equivalence
from dtx.dt.context import Context
from dtx.dt.layers import LayerNorm
from dtx.dt.model import DecisionTransformerModel, load, save
from dtx.dt.processing import EXACT, BiasedGatedMLP, Step, blocks_of, copy_of, processed
from dtx.dt.provider import load_at
from dtx.training.threads import one_thread

GIVEN, RANDOM = "the model", "with random LayerNorms"
WRONG = "control: a fold that leaves out a matrix"
ALL = "all exact steps"
READ_BACK = "saved and read back"
CHAINS: dict[str, tuple[Step, ...]] = {
    "fold LayerNorm": (Step.fold_layer_norm,),
    "centre what is written": (Step.centre_writing,),
    "centre what is read": (Step.fold_layer_norm, Step.centre_reading),
    "fold values' biases": (Step.fold_value_biases,),
    ALL: EXACT,
    "centre the unembedding": (*EXACT, Step.centre_unembedding),
}
"""Name and steps of each rewriting; the last is compared up to one number added to all logits."""


def measure(stage: Equivalence) -> tuple[pd.DataFrame, dict[str, float | None]]:
    """Compare logits.

    Returns:
        One row a model, rewriting, number type and kind of windows: model, rewriting, dtype, windows
        (decision, demonstrations), max_logit_diff, same, control; and the headline.
    """
    with one_thread():
        given = load_at(stage.dt, stage.checkpoint, stage.windows.env)
        contexts = {"decision": stage.windows.deciding(given)[0]}
        contexts["demonstrations"] = stage.windows.demonstrated(given)[0]
        rows = []
        for name, model in ((GIVEN, given), (RANDOM, with_random_norms(given, stage.seed))):
            for dtype in (torch.float32, torch.float64):
                for rewriting, twin in _twins(model, dtype):
                    rows += [
                        (name, rewriting, str(dtype).removeprefix("torch."), seen, value)
                        for seen, value in _differences(model, twin, rewriting, contexts)
                    ]
    columns = ["model", "rewriting", "dtype", "windows", "max_logit_diff"]
    table = pd.DataFrame(rows, columns=columns)
    rounding = max(_rounding(given, context) for context in contexts.values())
    # The identity is mathematics and is held to the tolerance in float64. In float32 no rewriting can be
    # closer than the model is to itself.
    limit = {"float64": stage.tolerance, "float32": max(stage.tolerance, 10 * rounding)}
    table["same"] = table.max_logit_diff < table.dtype.map(limit)
    table["control"] = table.rewriting == WRONG
    real, control = table[~table.control], table[table.control]
    norms = given.cfg.normalization_type is not None
    wrong = float(control.max_logit_diff.max()) if len(control) else None
    headline = {
        "health/max_logit_diff": _worst(real, "float64"),
        "health/identity_error": _worst(real, "float64"),
        "health/max_logit_diff_float32": _worst(real, "float32"),
        "health/rounding_float32": rounding,
        "health/wrong_fold_diff": wrong,
        "health/control_is_seen": float(not norms or bool(wrong and wrong > stage.tolerance)),
        "health/equivalent": float(bool(real.same.all())),
        "health/distinct_inputs": float(sum(map(distinct_inputs, contexts.values()))),
    }
    return table, headline


def with_random_norms(model: DecisionTransformerModel, seed: int) -> DecisionTransformerModel:
    """The same model with random scales and biases of its LayerNorms and random biases elsewhere."""
    twin = copy_of(model, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    for module in twin.modules():
        if isinstance(module, LayerNorm):
            module.w.normal_(1.0, 0.3, generator=generator)
            module.b.normal_(0.0, 0.3, generator=generator)
    for name, parameter in twin.named_parameters():
        if ".b_" in name:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return twin


def wrong_fold(model: DecisionTransformerModel, dtype: torch.dtype) -> DecisionTransformerModel:
    """A fold that is wrong in each MLP.

    In a gated one as the older tool's was: W_gate stays as it is, and LayerNorm's bias goes to b_in, which is
    added after the product. In a plain one W_in stays as it is.
    """
    twin = processed(model, (Step.fold_layer_norm,), torch.float64)
    for mine, own in zip(blocks_of(twin), blocks_of(copy_of(model, torch.float64)), strict=True):
        if not isinstance(mine.mlp, BiasedGatedMLP):
            mine.mlp.W_in.copy_(own.mlp.W_in)
            continue
        mine.mlp.W_gate.copy_(own.mlp.W_gate)
        mine.mlp.b_gate.zero_()
        mine.mlp.b_in += mine.mlp.b_linear
        mine.mlp.b_linear.zero_()
    return twin.to(dtype)


def _twins(model: DecisionTransformerModel, dtype: torch.dtype):
    """Yield (name, rewritten model)."""
    for name, steps in CHAINS.items():
        yield name, processed(model, steps, dtype)
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder))
        yield READ_BACK, copy_of(load(Path(folder)), dtype)
    if model.cfg.normalization_type is not None:
        with torch.no_grad():
            yield WRONG, wrong_fold(model, dtype)


@torch.no_grad()
def _differences(
    model: DecisionTransformerModel,
    twin: DecisionTransformerModel,
    rewriting: str,
    contexts: dict[str, Context],
):
    """Yield (windows, largest difference of a logit); the model computes in the twin's number type."""
    dtype = twin.W_U.dtype
    own = copy_of(model, dtype)
    for name, context in contexts.items():
        difference = own(context.to(dtype)) - twin(context.to(dtype))
        if Step.centre_unembedding in CHAINS.get(rewriting, ()):
            difference = difference - difference.mean(-1, keepdim=True)
        yield name, difference.abs().max().item()


@torch.no_grad()
def _rounding(model: DecisionTransformerModel, context: Context) -> float:
    """How far the model itself in float32 is from itself in float64."""
    exact = copy_of(model, torch.float64)(context.to(torch.float64))
    return (copy_of(model, torch.float32)(context) - exact).abs().max().item()


def _worst(table: pd.DataFrame, dtype: str) -> float:
    return float(table[table.dtype == dtype].max_logit_diff.max())
