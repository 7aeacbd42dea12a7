"""Factorise attention scores, read OV, compose heads; everything on folded, centred weights in float64.

Letters: b window, n query token, m key token, d model, h head, e head width, a action, l layer, p part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.circuits.spec import TRAINED, UNTRAINED, CircuitsSpec
from dtx.analysis.circuits.weights import composition, ov, singular, written
from dtx.analysis.core.channels import occurring
from dtx.analysis.core.result import Check, Claim, Control, Relation, Result, Verdict, largest
from dtx.analysis.core.untrained import TWINS, seen_in, twins
from dtx.analysis.core.windows import clusters_of, distinct_inputs, positions, targets_of
from dtx.dataset.episodes import Episodes
from dtx.dt.context import Context
from dtx.dt.forward import blocks_of
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.names import attention_name, head_name, mlp_name
from dtx.dt.processing import processed
from dtx.statistics import Estimate, effective_rank, enumerated, mean_columns, next_estimate
from dtx.training.threads import one_thread

TOLERANCE = 1e-5
"""How far a factorised attention score may be from the one at run time."""
SILENT = 0.1
"""A head that writes less than this share of what heads write on average (norms of OV) is not said to compose
(2026-11-30): a composition score is relative, so that it can be high for a head that writes nothing."""


def compute(
    spec: CircuitsSpec,
    model: DecisionTransformerModel,
    context: Context,
    frame: pd.DataFrame,
    episodes: Episodes,
) -> Result:
    """Factorise scores, read OV, compose heads, of a model and of untrained ones.

    Args:
        spec: The control's first seed.
        model: Any.
        context: Windows on which scores are compared.
        frame: One row a window: window, layout, target.
        episodes: Channels of the view that occur in them are read by OV.

    Returns:
        Table ``modality``: model, target (missing where there is no decision), layer, head, query, key (kinds
        R S A), preference (score less its mean over all keys that the query sees), low, high, n, interval,
        written (norm of the head's OV, in units of the heads' mean: what a preference can do). ``parts``:
        model, layer, head, query_part, key_part, score. ``ov``: model, layer, head, token, action, value.
        ``composition``: model, kind (Q K V), source, target, score, written (of the source). ``singular``:
        model, circuit (QK OV), layer, head, rank, value. Untrained is the first of several untrained models.
    """
    channels = occurring(episodes)
    parts: dict[str, list[pd.DataFrame]] = {}
    errors, chance = [], []
    with one_thread(), torch.no_grad():
        fresh = list(twins(model, TWINS, spec.untrained, seen_in([context])))
        for name, each in {TRAINED: model, UNTRAINED: fresh[0]}.items():
            folded = processed(each, dtype=torch.float64)
            scores = Scores(folded, context)
            errors.append(scores.error())
            of_model = {
                "modality": _modality(folded, scores.total, context, frame),
                "parts": scores.table(),
                "ov": ov(folded, channels),
                "composition": composition(folded),
                "singular": singular(folded),
            }
            for table_name, table in of_model.items():
                parts.setdefault(table_name, []).append(table.assign(model=name))
        for twin in fresh:
            folded = processed(twin, dtype=torch.float64)
            modality = _modality(folded, scores_of(folded, context), context, frame)
            chance.append((_preferred(modality), _strongest(composition(folded))))
    tables = {name: pd.concat(of_models, ignore_index=True) for name, of_models in parts.items()}
    return _result(tables, chance, largest(errors), distinct_inputs(context))


def _preferred(modality: pd.DataFrame) -> float:
    """The largest preference of any head for any kind of token, at any reward-to-go, either way."""
    return float(modality.preference.abs().max())


def _strongest(composition: pd.DataFrame) -> float:
    """The highest score of two heads of which the first writes something; NaN with one layer."""
    heard = composition[composition.written >= SILENT]
    return float(heard.score.max()) if len(heard) else math.nan


def _result(
    tables: Mapping[str, pd.DataFrame],
    chance: Sequence[tuple[float, float]],
    error: float,
    distinct: int,
) -> Result:
    check = Check(
        name="the parts of attention scores add up to those at run time",
        error=error,
        tolerance=TOLERANCE,
    )
    metrics = _ranks(tables["singular"])
    modality, composed = (
        tables[name].query(f"model == '{TRAINED}'") for name in ("modality", "composition")
    )
    first = modality.loc[modality.preference.abs().idxmax()]
    # The same head may prefer either way: its interval is turned with its sign.
    sign = 1.0 if first.preference > 0 else -1.0
    low, high = sorted((sign * first.low, sign * first.high))
    preference = Estimate(abs(first.preference), low, high, int(first.n), first.interval)
    untrained_preference = next_estimate([each for each, _ in chance])
    control = Control.of(
        "largest preference of a head for a kind of token, beside one more untrained model's largest",
        preference,
        Relation.ABOVE,
        untrained_preference,
    )
    highest = enumerated(_strongest(composed), len(composed), of="pairs of heads")
    limit = next_estimate([score for _, score in chance])
    metrics |= {
        "preference_max": preference.value,
        "preference_untrained_max": untrained_preference.value,
        "composition_max": highest.value,
        "composition_untrained_max": limit.value,
        "composition_untrained_high": limit.high,
    }
    if len(composed):
        metrics["composition_above_untrained"] = float((composed.score > limit.high).mean())
    at = "" if math.isnan(first.target) else f" at reward-to-go {first.target:g}"
    finding = (
        f"{head_name(first.layer, first['head'])} scores {first.key} tokens {first.preference:+.2f} "
        f"[{first.low:+.2f}, {first.high:+.2f}] ({first.interval}) beside what its {first['query']} tokens "
        f"see on average{at}, and writes {first.written:.2f} of what heads write on average (untrained: at "
        f"most {untrained_preference.high:.2f}); factorised scores are those at run time within "
        f"{error:.1e}, {distinct} distinct windows"
    )
    return Result(
        finding=finding,
        metrics=metrics,
        checks=[check],
        controls=[control],
        claims=[_claim(composed, highest, limit)],
        tables=tables,
        distinct_inputs=distinct,
    )


def _claim(composed: pd.DataFrame, highest: Estimate, limit: Estimate) -> Claim:
    """Whether a head reads what an earlier one writes, more than two heads of random weights."""
    if math.isnan(highest.value):
        evidence, verdict = (
            "no two heads in different layers write anything",
            Verdict.NOT_APPLICABLE,
        )
    else:
        heard = composed[composed.written >= SILENT]
        best = heard.loc[heard.score.idxmax()]
        evidence = (
            f"{best.source} -> {best.target} ({best.kind}) {best.score:.3f}, the strongest of {len(heard)}; "
            f"one more untrained model's strongest [{limit.low:.3f}, {limit.high:.3f}]; {best.source} writes "
            f"{best.written:.2f} of what heads write on average"
        )
        verdict = Verdict.judge([Relation.ABOVE.decides(highest, limit)])
    return Claim(
        id="heads_compose",
        text="heads compose",
        criterion="the strongest composition of two heads is above where the strongest of one more untrained "
        f"model lies ({TWINS} were drawn); heads that write under {SILENT:g} of the mean do not count",
        evidence=evidence,
        verdict=verdict,
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
            parts[attention_name(layer)] = cache[f"blocks.{layer}.hook_attn_out"]
            parts[mlp_name(layer)] = cache[f"blocks.{layer}.hook_mlp_out"]

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


def scores_of(model: DecisionTransformerModel, context: Context) -> list[Tensor]:
    """Attention scores (b, h, n, m) by layer at run time, of a model in float64."""
    names = [f"blocks.{layer}.attn.hook_attn_scores" for layer in range(model.cfg.n_layers)]
    _, cache = model.run_with_cache(context.to(torch.float64), names_filter=names)
    return [cache[name] for name in names]


def _modality(
    model: DecisionTransformerModel,
    scores: Sequence[Tensor],
    context: Context,
    frame: pd.DataFrame,
) -> pd.DataFrame:
    """What each kind of query prefers: scores less their mean over the keys that the query sees."""
    kind_n = np.array([name[0] for name in positions(context)])
    visible_nm = np.tril(np.ones((len(kind_n), len(kind_n)), bool))
    written_lh, tables = written(model), []
    for layer, score in enumerate(scores):
        score_bhnm = np.where(visible_nm, score.numpy(), 0.0)
        score_bhnm = score_bhnm - score_bhnm.sum(-1, keepdims=True) / visible_nm.sum(-1)[:, None]
        for query in dict.fromkeys(kind_n):
            for key in dict.fromkeys(kind_n):
                pair = visible_nm & (kind_n == query)[:, None] & (kind_n == key)[None, :]
                preference_bh = score_bhnm[:, :, pair].mean(-1)
                for target, rows in targets_of(frame):
                    found = mean_columns(preference_bh[rows], **clusters_of(frame.iloc[rows]))
                    where = {"target": target, "layer": layer, "head": range(len(found))}
                    what = {"query": query, "key": key, "preference": found.value}
                    beside = {"written": written_lh[layer].numpy()}
                    tables.append(pd.DataFrame({**where, **what, **found.columns(), **beside}))
    return pd.concat(tables, ignore_index=True)
