"""Factorise attention scores, read OV, compose heads; everything on folded, centred weights in float64.

Letters: b window, n query token, m key token, d model, h head, e head width, a action, l layer, p part.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.circuits import TOLERANCE, Circuits
from dtx.analysis.core.inputs import cell_names, distinct_inputs, positions
from dtx.dt.context import Context
from dtx.dt.forward import blocks_of
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.processing import processed
from dtx.dt.provider import load_at, untrained_like
from dtx.env.actions import Action
from dtx.env.encoding import flatten, one_hot
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

TRAINED, UNTRAINED = "trained", "untrained"


def measure(stage: Circuits) -> tuple[dict[str, pd.DataFrame], dict[str, float | None]]:
    """All tables by name, and the headline.

    modality: model, layer, head, query, key (kinds R S A), preference (score less its mean over all keys
    that the query sees), low, high. parts: model, layer, head, query_part, key_part, score. ov: model, layer,
    head, token, action, value. composition: model, kind (Q K V), source, target, score. singular: model,
    circuit (QK OV), layer, head, rank, value.
    """
    with one_thread(), torch.no_grad():
        model = load_at(stage.dt, stage.checkpoint, stage.windows.env)
        context, _ = stage.windows.deciding(model)
        seen = _seen_channels(stage)
        found: dict[str, list[pd.DataFrame]] = {}
        error = 0.0
        for name, network in (
            (TRAINED, model),
            (UNTRAINED, untrained_like(model, stage.untrained)),
        ):
            twin = processed(network, dtype=torch.float64)
            scores = Scores(twin, context)
            error = max(error, scores.error())
            tables = {
                "modality": _modality(scores, context, stage),
                "parts": scores.table(),
                "ov": _ov(twin, seen),
                "composition": composition(twin),
                "singular": singular(twin),
            }
            for key, table in tables.items():
                found.setdefault(key, []).append(table.assign(model=name))
    frames = {key: pd.concat(parts, ignore_index=True) for key, parts in found.items()}
    return frames, _headline(frames, error, distinct_inputs(context))


class Scores:
    """Attention scores of every layer as sums over parts of the query's and of the key's residual stream.

    Args:
        model: Folded and centred, float64.
        context: Windows.

    Attributes:
        names: (p,) per layer: content, time, position, the outputs of earlier layers, the projection's bias.
        part_pp: By layer (h, p, p), mean over windows and visible pairs of tokens.
        total: By layer (b, h, n, m), the sum over parts. real: What the hook saw.
    """

    def __init__(self, model: DecisionTransformerModel, context: Context):
        cfg = model.cfg
        context = context.to(torch.float64)
        wanted = [
            "embed.hook_state",
            "embed.hook_action",
            "embed.hook_reward_to_go",
            "embed.hook_time",
        ]
        wanted += ["hook_pos_embed"]
        for layer in range(cfg.n_layers):
            place = f"blocks.{layer}"
            wanted += [f"{place}.hook_attn_out", f"{place}.hook_mlp_out", f"{place}.ln1.hook_scale"]
            wanted += [f"{place}.attn.hook_attn_scores"]
        _, cache = model.run_with_cache(context, names_filter=lambda name: name in wanted)
        parts: dict[str, Tensor] = _embedded(model, cache)
        self.names: list[list[str]] = []
        self.part_hpp, self.total, self.real = [], [], []
        n = context.shape[1]
        self.visible_nm = torch.ones(n, n, dtype=torch.bool).tril()
        for layer, block in enumerate(blocks_of(model)):
            attn, scale = block.attn, cache.get(f"blocks.{layer}.ln1.hook_scale", 1.0)
            stacked_pbnd = torch.stack([part / scale for part in parts.values()])
            sides = []
            for weight, bias in ((attn.W_Q, attn.b_Q), (attn.W_K, attn.b_K)):
                side = torch.einsum("pbnd,hde->pbnhe", stacked_pbnd, weight)
                sides.append(torch.cat([side, bias.expand_as(side[:1])]))
            query, key = sides
            total, means = 0.0, torch.zeros(cfg.n_heads, len(query), len(key), dtype=torch.float64)
            for i, q_bnhe in enumerate(query):
                for j, k_bmhe in enumerate(key):
                    score = torch.einsum("bnhe,bmhe->bhnm", q_bnhe, k_bmhe) / math.sqrt(cfg.d_head)
                    total = total + score
                    means[:, i, j] = score[..., self.visible_nm].mean((0, 2))
            self.names.append([*parts, "bias"])
            self.part_hpp.append(means)
            self.total.append(total)
            self.real.append(cache[f"blocks.{layer}.attn.hook_attn_scores"])
            parts[f"attention {layer}"] = cache[f"blocks.{layer}.hook_attn_out"]
            parts[f"MLP{layer}"] = cache[f"blocks.{layer}.hook_mlp_out"]

    def error(self) -> float:
        """Largest distance of a factorised score from the one at run time."""
        return max(
            (mine - real)[..., self.visible_nm].abs().max().item()
            for mine, real in zip(self.total, self.real, strict=True)
        )

    def table(self) -> pd.DataFrame:
        """One row a layer, head and pair of parts."""
        rows = [
            (layer, head, query, key, float(means[head, i, j]))
            for layer, (names, means) in enumerate(zip(self.names, self.part_hpp, strict=True))
            for head in range(len(means))
            for i, query in enumerate(names)
            for j, key in enumerate(names)
        ]
        return pd.DataFrame(rows, columns=["layer", "head", "query_part", "key_part", "score"])


def _embedded(model: DecisionTransformerModel, cache) -> dict[str, Tensor]:
    """Content, time and position of every token, each (b, n, d)."""
    contents = [cache["embed.hook_state"], cache["embed.hook_action"]]
    if model.cfg.reward_to_go:
        contents.insert(0, cache["embed.hook_reward_to_go"])
    content_bnd = torch.stack(contents, 2).flatten(1, 2)[:, :-1]
    time_btd = cache["embed.hook_time"]
    time_bnd = time_btd.repeat_interleave(len(contents), 1)[:, :-1]
    parts = {"content": content_bnd, "time": time_bnd}
    if model.cfg.positional_embedding:
        parts["position"] = cache["hook_pos_embed"]
    return parts


def _modality(scores: Scores, context: Context, stage: Circuits) -> pd.DataFrame:
    """What each kind of query prefers: scores less their mean over the keys that the query sees."""
    kind_n = np.array([name[0] for name in positions(context)])
    visible_nm, rows = scores.visible_nm.numpy(), []
    for layer, total in enumerate(scores.total):
        score_bhnm = np.where(visible_nm, total.numpy(), 0.0)
        score_bhnm = score_bhnm - score_bhnm.sum(-1, keepdims=True) / visible_nm.sum(-1)[:, None]
        for query in dict.fromkeys(kind_n):
            for key in dict.fromkeys(kind_n):
                pair = visible_nm & (kind_n == query)[:, None] & (kind_n == key)[None, :]
                preference_bh = score_bhnm[:, :, pair].mean(-1)
                for head in range(preference_bh.shape[1]):
                    mine = preference_bh[:, head]
                    ends = bootstrap(mine, stage.resamples, stage.seed)
                    rows.append((layer, head, query, key, float(mine.mean()), *ends))
    columns = ["layer", "head", "query", "key", "preference", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _ov(model: DecisionTransformerModel, seen: np.ndarray) -> pd.DataFrame:
    """What attending to a token writes to the logits, through each head alone, before any scale."""
    embed, tables = model.embed, []
    names = np.array(cell_names())[seen].tolist()
    content = [embed.W_S[torch.from_numpy(seen)], embed.W_A[: model.cfg.n_actions]]
    names += [f"action {_action(a)}" for a in range(model.cfg.n_actions)]
    if embed.W_R is not None:
        content.append(embed.W_R)
        names.append("reward-to-go, per unit")
    token_xd = torch.cat(content)
    for layer, block in enumerate(blocks_of(model)):
        read_hxe = torch.einsum("xd,hde->hxe", token_xd, block.attn.W_V)
        value_hxa = read_hxe @ block.attn.W_O @ model.unembed.W_U
        h, x, a = np.indices(value_hxa.shape).reshape(3, -1)
        tables.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "head": h,
                    "token": np.array(names)[x],
                    "action": np.array([_action(i) for i in range(model.cfg.n_actions)])[a],
                    "value": value_hxa.flatten().numpy(),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _action(number: int) -> str:
    known = list(Action)
    return known[number].value if number < len(known) else str(number)


def composition(model: DecisionTransformerModel) -> pd.DataFrame:
    """How much of what a head writes, a later head's query, key or value reads (Elhage et al., 2021).

    The Frobenius norm of the product of the two circuits over the product of their norms.
    """
    qk: dict[tuple[int, int], Tensor] = {}
    ov: dict[tuple[int, int], Tensor] = {}
    rows = []
    for layer, block in enumerate(blocks_of(model)):
        for head in range(model.cfg.n_heads):
            w = block.attn
            qk[layer, head] = w.W_Q[head] @ w.W_K[head].T
            ov[layer, head] = w.W_V[head] @ w.W_O[head]
    for source, written in ov.items():
        for target in qk:
            if target[0] <= source[0]:
                continue
            readers = {"Q": qk[target], "K": qk[target].T, "V": ov[target]}
            for kind, read in readers.items():
                size = written.norm() * read.norm()
                score = float((written @ read).norm() / size) if size > 0 else 0.0
                rows.append((kind, _head(source), _head(target), score))
    return pd.DataFrame(rows, columns=["kind", "source", "target", "score"])


def _head(place: tuple[int, int]) -> str:
    return f"L{place[0]}H{place[1]}"


def singular(model: DecisionTransformerModel) -> pd.DataFrame:
    """Singular values of each head's QK and OV matrix."""
    rows = []
    for layer, block in enumerate(blocks_of(model)):
        w = block.attn
        circuits = {
            "QK": torch.einsum("hde,hfe->hdf", w.W_Q, w.W_K),
            "OV": torch.einsum("hde,hef->hdf", w.W_V, w.W_O),
        }
        for circuit, matrix_hdd in circuits.items():
            value_hr = torch.linalg.svdvals(matrix_hdd)[:, : model.cfg.d_head]
            for head, value_r in enumerate(value_hr.tolist()):
                rows += [(circuit, layer, head, rank, value) for rank, value in enumerate(value_r)]
    return pd.DataFrame(rows, columns=["circuit", "layer", "head", "rank", "value"])


