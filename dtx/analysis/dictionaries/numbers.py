"""Numbers of dictionaries with their intervals: over episodes, and over seeds as clusters.

Letters: e episodes, s dictionaries (or networks) that differ by their seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dtx.analysis.core.verdicts import Relation
from dtx.analysis.dictionaries.spec import LEAST_GAP
from dtx.estimate import Estimate
from dtx.statistics import LEVEL, mean_estimate, ratio_estimate

NOTHING = Estimate(math.nan, math.nan, math.nan, 0, "not measured")
"""A number that was not measured."""


def over_seeds(each: Sequence[Estimate], of: str = "seeds") -> Estimate:
    """The mean of dictionaries that differ by their seed, uncertain by the episodes and by the seed.

    All of them are measured on the same episodes, so what the episodes make uncertain does not shrink with
    the number of seeds: at most it is the mean of their half widths. What the seeds make uncertain is t's
    interval of their values. The two are independent, so half widths add as squares.

    Args:
        each: One a seed, with intervals over the same episodes.
        of: What differs, in the plural.

    Returns:
        n is the number of seeds; of one seed it is what was given, an interval over episodes alone. Missing
        if one is.
    """
    if len(each) == 1:
        return each[0]
    value = np.array([one.value for one in each])
    if not len(each) or np.isnan(value).any():
        return NOTHING
    seeds = mean_estimate(value, of=of)
    centre = float(value.mean())
    below = float(np.mean([one.value - one.low for one in each]))
    above = float(np.mean([one.high - one.value for one in each]))
    low = centre - math.hypot(below, centre - seeds.low)
    high = centre + math.hypot(above, seeds.high - centre)
    return Estimate(centre, low, high, len(each), f"{seeds.kind} and {each[0].kind}")


def over_clusters(above: np.ndarray, below: np.ndarray, cluster: np.ndarray, of: str) -> Estimate:
    """Sum over sum of observations; what belongs together counts as one.

    Args:
        above, below: (n,). cluster: (n,) whose observation each is. of: What the clusters are, in the plural.
    """
    _, index = np.unique(cluster, return_inverse=True)
    return ratio_estimate(np.bincount(index, above), np.bincount(index, below), of=of)


def one_minus(share: Estimate) -> Estimate:
    """What a share leaves."""
    return Estimate(1 - share.value, 1 - share.high, 1 - share.low, share.n, share.kind)


def gap(model_e: np.ndarray, mean_e: np.ndarray, width: float) -> Estimate:
    """How far the model's return is from that of mean ablation, of which a share may be kept.

    Args:
        model_e, mean_e: (e,) returns, paired. width: How far two returns can be apart.
    """
    return mean_estimate(model_e - mean_e, bounds=(-width, width))


def measurable(of: Estimate) -> bool:
    """Whether a share of a gap means something: it is wide beyond its interval."""
    ends = sorted((abs(of.low), abs(of.high)))
    if math.isnan(of.low) or of.low * of.high <= 0:
        return False
    size = Estimate(abs(of.value), ends[0], ends[1], of.n, of.kind)
    return Relation.ABOVE.decides(size, LEAST_GAP) is True


def kept(edited_e: np.ndarray, model_e: np.ndarray, mean_e: np.ndarray, width: float) -> Estimate:
    """Return kept: (ret - ret_mean) / (ret_model - ret_mean), paired over episodes.

    Every player meets the same worlds and random numbers in episode e. The share is 1 + mean(d) / mean(b)
    with d = ret - ret_model and b = ret_model - ret_mean; its interval is that of its linear approximation,
    d - (share - 1) b, whose bounds are known: if all episodes end alike, the next one need not.

    Args:
        edited_e, model_e, mean_e: (e,) returns of the model with a dictionary, without, and mean-ablated.
        width: How far two returns can be apart in this environment.

    Returns:
        Missing where the gap is too small to be measured.
    """
    of = gap(model_e, mean_e, width)
    if not measurable(of):
        return Estimate(math.nan, math.nan, math.nan, of.n, f"gap {of.value:.3g}: not measured")
    lost_e = edited_e - model_e
    less = float(lost_e.mean()) / of.value
    bound = width * (1 + abs(less))
    residual_e = lost_e - less * (model_e - mean_e)
    # The bounds are those of any episode, observed or not; rounding must not put one outside.
    around = mean_estimate(residual_e.clip(-bound, bound), bounds=(-bound, bound), level=LEVEL)
    ends = sorted(1 + less + (end - around.value) / of.value for end in (around.low, around.high))
    return Estimate(1 + less, ends[0], ends[1], len(lost_e), around.kind)
