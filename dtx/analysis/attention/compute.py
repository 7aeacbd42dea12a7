"""Patterns of all layouts and targets in one pass a model, reduced to tables and verdicts.

Letters: r targets, y layouts, l layers, h heads, n query token, m key token, k kind of key.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dtx.analysis.attention import Attention
from dtx.analysis.core.claims import Claim, verdict
from dtx.analysis.core.inputs import distinct_inputs
from dtx.analysis.core.windows import KINDS, PADDING, Tokens, join, tokens_of
from dtx.dt.context import Context
from dtx.dt.load import load_at, untrained_like
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import decision_contexts
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

TOLERANCE = 1e-5
"""By how much float32 rows may miss a sum of 1."""
INSTRUCTION = "S1"
"""The state token of the first step, from which the instruction is seen."""


@dataclass
class Results:
    """What was found.

    Attributes:
        modality: One row a layer, head, target, layout, query kind and key kind: attention, uniform (even
            over what may be seen), untrained (mean over the untrained models).
        maps: One row a layer, head, target, layout, query and key token: attention.
        moved: One row a model, layer, head, layout, target and query token: total variation of the query's
            attention against the high target's.
        looks: One row a layer, head, target, layout and query kind: attention of later tokens to the
            instruction's state and to the reward-to-go token that each looks at most.
        headline: ``attention/*`` numbers.
        claims: With verdicts. failed: Identities that did not hold.
        pattern: (r, y, l, h, n, m) float32 of the trained model. tokens: Their names.
    """

    modality: pd.DataFrame
    maps: pd.DataFrame
    moved: pd.DataFrame
    looks: pd.DataFrame
    headline: dict[str, float | None]
    claims: list[Claim]
    failed: list[str]
    pattern: np.ndarray
    tokens: Tokens


def measure(stage: Attention) -> Results:
    """Compute all patterns and reduce them."""
    model = load_at(stage.dt, stage.checkpoint, stage.env)
    with one_thread():
        context = join(decision_contexts(model, stage.env, stage.targets))
        shape = (len(stage.targets), len(context) // len(stage.targets))
        pattern = patterns(model, context, shape)
        untrained = [
            patterns(untrained_like(model, stage.seed + i), context, shape)
            for i in range(stage.untrained)
        ]
    tokens = tokens_of(context, model.cfg)
    layouts = stage.env.layouts()  # type: ignore[attr-defined]
    looks = _looks(stage, pattern, tokens, layouts)
    moved = pd.concat(
        [
            _moved(stage, each, tokens, layouts).assign(model=name)
            for name, each in _named(pattern, untrained)
        ],
        ignore_index=True,
    )
    headline, claims = _judge(stage, pattern, untrained, tokens, moved, looks)
    error = float(np.abs(pattern.sum(-1, dtype=np.float64) - 1).max())
    future = float(np.abs(np.triu(pattern, 1)).max())
    headline |= {
        "attention/identity_error": max(error, future),
        "attention/distinct_inputs": distinct_inputs(context),
        "attention/distinct_observations": len(context["table"]) - 1,
    }
    failed = [] if max(error, future) < TOLERANCE else [f"rows add to 1 within {error:.1g} only"]
    return Results(
        modality=_modality(stage, pattern, untrained, tokens, layouts),
        maps=_maps(stage, pattern, tokens, layouts),
        moved=moved,
        looks=looks,
        headline=headline,
        claims=claims,
        failed=failed,
        pattern=pattern,
        tokens=tokens,
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
    return [("trained", pattern), *((f"untrained {i}", p) for i, p in enumerate(untrained))]


def _grid(values: np.ndarray, names: dict[str, list]) -> pd.DataFrame:
    """An array as a tidy table, one column an axis and ``value``."""
    index = pd.MultiIndex.from_product(names.values(), names=names.keys())
    return pd.Series(values.ravel(), index, name="value").reset_index()


def _axes(stage: Attention, pattern: np.ndarray, layouts: list[str]) -> dict[str, list]:
    return {
        "target": list(stage.targets),
        "layout": layouts,
        "layer": list(range(pattern.shape[2])),
        "head": list(range(pattern.shape[3])),
    }


def _modality(stage, pattern, untrained, tokens: Tokens, layouts) -> pd.DataFrame:
    kinds = [*KINDS, PADDING]
    asking = [k for k in KINDS if tokens.of(k).any()]

    def reduced(p: np.ndarray) -> np.ndarray:
        mass = by_kind(p, tokens)
        return np.stack([mass[..., tokens.of(k), :].mean(-2) for k in asking], -2)

    axes = {**_axes(stage, pattern, layouts), "query": asking, "key": kinds}
    table = _grid(reduced(pattern), axes).rename(columns={"value": "attention"})
    even = reduced(uniform(pattern.shape[-1]))
    table["uniform"] = np.broadcast_to(even, (*pattern.shape[:4], len(asking), len(kinds))).ravel()
    table["untrained"] = np.mean([reduced(p) for p in untrained], 0).ravel()
    return table.loc[(table.key != PADDING) | tokens.of(PADDING).any()]


def _maps(stage, pattern, tokens: Tokens, layouts) -> pd.DataFrame:
    n = len(tokens.names)
    table = _grid(
        pattern, {**_axes(stage, pattern, layouts), "query_at": [*range(n)], "key_at": [*range(n)]}
    )
    table = table[table.key_at <= table.query_at].rename(columns={"value": "attention"})
    names = np.array(tokens.names)
    table["query"], table["key"] = names[table.query_at], names[table.key_at]
    return table


def total_variation(pattern: np.ndarray, reference: int) -> np.ndarray:
    """Total variation of each query's attention against that at one target, (r, y, l, h, n)."""
    return np.abs(pattern - pattern[reference]).sum(-1) / 2


def _moved(stage, pattern, tokens: Tokens, layouts) -> pd.DataFrame:
    variation = total_variation(pattern, stage.targets.index(stage.high))
    real = tokens.real
    real[np.flatnonzero(real)[0]] = False  # the first token can look at nothing else
    names = [name for name, kept in zip(tokens.names, real, strict=True) if kept]
    table = _grid(variation[..., real], {**_axes(stage, pattern, layouts), "query": names})
    return table.rename(columns={"value": "total_variation"})


def _looks(stage, pattern, tokens: Tokens, layouts) -> pd.DataFrame:
    """How states, and actions, after the first step look at the instruction's state and at any R."""
    parts = []
    for kind in ("S", "A"):
        later = tokens.of(kind)
        later[: tokens.index(INSTRUCTION) + 1] = False
        to_instruction = pattern[..., later, tokens.index(INSTRUCTION)].mean(-1)
        table = _grid(to_instruction, _axes(stage, pattern, layouts))
        at_r = pattern[..., later, :][..., tokens.of("R")]
        most = at_r.max(-1).mean(-1) if at_r.shape[-1] else np.zeros(pattern.shape[:4])
        table["to_reward_to_go"], table["query"] = most.ravel(), kind
        parts.append(table.rename(columns={"value": "to_instruction"}))
    return pd.concat(parts, ignore_index=True)


def switching(stage: Attention, looks: pd.DataFrame) -> list[tuple[int, int, str]]:
    """(layer, head, query kind) that look at the instruction's state at the high target and at an R at the
    low one, in the mean over layouts."""
    mean = looks.groupby(["layer", "head", "query", "target"])[
        ["to_instruction", "to_reward_to_go"]
    ]
    lead = mean.mean().eval("to_instruction - to_reward_to_go").unstack("target")
    found = (lead[stage.high] >= stage.margin) & (lead[stage.low] <= -stage.margin)
    return lead[found].index.tolist()


def _judge(stage, pattern, untrained, tokens, moved, looks):
    """Headline numbers and claims."""
    headline: dict[str, float | None] = {}
    real = tokens.real
    real[np.flatnonzero(real)[0]] = False
    specific = [
        specificity(p, tokens)[:, :, 0][..., real].mean() for _, p in _named(pattern, untrained)
    ]
    against = moved[moved.target == stage.low].groupby(["model", "layer"]).total_variation.mean()
    for layer in range(pattern.shape[2]):
        headline[f"attention/specificity_l{layer}"] = float(
            specificity(pattern, tokens)[:, :, layer][..., real].mean()
        )
        values = against.xs(layer, level="layer")
        headline[f"attention/tv_l{layer}"] = float(values["trained"])
        headline[f"attention/untrained_tv_l{layer}"] = float(values.drop("trained").max())
    mine = moved[(moved.model == "trained") & (moved.target == stage.low) & (moved.layer == 0)]
    interval = bootstrap(mine.total_variation.to_numpy(), stage.resamples, stage.seed)
    by_head = mine.groupby("head").total_variation.mean()
    headline |= {
        "attention/tv_l0_low": interval[0],
        "attention/tv_l0_high": interval[1],
        "attention/tv_l0_best_head": float(by_head.max()),
        "attention/untrained_specificity_l0": float(max(specific[1:])),
    }
    heads = switching(stage, looks)
    layouts = looks.layout.unique().tolist()
    chance = [len(switching(stage, _looks(stage, p, tokens, layouts))) for p in untrained]
    headline["attention/switching_heads"] = len(heads)
    headline["attention/untrained_switching_heads"] = float(np.mean(chance))
    first = {kind for layer, _, kind in heads if layer == 0}
    bar = float(against.xs(0, level="layer").drop("trained").max())
    claims = [
        Claim(
            claim="attention in layer 0 is specific to modalities",
            wanted="total variation from even attention above every untrained model's",
            found=f"{specific[0]:.2f}, untrained at most {max(specific[1:]):.2f}",
            verdict=verdict(specific[0] > max(specific[1:])),
        ),
        Claim(
            claim="reward-to-go moves attention in layer 0",
            wanted=f"total variation {stage.low:g} to {stage.high:g} above every untrained model's",
            found=f"{headline['attention/tv_l0']:.2f} [{interval[0]:.2f}, {interval[1]:.2f}], most by L0H"
            f"{by_head.idxmax()} {by_head.max():.2f}, untrained at most {bar:.2f}",
            verdict=verdict(interval[0] > bar, partly=float(by_head.max()) > bar),
        ),
        Claim(
            claim=f"states and actions look at {INSTRUCTION} at {stage.high:g} and at an R token "
            f"at {stage.low:g}",
            wanted=f"heads of layer 0 prefer each by {stage.margin:g}, for states and for actions; "
            "untrained models have fewer",
            found=(
                ", ".join(f"L{layer}H{head} from {kind}" for layer, head, kind in heads)
                or "no head"
            )
            + f" (untrained: {np.mean(chance):.1f})"
            + _nearest(stage, looks),
            verdict=verdict(len(first) == 2 and max(chance) < len(heads), partly=bool(heads)),
        ),
    ]
    return headline, claims


def _nearest(stage: Attention, looks: pd.DataFrame) -> str:
    """The layer-0 head whose preference for the instruction's state changes most between the targets."""
    mean = looks[looks.layer == 0].groupby(["head", "query", "target"])
    lead = mean.to_instruction.mean() - mean.to_reward_to_go.mean()
    change = lead.xs(stage.high, level="target") - lead.xs(stage.low, level="target")
    head, kind = change.idxmax()
    return (
        f"; most: L0H{head} from {kind}, {INSTRUCTION} minus R {lead[head, kind, stage.high]:+.2f} at "
        f"{stage.high:g}, {lead[head, kind, stage.low]:+.2f} at {stage.low:g}"
    )
