"""Every rewriting of weights, of a model and of the same model with random LayerNorms."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import torch

from dtx.analysis.core.result import About, Check, Control, Relation, Result
from dtx.analysis.core.windows import distinct_inputs
from dtx.analysis.equivalence.spec import GIVEN, RANDOM, READ_BACK, WRONG, EquivalenceSpec
from dtx.dt.context import Context
from dtx.dt.layers import LayerNorm
from dtx.dt.model import DecisionTransformerModel, load, save
from dtx.dt.processing import EXACT, BiasedGatedMLP, Rewriting, blocks_of, copy_of, processed
from dtx.training.threads import one_thread

CHAINS: dict[str, tuple[Rewriting, ...]] = {
    "fold LayerNorm": (Rewriting.fold_layer_norm,),
    "centre what is written": (Rewriting.centre_writing,),
    "centre what is read": (Rewriting.fold_layer_norm, Rewriting.centre_reading),
    "fold values' biases": (Rewriting.fold_value_biases,),
    "all exact steps": EXACT,
    "centre the unembedding": (*EXACT, Rewriting.centre_unembedding),
}
"""Name and steps of each rewriting; the last is compared up to one number added to all logits."""


def compute(
    spec: EquivalenceSpec, model: DecisionTransformerModel, contexts: Mapping[str, Context]
) -> Result:
    """Compare the logits of a model with those of its rewritings.

    Args:
        spec: What counts as the same, and the seed of the random LayerNorms.
        model: Any.
        contexts: Windows by name.

    Returns:
        Table ``differences``: one row a model, rewriting, number type and kind of windows: model, rewriting,
        dtype, windows, max_logit_diff, same, control.
    """
    rows = []
    with one_thread():
        for name, each in ((GIVEN, model), (RANDOM, with_random_norms(model, spec.seed))):
            for dtype in (torch.float32, torch.float64):
                for rewriting, twin in _twins(each, dtype):
                    rows += [
                        (name, rewriting, str(dtype).removeprefix("torch."), windows, value)
                        for windows, value in _differences(each, twin, rewriting, contexts)
                    ]
        rounding = max(_rounding(model, context) for context in contexts.values())
    columns = ["model", "rewriting", "dtype", "windows", "max_logit_diff"]
    table = pd.DataFrame(rows, columns=columns)
    # The identity is mathematics and is held to the tolerance in float64. In float32 no rewriting can be
    # closer than the model is to itself.
    limits = {"float64": spec.tolerance, "float32": max(spec.tolerance, 10 * rounding)}
    table["same"] = table.max_logit_diff < table.dtype.map(limits)
    table["control"] = table.rewriting == WRONG
    distinct = sum(map(distinct_inputs, contexts.values()))
    return _result(spec, table, limits, rounding, distinct)


def _result(
    spec: EquivalenceSpec,
    table: pd.DataFrame,
    limits: Mapping[str, float],
    rounding: float,
    distinct: int,
) -> Result:
    exact, wrong = table[~table.control], table[table.control]
    worst = {dtype: _worst(exact, dtype) for dtype in limits}
    # A model without LayerNorm has nothing to fold, so that nothing can be left out.
    change = float(wrong.max_logit_diff.max()) if len(wrong) else None
    controls = []
    if change is not None:
        name = "change of a logit by a fold that leaves out a matrix"
        controls.append(
            Control(name=name, value=change, must_be=Relation.ABOVE, against=spec.tolerance)
        )
    finding = (
        f"largest change of a logit {worst['float64']:.1e} (in float32 {worst['float32']:.1e}, the "
        f"model's own rounding {rounding:.1e}) in {distinct} distinct windows"
    )
    if change is not None:
        finding += f"; a fold that leaves out a matrix: {change:.1e}"
    return Result(
        finding=finding,
        metrics={
            "max_logit_diff": worst["float64"],
            "max_logit_diff_float32": worst["float32"],
            "rounding_float32": rounding,
            "wrong_fold_diff": change,
            "control_is_seen": float(all(control.holds for control in controls)),
            "equivalent": float(bool(exact.same.all())),
        },
        checks=list(_checks(exact, limits)),
        controls=controls,
        tables={"differences": table},
        distinct_inputs=distinct,
        about=About.INSTRUMENT,
    )


def _checks(exact: pd.DataFrame, limits: Mapping[str, float]) -> Iterator[Check]:
    """One a rewriting and number type, over both models and all windows."""
    for (name, dtype), part in exact.groupby(["rewriting", "dtype"], sort=False):  # type: ignore[misc]
        # A NaN must not be skipped, as max() of pandas would.
        error = float(part.max_logit_diff.max(skipna=False))
        yield Check(name=f"logits after: {name}, {dtype}", error=error, tolerance=limits[dtype])


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
    twin = processed(model, (Rewriting.fold_layer_norm,), torch.float64)
    for block, own in zip(blocks_of(twin), blocks_of(copy_of(model, torch.float64)), strict=True):
        if not isinstance(block.mlp, BiasedGatedMLP):
            block.mlp.W_in.copy_(own.mlp.W_in)
            continue
        block.mlp.W_gate.copy_(own.mlp.W_gate)
        block.mlp.b_gate.zero_()
        block.mlp.b_in.add_(block.mlp.b_linear)
        block.mlp.b_linear.zero_()
    return twin.to(dtype)


def _twins(
    model: DecisionTransformerModel, dtype: torch.dtype
) -> Iterator[tuple[str, DecisionTransformerModel]]:
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
    contexts: Mapping[str, Context],
) -> Iterator[tuple[str, float]]:
    """Yield (windows, largest difference of a logit); the model computes in the twin's number type."""
    dtype = twin.W_U.dtype
    own = copy_of(model, dtype)
    for name, context in contexts.items():
        difference = own(context.to(dtype)) - twin(context.to(dtype))
        if Rewriting.centre_unembedding in CHAINS.get(rewriting, ()):
            difference = difference - difference.mean(-1, keepdim=True)
        yield name, difference.abs().max().item()


@torch.no_grad()
def _rounding(model: DecisionTransformerModel, context: Context) -> float:
    """How far the model itself in float32 is from itself in float64."""
    exact = copy_of(model, torch.float64)(context.to(torch.float64))
    return (copy_of(model, torch.float32)(context) - exact).abs().max().item()


def _worst(table: pd.DataFrame, dtype: str) -> float:
    return float(table[table.dtype == dtype].max_logit_diff.max(skipna=False))
