"""One dictionary: which of its features matter, and by how much more than random ones.

Shape suffixes: e edit, w window, c cluster of windows (a layout, an episode), j chosen feature, r random one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dtx.analysis.feature_effects.dictionary import Activity, Directions, matched
from dtx.analysis.feature_effects.measure import CLAMP, Edited, FeatureEdit, estimated
from dtx.analysis.feature_effects.spec import (
    CANDIDATES,
    CHOSEN,
    OFF,
    ON,
    POOL,
    RANDOM,
    SAME_SIZE,
    SIDES,
    FeatureEffectsSpec,
)
from dtx.statistics import mean_estimate


@dataclass(frozen=True)
class Chosen:
    """The features of a dictionary that are changed, and the random ones beside each.

    Attributes:
        features: (j,) the strongest ones in training episodes, strongest first.
        beside: For each the random features that are matched to it.
        usual: By feature: the value that it is turned on with.
        table: One row a feature: feature, density, size, usual, kl_training (exact), kl_estimated.
    """

    features: list[int]
    beside: list[np.ndarray]
    usual: dict[int, float]
    table: pd.DataFrame

    def edits(self, place: int, side: str, kind: str) -> list[FeatureEdit]:
        """Edits of one side: of the chosen feature itself, or of the random ones beside it."""
        own = self.features[place]
        edit = FeatureEdit(own, side, self.usual[own] if side == ON else 0.0)
        if kind == CHOSEN:
            return [edit]
        others = self.beside[place].tolist()
        if kind == SAME_SIZE:
            return [FeatureEdit(own, side, edit.value, along=r) for r in others]
        return [FeatureEdit(r, side, self.usual[r] if side == ON else 0.0) for r in others]

    def all_edits(self, places: Sequence[int]) -> list[FeatureEdit]:
        """Every edit of some of the chosen features and of what is beside them, each once."""
        every = (
            edit
            for place in places
            for side in SIDES
            for kind in (CHOSEN, *RANDOM)
            for edit in self.edits(place, side, kind)
        )
        return list(dict.fromkeys(every))


def choose(
    spec: FeatureEffectsSpec, training: Edited, directions: Directions, activity: Activity
) -> Chosen:
    """The features whose ablation changes the policy most in training episodes.

    All are ranked by an estimate, of which the first are ablated exactly.
    """
    estimate = np.zeros(directions.number)
    for number, windows in enumerate(training.windows):
        value, scale = training.value[number], training.scale[number]
        estimate += estimated(windows, value, scale, directions, spec.seed).double().numpy()
    estimate /= max(sum(len(w.runs) for w in training.windows), 1)
    live = activity.live
    candidates = live[np.argsort(-estimate[live], kind="stable")][: CANDIDATES * spec.features]
    exact = training.effects([FeatureEdit(int(f), OFF) for f in candidates]).mean(1)
    order = np.argsort(-exact, kind="stable")[: spec.features]
    features = candidates[order]
    rng = np.random.default_rng(spec.seed)
    beside = [matched(activity, int(f), features, spec.controls, POOL, rng) for f in features]
    used = sorted({*features.tolist(), *(int(r) for some in beside for r in some)})
    usual = {f: activity.quantile(f, spec.usual) for f in used}
    table = pd.DataFrame({
        "feature": features, "density": activity.density_f[features], "size": activity.size_f[features],
        "usual": [usual[int(f)] for f in features], "kl_training": exact[order],
        "kl_estimated": estimate[features], "random_features": [len(some) for some in beside],
    })  # fmt: skip
    return Chosen(features.tolist(), beside, usual, table)


@dataclass
class Effects:
    """Effects of all edits of a dictionary on one thing that is measured.

    Attributes:
        measure: What. of: What is counted. cluster_w: Names of what belongs together.
        change: By edit its signed effect in each window (w,).
    """

    measure: str
    of: str
    cluster_w: np.ndarray
    change: dict[FeatureEdit, np.ndarray] = field(default_factory=dict)

    def add(self, edits: Sequence[FeatureEdit], effect_ew: np.ndarray) -> None:
        """Note the effects of some edits."""
        self.change.update(zip(edits, effect_ew, strict=True))

    def sizes(self, edits: Sequence[FeatureEdit]) -> np.ndarray:
        """Mean size of the effect (e, c) in each cluster."""
        names, index = np.unique(self.cluster_w, return_inverse=True)
        size_ew = np.abs(np.stack([self.change[edit] for edit in edits]))
        total = np.zeros((len(edits), len(names)))
        np.add.at(total.T, index, size_ew.T)
        return total / np.bincount(index)

    def beside(self, chosen: Chosen, place: int, side: str) -> dict[str, np.ndarray]:
        """Sizes (c,) of a chosen feature and, of each kind, of the random one at the 95% quantile of them."""
        found = {CHOSEN: self.sizes(chosen.edits(place, side, CHOSEN))[0]}
        for kind in RANDOM:
            edits = chosen.edits(place, side, kind)
            if edits:
                found[kind] = strongest(self.sizes(edits))
        return found


def strongest(size_rc: np.ndarray) -> np.ndarray:
    """Sizes (c,) of the random feature whose mean is at the 95% quantile of all (of 20: the largest)."""
    from dtx.analysis.core.controls import STRONGEST

    mean_r = size_rc.mean(1)
    limit = np.quantile(mean_r, STRONGEST, method="higher")
    return size_rc[int(np.argmin(np.abs(mean_r - limit)))]


@dataclass(frozen=True)
class Margin:
    """What chosen features do beyond random ones of both kinds, on one side, in one dictionary.

    Attributes:
        own_jc: Sizes of the chosen features' effects. beyond_jc: Minus those of the stronger kind of random.
        kinds_jc: By kind, minus those of that kind alone.
    """

    own_jc: np.ndarray
    beyond_jc: np.ndarray
    kinds_jc: dict[str, np.ndarray]

    @property
    def share(self) -> float:
        """Beyond random, as a share of the effects of all chosen features; missing where these do nothing."""
        total = self.own_jc.sum()
        return float(self.beyond_jc.sum() / total) if total > 0 else np.nan


def margin(
    effects: Effects, chosen: Chosen, side: str, places: Sequence[int] | None = None
) -> Margin | None:
    """The margin of a dictionary's chosen features; None where no random feature is beside one."""
    own, beyond, kinds = [], [], {kind: [] for kind in RANDOM}
    for place in range(len(chosen.features)) if places is None else places:
        sizes = effects.beside(chosen, place, side)
        if len(sizes) < 1 + len(RANDOM):
            return None
        stronger = max(RANDOM, key=lambda kind: sizes[kind].mean())
        own.append(sizes[CHOSEN])
        beyond.append(sizes[CHOSEN] - sizes[stronger])
        for kind in RANDOM:
            kinds[kind].append(sizes[CHOSEN] - sizes[kind])
    if not own:
        return None
    return Margin(np.stack(own), np.stack(beyond), {k: np.stack(v) for k, v in kinds.items()})


