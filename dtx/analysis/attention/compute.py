"""Patterns of all layouts and targets in one pass a model, reduced to tables and verdicts.

Letters: r targets, y layouts, l layers, h heads, n query token, m key token, k kind of key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from dtx.analysis.attention.spec import INSTRUCTION, TRAINED, AttentionSpec
from dtx.analysis.core.result import About, Check, Claim, Result, Verdict
from dtx.analysis.core.windows import distinct_inputs, join, tokens_of
from dtx.dt.context import Context
from dtx.dt.load import untrained_like
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import decision_contexts
from dtx.dt.tokens import KINDS, PADDING
from dtx.dt.tokens import NamedTokens as Tokens
from dtx.env.decision import Decision
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

TOLERANCE = 1e-5
"""By how much float32 rows may miss a sum of 1."""


def compute(spec: AttentionSpec, model: DecisionTransformerModel, decision: Decision) -> Result:
    """Compute all patterns and reduce them to tables and verdicts.

    Args:
        spec: Targets, and how many untrained models.
        model: Any.
        decision: Layouts, and the routine up to the decision.

    Returns:
        Table ``modality``: one row a layer, head, target, layout, query kind and key kind: attention, uniform
        (even over what may be seen), untrained (mean over the untrained models). ``maps``: one row a layer,
        head, target, layout, query and key token: attention. ``moved``: one row a model, layer, head, layout,
        target and query token: total variation of the query's attention against the high target's.
        ``looks``: one row a layer, head, target, layout and query kind: attention of later tokens to the
        instruction's state and to the reward-to-go token that each looks at most. Arrays ``pattern`` (r, y,
        l, h, n, m) float32 of the model, and ``tokens`` (n,), their names.
    """
    with one_thread():
        context = join(decision_contexts(model, decision, spec.targets))
        shape = (len(spec.targets), len(context) // len(spec.targets))
        pattern = patterns(model, context, shape)
        untrained = [
            patterns(untrained_like(model, spec.seed + i), context, shape)
            for i in range(spec.untrained)
        ]
    tokens, layouts = tokens_of(context, model.cfg), list(decision.layouts)
    looks = _looks(spec, pattern, tokens, layouts)
    chance = [len(switching(spec, _looks(spec, p, tokens, layouts))) for p in untrained]
    moved = pd.concat(
        [
            _moved(spec, each, tokens, layouts).assign(model=name)
            for name, each in _named(pattern, untrained)
        ],
        ignore_index=True,
    )
    metrics = _metrics(spec, pattern, untrained, tokens, moved)
    metrics["switching_heads"] = float(len(switching(spec, looks)))
    metrics["untrained_switching_heads"] = float(np.mean(chance))
    metrics["distinct_observations"] = float(len(context["table"]) - 1)
    claims = list(_claims(spec, metrics, moved, looks, max(chance)))
    return Result(
        metrics=metrics,
        checks=[
            Check(
                name="each token's attention adds up to 1",
                error=float(np.abs(pattern.sum(-1, dtype=np.float64) - 1).max()),
                tolerance=TOLERANCE,
            ),
            Check(
                name="no attention goes to later tokens",
                error=float(np.abs(np.triu(pattern, 1)).max()),
                tolerance=TOLERANCE,
            ),
        ],
        claims=claims,
        tables={
            "modality": _modality(spec, pattern, untrained, tokens, layouts),
            "maps": _maps(spec, pattern, tokens, layouts),
            "moved": moved,
            "looks": looks,
        },
        arrays={"pattern": pattern, "tokens": np.array(tokens.names)},
        distinct_inputs=distinct_inputs(context),
    )


@torch.inference_mode()
def patterns(
    model: DecisionTransformerModel, context: Context, shape: tuple[int, int]
) -> np.ndarray:
    """Attention of all layers and heads, (r, y, l, h, n, m) float32, in one forward pass."""
    _, cache = model.run_with_cache(
        context, names_filter=lambda name: name.endswith("hook_pattern")
    )
    layers = [cache[f"blocks.{i}.attn.hook_pattern"] for i in range(model.cfg.n_layers)]
    return torch.stack(layers, 1).unflatten(0, shape).numpy()


def uniform(n: int) -> np.ndarray:
    """Attention spread evenly over what may be seen, (n, m)."""
    return np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]


def by_kind(pattern: np.ndarray, tokens: Tokens) -> np.ndarray:
    """Attention summed over keys of a kind, (..., n, k) with k = R, S, A, pad."""
    kinds = np.array((*KINDS, PADDING))
    return pattern @ (tokens.kinds[:, None] == kinds).astype(pattern.dtype)


def specificity(pattern: np.ndarray, tokens: Tokens) -> np.ndarray:
    """Total variation between attention by kind of key and even attention's, (..., h, n)."""
    even = by_kind(uniform(pattern.shape[-1]), tokens)
    return np.abs(by_kind(pattern, tokens) - even).sum(-1) / 2


