"""Labels of all sources, how many of each are named, and what is said of it.

Letters: n rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from dtx.analysis.core.result import (
    Check,
    Claim,
    Control,
    Relation,
    Result,
    Verdict,
    largest,
)
from dtx.analysis.labels.judging import Judge
from dtx.analysis.labels.labeller import detection
from dtx.analysis.labels.sources import Source, per_view, shuffled
from dtx.analysis.labels.spec import (
    INPUT_ONLY,
    NAMED,
    PER_VIEW,
    RANDOM,
    SHUFFLED,
    TRAINED,
    UNNAMED_SHUFFLED,
    UNTRAINED,
    FactsOfRows,
    LabelsSpec,
)
from dtx.analysis.labels.trees import predicted, term
from dtx.dictionary.sparse import width_of
from dtx.errors import UserError
from dtx.estimate import Estimate
from dtx.progress import progress
from dtx.statistics import mean_estimate, next_estimate, share_estimate

SEEDS = "seeds of the dictionary"


def compute(
    spec: LabelsSpec,
    facts: FactsOfRows,
    columns: Mapping[str, np.ndarray],
    trained: Sequence[Source],
    untrained: Sequence[Source],
    random: Sequence[Source] = (),
    texts: Sequence[str] | None = None,
) -> Result:
    """Label the features of every source and hold them against the controls.

    Args:
        spec: What is fitted, and what a label must reach.
        facts: At the rows that are looked at.
        columns: Of the stored tokens at these rows: kind, view, step, episode, count.
        trained: The dictionaries, of the same size, one a seed.
        untrained: Dictionaries of untrained networks at the same rows, at least two.
        random: Features of random directions.
        texts: The rows as drawn states; needed where a labeller is asked.

    Returns:
        Tables ``features``: one row a live feature of a source (see :meth:`Judge.table`). ``sources``: one
        row a dictionary: source, seed, features, live, good (share of live ones whose label reaches
        ``least``), named, input_only, above_always_on (mean). ``names``: one row a name: how many features
        of how many seeds have it. ``detection``: labels of a labeller, where one is asked.

    Raises:
        UserError: No fact is left, or no feature is live in any dictionary.
    """
    if not facts.names:
        raise UserError(
            "analysis.labels: no fact is true at some tokens and false at others; activate more episodes"
        )
    judge = Judge.of(spec, facts, columns, untrained)
    view = np.unique(np.stack([columns["kind"], columns["view"]]), axis=1, return_inverse=True)[1]
    weight = columns["count"].astype(np.float64)
    sources = [
        *trained,
        *untrained,
        *random,
        per_view(trained[0], view.reshape(-1), weight, spec.seed),
        shuffled(trained[0], spec.seed),
    ]
    total = sum(width_of(source.active) for source in sources)
    with progress("labels", total, "features") as bar:
        tables = [judge.table(source, bar) for source in sources]
    features = pd.concat(tables, ignore_index=True)
    if not (features.source == TRAINED).any():
        raise UserError(
            "analysis.labels: no feature is on often enough to be labelled; train longer, or with a larger k"
        )
    lines = pd.DataFrame([_line(s, t) for s, t in zip(sources, tables, strict=True)])
    asked = _asked(spec, judge, trained[0], tables[0], texts)
    metrics, claims, controls = _judged(spec, lines, features)
    return Result(
        metrics=metrics | _of_labeller(asked),
        checks=[
            _facts_name_themselves(judge, facts),
            _sentences_hold(judge, trained[0], tables[0]),
        ],
        controls=controls,
        claims=claims,
        tables={
            "features": features,
            "sources": lines,
            "names": _names(features),
            "detection": asked,
        },
        distinct_inputs=len(facts.values),
    )


def _line(source: Source, table: pd.DataFrame) -> dict:
    good = table.verdict.isin([NAMED, INPUT_ONLY])
    return {
        "source": source.kind,
        "dictionary": source.name,
        "seed": source.seed,
        "features": width_of(source.active),
        "live": len(table),
        "good": float(good.mean()) if len(table) else np.nan,
        "named": float((table.verdict == NAMED).mean()) if len(table) else np.nan,
        "input_only": float((table.verdict == INPUT_ONLY).mean()) if len(table) else np.nan,
        "above_always_on": float(table.above_always_on.mean()) if len(table) else np.nan,
    }


def _judged(
    spec: LabelsSpec, lines: pd.DataFrame, features: pd.DataFrame
) -> tuple[dict[str, float | None], list[Claim], list[Control]]:
    def of(source: str, what: str = "named") -> np.ndarray:
        return lines.loc[lines.source == source, what].to_numpy(float)

    named = mean_estimate(of(TRAINED), of=SEEDS)
    shown = named if named.n > 1 else _over_features(features)
    chance = next_estimate(of(UNTRAINED), of="untrained networks")
    random, views, none = (of(source) for source in (RANDOM, PER_VIEW, SHUFFLED))
    metrics: dict[str, float | None] = {
        "named_share": shown.value,
        "named_share_low": shown.low,
        "named_share_high": shown.high,
        "named_share_untrained": chance.value,
        "named_share_untrained_high": chance.high,
        "named_share_random": _mean(random),
        "named_share_per_view": _mean(views),
        "named_share_shuffled": _mean(none),
        "input_only_share": _mean(of(TRAINED, "input_only")),
    }
    for source, end in (
        (TRAINED, ""),
        (UNTRAINED, "_untrained"),
        (RANDOM, "_random"),
        (PER_VIEW, "_per_view"),
    ):
        metrics[f"good_share{end}"] = _mean(of(source, "good"))
        metrics[f"above_always_on{end}"] = _mean(of(source, "above_always_on"))
    metrics["live"] = _mean(of(TRAINED, "live"))
    controls = [
        Control(
            name="share of features of shuffled activations that get a name",
            value=_mean(none),
            must_be=Relation.AT_MOST,
            against=UNNAMED_SHUFFLED,
        ),
        Control.of(
            "share of features that are named beyond the input, beside one more untrained network's",
            named,
            Relation.ABOVE,
            chance,
        ),
    ]
    claim = Claim(
        id="features_named",
        text="features are named beyond the input and untrained networks",
        criterion=f"F1 at least {spec.least:.0%} of the way from a feature's that is always on to 1, and "
        "above the best of the token's input and of untrained networks beyond an interval over episodes; the "
        "share of such features, over seeds, above one more untrained network's",
        evidence=f"{shown.value:.1%} [{shown.low:.1%}, {shown.high:.1%}] of live features ({shown.kind}); "
        f"untrained {chance.value:.1%} (one more: up to {chance.high:.1%}), random directions "
        f"{_mean(random) or 0:.1%}; {_mean(of(TRAINED, 'input_only')) or 0:.1%} are named as well by the "
        "input or by an untrained network",
        verdict=Verdict.judge([Relation.ABOVE.decides(named, chance)]),
    )
    return metrics, [claim], controls


def _over_features(features: pd.DataFrame) -> Estimate:
    """Of one seed: the share with the interval of so many features, which says nothing of other seeds."""
    own = features[features.source == TRAINED]
    return share_estimate(int((own.verdict == NAMED).sum()), len(own), of="features of one seed")


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _names(features: pd.DataFrame) -> pd.DataFrame:
    """Names by how many features have them, those of the most seeds first."""
    named = features[(features.source == TRAINED) & (features.verdict == NAMED)]
    grouped = named.groupby("label", sort=True)
    table = pd.DataFrame(
        {
            "features": grouped.size(),
            "seeds": grouped.seed.nunique(),
            "f1": grouped.f1.max(),
            "margin": grouped.margin.max(),
        }
    ).reset_index()
    order = ["seeds", "features", "margin", "label"]
    return table.sort_values(order, ascending=[False, False, False, True], ignore_index=True)


def _facts_name_themselves(judge: Judge, facts: FactsOfRows) -> Check:
    """Each fact, given as a feature, must get its own name: F1 1 on the other half."""
    errors = []
    for values in facts.values.T:
        if (at := judge.live(np.flatnonzero(values))) is None:
            continue
        tree = judge.trees.fit(at[0])
        errors.append(1 - judge.score.f1(at[1], predicted(tree, judge.score.values)))
    return Check(
        name="each fact, given as a feature, is named with F1 1",
        error=largest(errors),
        tolerance=1e-9,
    )


def _sentences_hold(judge: Judge, source: Source, table: pd.DataFrame) -> Check:
    """The sentence that is read must be the tree that was scored: at every row of the other half."""
    errors = []
    for feature in table.feature[:: max(1, len(table) // 64)]:
        at = judge.live(source.on(int(feature)))
        assert at is not None  # it stands in the table
        tree = judge.trees.fit(at[0])
        by_tree = predicted(tree, judge.score.values)
        errors.append(float((by_tree != term(tree).holds(judge.score.values)).mean()))
    return Check(
        name="each label in words holds where its tree does", error=largest(errors), tolerance=0.0
    )


def _asked(
    spec: LabelsSpec,
    judge: Judge,
    source: Source,
    table: pd.DataFrame,
    texts: Sequence[str] | None,
) -> pd.DataFrame:
    if spec.labeller is None or texts is None:
        return pd.DataFrame()
    rng = np.random.default_rng(spec.seed)
    count = min(spec.labelled, len(table))
    chosen = np.sort(rng.choice(table.feature.to_numpy(), count, replace=False)).tolist()
    return detection(spec.labeller, judge, source, chosen, texts, spec.shown, spec.seed)


def _of_labeller(asked: pd.DataFrame) -> dict[str, float | None]:
    if asked.empty:
        return {}
    return {
        "detection": float(asked.balanced_accuracy.mean()),
        "detection_tree": float(asked.tree_balanced_accuracy.mean()),
    }
