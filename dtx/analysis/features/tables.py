"""The tables and metrics of the result."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dtx.analysis.features.claims import ALL
from dtx.analysis.features.coverage import Choice, Scores
from dtx.analysis.features.data import Data
from dtx.analysis.features.margins import Group, Margins
from dtx.analysis.features.measures import Agreements, Structure
from dtx.analysis.features.spec import (
    ALWAYS_ON,
    DIMENSIONS,
    FROZEN,
    INPUT,
    RIVALS,
    TRAINED,
    UNTRAINED,
)
from dtx.statistics import mean_estimate

Keyed = tuple[str, int]
"""Source and seed."""
DENSE = 0
"""Size of a probe on a whole activation."""


def fact_table(
    data: Data,
    margins: Margins,
    scored: Mapping[Keyed, Scores],
    choices: Mapping[Keyed, Choice],
    cuts: Mapping[Keyed, np.ndarray],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a fact, with its margins; and one row a fact, source and seed."""
    low, high = margins.over_episodes()
    first = next(key for key in choices if key[0] == TRAINED)
    choice, m = choices[first], len(data.names)
    feature, level = choice.feature[:m], choice.level[:m]
    facts = pd.DataFrame(
        {
            "fact": data.names,
            "group": data.groups,
            "base_rate": data.base_rate,
            "f1": margins.f1.mean(0),
            **{rival.replace(" ", "_"): margins.rivals[i] for i, rival in enumerate(RIVALS)},
            "best_control": [RIVALS[i] for i in margins.best],
            "margin": margins.each.mean(0),
            "low": low,
            "high": high,
            "interval": "t over groups of episodes",
            "beyond": margins.beyond(),
            "seed": first[1],
            "feature": feature,
            "threshold": cuts[first][feature, level],
        }
    )
    scores = []
    for (name, seed), each in scored.items():
        told = choices.get((name, seed))
        scores.append(
            pd.DataFrame(
                {
                    "fact": data.names,
                    "source": name,
                    "seed": seed,
                    "f1": each.f1[:m],
                    "feature": -1 if told is None else told.feature[:m],
                    "threshold": np.nan
                    if told is None
                    else cuts[name, seed][told.feature[:m], told.level[:m]],
                    "below": False if told is None else told.below[:m],
                }
            )
        )
    return facts, pd.concat(scores, ignore_index=True)


def group_table(
    data: Data, groups: Mapping[str, Group], scored: Mapping[Keyed, Scores]
) -> pd.DataFrame:
    """One row a group of facts and source: mean F1 and that minus always on, over seeds."""
    m = len(data.names)
    lines = []
    always = scored[ALWAYS_ON, 0].f1[:m]
    for name, group in groups.items():
        of = np.array([name in (ALL, each) for each in data.groups])
        for source in dict.fromkeys(n for n, _ in scored):
            f1 = [s.f1[:m][of].mean() for (n, _), s in scored.items() if n == source]
            above = mean_estimate(np.array(f1) - always[of].mean(), of="seeds")
            lines.append(
                {
                    "group": name, "facts": group.facts, "source": source, "f1": float(np.mean(f1)),
                    "above_always_on": above.value, **above.columns(),
                    "beyond": group.beyond if source == TRAINED else np.nan,
                }
            )  # fmt: skip
    return pd.DataFrame(lines)


def probe_table(data: Data, probes: Mapping[tuple[str, int, int], np.ndarray]) -> pd.DataFrame:
    """One row a group of facts, source, seed and size: mean F1; size 0 is the probe on all dimensions."""
    lines = []
    for name in (ALL, *dict.fromkeys(data.groups)):
        of = np.array([name in (ALL, each) for each in data.groups])
        for (source, seed, size), f1 in probes.items():
            some = f1[of]
            there = some[~np.isnan(some)]
            lines.append(
                {"group": name, "source": source, "seed": seed, "size": size,
                 "f1": float(there.mean()) if len(there) else np.nan, "facts": len(there)}
            )  # fmt: skip
    return pd.DataFrame(lines)


def metrics_of(
    groups: Mapping[str, Group],
    structure: Mapping[Keyed, Structure],
    probes: Mapping[tuple[str, int, int], np.ndarray],
    agreed: Agreements,
) -> dict[str, float | None]:
    """All metrics but the shares of false facts."""
    every = groups[ALL]
    metrics: dict[str, float | None] = {
        "margin": every.margin.value,
        "margin_low": every.margin.low,
        "margin_high": every.margin.high,
        **{f"margin_{short}": every.over[rival].value for short, rival in SHORT.items()},
        "facts": every.facts,
        "beyond_share": every.beyond / every.facts,
        "coverage": every.f1.value,
        **{f"coverage_{short}": every.rivals[rival] for short, rival in SHORT.items()},
    }
    for name, group in groups.items():
        if name != ALL:
            metrics |= {f"margin_{name}": group.margin.value, f"f1_{name}": group.f1.value}
            metrics[f"beyond_share_{name}"] = group.beyond / group.facts
    for source, short in ((TRAINED, ""), (UNTRAINED, "_untrained"), (INPUT, "_input")):
        some = [s for (n, _), s in structure.items() if n == source]
        for measure in ("board", "absorbed", "split", "duplicates"):
            metrics[f"{measure}{short}"] = _mean([vars(s)[measure] for s in some])
    for size in sorted({size for _, _, size in probes}):
        shown = "dense" if size == DENSE else str(size)
        of_model = DIMENSIONS if size == DENSE else TRAINED
        for source, short in ((of_model, ""), (UNTRAINED, "_untrained"), (INPUT, "_input")):
            values = [f1 for (n, _, s), f1 in probes.items() if (n, s) == (source, size)]
            metrics[f"probe_{shown}{short}"] = _mean(np.concatenate(values)) if values else None
    return metrics | {
        "agreement": _mean(agreed.seeds),
        "agreement_untrained": _mean(agreed.untrained),
        "agreement_random": _mean(agreed.random),
    }


SHORT = {"always_on": ALWAYS_ON, "input": INPUT, "untrained": UNTRAINED, "frozen_decoder": FROZEN}
"""What features are held against, in names of metrics."""


def _mean(values: list[float] | np.ndarray) -> float | None:
    there = np.asarray(values, float)
    there = there[~np.isnan(there)]
    return float(there.mean()) if len(there) else None
