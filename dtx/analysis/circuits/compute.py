"""Factorise attention scores, read OV, compose heads; everything on folded, centred weights in float64.

Letters: b window, n query token, m key token, d model, h head, e head width, a action, l layer, p part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.circuits.spec import TRAINED, UNTRAINED, CircuitsSpec
from dtx.analysis.core.channels import cell_names, occurring
from dtx.analysis.core.result import Check, Control, Relation, Result, largest
from dtx.analysis.core.windows import distinct_inputs, positions
from dtx.dataset.episodes import Episodes
from dtx.dt.context import Context
from dtx.dt.forward import blocks_of
from dtx.dt.load import untrained_like
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.processing import processed
from dtx.env.actions import Action
from dtx.statistics import bootstrap, effective_rank
from dtx.training.threads import one_thread

TOLERANCE = 1e-5
"""How far a factorised attention score may be from the one at run time."""


def compute(
    spec: CircuitsSpec, model: DecisionTransformerModel, context: Context, episodes: Episodes
) -> Result:
    """Factorise scores, read OV, compose heads, of a model and of an untrained one.

    Args:
        spec: The control's seed, and intervals.
        model: Any.
        context: Windows on which scores are compared.
        episodes: Channels of the view that occur in them are read by OV.

    Returns:
        Table ``modality``: model, layer, head, query, key (kinds R S A), preference (score less its mean over
        all keys that the query sees), low, high. ``parts``: model, layer, head, query_part, key_part, score.
        ``ov``: model, layer, head, token, action, value. ``composition``: model, kind (Q K V), source,
        target, score. ``singular``: model, circuit (QK OV), layer, head, rank, value.
    """
    channels = occurring(episodes)
    parts: dict[str, list[pd.DataFrame]] = {}
    errors = []
    with one_thread(), torch.no_grad():
        models = {TRAINED: model, UNTRAINED: untrained_like(model, spec.untrained)}
        for name, each in models.items():
            folded = processed(each, dtype=torch.float64)
            scores = Scores(folded, context)
            errors.append(scores.error())
            of_model = {
                "modality": _modality(spec, scores, context),
                "parts": scores.table(),
                "ov": _ov(folded, channels),
                "composition": composition(folded),
                "singular": singular(folded),
            }
            for table_name, table in of_model.items():
                parts.setdefault(table_name, []).append(table.assign(model=name))
    tables = {name: pd.concat(of_models, ignore_index=True) for name, of_models in parts.items()}
    return _result(tables, largest(errors), distinct_inputs(context))


def _result(tables: Mapping[str, pd.DataFrame], error: float, distinct: int) -> Result:
    check = Check(
        name="the parts of attention scores add up to those at run time",
        error=error,
        tolerance=TOLERANCE,
    )
    metrics = _ranks(tables["singular"])
    controls = []
    finding = f"factorised scores are those at run time within {error:.1e}"
    score = dict(list(tables["composition"].groupby("model").score))
    if score:
        highest, limit = float(score[TRAINED].max()), float(score[UNTRAINED].max())
        control = Control(
            name="strongest composition of two heads, beside the strongest of an untrained model",
            value=highest,
            must_be=Relation.ABOVE,
            against=limit,
        )
        controls.append(control)
        metrics["composition_max"] = highest
        metrics["composition_untrained_max"] = limit
        metrics["composition_above_untrained"] = float((score[TRAINED] > limit).mean())
        metrics["established"] = float(check.holds and control.holds)
        trained = tables["composition"].query(f"model == '{TRAINED}'")
        best = trained.sort_values("score", ascending=False).iloc[0]
        finding = (
            f"strongest composition {best.source} -> {best.target} ({best.kind}) {best.score:.3f}, "
            f"untrained at most {limit:.3f}; {finding} in {distinct} distinct windows"
        )
    else:
        finding += "; one layer, no composition"
    return Result(
        finding=finding,
        metrics=metrics,
        checks=[check],
        controls=controls,
        tables=tables,
        distinct_inputs=distinct,
    )


def _ranks(singular_values: pd.DataFrame) -> dict[str, float | None]:
    """Mean effective rank of the heads by circuit and model."""
    by_head = singular_values.groupby(["model", "circuit", "layer", "head"]).value
    mean = by_head.apply(effective_rank).groupby(["model", "circuit"]).mean()
    suffix = {TRAINED: "", UNTRAINED: "_untrained"}
    return {
        f"{circuit.lower()}_effective_rank{suffix[model]}": float(mean[model, circuit])
        for model, circuit in mean.index
    }


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
        return largest(
            (total - real)[..., self.visible_nm].abs().max().item()
            for total, real in zip(self.total, self.real, strict=True)
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


def _embedded(model: DecisionTransformerModel, cache: Mapping[str, Tensor]) -> dict[str, Tensor]:
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


def _modality(spec: CircuitsSpec, scores: Scores, context: Context) -> pd.DataFrame:
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
                    of_head = preference_bh[:, head]
                    ends = bootstrap(of_head, spec.resamples, spec.seed)
                    rows.append((layer, head, query, key, float(of_head.mean()), *ends))
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
