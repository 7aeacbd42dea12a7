"""Which nodes the decision needs: by reward-to-go, with random directions as the control.

A node is *needed* if the decision loses by its ablation, and *hinders* if it gains, where there is a decision
(its gap is at least ``min_ld_gap``), and the change

- is at least ``min_effect`` of the gap, and above the tolerance;
- is above the 95% quantile of random directions as far from the node's output, and of random nodes;
- is significant by Holm's method among all nodes and rewards-to-go of the ablation method: in units of the
  random directions' root mean square it is larger than that of one more random direction would be. In d
  dimensions one direction lies along another with a cosine whose distribution is known; the tail comes from
  it, as so few directions show none of theirs.

Letters: d dimension of the residual stream.
"""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from dtx.analysis.ablation.choice import Choice
from dtx.analysis.ablation.spec import ALL, EACH, AblationMethod, AblationSpec
from dtx.analysis.core.controls import STRONGEST
from dtx.statistics import Estimate, enumerated, holm, mean_estimate

LEVEL = 0.05
"""Chance that any node of a method is called needed, or hindering, without reason (2026-11-29)."""
DRAWN = 100_000
"""Random ratios from which p is read: Holm's smallest step, for 500 nodes, is 1 in 10,000."""
KEYS = ["method", "kind", "layer", "unit", "name"]


def effects_of(
    spec: AblationSpec,
    windows: pd.DataFrame,
    draws: pd.DataFrame,
    random: pd.DataFrame,
    choice: Choice,
    dimensions: int,
) -> pd.DataFrame:
    """One row a method, node and reward-to-go; see :func:`dtx.analysis.ablation.compute.compute`.

    Args:
        spec: Settings.
        windows: One row a method, node and window.
        draws: One row a method, node, reward-to-go and donor: change, mean over windows.
        random: One row a method, node, reward-to-go, way and random direction: change, mean over windows.
        choice: What the model decides.
        dimensions: Of the residual stream.
    """
    group = pd.Series(choice.group_b)
    table = windows.assign(target=windows.window.map(group))
    means = table.groupby([*KEYS, "target"], sort=False)[["change", "kl", "flip"]].mean()
    sampled = table.groupby([*KEYS, "target"], sort=False).change.apply(np.asarray)
    of_donors = draws.groupby([*KEYS, "target"], sort=False).change.apply(np.asarray)
    rows = [
        _interval(key, float(change), sampled[key], of_donors[key]).columns()
        for key, change in means.change.items()
    ]
    effects = means.join(pd.DataFrame(rows, index=means.index)).reset_index()
    effects["n_windows"] = sampled.map(len).to_numpy()
    return _judged(spec, _beside_random(effects, _chance(random), dimensions), choice)


def _interval(key: tuple, change: float, windows: np.ndarray, donors: np.ndarray) -> Estimate:
    """Of a mean: over donors where they were drawn, over windows where these were, else there is none."""
    if key[-1] == ALL:
        return mean_estimate(windows, of="windows")
    if key[0] == AblationMethod.resample.value and len(donors) > 1:
        return mean_estimate(donors, of="donors")
    return enumerated(change, len(windows), of="layouts")


def _chance(random: pd.DataFrame) -> pd.DataFrame:
    """What random directions bring, by way: their 95% quantile and their size (root mean square)."""
    by = ["method", "name", "target", "way"]
    random = random.assign(size=random.change.abs(), square=random.change**2)
    ways = random.groupby(by)
    chance = pd.DataFrame(
        {
            "random_95": ways["size"].quantile(STRONGEST),
            "random_size": ways.square.mean() ** 0.5,
            "directions": ways.size(),
        }
    )
    return chance.reset_index()


@functools.cache
def random_ratios(dimensions: int, directions: int, windows: int) -> np.ndarray:
    """What a linear readout gives for one random direction, in units of the root mean square of others.

    Args:
        dimensions: Of the directions.
        directions: How many others.
        windows: In how many windows each direction is another one; the readout is their mean.

    Returns:
        (:data:`DRAWN`,) absolute values in ascending order.
    """
    rng = np.random.default_rng(0)
    shape = (DRAWN, directions + 1)
    mean = np.zeros(shape, np.float32)
    for _ in range(windows):
        square = rng.beta(0.5, max(dimensions - 1, 1) / 2, shape)
        mean += np.sqrt(square) * rng.choice(np.array([-1, 1], np.float32), shape)
    ratio = np.abs(mean[:, 0]) / np.sqrt((mean[:, 1:] ** 2).mean(1))
    return np.sort(ratio)


def p_of(size: float, unit: float, dimensions: int, directions: int, windows: int) -> float:
    """Chance that a random direction has an effect as large as ``size``."""
    if size == 0 or not unit > 0:
        return 1.0 if size == 0 else 0.0
    null = random_ratios(dimensions, directions, windows)
    return float((1 + len(null) - np.searchsorted(null, size / unit)) / (1 + len(null)))


def _beside_random(effects: pd.DataFrame, chance: pd.DataFrame, dimensions: int) -> pd.DataFrame:
    """Effects with what random directions bring, in the way in which they bring more, and p in the way in
    which the effect stands out less."""
    keys = ["method", "name", "target"]
    both = effects[[*keys, "change", "n_windows"]].merge(chance, on=keys)
    each = zip(
        both.change.abs(), both.random_size, both.directions, both.way, both.n_windows, strict=True
    )
    both["p"] = [
        p_of(size, unit, dimensions, directions, windows if way == EACH else 1)
        for size, unit, directions, way, windows in each
    ]
    columns = both.groupby(keys)[["random_95", "random_size", "p"]].max().reset_index()
    return effects.merge(columns, "left", on=keys).drop(columns="n_windows")


def _judged(spec: AblationSpec, effects: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    size, gap = effects.change.abs(), effects.target.map(choice.gap)
    decided = gap >= spec.min_ld_gap
    effects["gap"], effects["share"] = gap, effects.change / gap.where(decided)
    # A node that writes nothing is no hypothesis; a weaker neuron, which was not compared, is one.
    silent = (size <= spec.tolerance) & (effects.random_size <= spec.tolerance)
    tested = effects.p.fillna(1.0).where(decided & ~silent)
    significant = np.zeros(len(effects), bool)
    for rows in effects.groupby("method", sort=False).indices.values():
        asked = rows[tested.to_numpy()[rows] <= 1]  # NaN is not asked
        significant[asked] = holm(tested.to_numpy()[asked], LEVEL)
    beyond = decided & significant & (size > effects.random_95) & (size > spec.tolerance)
    by = [effects.method, effects.kind, effects.target]
    null = size.where(~beyond).groupby(by).transform("median")
    effects["random_node"] = null.fillna(0)  # every node of the kind is beyond its directions
    beyond &= (size > effects.random_node) & (size >= spec.min_effect * gap)
    effects["needed"], effects["hinders"] = (beyond & (s * effects.change > 0) for s in (-1, 1))
    return effects


def ranking_of(spec: AblationSpec, effects: pd.DataFrame) -> pd.DataFrame:
    """The same rows by method and reward-to-go, the largest change first."""
    order = {method.value: i for i, method in enumerate(spec.methods)}
    targets = {target: i for i, target in enumerate(dict.fromkeys(effects.target))}
    keys = {
        "order": effects.method.map(order),
        "place": effects.target.map(targets),
        "size": effects.change.abs(),
    }
    ranking = effects.assign(**keys)
    ranking = ranking.sort_values(list(keys), ascending=[True, True, False], kind="stable")
    return ranking.drop(columns=list(keys)).reset_index(drop=True)
