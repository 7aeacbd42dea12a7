"""What stands on the page of each feature.

Letters: n rows, f features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from dtx.activations.caching import Reader
from dtx.activations.prefixes import WindowList
from dtx.analysis.core.result import About, Check, Result, largest
from dtx.analysis.feature_pages.effects import direct_effects
from dtx.analysis.feature_pages.features import Profile, examples, nearest, profile
from dtx.analysis.feature_pages.looks import Looks
from dtx.analysis.feature_pages.spec import STRONGEST, TOLERANCE, FeaturePagesSpec
from dtx.dictionary.autoencoder import SparseAutoencoder
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.tokens import ACTION, KINDS
from dtx.env.actions import Action
from dtx.errors import UserError
from dtx.training.threads import one_thread

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix

    from dtx.dataset.dataset import Dataset

RECOMPUTED = 48
"""Tokens whose window goes through the model again in the exact check."""


@dataclass(frozen=True)
class Shown:
    """A dictionary at the rows that are looked at.

    Attributes:
        name: Of the dictionary. seed: Its own, or the untrained network's.
        active: (n, f), what is on.
    """

    name: str
    seed: int
    active: csc_matrix


def compute(
    spec: FeaturePagesSpec,
    sae: SparseAutoencoder,
    own: Shown,
    seeds: Sequence[Shown],
    untrained: Shown,
    columns: Mapping[str, np.ndarray],
    dataset: Dataset,
    model: DecisionTransformerModel,
    labels: pd.DataFrame | None = None,
    facts: pd.DataFrame | None = None,
) -> Result:
    """Describe every live feature of a dictionary.

    Args:
        spec: How much is shown. sae: The dictionary. own: Its features at the rows.
        seeds: The same sizes trained from other seeds. untrained: That of an untrained network.
        columns: Of the stored tokens at these rows. dataset: The demonstrations. model: The model.
        labels: Table ``features`` of the analysis ``labels``, if there is one.
        facts: Table ``facts`` of the analysis ``features``, if there is one.

    Returns:
        Tables ``features``: one row a live feature: feature, density, largest, mean, share_R/S/A, other_seed,
        other_feature, other_r, untrained_feature, untrained_r, ``logit_ACTION``, and of labels label, verdict,
        f1, balanced_accuracy, label_margin. ``examples``: one row a token that is drawn: feature, set, place,
        row, activation, episode, step, kind, reward_to_go, action, view, world. ``facts``: facts whose best
        feature is this one, with margins. Arrays ``histogram`` (features, bins), ``times`` (features, parts),
        ``views``, ``worlds``.

    Raises:
        UserError: No feature is on anywhere.
    """
    numbers = profile(own.active, columns)
    live, weight = numbers.live, columns["count"].astype(np.float64)
    if not len(live):
        raise UserError(
            f"analysis.feature_pages: no feature of {own.name} is on at any of {len(weight):,} tokens"
        )
    looks = Looks(dataset, columns)
    shown = examples(own.active, live, looks.alike(), weight, spec.examples, spec.seed)
    places, arrays = looks.drawn(shown["row"])
    table = pd.DataFrame(shown)
    for name in ("episode", "step"):
        table[name] = columns[name][shown["row"]]
    described = {**looks.described(shown["row"]), **places}
    table = table.assign(**described)
    features = _table(numbers, live, direct_effects(sae, model))
    other = _beside(features, own, seeds, untrained, weight)
    if labels is not None:
        features = _with_labels(features, labels, own)
    with one_thread():
        error = _recomputed(table, sae, columns, looks, model, numbers)
    missing = np.abs(numbers.histogram_fb.sum(1) - numbers.density_f * weight.sum()).max()
    chance = float(features.untrained_r.mean())
    return Result(
        finding=_finding(features, own, seeds, other, chance),
        metrics={
            "live": float(len(live)),
            "dead_share": 1 - len(live) / own.active.shape[1],
            "nearest_seed": None if np.isnan(other) else other,
            "nearest_untrained": None if np.isnan(chance) else chance,
            "longest": float(columns["step"].max() + 1),
        },
        checks=[
            Check(
                name="each activation that is drawn is the dictionary's on that window alone, as a share of "
                "the feature's largest",
                error=error,
                tolerance=TOLERANCE,
            ),
            Check(
                name="histograms hold every token at which a feature is on",
                error=float(missing / weight.sum()),
                tolerance=1e-9,
            ),
        ],
        tables={
            "features": features,
            "examples": table,
            "facts": pd.DataFrame() if facts is None else _of_features(facts, own),
        },
        arrays={
            "histogram": numbers.histogram_fb[live],
            "times": numbers.time_ft[live],
            **arrays,
        },
        distinct_inputs=len(weight),
        # It shows what a dictionary does, of any model; what the model has learnt is not asked here.
        about=About.INSTRUMENT,
    )


def _table(numbers: Profile, live: np.ndarray, effect_fa: np.ndarray | None) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "feature": live,
            "density": numbers.density_f[live],
            "largest": numbers.largest_f[live],
            "mean": numbers.mean_f[live],
        }
    )
    for kind, share_f in zip(KINDS, numbers.kind_fk.T, strict=True):
        table[f"share_{kind}"] = share_f[live]
    if effect_fa is not None:
        for action, effect_f in zip(Action, effect_fa.T, strict=False):
            table[f"logit_{action.value}"] = effect_f[live]
    return table


def _beside(
    features: pd.DataFrame,
    own: Shown,
    seeds: Sequence[Shown],
    untrained: Shown,
    weight: np.ndarray,
) -> float:
    """Add the nearest feature among all other seeds, and in the untrained network.

    Returns:
        Mean correlation with the nearest in one other seed, which is what one untrained network compares with;
        NaN without another seed.
    """
    live = features.feature.to_numpy()
    active = own.active[:, live]
    best = np.full(len(live), -1), np.full(len(live), np.nan), np.full(len(live), -1)
    each = []
    for seed in seeds:
        found, r = nearest(active, seed.active, weight)
        each.append(float(np.nanmean(r)))
        better = np.isnan(best[1]) | (r > best[1])
        for column, new in zip(best, (found, r, np.full(len(live), seed.seed)), strict=True):
            column[better] = new[better]
    features["other_feature"], features["other_r"], features["other_seed"] = best
    features["untrained_feature"], features["untrained_r"] = nearest(
        active, untrained.active, weight
    )
    return float(np.mean(each)) if each else np.nan


def _with_labels(features: pd.DataFrame, labels: pd.DataFrame, own: Shown) -> pd.DataFrame:
    of = labels[(labels.source == "trained") & (labels.dictionary == own.name)]
    names = {"margin": "label_margin", "margin_low": "label_margin_low"}
    columns = ["feature", "label", "verdict", "f1", "balanced_accuracy", *names]
    return features.merge(of[columns].rename(columns=names), on="feature", how="left")


def _of_features(facts: pd.DataFrame, own: Shown) -> pd.DataFrame:
    """The facts whose best feature is one of this dictionary's, those of the largest margin first."""
    columns = ["feature", "fact", "group", "f1", "margin", "low", "high", "beyond"]
    of = facts[facts.seed == own.seed]
    order = of.sort_values(["feature", "margin"], ascending=[True, False], ignore_index=True)
    return order[columns]