def rows(effects: Effects, chosen: Chosen, places: Sequence[int]) -> Iterator[dict[str, object]]:
    """A line for each chosen feature and side: its effect, the random ones', and whether it exceeds both."""
    for place in places:
        for side in SIDES:
            sizes = effects.beside(chosen, place, side)
            own = mean_estimate(sizes[CHOSEN], of=effects.of)
            line = {
                "feature": chosen.features[place], "side": side, "measure": effects.measure,
                "value": own.value, **own.columns(),
            }  # fmt: skip
            above = []
            for kind in RANDOM:
                line[f"{kind}_95"] = float(sizes[kind].mean()) if kind in sizes else np.nan
                if kind in sizes:
                    above.append(mean_estimate(sizes[CHOSEN] - sizes[kind], of=effects.of).low > 0)
            yield {**line, "exceeds": len(above) == len(RANDOM) and all(above)}


def clamped(
    spec: FeatureEffectsSpec,
    chosen: Chosen,
    activity: Activity,
    edited: Edited,
    about: pd.DataFrame,
) -> pd.DataFrame:
    """Change of the logit difference with chosen features clamped to quantiles of their values.

    Returns:
        A row a feature, quantile and reward-to-go: feature, quantile, clamp, reward_to_go, value (mean signed
        change over runs of the layouts), low, high, n, interval, size (mean of its absolute value) and
        random_95: that of the same changes along random features' directions, at their 95% quantile.
    """
    lines = []
    for place, feature in enumerate(chosen.features):
        for quantile in spec.quantiles:
            value = activity.quantile(feature, quantile)
            own = FeatureEdit(feature, CLAMP, value)
            others = [
                FeatureEdit(feature, CLAMP, value, along=int(r)) for r in chosen.beside[place]
            ]
            change_ew = edited.effects([own, *others])
            for target in about["reward_to_go"].unique():
                here = (about["reward_to_go"] == target).to_numpy()
                some = change_ew[:, here]
                found = mean_estimate(
                    some[0], clusters=about["variant"].to_numpy()[here], of="layouts"
                )
                random = np.abs(some[1:]).mean(1)
                lines.append({
                    "feature": feature, "quantile": quantile, "clamp": value, "reward_to_go": float(target),
                    "value": found.value, **found.columns(), "size": float(np.abs(some[0]).mean()),
                    "random_95": float(np.quantile(random, 0.95, method="higher")) if len(random) else np.nan,
                })  # fmt: skip
    return pd.DataFrame(lines)


@dataclass
class Found:
    """What was found of one dictionary: tables by name, margins by side and measure, errors of checks."""

    about: dict
    tables: dict[str, pd.DataFrame]
    margins: dict[tuple[str, str], Margin]
    errors: dict[str, float]
    distinct: int
