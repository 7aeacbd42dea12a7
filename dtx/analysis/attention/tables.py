"""Patterns of all layouts and targets as tidy tables.

Letters: r targets, y layouts, l layers, h heads, n query token, m key token, k kind of key.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dtx.analysis.attention.patterns import by_kind, choosing, total_variation, uniform
from dtx.analysis.attention.spec import INSTRUCTION, AttentionSpec
from dtx.dt.tokens import KINDS, PADDING
from dtx.dt.tokens import NamedTokens as Tokens


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


def modality(
    spec: AttentionSpec,
    pattern: np.ndarray,
    untrained: Sequence[np.ndarray],
    tokens: Tokens,
    layouts: list[str],
) -> pd.DataFrame:
    """Attention by kind of query and key, beside even attention and the mean of untrained models."""
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


def maps(
    spec: AttentionSpec, pattern: np.ndarray, tokens: Tokens, layouts: list[str]
) -> pd.DataFrame:
    """Attention from every query to every key."""
    n = len(tokens.names)
    table = _grid(
        pattern, {**_axes(spec, pattern, layouts), "query_at": [*range(n)], "key_at": [*range(n)]}
    )
    table = table[table.key_at <= table.query_at].rename(columns={"value": "attention"})
    names = np.array(tokens.names)
    table["query"], table["key"] = names[table.query_at], names[table.key_at]
    return table


def moved(
    spec: AttentionSpec, pattern: np.ndarray, tokens: Tokens, layouts: list[str]
) -> pd.DataFrame:
    """Total variation of every query's attention against that at the high target."""
    variation = total_variation(pattern, spec.targets.index(spec.high))
    real = choosing(tokens)
    names = [name for name, kept in zip(tokens.names, real, strict=True) if kept]
    table = _grid(variation[..., real], {**_axes(spec, pattern, layouts), "query": names})
    return table.rename(columns={"value": "total_variation"})


def looks(
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


def leads(table: pd.DataFrame) -> pd.DataFrame:
    """By layer, head and query kind: attention to the instruction's state minus that to an R, a column a
    target, mean over layouts."""
    columns = ["to_instruction", "to_reward_to_go"]
    mean = table.groupby(["layer", "head", "query", "target"])[columns].mean()
    lead = pd.Series(mean["to_instruction"]) - pd.Series(mean["to_reward_to_go"])
    return pd.DataFrame(lead.unstack("target"))


def switching(spec: AttentionSpec, table: pd.DataFrame) -> list[tuple[int, int, str]]:
    """(layer, head, query kind) that look at the instruction's state at the high target and at an R at the
    low one, in the mean over layouts."""
    lead = leads(table)
    switch = (lead[spec.high] >= spec.margin) & (lead[spec.low] <= -spec.margin)
    return [tuple(at) for at in lead[switch].index.tolist()]
