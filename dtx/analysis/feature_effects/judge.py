"""Metrics, controls and claims of feature effects, from the tables of all dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from dtx.analysis.core.controls import spread
from dtx.analysis.core.result import About, Claim, Control, Relation, Verdict
from dtx.analysis.core.verdicts import MINIMUM
from dtx.analysis.feature_effects.curves import BASES, DIMENSIONS, FEATURES, RANDOM_FEATURES, area
from dtx.analysis.feature_effects.examine import Found
from dtx.analysis.feature_effects.spec import (
    KL,
    LD,
    MEASURES,
    OFF,
    ON,
    RANDOM,
    RETURN,
    SIDES,
    TRAINED,
    FeatureEffectsSpec,
)
from dtx.statistics import Estimate, mean_estimate

SHORT = {LD: "ld", KL: "kl", RETURN: "return"}
WORDS = {LD: "the logit difference", KL: "the policy in held-out episodes", RETURN: "the return"}
VERB = {OFF: "turning chosen features off", ON: "turning chosen features on"}
NO_RANDOM = "no live feature is left beside the chosen ones to compare them with"
NO_FEATURE = "no feature of any dictionary is ever on"

Judged = tuple[dict[str, float | None], list[Control], list[Claim], list[str]]


def judge(
    spec: FeatureEffectsSpec, tables: Mapping[str, pd.DataFrame], own: Sequence[Found]
) -> Judged:
    """Metrics, the controls of the analysis, its claims, and why nothing may be established."""
    margins = tables["margins"]
    metrics: dict[str, float | None] = {}
    claims, problems = [], []
    if not any(len(f.tables["features"]) for f in own):
        problems.append(NO_FEATURE)
    elif margins.empty or not (margins["model"] == TRAINED).to_numpy().any():
        problems.append(NO_RANDOM)
    for measure in MEASURES:
        for side in SIDES:
            some = margins[(margins["side"] == side) & (margins["measure"] == measure)]
            if some.empty:
                continue
            metrics |= _numbers(side, measure, some)
            claims.append(_exceeds(side, measure, some))
    if not problems:
        metrics |= _ratio(margins)
    if "sets" in tables and len(tables["sets"]):
        more, claim = _curves(tables["sets"])
        metrics |= more
        claims.append(claim)
    if "edges" in tables and len(tables["edges"]):
        metrics |= _agreement(tables["edges"])
    return metrics, list(_controls(own)), claims, problems


def _numbers(side: str, measure: str, some: pd.DataFrame) -> dict[str, float | None]:
    own = some[some["model"] == TRAINED]
    other = some[some["model"] != TRAINED]
    name = f"{side}_{SHORT[measure]}"
    found: dict[str, float | None] = {
        f"{name}_margin": float(own["value"].mean()),
        f"{name}_effect": float(own["own"].mean()),
        f"{name}_random_95": float(own["random_95"].mean()),
    }
    if len(other):
        found[f"{name}_margin_untrained"] = float(other["value"].mean())
    return found


def _ratio(margins: pd.DataFrame) -> dict[str, float | None]:
    """How many times as much turning on changes the policy as turning off does."""
    own = margins[(margins["model"] == TRAINED) & (margins["measure"] == KL)]
    on, off = (own["own"].to_numpy(float)[own["side"].to_numpy() == side] for side in (ON, OFF))
    there = len(on) > 0 and len(off) > 0 and off.mean() > 0
    return {"on_over_off_kl": float(on.mean() / off.mean()) if there else None}


def _exceeds(side: str, measure: str, some: pd.DataFrame) -> Claim:
    """Whether chosen features do more than random ones, and more so than those of untrained networks."""
    own, other = some[some["model"] == TRAINED], some[some["model"] != TRAINED]
    over = mean_estimate(own["value"].to_numpy(), of="dictionaries")
    control = spread(other["value"]) if len(other) else None
    within = [
        Relation.ABOVE.decides((low, high), 0.0) for low, high in own[["low", "high"]].to_numpy()
    ]
    conditions = [Relation.ABOVE.decides(over, 0.0) if over.n >= MINIMUM else None, *within]
    untrained = ""
    if control is not None:
        conditions.append(Relation.ABOVE.decides(over, control) if over.n >= MINIMUM else None)
        untrained = f"; untrained networks {control}"
    beyond = "" if control is None else ", and above all untrained networks' own"
    return Claim(
        id=f"{side}_{measure}",
        text=f"{VERB[side]} changes {WORDS[measure]} more than random features do",
        criterion="the chosen features' effect beyond that of the random feature at the 95% quantile (the "
        "stronger of two kinds: with its own values, with changes as large), as a share of it, is above 0 in "
        f"every dictionary beyond its interval, and over at least {MINIMUM} dictionaries{beyond}",
        evidence=f"share {over}, above 0 in {sum(w is True for w in within)} of {len(within)}{untrained}",
        verdict=Verdict.judge(conditions),
    )


def _controls(own: Sequence[Found]) -> list[Control]:
    """Over held-out episodes: chosen features beside each kind of random ones, all dictionaries together."""
    found = []
    words = {"natural": "with their own values", "same_size": "with changes as large"}
    for kind in RANDOM:
        some = [f.margins[OFF, KL].kinds_jc[kind].mean(0) for f in own if (OFF, KL) in f.margins]
        value = (
            mean_estimate(np.stack(some).mean(0))
            if some
            else Estimate(np.nan, np.nan, np.nan, 0, "")
        )
        name = f"nats by which turning chosen features off exceeds random ones {words[kind]} (95% quantile)"
        found.append(Control.of(name, value, Relation.ABOVE, 0.0))
    return found


def _curves(table: pd.DataFrame) -> tuple[dict[str, float | None], Claim]:
    """Areas under the curves, and whether few features carry more than as few dimensions."""
    areas = area(table)
    parts = [
        area(some).assign(dictionary=name) for name, some in table.groupby("dictionary", sort=False)
    ]
    each = pd.concat(parts, ignore_index=True)
    means = each.groupby(["dictionary", "basis"], sort=False)["area"].mean().unstack()
    short = {
        FEATURES: "features_area",
        DIMENSIONS: "dimensions_area",
        RANDOM_FEATURES: "random_features_area",
    }
    metrics: dict[str, float | None] = {short[basis]: float(means[basis].mean()) for basis in BASES}
    wide = each.pivot_table(
        index=["dictionary", "edit", "reward_to_go", "variant"], columns="basis", values="area"
    )
    beyond = wide[FEATURES] - wide[[DIMENSIONS, RANDOM_FEATURES]].max(axis=1)
    over = mean_estimate(beyond.groupby("dictionary").mean().to_numpy(), of="dictionaries")
    layouts = [
        mean_estimate(some.groupby("variant").mean().to_numpy(), of="layouts")
        for _, some in beyond.groupby("dictionary")
    ]
    conditions = [Relation.ABOVE.decides(over, 0.0) if over.n >= MINIMUM else None]
    conditions += [Relation.ABOVE.decides(e, 0.0) if e.n >= MINIMUM else None for e in layouts]
    assert len(areas)
    return metrics, Claim(
        id="few_features_carry_more",
        text="few features carry more of the edits' effects than as few dimensions or random features",
        criterion="area under two-sided faithfulness 1 - |1 - f| by the logarithm of the set's size, minus "
        f"the larger of both, above 0 in every dictionary over at least {MINIMUM} layouts and over at least "
        f"{MINIMUM} dictionaries",
        evidence=f"by {over}; area {metrics['features_area']:.2f}, dimensions "
        f"{metrics['dimensions_area']:.2f}, random features {metrics['random_features_area']:.2f}",
        verdict=Verdict.judge(conditions),
        about=About.MODEL,
    )


def _agreement(table: pd.DataFrame) -> dict[str, float | None]:
    """How well attribution tells the exact patch of the edges that were patched."""
    exact = table[table["exact"].notna()]
    if len(exact) < 3 or np.ptp(exact["exact"]) == 0 or np.ptp(exact["attribution"]) == 0:
        return {"edges": float(len(exact)), "attribution_r": None}
    r = float(np.corrcoef(exact["attribution"], exact["exact"])[0, 1])
    return {"edges": float(len(exact)), "attribution_r": r}