def _named(pattern: np.ndarray, untrained: list[np.ndarray]) -> list[tuple[str, np.ndarray]]:
    return [(TRAINED, pattern), *((f"untrained {i}", p) for i, p in enumerate(untrained))]


def _grid(values: np.ndarray, names: dict[str, list]) -> pd.DataFrame:
    """An array as a tidy table, one column an axis and ``value``."""
    index = pd.MultiIndex.from_product(names.values(), names=names.keys())
    return pd.Series(values.ravel(), index, name="value").reset_index()


def _axes(spec: AttentionSpec, pattern: np.ndarray, layouts: list[str]) -> dict[str, list]:
    return {
        "target": list(spec.targets),
        "layout": layouts,
        "layer": list(range(pattern.shape[2])),
        "head": list(range(pattern.shape[3])),
    }


def _modality(
    spec: AttentionSpec,
    pattern: np.ndarray,
    untrained: Sequence[np.ndarray],
    tokens: Tokens,
    layouts: list[str],
) -> pd.DataFrame:
    kinds = [*KINDS, PADDING]
    asking = [k for k in KINDS if tokens.of(k).any()]

    def reduced(p: np.ndarray) -> np.ndarray:
        mass = by_kind(p, tokens)
        return np.stack([mass[..., tokens.of(k), :].mean(-2) for k in asking], -2)

    axes = {**_axes(spec, pattern, layouts), "query": asking, "key": kinds}
    table = _grid(reduced(pattern), axes).rename(columns={"value": "attention"})
    even = reduced(uniform(pattern.shape[-1]))
    table["uniform"] = np.broadcast_to(even, (*pattern.shape[:4], len(asking), len(kinds))).ravel()
    table["untrained"] = np.mean([reduced(p) for p in untrained], 0).ravel()
    return table.loc[(table.key != PADDING) | tokens.of(PADDING).any()]


def _maps(
    spec: AttentionSpec, pattern: np.ndarray, tokens: Tokens, layouts: list[str]
) -> pd.DataFrame:
    n = len(tokens.names)
    table = _grid(
        pattern, {**_axes(spec, pattern, layouts), "query_at": [*range(n)], "key_at": [*range(n)]}
    )
    table = table[table.key_at <= table.query_at].rename(columns={"value": "attention"})
    names = np.array(tokens.names)
    table["query"], table["key"] = names[table.query_at], names[table.key_at]
    return table


def total_variation(pattern: np.ndarray, reference: int) -> np.ndarray:
    """Total variation of each query's attention against that at one target, (r, y, l, h, n)."""
    return np.abs(pattern - pattern[reference]).sum(-1) / 2


def _moved(
    spec: AttentionSpec, pattern: np.ndarray, tokens: Tokens, layouts: list[str]
) -> pd.DataFrame:
    variation = total_variation(pattern, spec.targets.index(spec.high))
    real = _choosing(tokens)
    names = [name for name, kept in zip(tokens.names, real, strict=True) if kept]
    table = _grid(variation[..., real], {**_axes(spec, pattern, layouts), "query": names})
    return table.rename(columns={"value": "total_variation"})


def _looks(
    spec: AttentionSpec, pattern: np.ndarray, tokens: Tokens, layouts: list[str]
) -> pd.DataFrame:
    """How states, and actions, after the first step look at the instruction's state and at any R."""
    parts = []
    for kind in ("S", "A"):
        later = tokens.of(kind)
        later[: tokens.index(INSTRUCTION) + 1] = False
        to_instruction = pattern[..., later, tokens.index(INSTRUCTION)].mean(-1)
        table = _grid(to_instruction, _axes(spec, pattern, layouts))
        at_r = pattern[..., later, :][..., tokens.of("R")]
        most = at_r.max(-1).mean(-1) if at_r.shape[-1] else np.zeros(pattern.shape[:4])
        table["to_reward_to_go"], table["query"] = most.ravel(), kind
        parts.append(table.rename(columns={"value": "to_instruction"}))
    return pd.concat(parts, ignore_index=True)


def switching(spec: AttentionSpec, looks: pd.DataFrame) -> list[tuple[int, int, str]]:
    """(layer, head, query kind) that look at the instruction's state at the high target and at an R at the
    low one, in the mean over layouts."""
    mean = looks.groupby(["layer", "head", "query", "target"])[
        ["to_instruction", "to_reward_to_go"]
    ]
    lead = mean.mean().eval("to_instruction - to_reward_to_go").unstack("target")
    switch = (lead[spec.high] >= spec.margin) & (lead[spec.low] <= -spec.margin)
    return lead[switch].index.tolist()