def _recomputed(
    table: pd.DataFrame,
    sae: SparseAutoencoder,
    columns: Mapping[str, np.ndarray],
    looks: Looks,
    model: DecisionTransformerModel,
    numbers: Profile,
) -> float:
    """Largest difference of drawn activations from the dictionary's on each window, computed alone."""
    strongest = table[(table.set == STRONGEST) & (table.place == 1)]
    chosen = strongest.iloc[:: max(1, len(strongest) // RECOMPUTED)]
    reader, errors = Reader(looks.episodes, model.cfg), []
    for line in chosen.itertuples():
        begin, pad = int(columns["start"][line.row]), int(columns["padding"][line.row])
        episode, steps = int(columns["episode"][line.row]), int(line.step) - begin + 1
        first = int(looks.episodes.start[episode]) + begin
        if line.kind == ACTION:
            if first + steps == len(looks.episodes.action):
                continue  # nothing is behind the last step of all
            steps += 1  # a window ends before its last action; the step behind it changes nothing before
        one = WindowList(*(np.array([v]) for v in (episode, begin, steps, pad, first)))
        with torch.inference_mode():
            _, cache = model.run_with_cache(reader.context(one), names_filter=sae.hook_name)
            at = model.cfg.layout.place(line.kind, pad + int(line.step) - begin)
            x_1d = cache[sae.hook_name].flatten(2)[0, at][None]
            value = float(sae.encode(x_1d)[0, line.feature])
        errors.append(abs(value - line.activation) / numbers.largest_f[line.feature])
    return largest(errors)


def _finding(
    features: pd.DataFrame, own: Shown, seeds: Sequence[Shown], other: float, chance: float
) -> str:
    words = [f"{len(features):,} of {own.active.shape[1]:,} features of {own.name} are on somewhere"]
    if seeds:
        words.append(
            f"a feature's nearest in another seed correlates {other:.2f} on average, "
            f"in an untrained network {chance:.2f}"
        )
    else:
        words.append(f"a feature's nearest in an untrained network correlates {chance:.2f} on average")
    if "verdict" in features:
        named = int((features.verdict == "named").sum())
        words.append(f"{named:,} are named beyond the input")
    return "; ".join(words)