def effective_rank(values: pd.Series) -> float:
    """Participation ratio of squared singular values: 1 for one direction, r for r equal ones."""
    square = values.to_numpy() ** 2
    return float(square.sum() ** 2 / max((square**2).sum(), 1e-300))


def _seen_channels(stage: Circuits) -> np.ndarray:
    """Channels of a flattened observation that some, not all, observations of the data have."""
    episodes = stage.windows.dataset.load()
    seen = flatten(one_hot(episodes.observations)).astype(bool)
    return np.flatnonzero(seen.any(0) & ~seen.all(0))


def _headline(
    frames: dict[str, pd.DataFrame], error: float, windows: int
) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {
        "circuits/identity_error": error,
        "circuits/distinct_inputs": float(windows),
    }
    by_model = dict(list(frames["composition"].groupby("model").score))
    if by_model:
        mine, control = by_model[TRAINED], by_model[UNTRAINED]
        limit = float(control.max())
        numbers["circuits/composition_max"] = float(mine.max())
        numbers["circuits/composition_untrained_max"] = limit
        numbers["circuits/composition_above_untrained"] = float((mine > limit).mean())
        numbers["circuits/established"] = float(error < TOLERANCE and bool(mine.max() > limit))
    ranks = frames["singular"].groupby(["model", "circuit", "layer", "head"]).value
    mean = ranks.apply(effective_rank).groupby(["model", "circuit"]).mean()
    for (model, circuit), value in mean.items():  # type: ignore[misc]
        suffix = "" if model == TRAINED else "_untrained"
        numbers[f"circuits/{circuit.lower()}_effective_rank{suffix}"] = float(value)
    return numbers