def _metrics(
    spec: AttentionSpec,
    pattern: np.ndarray,
    untrained: Sequence[np.ndarray],
    tokens: Tokens,
    moved: pd.DataFrame,
) -> dict[str, float | None]:
    """How specific attention is, and how far the low target moves it, by layer."""
    real = _choosing(tokens)

    def specific(p: np.ndarray, layer: int) -> float:
        return float(specificity(p, tokens)[:, :, layer][..., real].mean())

    metrics: dict[str, float | None] = {}
    against = moved[moved.target == spec.low].groupby(["model", "layer"]).total_variation.mean()
    for layer in range(pattern.shape[2]):
        metrics[f"specificity_l{layer}"] = specific(pattern, layer)
        values = against.xs(layer, level="layer")
        metrics[f"tv_l{layer}"] = float(values[TRAINED])
        metrics[f"untrained_tv_l{layer}"] = float(values.drop(TRAINED).max())
    first = _first_layer(spec, moved)
    ends = bootstrap(first.total_variation.to_numpy(), spec.resamples, spec.seed)
    metrics["tv_l0_low"], metrics["tv_l0_high"] = ends
    metrics["tv_l0_best_head"] = float(first.groupby("head").total_variation.mean().max())
    metrics["untrained_specificity_l0"] = max(specific(p, 0) for p in untrained)
    return metrics


def _first_layer(spec: AttentionSpec, moved: pd.DataFrame) -> pd.DataFrame:
    """What the low target moves in layer 0 of the model."""
    return moved.loc[(moved.model == TRAINED) & (moved.target == spec.low) & (moved.layer == 0)]


def _choosing(tokens: Tokens) -> np.ndarray:
    """(n,) bool: tokens that may look at more than themselves: real ones, but not the first."""
    real = tokens.real
    real[np.flatnonzero(real)[0]] = False
    return real


def _claims(
    spec: AttentionSpec,
    metrics: Mapping[str, Any],
    moved: pd.DataFrame,
    looks: pd.DataFrame,
    chance: int,
) -> Iterator[Claim]:
    """The study's claims about attention; ``chance``: switching heads of untrained models, at most."""
    specific, bar = metrics["specificity_l0"], metrics["untrained_specificity_l0"]
    yield Claim(
        id="specific_to_modalities",
        text="attention in layer 0 is specific to modalities",
        criterion="total variation from even attention above every untrained model's",
        evidence=f"{specific:.2f}, untrained at most {bar:.2f}",
        verdict=Verdict.of(specific > bar),
    )
    low, high, bar = (metrics[n] for n in ("tv_l0_low", "tv_l0_high", "untrained_tv_l0"))
    best = _first_layer(spec, moved).groupby("head").total_variation.mean()
    yield Claim(
        id="reward_to_go_moves_attention",
        text="reward-to-go moves attention in layer 0",
        criterion=f"total variation {spec.low:g} to {spec.high:g} above every untrained model's",
        evidence=f"{metrics['tv_l0']:.2f} [{low:.2f}, {high:.2f}], most by L0H{best.idxmax()} "
        f"{best.max():.2f}, untrained at most {bar:.2f}",
        verdict=Verdict.of(low > bar, partly=float(best.max()) > bar),
        about=About.REWARD_TO_GO,
    )
    heads = switching(spec, looks)
    first = {kind for layer, _, kind in heads if layer == 0}
    names = ", ".join(f"L{layer}H{head} from {kind}" for layer, head, kind in heads) or "no head"
    yield Claim(
        id="switches_to_reward_to_go",
        text=f"states and actions look at {INSTRUCTION} at {spec.high:g} and at an R token "
        f"at {spec.low:g}",
        criterion=f"heads of layer 0 prefer each by {spec.margin:g}, for states and for actions; "
        "untrained models have fewer",
        evidence=f"{names} (untrained: {metrics['untrained_switching_heads']:.1f})"
        + _nearest(spec, looks),
        verdict=Verdict.of(len(first) == 2 and chance < len(heads), partly=bool(heads)),
        about=About.REWARD_TO_GO,
    )


def _nearest(spec: AttentionSpec, looks: pd.DataFrame) -> str:
    """The layer-0 head whose preference for the instruction's state changes most between the targets."""
    mean = looks[looks.layer == 0].groupby(["head", "query", "target"])
    lead = mean.to_instruction.mean() - mean.to_reward_to_go.mean()
    change = lead.xs(spec.high, level="target") - lead.xs(spec.low, level="target")
    head, kind = change.idxmax()
    return (
        f"; most: L0H{head} from {kind}, {INSTRUCTION} minus R {lead[head, kind, spec.high]:+.2f} at "
        f"{spec.high:g}, {lead[head, kind, spec.low]:+.2f} at {spec.low:g}"
    )
